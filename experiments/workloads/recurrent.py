"""Recurrent cells scanned over a sequence."""

import jax
import jax.numpy as jnp
from jax import lax

WIDTH = 64


def build(key, size: int = 1, gates: int = 4, batch: int = 16):
    """Parameters, inputs (32 size, 16, 64) and targets (16, 64)."""
    length = 32 * size
    keys = jax.random.split(key, 4)
    params = {
        "input": jax.random.normal(keys[0], (WIDTH, gates * WIDTH)) / WIDTH**0.5,
        "state": jax.random.normal(keys[1], (WIDTH, gates * WIDTH)) / WIDTH**0.5,
        "bias": jnp.zeros(gates * WIDTH),
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


def build_gru(key, size: int = 1):
    return build(key, size, gates=3)


def gru_loss(params, xs, targets):
    def step(hidden, x):
        from_x, from_hidden = x @ params["input"] + params["bias"], hidden @ params["state"]
        (reset, update, new), (reset_h, update_h, new_h) = (jnp.split(z, 3, axis=-1) for z in (from_x, from_hidden))
        update = jax.nn.sigmoid(update + update_h)
        new = jnp.tanh(new + jax.nn.sigmoid(reset + reset_h) * new_h)
        return (1 - update) * new + update * hidden, None

    hidden, _ = lax.scan(step, jnp.zeros_like(targets), xs)
    return jnp.mean((hidden - targets) ** 2)


def build_rnn(key, size: int = 1):
    return build(key, size, gates=1)


def rnn_loss(params, xs, targets):
    def step(hidden, x):
        hidden = jnp.tanh(x @ params["input"] + hidden @ params["state"] + params["bias"])
        return hidden, jnp.mean((hidden - targets) ** 2)

    return jnp.mean(lax.scan(step, jnp.zeros_like(targets), xs)[1])
