"""The fundamental theorem both ways, and Leibniz's rule with moving bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import integrals


def test_the_derivative_of_the_integral():
    primitive = integrals.antiderivative(jnp.cos, 0.0)
    assert abs(primitive(0.7) - np.sin(0.7)) <= 1e-14
    assert abs(jax.grad(primitive)(0.7) - np.cos(0.7)) <= 1e-14
    assert float(primitive(0.0)) == 0.0
    with pytest.raises(ValueError, match="converges; the integrand stays too large"):
        integrals.antiderivative(lambda x: 1 / x, 0.0)(1.0)


@pytest.mark.parametrize("f", [jnp.exp, lambda x: jnp.sin(3 * x) / (1 + x * x), lambda x: jnp.abs(x - 0.3)])
def test_the_integral_of_the_derivative(f):
    found = integrals.net_change(f, -1, 2)
    assert abs(float(found.value) - float(f(2.0) - f(-1.0))) <= float(found.error) <= 1e-12


def test_moving_bounds():
    f = lambda x, t: jnp.sin(t * x) / x
    found = integrals.leibniz(f, lambda t: t, lambda t: t**2, 1.5)
    true = (3 * np.sin(1.5**3) - 2 * np.sin(1.5**2)) / 1.5
    assert found.converged
    assert abs(float(found.value) - true) <= float(found.error) <= 1e-12


def test_pytrees_and_infinite_ranges():
    f = lambda x, p: p["c"] * jnp.exp(-p["k"] @ jnp.stack([x, x**2]))
    p = {"c": jnp.array(2.0), "k": jnp.array([1.0, 0.0])}
    found = integrals.leibniz(f, 0, jnp.inf, p)
    np.testing.assert_allclose(found.value["c"], 1.0, atol=1e-12)
    np.testing.assert_allclose(found.value["k"], [-2.0, -4.0], atol=1e-12)
    assert found.error["k"].shape == (2,)


def test_bad_input():
    with pytest.raises(TypeError, match=r"theta\[n\]: expected floating numbers, got 3 .int"):
        integrals.leibniz(lambda x, p: x, 0, 1, {"n": 3})
    with pytest.raises(TypeError, match="f: expected a function"):
        integrals.antiderivative(3, 0)
