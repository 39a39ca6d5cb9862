r"""A quadratic program near its solution: which constraints are active, and linear solves on that set.

With data (P, q, A, b, G, h, lower, upper), B = [A; G], F = diag(1 where x is strictly between its bounds, else 0) and
S = diag(1 for rows of A and active rows of G, else 0), one symmetric matrix serves Newton's method and the derivative
of the solution (qp_layer.py):

    K = [ F P F + (I - F)    F B' S  ]
        [ S B F             -(I - S) ].

Newton's method: a set of active constraints gives a point by one solve, the point gives the next set (a multiplier that
outweighs its slack), and near the solution one or two rounds end exactly there.
Source: Hintermueller, Ito, Kunisch 2003 (the primal-dual active set method is a semismooth Newton method).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality import mehrotra
from functional_dl.optimality.measures import largest

ROUNDS = 3  # of Newton's method


def at_bounds(side: Array, lower: Array, upper: Array) -> Array:
    """lower where x is at its lower bound, upper where at the upper, 0 between."""
    low = jnp.where(side < 0, lower, 0.0) if lower.size else jnp.zeros_like(side)
    return low + jnp.where(side > 0, upper, 0.0) if upper.size else low


@jax.jit
def on_active_set(
    data: tuple[Array, ...], side: Array, strong: Array, gradient: Array, rows: Array
) -> tuple[Array, Array, Array]:
    """(dx, dy, dz) = K^-1 (F gradient, S rows); differentiable in all of its arguments."""
    P, _, A, _, G, *_ = data
    # A row of zeros where there is none: JAX 0.10.2 loses the interface of LAPACK's calls beside empty multipliers.
    none = 0 if len(A) + len(G) else 1
    B = jnp.concatenate([A, G, jnp.zeros((none, len(P)), P.dtype)])
    free = jnp.where(side == 0, 1.0, 0.0).astype(P.dtype)
    held = jnp.concatenate([jnp.ones(len(A), P.dtype), strong, jnp.zeros(none, P.dtype)])

    def system(v):
        dx, dnu = v[: len(P)], v[len(P) :]
        top = free * (P @ (free * dx) + B.T @ (held * dnu)) + (1 - free) * dx
        return jnp.concatenate([top, held * (B @ (free * dx)) - (1 - held) * dnu])

    # one vector: the transposed rule of custom_linear_solve takes no right-hand side of which a part is constant
    rows = jnp.where(held > 0, jnp.pad(rows, (0, none)), 0.0)
    right = jnp.concatenate([free * gradient, rows])
    moved = lax.custom_linear_solve(system, right, _solver(P, B, free, held), symmetric=True)
    x, y, z, _ = jnp.split(moved, [len(P), len(P) + len(A), len(P) + len(A) + len(G)])
    return x, y, z


def determined(data: tuple[Array, ...], side: Array, strong: Array) -> Array:
    """Whether the active constraints and P fix x: the solve finds a known dx (with dnu = 0) from what K makes of it."""
    data, side, strong = lax.stop_gradient((data, side, strong))
    P, _, A, _, G, *_ = data
    known = jnp.asarray(1 + np.modf(np.arange(1, len(P) + 1) * 0.6180339887498949)[0], P.dtype)
    known = jnp.where(side == 0, known / jnp.sqrt(mehrotra.or_one(jnp.diag(P))), 0.0)
    found, _, _ = on_active_set(data, side, strong, P @ known, jnp.concatenate([A @ known, G @ known]))
    return jnp.all(jnp.abs(found - known) <= 0.1 * jnp.abs(known))


def _solver(P, B, free, held):
    """What solves the system: mehrotra's factor of the program with active rows as equalities, and a refinement."""
    scale = jnp.where(largest(P) > 0, largest(P), 1.0)
    reduced = held[:, None] * B * free[None]
    norms = jnp.linalg.norm(reduced, axis=1)
    norms = jnp.where(norms > 0, norms, 1.0)
    curve, rows = free[:, None] * P * free[None] / scale + jnp.diag(1 - free), reduced / norms[:, None]
    none = jnp.zeros(0, P.dtype)
    program = mehrotra.Program(
        curve, jnp.zeros_like(free), rows, jnp.zeros_like(held), jnp.zeros((0, len(P)), P.dtype), curve + rows.T @ rows,
        jnp.zeros((len(P), 0), P.dtype), none, none, none, none, scale,
    )  # fmt: skip
    unit = jnp.where(free > 0, scale, 1.0)

    def solve(system, right):
        """dx and dnu in units in which the program's coefficients are about 1; unheld multipliers by their own row."""
        factored = mehrotra.factor(program, none)

        def once(right):
            top, bottom = right[: len(P)], right[len(P) :]
            dx, dnu = factored(top / unit, jnp.where(held > 0, bottom, 0.0) / norms)
            return jnp.concatenate([dx, jnp.where(held > 0, dnu * scale / norms, -bottom)])

        first = once(right)
        return first + once(right - system(first))

    return solve


