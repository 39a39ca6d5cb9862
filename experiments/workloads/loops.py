"""Loops whose steps are networks: a differential equation, and gradient descent that is differentiated itself."""

import jax
import jax.numpy as jnp
from jax import lax

WIDTH = 32


def _field(params, y):
    return jnp.tanh(y @ params["first"]) @ params["second"]


def build_ode(key, size: int = 1):
    """Parameters, starts and targets (64, 32), and times, 32 size of them."""
    keys = jax.random.split(key, 4)
    params = {
        "first": jax.random.normal(keys[0], (WIDTH, 2 * WIDTH)) / WIDTH**0.5,
        "second": jax.random.normal(keys[1], (2 * WIDTH, WIDTH)) / WIDTH**0.5,
    }
    starts, targets = (jax.random.normal(k, (64, WIDTH)) for k in keys[2:])
    return params, starts, targets, jnp.linspace(0.0, 1.0, 32 * size)


def ode_loss(params, starts, targets, times):
    h = 1 / times.shape[0]

    def step(y, _):
        k1 = _field(params, y)
        k2 = _field(params, y + 0.5 * h * k1)
        k3 = _field(params, y + 0.5 * h * k2)
        k4 = _field(params, y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return jnp.mean((lax.scan(step, starts, times)[0] - targets) ** 2)


def build_meta(key, size: int = 1):
    """Parameters, and for each of 8 size tasks two sets of inputs and targets."""
    keys = jax.random.split(key, 4)
    params = {
        "first": jax.random.normal(keys[0], (WIDTH, WIDTH)) / WIDTH**0.5,
        "second": jax.random.normal(keys[1], (WIDTH, WIDTH)) / WIDTH**0.5,
    }
    inputs, targets = (jax.random.normal(k, (8 * size, 2, 16, WIDTH)) for k in keys[2:])
    return params, inputs, targets


def meta_loss(params, inputs, targets):
    """The loss on a task's second set after eight steps of gradient descent on its first, by hand-written gradients."""

    def gradient(params, x, y):
        hidden = jnp.tanh(x @ params["first"])
        delta = (hidden @ params["second"] - y) / x.shape[0]
        inner = (delta @ params["second"].T) * (1 - hidden**2)
        return {"first": x.T @ inner, "second": hidden.T @ delta}

    def of_task(x, y):
        def step(adapted, _):
            slope = gradient(adapted, x[0], y[0])
            return jax.tree.map(lambda p, g: p - 0.1 * g, adapted, slope), None

        adapted, _ = lax.scan(step, params, length=8)
        return jnp.mean((_field(adapted, x[1]) - y[1]) ** 2)

    return jnp.mean(jax.vmap(of_task)(inputs, targets))
