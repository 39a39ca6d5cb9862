"""An LSTM scanned over a sequence."""

import jax
import jax.numpy as jnp
from jax import lax

WIDTH = 64


def build(key, batch: int = 16, length: int = 32):
    """Parameters, inputs (length, batch, 64) and targets (batch, 64)."""
    keys = jax.random.split(key, 4)
    params = {
        "input": jax.random.normal(keys[0], (WIDTH, 4 * WIDTH)) / WIDTH**0.5,
        "state": jax.random.normal(keys[1], (WIDTH, 4 * WIDTH)) / WIDTH**0.5,
        "bias": jnp.zeros(4 * WIDTH),
    }
    return params, jax.random.normal(keys[2], (length, batch, WIDTH)), jax.random.normal(keys[3], (batch, WIDTH))


def loss(params, xs, targets):
    def step(state, x):
        hidden, cell = state
        gates = x @ params["input"] + hidden @ params["state"] + params["bias"]
        forget, update, out, candidate = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(update) * jnp.tanh(candidate)
        return (jax.nn.sigmoid(out) * jnp.tanh(cell), cell), None

    start = jnp.zeros_like(targets)
    (hidden, _), _ = lax.scan(step, (start, start), xs)
    return jnp.mean((hidden - targets) ** 2)
