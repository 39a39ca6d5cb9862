r"""A quadratic program as a layer of a network: its solution as a differentiable function of all of its data.

    x*(P, q, A, b, G, h, l, u) = argmin_x  x' P x / 2 + q . x   subject to   A x = b,  G x <= h,  l <= x <= u.

Near a regular solution the inequalities that hold with equality stay the same.  Let F = diag(1 where x is strictly
between its bounds, else 0), S = diag(1 for rows of A and active rows of G, else 0), B = [A; G] with multipliers
nu = (y, z) and limits c = (b, h).  What moves is given by P x + q + B' nu = 0 on free entries and B x = c on S; so

    [ F P F + (I - F)    F B' S  ] [ dx  ]     [ -F r_1 ]        r_1 = dP x + dq + dB' nu + P dx_0
    [ S B F             -(I - S) ] [ dnu ]  =  [ -S r_2 ],       r_2 = dB x - dc + B dx_0,

dx_0 being dl or du where x lies on that bound and 0 elsewhere; dx_0 + dx is the derivative of x*.  The matrix is
symmetric, so the way back is one solve with it too: with (u, v) = -K^{-1} (F x_bar, 0)

    q_bar = u,   P_bar = (u x' + x u') / 2,   b_bar = -v_A,   A_bar = y u' + v_A x',   h_bar = -v_G,   G_bar = z u' + v_G x',
    l_bar = x_bar + P u + B' v on entries at the lower bound, u_bar on those at the upper one.

The derivative of the solve is that of K w = r, again a solve: second and higher orders come from the same lines.
Source: Amos and Kolter 2017 (OptNet), section 3; Hintermueller, Ito, Kunisch 2003 (the active set by Newton's method).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.optimality import mehrotra, qp
from functional_dl.optimality.measures import largest

ROUNDS = 4  # Newton steps on the active set; near the solution one or two settle it


def solution(
    P: Float[Array, "n n"],
    q: Float[Array, " n"],
    A: Float[Array, "p n"] | None = None,
    b: Float[Array, " p"] | None = None,
    G: Float[Array, "m n"] | None = None,
    h: Float[Array, " m"] | None = None,
    lower: Float[Array, " n"] | float | None = None,
    upper: Float[Array, " n"] | float | None = None,
) -> Float[Array, " n"]:
    """The x that minimises x' P x / 2 + q . x subject to A x = b, G x <= h, lower <= x <= upper; differentiable in all.

    Args:
      P: its symmetric part counts, and must be positive semidefinite; the others as for qp.solve.
    Returns:
      x (n,).  Runs under jit and vmap; differentiates forward and in reverse, any number of times, by jax and by
      functional_dl.reverse.  nan where there is no solution, or none is found to 8 sqrt(eps): nothing can be raised
      under jit.
    Raises:
      ValueError: shapes that do not fit, or one of the pairs A, b and G, h without the other.
    Kinks: where an inequality is active with multiplier 0, x has one-sided derivatives only; the one given treats it as
      inactive.  Where active rows depend on each other, the derivative is right along changes of the data that keep
      them consistent.
    Numerics: the interior point method's end is sharpened by Newton's method on the active set, so x is exact to
      rounding (times the condition of the program), not to the method's tolerance.
    """
    data = qp.data(P, q, A, b, G, h, lower, upper)
    return _solved(((data[0] + data[0].T) / 2, *data[1:]))[0]


@jax.custom_jvp
def _solved(data):
    """(x, y, z, side, strong): side is -1, 0, 1 at the lower bound, between, at the upper; strong 1.0 for active rows."""
    P, q, A, b, G, h, lower, upper = data
    bounds = [bound if bound.size else None for bound in (lower, upper)]
    found = qp.solve(P, q, A, b, G, h, *bounds)
    point = _sharpened(data, (found.x, found.eq_multipliers, found.ineq_multipliers))
    side, strong = _active(data, point)
    x, y, z = point
    limit = 8 * jnp.sqrt(jnp.finfo(x.dtype).eps) * (1 + largest(x))
    return jnp.where(_error(data, point) <= limit, x, jnp.nan), y, z, side, strong


@_solved.defjvp
def _solved_jvp(primals, tangents):
    (data,), (moved,) = primals, tangents
    x, y, z, side, strong = end = _solved(data)
    P, _, A, _, G, *_ = data
    P_dot, q_dot, A_dot, b_dot, G_dot, h_dot, lower_dot, upper_dot = moved
    of_bounds = _at_bounds(side, lower_dot, upper_dot)
    slope = P_dot @ x + q_dot + A_dot.T @ y + G_dot.T @ z + P @ of_bounds
    rows = jnp.concatenate([A_dot @ x - b_dot + A @ of_bounds, G_dot @ x - h_dot + G @ of_bounds])
    x_dot, y_dot, z_dot = _on_active_set(data, side, strong, -slope, -rows)
    return end, (of_bounds + x_dot, y_dot, z_dot, jnp.zeros_like(side), jnp.zeros_like(strong))


def _at_bounds(side, lower, upper):
    """lower where x is at its lower bound, upper where at the upper, 0 between."""
    low = jnp.where(side < 0, lower, 0.0) if lower.size else jnp.zeros_like(side)
    return low + jnp.where(side > 0, upper, 0.0) if upper.size else low


def _on_active_set(data, side, strong, slope, rows):
    """(dx, dy, dz) of the symmetric system above, with right-hand side (F slope, S rows)."""
    P, _, A, _, G, *_ = data
    B = jnp.concatenate([A, G])
    free = jnp.where(side == 0, 1.0, 0.0).astype(P.dtype)
    held = jnp.concatenate([jnp.ones(len(A), P.dtype), strong])

    def system(v):
        dx, dnu = v[: len(P)], v[len(P) :]
        top = free * (P @ (free * dx) + B.T @ (held * dnu)) + (1 - free) * dx
        return jnp.concatenate([top, held * (B @ (free * dx)) - (1 - held) * dnu])

    # one vector: the transposed rule of custom_linear_solve takes no right-hand side of which a part is constant
    right = jnp.concatenate([free * slope, jnp.where(held > 0, rows, 0.0)])
    moved = lax.custom_linear_solve(system, right, _solver(P, B, free, held), symmetric=True)
    return tuple(jnp.split(moved, [len(P), len(P) + len(A)]))


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
        jnp.zeros((len(P), 0), P.dtype), none, none, none, none, scale, scale,
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


def _sharpened(data, point):
    """Newton's method on the active set; the point with the smallest error."""

    def step(_, carry):
        point, best, least = carry
        point = _newton(data, point)
        error = _error(data, point)
        better = error <= least
        best = tuple(jnp.where(better, new, old) for new, old in zip(point, best, strict=True))
        return point, best, jnp.where(better, error, least)

    return lax.fori_loop(0, ROUNDS, step, (point, point, _error(data, point)))[1]