# ---- the end of the search, made exact --------------------------------------------------------------------


def polished(data: tuple[Array, ...], point: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Newton's method on the active set; the point with the smallest error."""

    def step(_, carry):
        point, best, least = carry
        point = _newton(data, point)
        now = error(data, point)
        better = now <= least
        best = tuple(jnp.where(better, new, old) for new, old in zip(point, best, strict=True))
        return point, best, jnp.where(better, now, least)

    return lax.fori_loop(0, ROUNDS, step, (point, point, error(data, point)))[1]


def _newton(data, point):
    """The minimum on the set that is active at the point, by one linear solve."""
    P, q, A, b, G, h, lower, upper = data
    side, strong = active(data, point)
    x, y, z = point
    x, z = jnp.where(side == 0, x, at_bounds(side, lower, upper)), strong * z
    gradient = P @ x + q + A.T @ y + G.T @ z
    rows = jnp.concatenate([A @ x - b, jnp.where(strong > 0, G @ x - h, 0.0)])
    moves = on_active_set(data, side, strong, -gradient, -rows)
    return tuple(old + move for old, move in zip((x, y, z), moves, strict=True))


def active(data: tuple[Array, ...], point: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    """(side, strong): where the multiplier outweighs the slack, both in units of the program."""
    pull, multiplier, _, slack, below, above = _measured(data, point)
    cut = 64 * jnp.finfo(pull.dtype).eps * (1 + largest(point[0]))
    low, high = pull - below > cut, -pull - above > cut
    side = jnp.where(low, -1.0, jnp.where(high, 1.0, 0.0))
    return side.astype(pull.dtype), jnp.where(multiplier - slack > cut, 1.0, 0.0).astype(pull.dtype)


def error(data: tuple[Array, ...], point: tuple[Array, Array, Array]) -> Array:
    """The natural residual, 0 at solutions alone: |A x - b|, min(multiplier, slack) of rows and of bounds."""
    pull, multiplier, equal, slack, below, above = _measured(data, point)
    of_bounds = jnp.minimum(jnp.maximum(pull, -above), below)
    return jnp.maximum(largest(of_bounds), jnp.maximum(largest(equal), largest(jnp.minimum(multiplier, slack))))


def _measured(data, point):
    """(gradient of L without bounds' multipliers, z, A x - b, h - G x, x - lower, upper - x), each over its scale."""
    P, q, A, b, G, h, lower, upper = data
    x, y, z = point
    scale = jnp.maximum(largest(P), largest(q))
    scale = jnp.where(scale > 0, scale, 1.0)
    of_a, of_g = (jnp.where(r > 0, r, 1.0) for r in (jnp.linalg.norm(A, axis=1), jnp.linalg.norm(G, axis=1)))
    pull = (P @ x + q + A.T @ y + G.T @ z) / scale
    none = jnp.full_like(x, jnp.inf)
    below, above = x - lower if lower.size else none, upper - x if upper.size else none
    return pull, z * of_g / scale, (A @ x - b) / of_a, (h - G @ x) / of_g, below, above
