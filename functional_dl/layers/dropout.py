"""Inverted dropout."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from functional_dl import arguments
from functional_dl.aliases import Array, Key
from functional_dl.arguments import array, number, real, within


def dropout(
    key: Key | None, x: Float[Array, "..."], rate: ArrayLike, deterministic: bool = False
) -> Float[Array, "..."]:
    """Inverted dropout, y = m x / (1 - rate), m_i independent with P(m_i = 1) = 1 - rate.

    E[y] = x;  x_bar = m y_bar / (1 - rate): the backward pass has the same mask.

    Args:
      key: randomness; the same key gives the same mask.  It may be None where nothing is dropped.
      x: any shape, floating.
      rate: in [0, 1), the probability that an entry is dropped; may be traced.
      deterministic: True returns x, for the use of a trained network.
    Returns:
      y, same shape and dtype.
    Raises:
      ValueError: rate (where concrete) lies outside [0, 1); there is no key and something is to be dropped.
      TypeError: key is no PRNG key (an integer is none), x no array of real numbers, rate no number.
    Kinks: none (linear in x).  Numerics: one rounding.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014.
    Example:
      >>> layers.dropout(jax.random.key(0), jnp.ones(4), 0.5, deterministic=True).tolist()
      [1.0, 1.0, 1.0, 1.0]
      >>> set(layers.dropout(jax.random.key(0), jnp.ones(64), 0.5).tolist()) == {0.0, 2.0}
      True
    """
    within("rate", number("rate", rate), 0.0, 1.0, open_right=True)
    x = real("x", x)
    key = None if key is None else arguments.key("key", key)
    traced = isinstance(rate, jax.core.Tracer)
    if deterministic or (not traced and rate == 0):
        return x
    if key is None:
        raise ValueError(f"key: expected a random key for dropout at rate {rate}, got None")
    return apply_mask(jax.random.bernoulli(key, 1 - rate, x.shape), x, rate)


def apply_mask(mask: Bool[Array, "..."], x: Float[Array, "..."], rate: ArrayLike) -> Float[Array, "..."]:
    """y = m x / (1 - rate), dropout with its mask given.

    Raises:
      ValueError: mask and x differ in shape; rate (where concrete) lies outside [0, 1).
    Example:
      >>> layers.apply_mask(jnp.array([1.0, 0.0]), jnp.array([3.0, 5.0]), 0.5).tolist()
      [6.0, 0.0]
    """
    within("rate", number("rate", rate), 0.0, 1.0, open_right=True)
    mask, x = array("mask", mask), array("x", x)
    if mask.shape != x.shape:
        raise ValueError(f"mask: expected the shape of x, {x.shape}, got {mask.shape}")
    x = real("x", x)
    kept = (1 - jnp.asarray(rate)).astype(x.dtype)
    return jnp.where(mask, x / kept, 0.0)  # selected, not multiplied: a dropped inf gives 0, not NaN
