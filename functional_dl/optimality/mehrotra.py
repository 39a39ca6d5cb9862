r"""Mehrotra's predictor and corrector for one convex quadratic program: a start, an iteration, a verdict.

    minimise x' P x / 2 + q . x   subject to   A x = b,   E x <= e,      E = [G; -I; I] (bounds are rows of E).

With slacks s = e - E x > 0 and multipliers z > 0 each iteration solves Newton's equations of the conditions

    P x + q + A' y + E' z = 0,    A x = b,    E x + s = e,    s_i z_i = tau

twice with one factored matrix: for tau = 0 (how far can the gap fall?), then for tau = (gap after / gap before)^3 of
the mean of s z, with the second-order term ds dz of the first.  That term belongs to a full step; where only short ones
are possible it can lead the iterates round in a cycle.  An iteration that follows on some without progress is careful:
no second order, tau at least half of the mean, and steps of four fifths of the way to the boundary bring the iterates
back to the middle.  ds and dz are eliminated, and what is left,

    [ K  A' ] [ dx ]   [ r ]
    [ A  0  ] [ dy ] = [ t ],      K = P + E' diag(z / s) E   (n x n; a bound adds to its diagonal),

is solved through K + A' A = L L' (the same dx, dy with r + A' t for r; regular where the problem's solution is) and the
Schur complement W' W with W = L^-1 A'.  Relative ridges carry repeated rows, and one refinement takes them out.
Source: Mehrotra 1992; Nocedal and Wright 2006, section 16.6; Vandenberghe 2010 (the start); Cartis 2009 (the cycles).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality.cholesky import inverse_factor
from functional_dl.optimality.measures import largest, longest_step

CONVERGED, INFEASIBLE, UNBOUNDED, STUCK = range(4)
PATIENCE = 12  # iterations without progress that end the search
DOUBT = 2  # iterations without progress after which they are careful


class Program(NamedTuple):
    """The data, rows of A and E of length 1.

    Fields:
      P, q, A, b, G; PA = P + A' A and GT = G' are kept, because every iteration forms P + A' A + G' D G.
      limit: e; present: 1.0 where it is finite, 0.0 for a row that is not there (its limit is then 0).
      low, high: whether E has the rows -I and I (zero-size arrays stand for no).
      least: the share of the objective's scale to which 1 in the units of the caller comes, at most 1.
      tolerance.
    """

    P: Array
    q: Array
    A: Array
    b: Array
    G: Array
    PA: Array
    GT: Array
    limit: Array
    present: Array
    low: Array
    high: Array
    least: Array
    tolerance: Array

    def rows(self, x: Array) -> Array:
        """E x."""
        return jnp.concatenate([self.G @ x, -x[: self.low.size], x[: self.high.size]])

    def columns(self, z: Array) -> Array:
        """E' z."""
        of_rows, of_low, of_high = self.split(z)
        total = self.GT @ of_rows
        total = total - of_low if self.low.size else total
        return total + of_high if self.high.size else total

    def gram(self, w: Array) -> Array:
        """E' diag(w) E."""
        of_rows, of_low, of_high = self.split(w)
        matrix = (self.GT * of_rows[None]) @ self.G
        for of_bound in (of_low, of_high):
            if of_bound.size:
                matrix = matrix + jnp.diag(of_bound)
        return matrix

    def split(self, z: Array) -> tuple[Array, Array, Array]:
        m, low = len(self.G), self.low.size
        return z[:m], z[m : m + low], z[m + low :]


class State(NamedTuple):
    """An iterate, the best one so far (by `error`) and how many iterations ago it was, the verdict, the count."""

    x: Array
    y: Array
    z: Array
    s: Array
    best: tuple[Array, Array, Array, Array]
    error: Array
    waited: Array
    status: Array
    iterations: Array


def residuals(program: Program, x: Array, y: Array, z: Array, s: Array) -> tuple[Array, Array, Array]:
    """(P x + q + A' y + E' z, A x - b, E x + s - e)."""
    dual = program.P @ x + program.q + program.A.T @ y + program.columns(z)
    return dual, program.A @ x - program.b, program.present * (program.rows(x) + s - program.limit)


def factor(program: Program, w: Array) -> Callable[..., Any]:
    """What solves with K = P + E' diag(w) E: a function (r, t) -> (dx, dy)."""
    A, eps = program.A, jnp.finfo(w.dtype).eps
    ridge = 8 * eps * len(program.q)
    regular = program.PA + program.gram(w)
    M = inverse_factor(regular + jnp.diag(ridge * _or_one(jnp.diag(regular))))
    W = M @ A.T
    schur = lax.optimization_barrier(W.T) @ W
    N = inverse_factor(schur + jnp.diag(1e3 * ridge * _or_one(jnp.diag(schur))))

    def once(r, t):
        v = M @ r
        dy = N.T @ (N @ (W.T @ v - t))
        return M.T @ (v - W @ dy), dy

    def solve(r, t, refined=True):
        r = r + A.T @ t
        dx, dy = once(r, t)
        if not refined:
            return dx, dy
        curved = program.PA @ dx + program.columns(w * program.rows(dx))
        more_x, more_y = once(r - curved - A.T @ dy, t - A @ dx)
        return dx + more_x, dy + more_y

    return solve


