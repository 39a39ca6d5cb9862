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
def test_gradient_at_fixed_bits_equals_jax(name, seed):
    key = jax.random.key(seed)

    def total(a):
        return jnp.sum(SAMPLERS[name](key, a))

    ours, reference = jax.jit(lambda a: [grad(total)(a) for grad in (reverse.grad, jax.grad)])(jnp.asarray(A))
    assert ours.dtype == jnp.float32
    assert np.abs(reference).max() > 1e-3
    np.testing.assert_allclose(ours, reference, rtol=2e-5, atol=1e-6)
