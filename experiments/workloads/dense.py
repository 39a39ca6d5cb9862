"""A multilayer perceptron with softmax cross-entropy."""

import jax
import jax.numpy as jnp

SIZES = (64, 256, 256, 10)


def build(key, batch: int = 128):
    """Parameters, inputs (batch, 64) and integer labels (batch,)."""
    keys = jax.random.split(key, len(SIZES) + 1)
    params = [
        {"weight": jax.random.normal(k, (m, n)) / jnp.sqrt(m), "bias": jnp.zeros(n)}
        for k, m, n in zip(keys, SIZES, SIZES[1:])
    ]
    labels = jax.random.randint(keys[-1], (batch,), 0, SIZES[-1])
    return params, jax.random.normal(keys[-2], (batch, SIZES[0])), labels


def loss(params, x, labels):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["weight"] + layer["bias"])
    logits = x @ params[-1]["weight"] + params[-1]["bias"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))