def _or_one(diagonal):
    return jnp.where(diagonal > 0, diagonal, 1.0)


def _newton(program, solve, z, s, errors, center, refined=True):
    """Newton's step; `center` is what s z + z ds + s dz shall be brought to 0 by."""
    dual, equal, slack = errors
    dx, dy = solve(-dual + program.columns((center - z * slack) / s), -equal, refined)
    ds = program.present * (-slack - program.rows(dx))
    return dx, dy, program.present * (-center - z * ds) / s, ds


def start(program: Program) -> State:
    """x minimises x' P x / 2 + q . x + |E x - e|^2 / 2 on A x = b; s and z are its residual, shifted to be positive."""
    ones = program.present
    x, y = factor(program, ones)(-program.q + program.columns(program.limit), program.b)
    left = program.present * (program.limit - program.rows(x))

    def inside(v):
        """v itself where it is positive enough, else shifted."""
        short = jnp.max(jnp.where(ones > 0, -v, -jnp.inf), initial=-jnp.inf)
        return jnp.where(ones > 0, jnp.where(short < -1e-8 * (1 + jnp.linalg.norm(v)), v, v + 1 + short), 1.0)

    z, s = program.present * inside(-left), inside(left)
    zero, point = jnp.zeros((), int), (x, y, z, s)
    state = State(*point, point, jnp.full((), jnp.inf, x.dtype), zero, zero + STUCK, zero)
    return with_errors(program, state)


def iterate(program: Program, state: State) -> State:
    """One iteration."""
    x, y, z, s = state[:4]
    count = jnp.maximum(jnp.sum(program.present), 1)
    solve = factor(program, z / s)
    errors = residuals(program, x, y, z, s)
    _, _, dz, ds = _newton(program, solve, z, s, errors, s * z, refined=False)
    reach = jnp.minimum(longest_step(s, ds), longest_step(z, dz))
    mean = s @ z / count
    after = (s + reach * ds) @ (z + reach * dz) / count
    target = mean * (after / jnp.where(mean > 0, mean, 1.0)) ** 3
    careful = state.waited >= DOUBT
    target, second = jnp.where(careful, jnp.maximum(target, mean / 2), target), jnp.where(careful, 0.0, ds * dz)
    dx, dy, dz, ds = _newton(program, solve, z, s, errors, program.present * (s * z + second - target))
    furthest = jnp.minimum(longest_step(s, ds, 2.0), longest_step(z, dz, 2.0))
    reach = jnp.minimum(1.0, jnp.where(careful, 0.8, jnp.clip(1 - mean, 0.99, 1 - 1e-6)) * furthest)
    new = x + reach * dx, y + reach * dy, z + reach * dz, s + reach * ds
    state = state._replace(x=new[0], y=new[1], z=new[2], s=new[3], iterations=state.iterations + 1)
    return with_errors(program, state)


def measure(program: Program, x: Array, y: Array, z: Array, s: Array) -> tuple[Array, Array]:
    """(violation of the linear conditions, gap), each over its scale."""
    dual, equal, slack = residuals(program, x, y, z, s)
    quadratic, linear = x @ (program.P @ x) / 2, program.q @ x
    data = 1 + jnp.maximum(largest(program.b), largest(program.limit))
    violation = jnp.maximum(largest(dual), jnp.maximum(largest(equal), largest(slack)) / data)
    return violation, s @ z / (program.least + jnp.abs(quadratic + linear))


def with_errors(program: Program, state: State) -> State:
    """The state with its verdict, and the best iterate renewed."""
    x, y, z, _ = point = state[:4]
    violation, gap = measure(program, *point)
    error = jnp.maximum(violation, gap)
    sound = jnp.isfinite(error)
    solved = error <= program.tolerance
    small = 4 * jnp.sqrt(jnp.finfo(x.dtype).eps)
    proof = -(program.b @ y + program.limit @ z)
    infeasible = (proof > 0) & (largest(program.A.T @ y + program.columns(z)) <= small * proof)
    fall = -(program.q @ x)
    outside = jnp.max(program.present * program.rows(x), initial=0.0)
    along = jnp.maximum(largest(program.P @ x), jnp.maximum(largest(program.A @ x), outside))
    unbounded = (fall > 0) & (along <= small * fall)
    status = jnp.where(infeasible, INFEASIBLE, jnp.where(unbounded, UNBOUNDED, STUCK))
    status = jnp.where(solved, CONVERGED, jnp.where(sound, status, STUCK))
    better = error < 0.9 * state.error
    keep = better | (status == INFEASIBLE) | (status == UNBOUNDED)
    best = tuple(jnp.where(keep, new, old) for new, old in zip(point, state.best, strict=True))
    waited = jnp.where(better, 0, state.waited + 1)
    waited = jnp.where(sound, waited, PATIENCE)
    return state._replace(best=best, error=jnp.where(better, error, state.error), waited=waited, status=status)


def unfinished(state: State) -> Array:
    """Whether another iteration may help."""
    return (state.status == STUCK) & (state.waited < PATIENCE)
