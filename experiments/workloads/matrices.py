"""Linear algebra in a loss."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve


def build_gp(key, size: int = 1):
    """Scales, inputs (64 size, 4) and targets."""
    keys = jax.random.split(key, 2)
    params = {"length": jnp.zeros(4), "noise": jnp.array(-1.0)}
    return params, jax.random.normal(keys[0], (64 * size, 4)), jax.random.normal(keys[1], (64 * size,))


def gp_loss(params, x, y):
    scaled = x * jnp.exp(-params["length"])
    squares = jnp.sum((scaled[:, None] - scaled[None]) ** 2, axis=-1)
    covariance = jnp.exp(-0.5 * squares) + jnp.exp(params["noise"]) * jnp.eye(x.shape[0])
    factor = jnp.linalg.cholesky(covariance)
    fit = y @ cho_solve((factor, True), y)
    return 0.5 * fit + jnp.sum(jnp.log(jnp.diagonal(factor)))
