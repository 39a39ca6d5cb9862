"""Networks to explain: small, of the usual kinds, each a scalar function of parameters and data."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def drawn(*shapes, seed=0, scale=0.5):
    """Random arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(scale * rng.normal(size=shape)) for shape in shapes]


def mlp(params, x, labels):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"][None])
    logits = x @ params[-1]["w"] + params[-1]["b"][None]
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -jnp.mean(chosen)


def mlp_arguments(sizes=(6, 16, 5), batch=8):
    arrays = drawn(*[s for m, n in itertools.pairwise(sizes) for s in ((m, n), (n,))], (batch, sizes[0]))
    params = [{"w": w, "b": b} for w, b in zip(arrays[:-1:2], arrays[1:-1:2])]
    return params, arrays[-1], jnp.arange(batch) % sizes[-1]


def cnn(params, images, labels):
    def stage(x, kernel):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    features = stage(stage(images, params["first"]), params["second"]).reshape(images.shape[0], -1)
    logits = features @ params["out"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1))


def cnn_arguments(batch=2, size=8, channels=4):
    first, second, out, images = drawn(
        (3, 3, 1, channels),
        (3, 3, channels, 2 * channels),
        ((size // 4) ** 2 * 2 * channels, 3),
        (batch, size, size, 1),
    )
    return {"first": first, "second": second, "out": out}, images, jnp.arange(batch) % 3


def lstm(params, xs, targets):
    def cell(state, x):
        hidden, memory = state
        gates = x @ params["input"] + hidden @ params["state"] + params["bias"][None]
        forget, update, out, candidate = jnp.split(gates, 4, axis=-1)
        memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(update) * jnp.tanh(candidate)
        return (jax.nn.sigmoid(out) * jnp.tanh(memory), memory), None

    start = jnp.zeros_like(targets)
    (hidden, _), _ = lax.scan(cell, (start, start), xs)
    return jnp.mean((hidden - targets) ** 2)


def lstm_arguments(width=3, batch=2, length=5):
    inputs, state, bias, xs, targets = drawn(
        (width, 4 * width), (width, 4 * width), (4 * width,), (length, batch, width), (batch, width)
    )
    return {"input": inputs, "state": state, "bias": bias}, xs, targets


def layer_norm(x, scale, shift):
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return centred * inverse * scale[None, None] + shift[None, None]


def attention(params, x, heads):
    batch, length, width = x.shape
    query, key, value = ((x @ params[name]).reshape(batch, length, heads, -1) for name in ("query", "key", "value"))
    scores = jnp.einsum("bthd,bshd->bhts", query, key) / (width // heads) ** 0.5
    mask = jnp.tril(jnp.ones((length, length), bool))[None, None]
    scores = jnp.where(mask, scores, -1e9)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), value)
    return mixed.reshape(x.shape) @ params["out"]


def block(params, x, heads):
    x = x + attention(params, layer_norm(x, params["scale1"], params["shift1"]), heads)
    hidden = jax.nn.gelu(layer_norm(x, params["scale2"], params["shift2"]) @ params["up"])
    return x + hidden @ params["down"]


def transformer(params, x, targets, heads=2):
    for part in params:
        x = block(part, x, heads)
    return jnp.mean((x - targets) ** 2)


def transformer_arguments(blocks=1, width=8, batch=2, length=4):
    shapes = {name: (width, width) for name in ("query", "key", "value", "out")}
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
    shapes |= {name: (width,) for name in ("scale1", "shift1", "scale2", "shift2")}
    params = [dict(zip(shapes, drawn(*shapes.values(), seed=n))) for n in range(blocks)]
    x, targets = drawn((batch, length, width), (batch, length, width), seed=99)
    return params, x, targets


def vae(params, x, noise):
    """Negative evidence lower bound of a Gaussian latent variable model with Bernoulli pixels."""
    hidden = jnp.tanh(x @ params["encoder"])
    mean, log_variance = hidden @ params["mean"], hidden @ params["log_variance"]
    latent = mean + jnp.exp(0.5 * log_variance) * noise
    logits = jnp.tanh(latent @ params["decoder"]) @ params["out"]
    reconstruction = jnp.sum(jax.nn.softplus(logits) - jax.nn.sigmoid(x) * logits, axis=-1)
    divergence = 0.5 * jnp.sum(jnp.exp(log_variance) + mean**2 - 1.0 - log_variance, axis=-1)
    return jnp.mean(reconstruction + divergence)


def vae_arguments(pixels=6, hidden=5, latent=2, batch=4):
    names = ("encoder", "mean", "log_variance", "decoder", "out")
    shapes = ((pixels, hidden), (hidden, latent), (hidden, latent), (latent, hidden), (hidden, pixels))
    x, noise = drawn((batch, pixels), (batch, latent), seed=5)
    return dict(zip(names, drawn(*shapes))), x, noise


PROGRAMS = {
    "mlp": (mlp, mlp_arguments),
    "cnn": (cnn, cnn_arguments),
    "lstm": (lstm, lstm_arguments),
    "transformer": (transformer, transformer_arguments),
    "vae": (vae, vae_arguments),
}
