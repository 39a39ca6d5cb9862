"""Points where everything cancels (constant, tied, zero): what is rounding alone is no fault."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check

FEATURES = np.linspace(-1, 2, 20).reshape(4, 5) ** 3


def softmax_squares(w):
    return jnp.sum(jax.nn.softmax(jnp.asarray(FEATURES, w.dtype) @ w) ** 2)


def variance(w):
    return jnp.sum((w - jnp.mean(w, 0, keepdims=True)) ** 2)


def normalised(w):
    centred = w - jnp.mean(w, -1, keepdims=True)
    return jnp.sum((centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)) ** 2)


def total_of_softmax(w):
    return jnp.sum(jax.nn.softmax(w, 0)) - 3


@pytest.mark.parametrize(
    ("fun", "dtype"),
    [
        (softmax_squares, "float64"),
        (variance, "float64"),
        (variance, "float32"),
        (normalised, "float32"),
        (total_of_softmax, "float64"),
    ],
)
@pytest.mark.sampled(3)
def test_the_derivative_of_jax_passes(fun, dtype):
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        for seed, value in enumerate((0, 0.1)):
            w = np.full((5, 3), value, dtype)
            report = check.check_vjp(fun, lambda w: jax.vjp(fun, w), w, seed=seed)
            assert report.passed, str(report)
            assert not report.notes


def test_a_fault_that_does_not_cancel_is_found_there():
    w = np.full((5, 3), 0.1)
    shifted = lambda w: (variance(w), lambda ct: (jax.vjp(variance, w)[1](ct)[0] + 1e-9 * ct,))
    assert not check.check_vjp(variance, shifted, w).passed
    off = lambda w: (variance(w) + 1e-12, jax.vjp(variance, w)[1])
    assert [f.cause for f in check.check_vjp(variance, off, w).findings] == ["primal"]
