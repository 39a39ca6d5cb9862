"""A small convolutional network with max pooling."""

import jax
import jax.numpy as jnp
from jax import lax


def build(key, batch: int = 16):
    """Parameters, images (batch, 16, 16, 3) and integer labels (batch,)."""
    keys = jax.random.split(key, 6)
    params = {
        "first": jax.random.normal(keys[0], (3, 3, 3, 16)) * 0.2,
        "second": jax.random.normal(keys[1], (3, 3, 16, 32)) * 0.1,
        "dense": jax.random.normal(keys[2], (4 * 4 * 32, 64)) * 0.05,
        "out": jax.random.normal(keys[3], (64, 10)) * 0.1,
        "bias": jnp.zeros(10),
    }
    labels = jax.random.randint(keys[5], (batch,), 0, 10)
    return params, jax.random.normal(keys[4], (batch, 16, 16, 3)), labels


def _stage(x, kernel):
    x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def loss(params, x, labels):
    x = _stage(_stage(x, params["first"]), params["second"]).reshape(x.shape[0], -1)
    logits = jax.nn.relu(x @ params["dense"]) @ params["out"] + params["bias"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))
