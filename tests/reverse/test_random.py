"""Reparameterised samplers in float32: their bits differ from float64's, so JAX's gradient in float32 is the judge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse

A = np.array([0.3, 1.0, 2.5, 7.0], np.float32)
SAMPLERS = {
    "gamma": lambda key, a: jax.random.gamma(key, a),
    "loggamma": lambda key, a: jax.random.loggamma(key, a),
    "beta": lambda key, a: jax.random.beta(key, a, a + np.float32(1), dtype=jnp.float32),
    "dirichlet": lambda key, a: jax.random.dirichlet(key, a)[0],
    "chisquare": lambda key, a: jax.random.chisquare(key, a, dtype=jnp.float32),
    "t": lambda key, a: jax.random.t(key, a, (4,), dtype=jnp.float32),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.sampled(4)
def test_gradient_at_fixed_bits_equals_jax(name, seed):
    key = jax.random.key(seed)

    def total(a):
        return jnp.sum(SAMPLERS[name](key, a))

    ours, reference = jax.jit(lambda a: [grad(total)(a) for grad in (reverse.grad, jax.grad)])(jnp.asarray(A))
    assert ours.dtype == jnp.float32
    assert np.abs(reference).max() > 1e-3
    np.testing.assert_allclose(ours, reference, rtol=2e-5, atol=1e-6)


def test_recomputing_uses_a_key_again_on_purpose():
    """What runs again draws the same numbers from the same key; JAX's check of keys finds no mistake in that."""

    def noisy(x, key):
        return jnp.sin(x) * jax.random.uniform(key, (), x.dtype)

    def scanned(x, keys):
        return reverse.checkpointed_scan(lambda c, key: (noisy(c, key), None), x, keys, slots=2)[0]

    x, key = np.float32(1), jax.random.key(0)

    def gradients(x, key):
        keys = jax.random.split(key, 4)
        return reverse.grad(jax.checkpoint(noisy))(x, keys[0]), reverse.grad(scanned)(x, keys[1:])

    with jax.debug_key_reuse(True):
        once, along = jax.jit(gradients)(x, key)
    keys = jax.random.split(key, 4)
    np.testing.assert_allclose(once, np.cos(x) * jax.random.uniform(keys[0], (), x.dtype), rtol=1e-6)
    np.testing.assert_allclose(
        along, jax.grad(lambda x: noisy(noisy(noisy(x, keys[1]), keys[2]), keys[3]))(x), rtol=1e-6
    )
