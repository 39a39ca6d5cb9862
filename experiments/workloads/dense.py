"""Networks of dense layers: a classifier, a variational autoencoder, a mixture density, a regression of counts."""

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp

SIZES = (64, 256, 256, 10)


def build(key, size: int = 1):
    """Parameters, inputs (128 size, 64) and integer labels."""
    batch = 128 * size
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


def _layers(key, sizes):
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        {"weight": jax.random.normal(k, (m, n)) / jnp.sqrt(m), "bias": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:])
    ]


def _network(params, x, activation=jnp.tanh):
    for layer in params[:-1]:
        x = activation(x @ layer["weight"] + layer["bias"])
    return x @ params[-1]["weight"] + params[-1]["bias"]


def build_vae(key, size: int = 1):
    """Parameters, inputs (128 size, 64) in [0, 1], and noise."""
    keys = jax.random.split(key, 4)
    params = {"encoder": _layers(keys[0], (64, 128, 16)), "decoder": _layers(keys[1], (8, 128, 64))}
    return params, jax.random.uniform(keys[2], (128 * size, 64)), jax.random.normal(keys[3], (128 * size, 8))


def vae_loss(params, x, noise):
    mean, log_scale = jnp.split(_network(params["encoder"], x), 2, axis=-1)
    logits = _network(params["decoder"], mean + jnp.exp(log_scale) * noise)
    fit = jnp.sum(jax.nn.softplus(logits) - x * logits, axis=-1)
    divergence = jnp.sum(0.5 * (jnp.exp(2 * log_scale) + mean**2 - 1) - log_scale, axis=-1)
    return jnp.mean(fit + divergence)


def build_mixture(key, size: int = 1):
    """Parameters, inputs (256 size, 8) and targets."""
    keys = jax.random.split(key, 3)
    return (
        _layers(keys[0], (8, 64, 64, 30)),
        jax.random.normal(keys[1], (256 * size, 8)),
        jax.random.normal(keys[2], (256 * size,)),
    )


def mixture_loss(params, x, y):
    logits, means, log_scales = jnp.split(_network(params, x), 3, axis=-1)
    residual = (y[:, None] - means) * jnp.exp(-log_scales)
    return -jnp.mean(logsumexp(jax.nn.log_softmax(logits) - 0.5 * residual**2 - log_scales, axis=-1))


def build_counts(key, size: int = 1):
    """Parameters, inputs (256 size, 16) and counts."""
    keys = jax.random.split(key, 3)
    return (
        {"mean": _layers(keys[0], (16, 64, 1)), "dispersion": jnp.zeros(())},
        jax.random.normal(keys[1], (256 * size, 16)),
        jax.random.poisson(keys[2], 3.0, (256 * size,)).astype(jnp.float32),
    )


def count_loss(params, x, counts):
    mean, r = jnp.exp(_network(params["mean"], x)[:, 0]), jnp.exp(params["dispersion"])
    log_likelihood = gammaln(counts + r) - gammaln(r) - gammaln(counts + 1)
    log_likelihood += r * jnp.log(r / (r + mean)) + counts * jnp.log(mean / (r + mean))
    return -jnp.mean(log_likelihood)
