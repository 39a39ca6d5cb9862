r"""A quadratic program as a layer of a network: its solution as a differentiable function of all of its data.

    x*(P, q, A, b, G, h, l, u) = argmin_x  x' P x / 2 + q . x   subject to   A x = b,  G x <= h,  l <= x <= u.

Near a regular solution the inequalities that hold with equality stay the same.  Let F = diag(1 where x is strictly
between its bounds, else 0), S = diag(1 for rows of A and active rows of G, else 0), B = [A; G] with multipliers
nu = (y, z) and limits c = (b, h).  What moves is given by P x + q + B' nu = 0 on free entries and B x = c on S; so

    [ F P F + (I - F)    F B' S  ] [ dx  ]     [ -F r_1 ]        r_1 = dP x + dq + dB' nu + P dx_0
    [ S B F             -(I - S) ] [ dnu ]  =  [ -S r_2 ],       r_2 = dB x - dc + B dx_0,

dx_0 being dl or du where x lies on that bound and 0 elsewhere; dx_0 + dx is the derivative of x*.  The matrix K
(py) is symmetric, so the pullback is one solve with it too: with (u, v) = -K^{-1} (F x_bar, 0)

    q_bar = u,   P_bar = (u x' + x u') / 2,   b_bar = -v_A,   A_bar = y u' + v_A x',   h_bar, G_bar alike with v_G, z,
    l_bar = x_bar + P u + B' v on entries at the lower bound, u_bar on those at the upper one.

The derivative of the solve is that of K w = r, again a solve: second and higher orders come from the same lines.

The same matrix serves Newton's method near the solution: a set of active constraints gives a point by one solve, the
point gives the next set (a multiplier that outweighs its slack), and one or two rounds end exactly there.
Source: Amos and Kolter 2017 (OptNet), section 3; Hintermueller, Ito, Kunisch 2003 (a semismooth Newton method).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array, Key, Params
from functional_dl.optimality import qp
from functional_dl.optimality.measures import largest
from functional_dl.optimality.qp import equilibrate, mehrotra

__all__ = ["QPLayer", "layer", "program", "solution"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


ROUNDS = 3  # of Newton's method
TOLERANCE = 1e-10  # tells apart limits that almost meet: the smaller of multiplier and slack is about its root


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
      functional_dl.reverse.  nan where there is no solution, or none is found to a gap of 8 sqrt(eps): nothing can be
      raised under jit.
    Raises:
      ValueError: shapes that do not fit, or one of the pairs A, b and G, h without the other.
    Kinks: where an inequality is active with multiplier 0, x has one-sided derivatives only; the one given treats it as
      inactive.  Where the solution is not unique (an edge of optimal points of a linear program), it has no derivative,
      and nan is given.  Where active rows depend on each other, the derivative is right along changes of the data that
      keep them consistent.
    Numerics: the interior point method's result is polished by Newton's method on the active set, so x is exact to
      rounding (times the condition of the program), not to the method's tolerance.
    Example:
      >>> optimality.qp_layer.solution(jnp.eye(2), jnp.array([-1.0, 2.0]), lower=0.0).round(4).tolist()
      [1.0, 0.0]
    """
    data = qp.data(P, q, A, b, G, h, lower, upper)
    data = (data[0] / 2 + data[0].T / 2, *data[1:])
    units = jax.lax.stop_gradient(equilibrate.units_of(data))
    return units.sigma * units.of_x * _solved(equilibrate.in_units(data, units))[0]


class QPLayer(NamedTuple):
    """A layer like those of functional_dl.layers: init(key) -> params, apply(params, q) -> x."""

    init: Callable[..., Params]
    apply: Callable[..., Array]


