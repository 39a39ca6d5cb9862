r"""A quadratic program as a layer of a network: its solution as a differentiable function of all of its data.

    x*(P, q, A, b, G, h, l, u) = argmin_x  x' P x / 2 + q . x   subject to   A x = b,  G x <= h,  l <= x <= u.

Near a regular solution the inequalities that hold with equality stay the same.  Let F = diag(1 where x is strictly
between its bounds, else 0), S = diag(1 for rows of A and active rows of G, else 0), B = [A; G] with multipliers
nu = (y, z) and limits c = (b, h).  What moves is given by P x + q + B' nu = 0 on free entries and B x = c on S; so

    [ F P F + (I - F)    F B' S  ] [ dx  ]     [ -F r_1 ]        r_1 = dP x + dq + dB' nu + P dx_0
    [ S B F             -(I - S) ] [ dnu ]  =  [ -S r_2 ],       r_2 = dB x - dc + B dx_0,

dx_0 being dl or du where x lies on that bound and 0 elsewhere; dx_0 + dx is the derivative of x*.  The matrix K
(qp_active_set.py) is symmetric, so the pullback is one solve with it too: with (u, v) = -K^{-1} (F x_bar, 0)

    q_bar = u,   P_bar = (u x' + x u') / 2,   b_bar = -v_A,   A_bar = y u' + v_A x',   h_bar, G_bar alike with v_G, z,
    l_bar = x_bar + P u + B' v on entries at the lower bound, u_bar on those at the upper one.

The derivative of the solve is that of K w = r, again a solve: second and higher orders come from the same lines.
Source: Amos and Kolter 2017 (OptNet), section 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array, Key, Params
from functional_dl.optimality import equilibrate, qp, qp_active_set

__all__ = ["QPLayer", "layer", "program", "solution"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


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
    point = qp_active_set.polished(data, (found.x, found.eq_multipliers, found.ineq_multipliers))
    side, strong = qp_active_set.active(data, point)
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
    of_bounds = qp_active_set.at_bounds(side, lower_dot, upper_dot)
    gradient = P_dot @ x + q_dot + A_dot.T @ y + G_dot.T @ z + P @ of_bounds
    rows = jnp.concatenate([A_dot @ x - b_dot + A @ of_bounds, G_dot @ x - h_dot + G @ of_bounds])
    x_dot, y_dot, z_dot = qp_active_set.on_active_set(data, side, strong, -gradient, -rows)
    one = jnp.where(qp_active_set.determined(data, side, strong), 1.0, jnp.nan).astype(x.dtype)
    return end, (one * (of_bounds + x_dot), y_dot, z_dot, jnp.zeros_like(side), jnp.zeros_like(strong))
