"""Inverse Cholesky factors, one and many, against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality.qp.cholesky import LEAF, MOST, inverse_factor


def drawn(batch, n, dtype):
    roots = np.random.default_rng(n).normal(size=(batch, n, n))
    return (roots @ np.swapaxes(roots, 1, 2) + n * np.eye(n)).astype(dtype)


@pytest.mark.parametrize("n", [0, 1, 4, LEAF, LEAF + 1, 23, MOST, MOST + 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.sampled(4)
def test_equals_numpy(n, dtype):
    K = drawn(3, n, dtype)
    expected = np.linalg.inv(np.linalg.cholesky(K.astype(float)))
    many = jax.jit(jax.vmap(inverse_factor))(K)
    assert many.dtype == dtype
    tolerance = 50 * np.finfo(dtype).eps
    np.testing.assert_allclose(many, expected, atol=tolerance)
    np.testing.assert_allclose(jax.jit(inverse_factor)(K[0]), expected[0], atol=tolerance)


def test_batches_of_batches():
    K = drawn(6, 12, "float64")
    expected = np.linalg.inv(np.linalg.cholesky(K))
    found = jax.jit(jax.vmap(jax.vmap(inverse_factor)))(K.reshape(2, 3, 12, 12))
    np.testing.assert_allclose(found.reshape(6, 12, 12), expected, atol=1e-13)


@pytest.mark.parametrize("n", [3, 20])
def test_what_is_not_positive_definite_becomes_nan(n):
    """And leaves its neighbours alone."""
    K = drawn(3, n, "float64")
    K[1, n - 1, n - 1] = -1.0
    found = jax.jit(jax.vmap(inverse_factor))(K)
    assert not np.all(np.isfinite(found[1]))
    assert np.all(np.isfinite(found[jnp.array([0, 2])]))
    assert not np.all(np.isfinite(jax.jit(inverse_factor)(K[1])))
