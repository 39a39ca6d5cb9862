"""The product of many numbers: n - 1 multiplications, whose gradient needs no more than 3 n."""

import jax
import jax.numpy as jnp


def build(key, count: int = 1000):
    """Numbers near 1."""
    return (jax.random.uniform(key, (count,), minval=0.99, maxval=1.01),)


def loss(x):
    return jnp.prod(x)
