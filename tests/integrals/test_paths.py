"""Line integrals and the gradient theorem; integrated gradients are complete, saliency and SmoothGrad are gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import integrals

CIRCLE = lambda t: jnp.stack([jnp.cos(t), jnp.sin(t)])


def test_line_integrals():
    turning = lambda r: jnp.stack([-r[1], r[0]])
    found = integrals.line_integral(turning, CIRCLE, 0, 2 * np.pi)
    assert abs(float(found.value) - 2 * np.pi) <= float(found.error) <= 1e-12
    back = integrals.line_integral(turning, CIRCLE, 2 * np.pi, 0)
    assert abs(float(back.value) + 2 * np.pi) <= float(back.error)
    mass = integrals.line_integral(lambda r: r[0] ** 2, CIRCLE, 0, 2 * np.pi)
    assert abs(float(mass.value) - np.pi) <= float(mass.error) <= 1e-12


def test_the_gradient_theorem():
    potential = lambda r: jnp.exp(r[0]) * jnp.sin(r[1]) + r[0] * r[1] ** 2
    path = lambda t: jnp.stack([t**2 - t, jnp.sin(3 * t)])
    found = integrals.potential_difference(potential, path, 0.0, 1.5)
    ends = potential(path(1.5)) - potential(path(0.0))
    assert abs(float(found.value) - float(ends)) <= float(found.error) <= 1e-12


def network(activation):
    keys = jax.random.split(jax.random.key(0), 4)
    w, b, v = (jax.random.normal(k, s) for k, s in zip(keys, ((12, 5), (12,), (12,))))
    return (lambda x: v @ activation(w @ x["a"] + b)), {"a": jax.random.normal(keys[3], (5,))}


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
def test_completeness(activation):
    f, x = network(activation)
    found = integrals.integrated_gradients(f, x)
    assert found.converged
    assert not found.reason
    scale = abs(f(x)) + abs(f({"a": jnp.zeros(5)}))
    total = jnp.sum(found.attributions["a"])
    assert abs(total - (f(x) - f({"a": jnp.zeros(5)})) - found.gap) <= 1e-14 * scale
    assert abs(found.gap) <= 1e-6 * scale
    # against the integral, entry by entry, with its own error
    along = integrals.integrate(lambda t: jax.grad(f)({"a": t * x["a"]})["a"] * x["a"], 0, 1)
    np.testing.assert_allclose(found.attributions["a"], along.value, rtol=0, atol=2e-6 * scale)


def test_closed_form_and_dummy_inputs():
    f = lambda x: x[0] * x[1] + 3 * x[2]  # along the diagonal the product is shared alike
    found = integrals.integrated_gradients(f, jnp.array([2.0, 5.0, -1.0, 7.0]), jnp.zeros(4))
    np.testing.assert_allclose(found.attributions, [5.0, 5.0, -3.0, 0.0], atol=1e-12)


def test_too_few_steps_are_told():
    f, x = network(jax.nn.relu)
    found = integrals.integrated_gradients(f, x, steps=12, most_steps=12)
    assert not found.converged
    assert "after 12 steps" in found.reason


def test_single_precision():
    f, x = network(jax.nn.relu)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), x)
    g = lambda x: f(jax.tree.map(lambda leaf: leaf.astype(jnp.float64), x)).astype(jnp.float32)
    found = integrals.integrated_gradients(g, single, tolerance=1e-5)
    assert found.converged
    assert found.attributions["a"].dtype == jnp.float32


def test_saliency_and_smooth_grad():
    f = lambda x: jnp.sum(x**3)
    x = jnp.array([1.0, -2.0])
    np.testing.assert_allclose(integrals.saliency(f, x), [3.0, 12.0])
    found = integrals.smooth_grad(f, x, jax.random.key(0), noise=0.5, samples=4000)
    true = 3 * (x**2 + 0.25)  # E 3 (x + z / 2)^2
    assert jnp.all(jnp.abs(found.gradient - true) <= 5 * found.standard_error)
    assert jnp.all(found.standard_error < 0.2)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: integrals.line_integral(lambda r: jnp.ones(3), CIRCLE, 0, 1), ValueError, "field: expected a number or"),
    (lambda: integrals.integrated_gradients(jnp.sum, jnp.ones(3), jnp.ones(2)), ValueError, "baseline: expected shape"),
    (lambda: integrals.integrated_gradients(jnp.sum, jnp.ones(3), [1.0]), ValueError, "baseline: expected the struct"),
    (lambda: integrals.integrated_gradients(lambda x: x, jnp.ones(3)), TypeError, "f: expected a function to one real"),
    (lambda: integrals.integrated_gradients(jnp.sum, jnp.arange(3)), TypeError, "x: expected floating numbers"),
    (lambda: integrals.smooth_grad(jnp.sum, jnp.ones(3), jax.random.key(0), noise=-1), ValueError, "noise: expected"),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
