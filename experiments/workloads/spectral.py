"""Fourier transforms in a network and in a loss."""

import jax
import jax.numpy as jnp


def build_layer(key, size: int = 1):
    """Weights of 64 frequencies and 16 channels, and signals (8 size, 128, 16)."""
    keys = jax.random.split(key, 4)
    params = {
        "real": jax.random.normal(keys[0], (64, 16, 16)) / 4,
        "imaginary": jax.random.normal(keys[1], (64, 16, 16)) / 4,
        "through": jax.random.normal(keys[2], (16, 16)) / 4,
    }
    return params, jax.random.normal(keys[3], (8 * size, 128, 16))


def layer_loss(params, x):
    weights = jax.lax.complex(params["real"], params["imaginary"])
    for _ in range(2):
        frequencies = jnp.fft.rfft(x, axis=1)[:, :64]
        mixed = jnp.einsum("bfi,fio->bfo", frequencies, weights)
        x = jax.nn.gelu(jnp.fft.irfft(mixed, n=128, axis=1) + x @ params["through"])
    return jnp.mean(x**2)


def build(key, size: int = 1):
    """Weights of a filter, and signals (4 size, 1024) with their targets."""
    keys = jax.random.split(key, 3)
    return jax.random.normal(keys[0], (32,)) / 6, *(jax.random.normal(k, (4 * size, 1024)) for k in keys[1:])


def _spectrogram(x):
    """Magnitudes of windows of 128, 64 apart."""
    starts = 64 * jnp.arange(15)[:, None] + jnp.arange(128)
    windows = x[:, starts] * jnp.hanning(128).astype(x.dtype)
    return jnp.sqrt(jnp.abs(jnp.fft.rfft(windows)) ** 2 + 1e-6)


def loss(kernel, x, targets):
    filtered = jax.vmap(lambda signal: jnp.convolve(signal, kernel, mode="same"))(x)
    found, wanted = _spectrogram(filtered), _spectrogram(targets)
    return jnp.mean(jnp.abs(jnp.log(found) - jnp.log(wanted))) + jnp.mean((found - wanted) ** 2)