def layer(
    variables: int,
    inequalities: int = 0,
    equalities: int = 0,
    *,
    lower: float | None = None,
    upper: float | None = None,
    ridge: float = 1e-2,
    dtype: DTypeLike | None = None,
) -> QPLayer:
    """A layer that solves a quadratic program with learned curvature and learned constraints; its input is q.

    q -> argmin_x  x' P x / 2 + q . x   subject to   A x = b,  G x <= h,  lower <= x <= upper,

    P = L L' + ridge I, b = A x_0, h = G x_0 + softplus(s), lower <= x_0 <= upper.  x_0 satisfies every constraint with
    room in the inequalities and P is positive definite: whatever the parameters, there is one solution.

    Args:
      variables, inequalities, equalities: n, m, p.
      lower, upper: numbers, fixed; None for no bound.
      ridge: the least curvature, > 0.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      QPLayer with params {"curvature": L (n, n), "rows": G (m, n), "slack": s (m,), "equalities": A (p, n),
      "inside": (n,), x_0 in coordinates without bounds} and apply(params, q) from (*batch, n) to (*batch, n).
    Raises:
      ValueError: sizes that are negative (variables: not positive), equalities >= variables, lower >= upper,
      ridge <= 0; a q that does not fit.
    Source: Amos and Kolter 2017, section 3.
    Example:
      >>> layer = optimality.qp_layer.layer(2, 1, lower=0.0, upper=1.0)
      >>> x = layer.apply(layer.init(jax.random.key(0)), jnp.array([-5.0, 5.0]))
      >>> bool(jnp.all((x > -1e-4) & (x < 1 + 1e-4)))
      True
    """
    n = arguments.integer("variables", variables)
    m, p = (
        arguments.integer(name, size, 0) for name, size in (("inequalities", inequalities), ("equalities", equalities))
    )
    if p >= n:
        raise ValueError(f"equalities: expected fewer than variables ({n}), got {p}")
    if not ridge > 0:
        raise ValueError(f"ridge: expected a number > 0, got {ridge}")
    if lower is not None and upper is not None and not lower < upper:
        raise ValueError(f"lower, upper: expected lower < upper, got {lower} and {upper}")

    def init(key: Key) -> Params:
        of_rows, of_equalities = jax.random.split(arguments.key("key", key))
        unit = arguments.floating_dtype("dtype", dtype)
        draw = lambda key, rows: jax.random.normal(key, (rows, n), unit) / n**0.5
        return {
            "curvature": jnp.eye(n, dtype=unit),
            "rows": draw(of_rows, m),
            "slack": jnp.full(m, 0.5413248546129181, unit),  # softplus of it is 1
            "equalities": draw(of_equalities, p),
            "inside": jnp.zeros(n, unit),
        }

    def apply(params: Params, q: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
        q = arguments.real("q", q)
        if q.shape[-1:] != (n,):
            raise ValueError(f"q: expected shape (..., {n}), got {q.shape}")
        P, A, b, G, h = program(params, lower=lower, upper=upper, ridge=ridge)
        solve = lambda q: solution(P, q, A, b, G, h, lower, upper)
        return jax.vmap(solve)(q.reshape(-1, n)).reshape(q.shape)

    return QPLayer(init, apply)


def program(
    params: Params, *, lower: float | None = None, upper: float | None = None, ridge: float = 1e-2
) -> tuple[Array, Array, Array, Array, Array]:
    """(P, A, b, G, h) that a layer's parameters stand for; options as given to `layer`.

    Example:
      >>> layer = optimality.qp_layer.layer(2, 1, lower=0.0, upper=1.0)
      >>> P, *_ = optimality.qp_layer.program(layer.init(jax.random.key(0)), lower=0.0, upper=1.0)
      >>> P.shape
      (2, 2)
    """
    L, G, A = params["curvature"], params["rows"], params["equalities"]
    x = _within(params["inside"], lower, upper)
    P = L @ L.T + ridge * jnp.eye(len(L), dtype=L.dtype)
    return P, A, A @ x, G, G @ x + jax.nn.softplus(params["slack"])


def _within(free, lower, upper):
    """A map of all numbers to those between the bounds."""
    if lower is None:
        return free if upper is None else upper - jax.nn.softplus(free)
    if upper is None:
        return lower + jax.nn.softplus(free)
    return lower + (upper - lower) * jax.nn.sigmoid(free)


# ---- the solution and its derivative ----------------------------------------------------------------------


@jax.custom_jvp
@jax.jit
def _solved(data):
    """(x, y, z, side, strong) of data in units of their own: side -1 at the lower bound, 1 at the upper, else 0; strong
    1.0 for active rows of G."""
    bounds = [bound if bound.size else None for bound in data[6:]]
    found = qp.solve(*data[:6], *bounds, tolerance=TOLERANCE)
    point = polished(data, (found.x, found.eq_multipliers, found.ineq_multipliers))
    side, strong = active(data, point)
    x, y, z = point
    limit = 8 * jnp.sqrt(jnp.finfo(x.dtype).eps)
    near = (found.residual <= limit) & (found.gap <= limit * (1 + jnp.abs(found.objective)))
    exists = (found.status == qp.CONVERGED) | ((found.status == qp.STUCK) & near)
    return jnp.where(exists, x, jnp.nan), y, z, side, strong


@_solved.defjvp
def _solved_jvp(primals, tangents):
    (data,), (moved,) = primals, tangents
    x, y, z, side, strong = end = _solved(data)
    P, _, A, _, G, *_ = data
    P_dot, q_dot, A_dot, b_dot, G_dot, h_dot, lower_dot, upper_dot = moved
    of_bounds = at_bounds(side, lower_dot, upper_dot)
    gradient = P_dot @ x + q_dot + A_dot.T @ y + G_dot.T @ z + P @ of_bounds
    rows = jnp.concatenate([A_dot @ x - b_dot + A @ of_bounds, G_dot @ x - h_dot + G @ of_bounds])
    x_dot, y_dot, z_dot = on_active_set(data, side, strong, -gradient, -rows)
    one = jnp.where(determined(data, side, strong), 1.0, jnp.nan).astype(x.dtype)
    return end, (one * (of_bounds + x_dot), y_dot, z_dot, jnp.zeros_like(side), jnp.zeros_like(strong))


# ---- which constraints are active, and linear solves on that set --------------------------------------------------


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
