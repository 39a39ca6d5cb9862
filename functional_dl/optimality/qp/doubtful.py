"""Quadratic programs that the quick iterations (mehrotra.py) leave open: slower steps, then proofs of no solution."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality.measures import largest
from functional_dl.optimality.qp import mehrotra
from functional_dl.optimality.qp.cholesky import compact_inverse_factor
from functional_dl.optimality.qp.mehrotra import PATIENCE, STUCK, Point, Program, State


class Doubtful(NamedTuple):
    """A state of mehrotra's, and the nearest to a proof so far that there is no solution.

    Fields:
      ray: (x, its unbounded_ratio); proof: (y, z, their infeasible_ratio).
    """

    state: State
    ray: tuple[Array, Array]
    proof: tuple[Array, Array, Array]


def start(carry: tuple[Program, State]) -> Doubtful:
    """From where the quick iterations ended; nothing is to be hoped for from what is not finite."""
    program, state = carry
    x, y, z, _ = state.best
    infeasible, unbounded = mehrotra.ratios(program, state.point, state.products)
    waited = jnp.where(state.waited < PATIENCE, 0, PATIENCE)
    # the last point where it says something, else the best one
    point, pick = state.point, jnp.where
    falling, closing = jnp.isfinite(unbounded), jnp.isfinite(infeasible)
    return Doubtful(
        state._replace(waited=waited),
        (pick(falling, point.x, x), pick(falling, unbounded, jnp.inf)),
        (pick(closing, point.y, y), pick(closing, point.z, z), pick(closing, infeasible, jnp.inf)),
    )


def iterate(carry: tuple[Program, State], now: Doubtful) -> Doubtful:
    """One iteration, with multipliers of nearly active rows among the unknowns."""
    program = carry[0]
    state = mehrotra.iterate(program, now.state, _newton)
    infeasible, unbounded = mehrotra.ratios(program, state.point, state.products)
    nearer = lambda chosen, new, old: jax.tree.map(lambda a, b: jnp.where(chosen, a, b), new, old)
    x, y, z, _ = state.point
    return Doubtful(
        state,
        nearer(unbounded < now.ray[-1], (x, unbounded), now.ray),
        nearer(infeasible < now.proof[-1], (y, z, infeasible), now.proof),
    )


def unfinished(now: Doubtful) -> Array:
    """Whether another iteration may help."""
    return (now.state.status == STUCK) & (now.state.waited < PATIENCE)


def again(carry: tuple[Program, Doubtful]) -> Doubtful:
    """As it is."""
    return carry[1]


def unproved(now: Doubtful) -> Array:
    """Whether it is open why there is no solution."""
    return now.state.status == STUCK


def improved(carry: tuple[Program, Doubtful], now: Doubtful) -> Doubtful:
    """It with its two nearest proofs brought nearer, and the verdict if one of them holds.

    A ray x: proximal steps on  x' P x + |A x|^2 + |E_v x|^2  keep what costs nothing.  E_v: rows that x leaves through,
    and those that it nearly does, which are how many?  Several answers are tried, each on the best ray so far.
    A proof (y, z): the least change, relative to z, that makes A' y + E' z = 0.
    """
    program, dtype = carry[0], carry[0].q.dtype
    eps, tiny = jnp.finfo(dtype).eps, jnp.finfo(dtype).tiny
    rho = eps**0.75 * jnp.eye(len(program.q), dtype=dtype)
    x, falling = now.ray
    x = x / jnp.maximum(largest(x), tiny)
    nears = jnp.stack([1e3 * eps + 0 * falling, 0 * falling, 30 * jnp.minimum(falling, 3e-3), 0 * falling + 0.1])

    def nearer_ray(k, carry):
        tried, x, falling = carry
        tried = jnp.where(k % 2 == 0, x, tried)
        leaving = program.present * jnp.where(program.rows(tried) > -nears[k // 2], 1.0, 0.0).astype(dtype)
        M = compact_inverse_factor(program.PA + program.gram(leaving) + rho)
        for _ in range(2):
            tried = M.T @ (M @ tried)
            tried = tried / jnp.maximum(largest(tried), tiny)
        ratio = mehrotra.unbounded_ratio(program, tried, program.P @ tried, program.A @ tried, program.rows(tried))
        return tried, jnp.where(ratio < falling, tried, x), jnp.minimum(ratio, falling)

    _, x, falling = lax.fori_loop(0, 8, nearer_ray, (x, x, falling))
    y, z, nearly = now.proof
    unit = jnp.maximum(jnp.maximum(largest(y), largest(z)), tiny)

    def nearer_proof(_, carry):
        tried_y, tried_z, y, z, nearly = carry
        M = compact_inverse_factor(program.A.T @ program.A + program.gram(tried_z) + rho)
        for _ in range(2):
            move = M.T @ (M @ (program.A.T @ tried_y + program.columns(tried_z)))
            tried_y = tried_y - program.A @ move
            tried_z = jnp.maximum(tried_z - tried_z * program.rows(move), 0.0)
        ratio = mehrotra.infeasible_ratio(program, tried_y, tried_z, program.A.T @ tried_y + program.columns(tried_z))
        y, z = jnp.where(ratio < nearly, tried_y, y), jnp.where(ratio < nearly, tried_z, z)
        return tried_y, tried_z, y, z, jnp.minimum(ratio, nearly)

    *_, y, z, nearly = lax.fori_loop(0, 4, nearer_proof, (y / unit, z / unit, y, z, nearly))
    state = now.state._replace(status=mehrotra.verdict(nearly, falling))
    return Doubtful(state, (x, falling), (y, z, nearly))


def _newton(program: Program, point: Point, errors: tuple[Array, Array, Array]) -> Callable[..., Any]:
    """mehrotra's Newton step with multipliers of nearly active rows among the unknowns, as those of equalities are.

    Their z / s is large, and in K it would drown P: a row with more than 1 keeps 1 there, the rest is a row

        G dx - dz / (z / s - 1) = -slack + center / z    (dz less by the share s / z)

    of the Schur complement.  Costs more: m more rows of it.
    """
    (_, _, z, s), (dual, equal, slack) = point, errors
    m, p, w, A, G = len(program.G), len(program.A), z / s, program.A, program.G
    strong = jnp.concatenate([jnp.where(w[:m] > 1, 1.0, 0.0).astype(w.dtype), jnp.zeros_like(w[m:])])
    held, share = strong[:m], jnp.where(strong > 0, 1 - 1 / jnp.maximum(w, 1), 1.0)
    kept = jnp.where(strong > 0, 1.0, w)
    regular = program.PA + program.gram(kept)
    ridge = 8 * jnp.finfo(w.dtype).eps * len(program.q)
    M = compact_inverse_factor(regular + jnp.diag(ridge * mehrotra.or_one(jnp.diag(regular))))
    B = jnp.concatenate([A, held[:, None] * G])
    W = M @ B.T
    schur = lax.optimization_barrier(W.T) @ W
    rest = jnp.where(held > 0, 1 / jnp.maximum(w[:m] - 1, 1e-3), 1.0)
    lower = jnp.concatenate([jnp.zeros(p, w.dtype), rest])
    N = compact_inverse_factor(schur + jnp.diag(lower + 4 * ridge * mehrotra.or_one(jnp.diag(schur))))

    def once(r, t, of_rows):
        """(dx, dy, dz of strong rows)."""
        v = M @ (r + A.T @ t + program.GT @ of_rows)
        d = N.T @ (N @ (W.T @ v - jnp.concatenate([t, of_rows])))
        return M.T @ (v - W @ d), d[:p], held * d[p:] / share[:m]

    def step(center, refined=True):
        of_rows = strong * (center / z - slack)
        r = -dual + program.columns((1 - strong) * (center - z * slack) / s)
        dx, dy, du = once(r, -equal, of_rows[:m])
        pad = lambda u: jnp.concatenate([u, jnp.zeros_like(z[m:])])

        def slacks(dx, du):
            ds = -slack - program.rows(dx)
            dz = jnp.where(strong > 0, pad(du), (-center - z * ds) / s)
            return program.present * dz, program.present * jnp.where(strong > 0, -(center + s * dz) / z, ds)

        dz, ds = slacks(dx, du)
        if refined:
            left = -dual - program.P @ dx - A.T @ dy - program.columns(dz)
            short = strong * (center / z - slack - program.rows(dx) + dz / w)
            more_x, more_y, more_u = once(left, -equal - A @ dx, short[:m])
            more_s = -program.rows(more_x)
            dx, dy = dx + more_x, dy + more_y
            dz = program.present * (dz + jnp.where(strong > 0, pad(more_u), -w * more_s))
            ds = program.present * jnp.where(strong > 0, -(center + s * dz) / z, ds + more_s)
        return dx, dy, dz, ds

    return step
