"""Terms that several losses share: products and quotients that are 0 where their limit is."""

import jax.numpy as jnp

from functional_dl.aliases import Array


def xlogy(x: Array, y: Array) -> Array:
    """x ln y with 0 ln 0 = 0; the derivatives in x and in y are right wherever x > 0 or y > 0."""
    empty = (x == 0) & (y == 0)
    return jnp.where(empty, 0.0, x * jnp.log(jnp.where(empty, 1.0, y)))


def ratio(x: Array, y: Array) -> Array:
    """x / y with 0 / 0 = 0."""
    empty = (x == 0) & (y == 0)
    return jnp.where(empty, 0.0, x / jnp.where(empty, 1.0, y))


def weighted(weight: Array, x: Array) -> Array:
    """weight x with 0 inf = 0; the derivative in weight is right wherever x is finite."""
    empty = (weight == 0) & jnp.isinf(x)
    return jnp.where(empty, 0.0, weight * jnp.where(empty, 0.0, x))