def _newton(data, point):
    """The minimum on the set that is active at the point, by one linear solve."""
    P, q, A, b, G, h, lower, upper = data
    side, strong = _active(data, point)
    x, y, z = point
    x, z = jnp.where(side == 0, x, _at_bounds(side, lower, upper)), strong * z
    slope = P @ x + q + A.T @ y + G.T @ z
    rows = jnp.concatenate([A @ x - b, jnp.where(strong > 0, G @ x - h, 0.0)])
    moves = _on_active_set(data, side, strong, -slope, -rows)
    return tuple(old + move for old, move in zip((x, y, z), moves, strict=True))


def _active(data, point):
    """(side, strong): where the multiplier outweighs the slack, both in units of the program."""
    pull, multiplier, _, slack, below, above = _measured(data, point)
    cut = 64 * jnp.finfo(pull.dtype).eps * (1 + largest(point[0]))
    low, high = pull - below > cut, -pull - above > cut
    side = jnp.where(low, -1.0, jnp.where(high, 1.0, 0.0))
    return side.astype(pull.dtype), jnp.where(multiplier - slack > cut, 1.0, 0.0).astype(pull.dtype)


def _error(data, point):
    """The natural residual, 0 at solutions alone: |A x - b|, min(multiplier, slack) of rows and of bounds."""
    pull, multiplier, equal, slack, below, above = _measured(data, point)
    of_bounds = jnp.minimum(jnp.maximum(pull, -above), below)
    return jnp.maximum(largest(of_bounds), jnp.maximum(largest(equal), largest(jnp.minimum(multiplier, slack))))


def _measured(data, point):
    """(gradient of L without the bounds' multipliers, z, A x - b, h - G x, x - lower, upper - x), each over its scale."""
    P, q, A, b, G, h, lower, upper = data
    x, y, z = point
    scale = jnp.maximum(largest(P), largest(q))
    scale = jnp.where(scale > 0, scale, 1.0)
    of_a, of_g = (jnp.where(r > 0, r, 1.0) for r in (jnp.linalg.norm(A, axis=1), jnp.linalg.norm(G, axis=1)))
    pull = (P @ x + q + A.T @ y + G.T @ z) / scale
    none = jnp.full_like(x, jnp.inf)
    below, above = x - lower if lower.size else none, upper - x if upper.size else none
    return pull, z * of_g / scale, (A @ x - b) / of_a, (h - G @ x) / of_g, below, above
