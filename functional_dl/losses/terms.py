"""What several losses share: products and quotients that are 0 where their limit is, and labels."""

import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.arguments import concrete


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


def known_labels(name: str, labels: Array, classes: int) -> Array:
    """Where integer labels lie in [0, classes): a label of no class must not pass for a loss of 0 under jit.

    Raises:
      ValueError: a concrete one does not.
    """
    values = concrete(labels)
    if values is not None and ((values < 0) | (values >= classes)).any():
        bad = values[(values < 0) | (values >= classes)].flat[0]
        raise ValueError(f"{name}: expected labels in [0, {classes}), got {bad}")
    return (labels >= 0) & (labels < classes)
