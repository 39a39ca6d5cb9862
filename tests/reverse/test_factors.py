"""Factors of matrices where a convention decides: equal to JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import linalg

from functional_dl import reverse

MATRIX = np.array([[3.0, 0.4, -0.2], [0.6, 4.0, 0.5], [0.1, -0.3, 5.0]])  # not symmetric
FACTORS = {
    "cholesky": lambda a: linalg.cholesky(a, symmetrize_input=False),
    "eigh": lambda a: linalg.eigh(a, symmetrize_input=False),
    "eigh, upper": lambda a: linalg.eigh(a, symmetrize_input=False, lower=False),
    "eigenvalues": lambda a: linalg.eigh(a, symmetrize_input=False)[1],
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.sampled(3)
def test_factors_of_what_is_not_hermitian(name, dtype):
    """There the cotangent is a convention, JAX's: to first and to second order."""
    a = jnp.asarray(MATRIX + 1j * np.triu(MATRIX, 1) if dtype == "complex128" else MATRIX)  # its diagonal is real
    weight = jnp.array(np.arange(9.0).reshape(3, 3) - 3.5)

    def norms(a):
        """Of the factors, with weights, so that no entry is like another; vectors' phases drop out."""
        return sum(
            jnp.sum((jnp.abs(y) * (weight if y.ndim == 2 else weight[0])) ** 2)
            for y in jax.tree.leaves(FACTORS[name](a))
        )

    def once_and_twice(a):
        for grad in (jax.grad, reverse.grad):
            yield grad(norms)(a), grad(lambda a: jnp.sum(jnp.abs(grad(norms)(a)) ** 2))(a)

    (expected, second), (ours, our_second) = jax.jit(lambda a: list(once_and_twice(a)))(a)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)
    if name == "cholesky":
        np.testing.assert_allclose(reverse.grad(norms)(a), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(our_second, second, rtol=1e-8, atol=1e-8 * np.abs(second).max())


def test_eigenvectors_are_refused_unless_asked_for():
    def vectors(a):
        return linalg.eig(a, compute_left_eigenvectors=False)[1]

    with pytest.raises(NotImplementedError, match="enable_eigvec_derivs"):
        reverse.vjp(vectors, jnp.asarray(MATRIX))
