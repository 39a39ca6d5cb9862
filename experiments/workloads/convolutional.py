"""Convolutional networks: with max pooling, residual with batch norm, down and up again."""

import jax
import jax.numpy as jnp
from jax import lax


def build(key, size: int = 1):
    """Parameters, images (16 size, 16, 16, 3) and integer labels."""
    batch = 16 * size
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


def _convolved(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _batch_norm(x, scale, shift):
    mean = jnp.mean(x, (0, 1, 2))
    variance = jnp.mean((x - mean) ** 2, (0, 1, 2))
    return (x - mean) * lax.rsqrt(variance + 1e-5) * scale + shift


def build_resnet(key, size: int = 1):
    """Parameters, images (8 size, 16, 16, 3) and integer labels."""
    keys = iter(jax.random.split(key, 12))
    blocks = [
        {
            name: {
                "kernel": 0.1 * jax.random.normal(next(keys), (3, 3, 16, 16)),
                "scale": jnp.ones(16),
                "shift": jnp.zeros(16),
            }
            for name in ("first", "second")
        }
        for _ in range(3)
    ]
    params = {
        "stem": 0.3 * jax.random.normal(next(keys), (3, 3, 3, 16)),
        "blocks": blocks,
        "out": 0.3 * jax.random.normal(next(keys), (16, 10)),
    }
    images = jax.random.normal(next(keys), (8 * size, 16, 16, 3))
    return params, images, jax.random.randint(next(keys), (8 * size,), 0, 10)


def resnet_loss(params, x, labels):
    x = _convolved(x, params["stem"])
    for block in params["blocks"]:
        inner = x
        for name in ("first", "second"):
            layer = block[name]
            inner = jax.nn.relu(_batch_norm(_convolved(inner, layer["kernel"]), layer["scale"], layer["shift"]))
        x = x + inner
    logits = jnp.mean(x, (1, 2)) @ params["out"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))


def build_unet(key, size: int = 1):
    """Parameters, images and targets (4 size, 32, 32, 1)."""
    keys = jax.random.split(key, 6)
    shapes = {"in": (3, 3, 1, 8), "down": (3, 3, 8, 16), "up": (3, 3, 16, 8), "out": (3, 3, 16, 1)}
    params = {name: 0.2 * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items())}
    shape = (4 * size, 32, 32, 1)
    return params, jax.random.normal(keys[4], shape), jax.random.normal(keys[5], shape)


def unet_loss(params, x, targets):
    fine = jax.nn.relu(_convolved(x, params["in"]))
    pooled = lax.reduce_window(fine, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    coarse = jax.nn.relu(_convolved(pooled, params["down"]))
    up = jnp.repeat(jnp.repeat(_convolved(coarse, params["up"]), 2, axis=1), 2, axis=2)
    out = _convolved(jnp.concatenate([fine, up], axis=-1), params["out"])
    return jnp.mean((out - targets) ** 2)
