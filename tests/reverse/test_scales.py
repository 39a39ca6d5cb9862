"""Rules at extreme scales: a cotangent that float32 can hold is right where a square of what it is made of overflows.

f(c x) for powers of two c, of which nothing is rounded: the gradient in float32 is held to that in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse


def _weights(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def _of_factors(factors):
    """A number made of the factors without their signs."""

    def fun(x):
        return sum(jnp.sum(_weights(p.shape, i).astype(x.dtype) * p) for i, p in enumerate(factors(x)))

    return fun


def _singular_vectors(x):
    u, _, vh = jnp.linalg.svd(x, full_matrices=False)
    return jnp.einsum("ik,jk->kij", u, u), jnp.einsum("ki,kj->kij", vh, vh)


def _eigenvectors(x):
    v = jnp.linalg.eigh(x + x.T)[1]
    return (jnp.einsum("ik,jk->kij", v, v),)


def _orthogonal_factor(x):
    return (jnp.linalg.qr(x)[0],)


def _direction(x):
    scale = jnp.max(jnp.abs(x))
    return (x / scale / jnp.linalg.norm(x / scale),)


FUNCTIONS = {
    "singular vectors": (_singular_vectors, (3, 3)),
    "singular vectors, tall": (_singular_vectors, (4, 2)),
    "singular vectors, wide": (_singular_vectors, (2, 3)),
    "eigenvectors": (_eigenvectors, (3, 3)),
    "q": (_orthogonal_factor, (4, 3)),
    "solve": (lambda x: (jnp.linalg.solve(x, x.T @ jnp.ones((3, 1), x.dtype)),), (3, 3)),
    "singular values": (lambda x: (jnp.linalg.svd(x, compute_uv=False),), (3, 3)),
    "determinant's logarithm": (lambda x: (jnp.linalg.slogdet(x)[1],), (3, 3)),
    "atan2": (lambda x: (lax.atan2(x[0], x[1]),), (2, 3)),
    "quotient": (lambda x: (x[0] / x[1],), (2, 3)),
    "direction": (_direction, (5,)),
    "complex abs": (lambda x: (jnp.abs(lax.complex(x[0], x[1])),), (2, 3)),
    "complex angle": (lambda x: (jnp.angle(lax.complex(x[0], x[1])),), (2, 3)),
    "logarithm": (lambda x: (jnp.log(jnp.abs(x)),), (4,)),
    "asinh": (lambda x: (jnp.arcsinh(x),), (4,)),
    "softmax of a quotient": (lambda x: (jax.nn.softmax(x / jnp.max(jnp.abs(x))),), (4,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_scale(name):
    factors, shape = FUNCTIONS[name]
    fun = _of_factors(factors)
    gradient = jax.jit(reverse.grad(fun))
    x = _weights(shape, 7)
    for exponent in (-69, 69):
        at = np.ldexp(x.astype(np.float32), exponent)
        exact = gradient(jnp.asarray(at, jnp.float64))
        np.testing.assert_allclose(gradient(jnp.asarray(at)), exact, rtol=3e-4, atol=1e-5 * np.max(np.abs(exact)))
