r"""A problem as one vector function F = (f, h, g), with the gradients at the start brought to at most 100.

The KKT error of a point with multipliers y = (lambda, mu) of the scaled functions is the greatest of

    |grad f + J' y| / w,    |h|,    (g)+,    |mu_i g_i| / w,    (-mu)+,        w = max(mean |y|, 100) / 100.

Source: Waechter and Biegler 2006, section 2.1 and equation (6).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import largest
from functional_dl.optimality.units import each_row

GRADIENT = 100.0  # functions whose gradient at the start is greater are scaled down to this


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
    """Factors <= 1 that bring the gradients at x0 to at most GRADIENT; 1 where a gradient is not finite."""
    if flat.large:
        rows = [
            each_row(fun, x0, largest) for fun in (lambda x: flat.objective(x)[None], flat.equalities, flat.general)
        ]
        rows = jnp.concatenate([*rows, jnp.ones(sum(side.size for side in flat.bounded), x0.dtype)])
    else:
        rows = jnp.max(jnp.abs(jax.jacrev(lambda x: together(flat, x))(x0)), axis=1, initial=0.0)
    factors = jnp.clip(GRADIENT / jnp.maximum(rows, 1e-8), 1e-8, 1.0)
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
