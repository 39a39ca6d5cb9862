"""Blocks of causal self-attention and a GELU network, each behind a layer norm, with residual connections."""

import jax
import jax.numpy as jnp
from jax import lax

WIDTH, HEADS, BLOCKS = 64, 4, 4


def _block_params(key):
    shapes = {name: (WIDTH, WIDTH) for name in ("query", "key", "value", "out")}
    shapes |= {"up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    keys = jax.random.split(key, len(shapes))
    params = {name: jax.random.normal(k, shape) / jnp.sqrt(shape[0]) for k, (name, shape) in zip(keys, shapes.items())}
    ones, zeros = jnp.ones(WIDTH), jnp.zeros(WIDTH)
    return params | {"scale1": ones, "shift1": zeros, "scale2": ones, "shift2": zeros}


def build(key, size: int = 1, length: int = 32):
    """Parameters, inputs and targets (8 size, 32, 64)."""
    batch = 8 * size
    keys = jax.random.split(key, BLOCKS + 2)
    shape = (batch, length, WIDTH)
    inputs, targets = jax.random.normal(keys[-1], shape), jax.random.normal(keys[-2], shape)
    return [_block_params(k) for k in keys[:BLOCKS]], inputs, targets


def _layer_norm(x, scale, shift):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5) * scale + shift


def _attention(params, x):
    batch, length, _ = x.shape
    query, key, value = (
        (x @ params[name]).reshape(batch, length, HEADS, WIDTH // HEADS) for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bthd,bshd->bhts", query, key) / (WIDTH // HEADS) ** 0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), value)
    return mixed.reshape(x.shape) @ params["out"]


def loss(params, x, targets):
    for block in params:
        x = x + _attention(block, _layer_norm(x, block["scale1"], block["shift1"]))
        hidden = jax.nn.gelu(_layer_norm(x, block["scale2"], block["shift2"]) @ block["up"])
        x = x + hidden @ block["down"]
    return jnp.mean((x - targets) ** 2)
