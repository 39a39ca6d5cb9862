r"""The units that a problem counts in by itself, so that those of its functions and variables do not matter.

With x = D w the problem of w has the functions  f / F,  h_i / r_i,  g_i / r_i,  where

    D_j: the size of variable j,    F = max_j (|df/dx_j| D_j, |d2f/dx_j^2| D_j^2),    r_i = max_j |dc_i/dx_j| D_j.

The size of a variable is |x_j|, or the geometric mean with its natural lengths where these are much greater, or the
least of these where it is nothing beside them: the length of Newton's step on f along it, the ways to where constraints
change sign, its bounds.  Where all these say nothing, at x_j = 0, it is the least step along it at which a function
leaves its Taylor polynomial; else, and where f is linear in a variable that nothing holds, what gives its terms the
size of the others'.  Each changes as the unit does, and units are powers of two: the problem of w is the same in every
digit.

A search sees it as one vector function (f, h, g), with the gradients at its own start brought to at most 100.  The KKT
error of a point with multipliers y = (lambda, mu) of the functions so scaled is the greatest of

    |grad f + J' y| / w,    |h|,    (g)+,    |mu_i g_i| / w,    (-mu)+,        w = max(mean |y|, 100) / 100.

Source: Waechter and Biegler 2006, section 2.1 and equation (6).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import largest
from functional_dl.optimality.problem import FlatProblem, inside

BLOCK = 32  # rows formed at once
SMALL, TINY = 2.0**-4, 2.0**-20  # a variable is beside its natural length
ENDLESS = 1e15  # a bound from here on stands for none
NEGLIGIBLE = 1e-6  # a value is 0 where the terms that it is the sum of are as much greater
GRADIENT = 1.0  # what the objective's gradient comes to
STEEP = 100.0  # in a search, functions whose gradient at the start is greater are scaled down to this


class Units(NamedTuple):
    """Factors of f, of h and of the general g, and what variables are counted in."""

    f: Array
    h: Array
    g: Array
    x: Array


class Derivatives(NamedTuple):
    """At a point: of f its gradient and Hessian; values and rows of h and of the general g."""

    gradient: Array
    hessian: Array
    h: Array
    h_rows: Array
    g: Array
    g_rows: Array


def natural(flat: FlatProblem, x: Array, at: Derivatives, lengths: Array) -> tuple[Units, Array]:
    """The units at x, and whether all sizes are known; lengths (n,): `lengths_of_change`, 0 where not known."""
    at = Derivatives(*(jnp.nan_to_num(part, posinf=0, neginf=0) for part in at))
    size = sizes(flat, x, at)
    size = jnp.where(size > 0, size, lengths)
    known, size = jnp.all(size > 0), _others(size, at)
    curvature = jnp.abs(jnp.diag(at.hessian)) * size**2
    of_f = jnp.maximum(largest(at.gradient * size), largest(curvature)) / GRADIENT
    rows = lambda values, rows: jnp.max(jnp.abs(rows) * size[None], axis=1, initial=0.0)
    of_h, of_g = rows(at.h, at.h_rows), rows(at.g, at.g_rows)
    of_h, of_g = jnp.where(of_h > 0, of_h, jnp.abs(at.h)), jnp.where(of_g > 0, of_g, jnp.abs(at.g))
    of_f, of_h, of_g = (1 / power_of_two(part) for part in (of_f, of_h, of_g))
    return Units(of_f, of_h, of_g, power_of_two(size)), known


def at_point(flat: FlatProblem, x: Array) -> Units:
    """The units at x, computed where JAX may be tracing; of many variables without a matrix.

    Sizes of many variables are |x_j|, or those of their bounds, or, where both are 0, the greatest of the others.
    """
    if not flat.large:
        gradient, hessian = jax.grad(flat.objective)(x), jax.hessian(flat.objective)(x)
        rows = ((fun(x), jax.jacrev(fun)(x)) for fun in (flat.equalities, flat.general))
        return natural(flat, x, Derivatives(gradient, hessian, *next(rows), *next(rows)), jnp.zeros_like(x))[0]
    room = of_bounds(flat, x.dtype)
    size = jnp.where(x != 0, jnp.abs(x), jnp.where(jnp.isfinite(room), room, 0.0))
    of_x = power_of_two(jnp.where(size > 0, size, largest(size)))
    counted = lambda fun: lambda w: fun(of_x * w)
    signs = jnp.asarray(np.random.default_rng(1).choice([-1.0, 1.0], size=x.size), x.dtype)
    gradient, bend = jax.jvp(jax.grad(counted(flat.objective)), (x / of_x,), (signs,))
    of_f = jnp.maximum(largest(gradient), largest(bend)) / GRADIENT
    of_h, of_g = (each_row(counted(fun), x / of_x, largest) for fun in (flat.equalities, flat.general))
    of_f, of_h, of_g = (1 / power_of_two(part) for part in (of_f, of_h, of_g))
    return Units(of_f, of_h, of_g, of_x)


def each_row(fun: Callable[[Array], Array], x: Array, reduce: Callable[[Array], Array]) -> Array:
    """reduce(grad fun_i(x)) for each i, BLOCK rows at a time."""
    value, pull = jax.vjp(fun, x)
    if value.size == 0:
        return jnp.zeros(0, x.dtype)
    one = lambda i: reduce(pull(jnp.zeros_like(value).at[i].set(1))[0])
    return lax.map(one, jnp.arange(value.size), batch_size=BLOCK)


def sizes(flat: FlatProblem, x: Array, at: Derivatives) -> Array:
    """Of the variables; 0 where nothing says it."""
    values, rows = jnp.concatenate([at.h, at.g]), jnp.abs(jnp.concatenate([at.h_rows, at.g_rows]))
    counts = jnp.abs(values) > NEGLIGIBLE * (rows @ jnp.abs(x))
    to_rows = jnp.min(_ratio(jnp.where(counts, jnp.abs(values), 0.0)[:, None], rows), axis=0, initial=jnp.inf)
    moved = jnp.abs(at.gradient) > NEGLIGIBLE * (jnp.abs(at.hessian) @ jnp.abs(x))
    newton = _ratio(jnp.where(moved, jnp.abs(at.gradient), 0.0), jnp.abs(jnp.diag(at.hessian)))
    finite = lambda length: jnp.where(jnp.isfinite(length), length, 0.0)
    room, size = of_bounds(flat, x.dtype), jnp.abs(x)
    least = finite(jnp.minimum(jnp.minimum(to_rows, newton), jnp.where(x == 0, room, jnp.inf)))
    most = jnp.minimum(jnp.maximum(finite(to_rows), finite(newton)), room)
    between = jnp.where(size < SMALL * most, jnp.sqrt(size) * jnp.sqrt(most), size)
    # f is linear in it and nothing holds it: a size of 0 but for rounding would make that slope negligible
    free = (at.gradient != 0) & ~jnp.any(at.hessian != 0, axis=0) & ~jnp.any(rows > 0, axis=0) & ~jnp.isfinite(room)
    return jnp.where(free, 0.0, jnp.where(size > TINY * jnp.minimum(least, room), between, least))


def of_bounds(flat: FlatProblem, dtype: Any) -> Array:
    """The least of |lower|, |upper| and upper - lower that is less than ENDLESS and not 0, else infinite."""
    lower, upper = (jnp.asarray(side, dtype) for side in (flat.lower, flat.upper))
    both = jnp.isfinite(lower) & jnp.isfinite(upper)
    width = jnp.where(both, jnp.where(both, upper, 0.0) - jnp.where(both, lower, 0.0), 0.0)
    found = jnp.stack([jnp.abs(lower), jnp.abs(upper), width])
    return jnp.min(jnp.where((found > 0) & (found < ENDLESS), found, jnp.inf), axis=0)


def _others(size, at: Derivatives):
    """Sizes where they are 0: such that curvature, gradient or rows come to what they are for the other variables."""
    known = jnp.any(size > 0)
    or_one = lambda value: jnp.where(value > 0, value, 1.0)
    bend = jnp.abs(at.hessian)
    bend = jnp.where(jnp.diag(bend) > 0, jnp.diag(bend), jnp.max(bend, axis=1, initial=0.0))
    usual = or_one(jnp.where(known, jnp.maximum(largest(at.gradient * size), largest(bend * size**2)), 1.0))
    rows = jnp.abs(jnp.concatenate([at.h_rows, at.g_rows]))
    of_rows = or_one(jnp.max(rows * size[None], axis=1, initial=0.0))
    by_rows = jnp.min(_ratio(of_rows[:, None], rows), axis=0, initial=jnp.inf)
    guess = jnp.where(jnp.isfinite(by_rows), by_rows, 1.0)
    guess = jnp.where(at.gradient != 0, usual / or_one(jnp.abs(at.gradient)), guess)
    guess = jnp.where(bend > 0, jnp.sqrt(usual / or_one(bend)), guess)
    return jnp.where(size > 0, size, guess)


def _ratio(above, below):
    """above / below, infinite where one of them is 0."""
    both = (above > 0) & (below > 0)
    return jnp.where(both, above / jnp.where(below > 0, below, 1.0), jnp.inf)


def lengths_of_change(flat: FlatProblem, x: Array) -> Array:
    """For each variable the least power of two by which it has to change for a function to depart from its Taylor
    polynomial of second order by a quarter of that, or for a constraint to change by its value; 0 where none does."""
    info = jnp.finfo(x.dtype)
    reach = info.maxexp // 17 if info.maxexp > 200 else info.maxexp // 4
    steps = jnp.asarray(np.ldexp(1.0, np.arange(-reach, reach + 1)), x.dtype)
    together = lambda x: jnp.concatenate([flat.objective(x)[None], flat.equalities(x), flat.general(x)])
    terms_of = jnp.abs(jax.jacrev(together)(x)) @ jnp.abs(x)
    own = jnp.arange(terms_of.size) > 0

    def along(e):
        value, first = jax.jvp(together, (x,), (e,))
        second = jax.jvp(lambda x: jax.jvp(together, (x,), (e,))[1], (x,), (e,))[1]

        def leaves(t):
            moved = together(x + t * e)
            terms = jnp.maximum(jnp.abs(t * first), jnp.abs(t * t * second / 2))
            off = jnp.abs(moved - value - t * first - t * t * second / 2)
            departs = (
                (terms > 0) & (off > terms / 4) & (off > 256 * info.eps * (terms_of + jnp.abs(value) + jnp.abs(moved)))
            )
            seen = (terms == 0) & (value != 0) & (off > NEGLIGIBLE * jnp.maximum(jnp.abs(value), terms_of))
            reached = own & (jnp.abs(value) > NEGLIGIBLE * terms_of) & (jnp.abs(moved - value) >= jnp.abs(value))
            # a power that overflows tells no length; what is not finite beside moderate values does
            half = together(x + t / 2 * e)
            ends = ~jnp.isfinite(moved) & (jnp.isnan(moved) | (jnp.abs(half) < jnp.sqrt(info.max)))
            return jnp.any(jnp.isfinite(value) & (departs | seen | reached | ends))

        found = jax.vmap(leaves)(steps) | jax.vmap(leaves)(-steps)
        return jnp.where(jnp.any(found), steps[jnp.argmax(found)], 0.0)

    found = lax.map(along, jnp.eye(x.size, dtype=x.dtype))
    # x^2 y^2 does not change along any axis at 0, but between them
    between = along(jnp.where(found > 0, 0.0, 1.0).astype(x.dtype))
    return jnp.where(found > 0, found, between)


def power_of_two(size: Array) -> Array:
    """The power of two next to `size`, within half of the range of exponents; 1 where that is 0 or not finite."""
    usable = (size > 0) & jnp.isfinite(size)
    most = jnp.finfo(size.dtype).maxexp // 2 - 2
    exponent = jnp.round(jnp.log2(jnp.where(usable, size, 1.0)))
    return jnp.ldexp(jnp.ones_like(size), jnp.clip(exponent, -most, most).astype(int))


def rescaled(flat: FlatProblem, units: Any) -> FlatProblem:
    """The same problem in other units; values come out, and multipliers go in and out, as those of the one given."""
    of_f, of_h, of_g, of_x = (jnp.asarray(unit, flat.x0.dtype) for unit in units)
    below, above = flat.bounded
    lower, upper = (jnp.asarray(side, of_x.dtype) / of_x for side in (flat.lower, flat.upper))
    of_all = jnp.concatenate([of_g, 1 / of_x[below], 1 / of_x[above]])

    def in_units(factor: Array, fun: Callable[[Array], Array]) -> Callable[[Array], Array]:
        return lambda w: factor.astype(w.dtype) * fun(of_x.astype(w.dtype) * w)

    return flat._replace(
        x0=flat.x0 / of_x,
        objective=in_units(of_f, flat.objective),
        equalities=in_units(of_h, flat.equalities),
        inequalities=in_units(of_all, flat.inequalities),
        general=in_units(of_g, flat.general),
        unflatten=lambda w: flat.unflatten(of_x.astype(w.dtype) * w),
        pack_equality=lambda lam: flat.pack_equality(lam) / of_h * of_f,
        pack_inequality=lambda mu: flat.pack_inequality(mu) / of_all * of_f,
        unpack_equality=lambda y: flat.unpack_equality(y * of_h / of_f),
        unpack_inequality=lambda y: flat.unpack_inequality(y * of_all / of_f),
        lower=lower,
        upper=upper,
        inside=inside(lower, upper, flat.bounded),
    )


# ---- in a search ----------------------------------------------------------------------------------------------------


class Scaled(NamedTuple):
    """The scaled problem.

    Fields:
      flat; factors (1 + p + m,): of f, h and g; p: how many equalities.
    """

    flat: tuple[Any, ...]
    factors: Array
    p: int

    def values(self, x: Array) -> Array:
        """F(x), shape (1 + p + m,)."""
        return self.factors * together(self.flat, x)

    def values_and_jacobian(self, x: Array) -> tuple[Array, Array]:
        """F(x) and its Jacobian."""
        return self.values(x), jax.jacrev(self.values)(x)

    def lagrangian_hessian(self, x: Array, y: Array) -> Array:
        """The Hessian of f + y . (h, g)."""
        return jax.hessian(lambda x: jnp.concatenate([jnp.ones(1, x.dtype), y]) @ self.values(x))(x)

    def unscale(self, y: Array) -> tuple[Array, Array]:
        """(lambda, mu) of the functions as given."""
        y = y * self.factors[1:] / self.factors[0]
        return y[: self.p], y[self.p :]


def together(flat: Any, x: Array) -> Array:
    """(f, h, g) as one vector."""
    return jnp.concatenate([flat.objective(x)[None], flat.equalities(x), flat.inequalities(x)])


def scale(flat: Any, x0: Array) -> Scaled:
    """Factors <= 1 that bring the gradients at x0 to at most STEEP; 1 where a gradient is not finite."""
    if flat.large:
        rows = [
            each_row(fun, x0, largest) for fun in (lambda x: flat.objective(x)[None], flat.equalities, flat.general)
        ]
        rows = jnp.concatenate([*rows, jnp.ones(sum(side.size for side in flat.bounded), x0.dtype)])
    else:
        rows = jnp.max(jnp.abs(jax.jacrev(lambda x: together(flat, x))(x0)), axis=1, initial=0.0)
    factors = jnp.clip(STEEP / jnp.maximum(rows, 1e-8), 1e-8, 1.0)
    return Scaled(flat, jnp.where(jnp.isfinite(rows), factors, 1.0), flat.equalities(x0).size)


def kkt_error(scaled: Scaled, values: Any, jacobian: Any, y: Array) -> Scalar:
    """The greatest violation of the conditions, stationarity and slackness relative to the multipliers."""
    p = scaled.p
    weight = jnp.maximum(jnp.mean(jnp.abs(y)) if y.size else 0.0, 100.0) / 100.0
    h, g, mu = values[1 : 1 + p], values[1 + p :], y[p:]
    conditions = (
        largest(jacobian[0] + y @ jacobian[1:]) / weight,
        largest(h),
        largest(jnp.maximum(g, 0)),
        largest(mu * g) / weight,
        largest(jnp.maximum(-mu, 0)),
    )
    return jnp.max(jnp.stack([jnp.asarray(c, values.dtype) for c in conditions]))
