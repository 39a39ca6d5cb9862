"""Products of many numbers, n - 1 multiplications whose gradient needs no more than 3 n; and running log-sum-exps."""

import jax
import jax.numpy as jnp
from jax import lax


def build(key, size: int = 1):
    """1000 size numbers near 1."""
    count = 1000 * size
    return (jax.random.uniform(key, (count,), minval=0.99, maxval=1.01),)


def loss(x):
    return jnp.prod(x)


def build_ranking(key, size: int = 1):
    """Weights, and lists (32 size, 40, 16) in the order of their relevance."""
    keys = jax.random.split(key, 3)
    params = {"first": jax.random.normal(keys[0], (16, 32)) / 4, "second": jax.random.normal(keys[1], (32,)) / 6}
    return params, jax.random.normal(keys[2], (32 * size, 40, 16))


def ranking_loss(params, lists):
    """Plackett and Luce: each item is chosen among those that come after it."""
    scores = jnp.tanh(lists @ params["first"]) @ params["second"]
    return jnp.mean(lax.cumlogsumexp(scores, axis=1, reverse=True) - scores)
