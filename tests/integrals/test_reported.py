"""What was reported against other libraries, and more of its kinds: right, or refused with a reason; none false."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from integrals.reported import CASES, DIVERGENT_REGIONS, JUMPS, MUST

from functional_dl import integrals
from tests.every import every

NAME = lambda case: case.name


def test_integrals():
    def check(case):
        found = integrals.integrate(case.f, case.a, case.b)
        assert bool(found.converged) is not bool(found.reason)
        if case.exact is None:
            assert not found.converged
            return
        with mpmath.workdps(40):
            off = float(abs(mpmath.mpf(float(found.value)) - case.exact(mpmath)))
        assert off <= float(found.error), (float(found.value), off, float(found.error))
        assert bool(found.converged) or case.name not in MUST

    assert every(CASES, check, NAME) >= 45


def test_regions_that_diverge():
    def check(case):
        name, f, bounds = case
        found = integrals.integrate_region(f, bounds)
        assert not found.converged
        assert found.error == np.inf, name
        assert "diverges" in found.reason

    every(DIVERGENT_REGIONS, check, lambda case: case[0])


# The integral over [0, 1] differentiated by Leibniz's rule, with an error.
def test_jumps_that_move():
    def check(case):
        _, f, theta, right = case
        found = integrals.leibniz(f, 0.0, 1.0, theta)
        assert found.converged
        assert abs(float(found.value) - right) <= float(found.error) + 1e-15

    every(JUMPS, check, lambda case: case[0])


def test_derivatives_of_integrals_whose_jumps_move():
    """d/dt int_0^(t^2) x dx = 2 t^3, twice; and of a step at t on a vector's entries."""
    whole = lambda t: integrals.integrate(lambda x: jnp.where(x < t * t, x, 0.0), 0.0, 1.0).value
    np.testing.assert_allclose(jax.value_and_grad(jax.grad(whole))(0.7), [2 * 0.7**3, 6 * 0.7**2], rtol=1e-9)
    steps = lambda t: integrals.integrate(lambda x: jnp.sum(jnp.sign(x - t) * x), 1.0, 0.0).value
    np.testing.assert_allclose(jax.grad(steps)(jnp.array([0.2, 0.7])), [0.4, 1.4], rtol=1e-9)


def test_what_moves_unseen_is_refused():
    in_a_loop = lambda x, t: jax.lax.fori_loop(0, 3, lambda i, s: s + jnp.where(x < t * (i + 1) / 3, 1.0, 0.0), 0.0)
    found = integrals.leibniz(in_a_loop, 0.0, 1.0, 0.5)
    assert not found.converged
    assert found.error == np.inf
    assert "depends on theta" in found.reason
    whole = lambda t: integrals.integrate(lambda x: jnp.floor(100 * x + t), 0.0, 1.0).value
    assert np.isnan(jax.grad(whole)(0.5))


def test_nan_is_never_converged():
    found = integrals.leibniz(lambda x, t: 1 / jnp.sqrt(x - t), lambda t: t, 1.0, 0.5)
    assert not found.converged
    assert found.reason


def _gaussian(f):
    theta = {"mean": jnp.zeros(()), "scale": jnp.ones(())}
    found = integrals.expectation_gradient(f, "gaussian", theta, jax.random.key(0), samples=256)
    return bool(found.biased), bool(np.isinf(found.standard_error["mean"])), bool(found.reason)


@pytest.mark.parametrize(("f", "biased"), [
    (lambda x: jnp.where(x > 0, 1.0, 0.0), True),
    (lambda x: jnp.where(x > 9, 1.0, 0.0), True),  # where no sample is
    (jnp.floor, True),
    (lambda x: jax.lax.stop_gradient(x) * x, True),
    (lambda x: x**2, False),
    (lambda x: jnp.where(x > 0, x, 0.1 * x), False),
    (lambda x: jnp.maximum(x, 0.0), False),
], ids=["jump", "far jump", "floor", "stop_gradient", "square", "leaky", "relu"])  # fmt: skip
@pytest.mark.sampled(4)
def test_pathwise_gradients_say_that_they_are_biased(f, biased):
    assert _gaussian(f) == (biased, biased, biased)


def test_samplers_that_are_not_differentiable():
    density = lambda x, theta: -((x - theta["mean"]) ** 2) / 2
    normal = lambda key: jax.random.normal(key, dtype=jnp.float64)
    samplers = {
        "its own": (lambda key, t: t["mean"] + normal(key), False),
        "rounds": (lambda key, t: jnp.round(t["mean"] + normal(key)), True),
        "stops": (lambda key, t: jax.lax.stop_gradient(t["mean"]) + normal(key), True),
        "is wrong by a factor": (lambda key, t: t["mean"] + 0.5 * (t["mean"] - 1.0) + normal(key), True),
    }

    def check(name):
        sample, biased = samplers[name]
        family = integrals.Distribution(sample, density, True, ("mean",))
        found = integrals.expectation_gradient(
            lambda x: x**2, family, {"mean": jnp.ones(())}, jax.random.key(1), samples=4096
        )
        assert bool(found.biased) is biased

    every(samplers, check)


def test_compiled_where_x64_is_off():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        whole = jax.jit(lambda a: integrals.integrate(lambda x: jnp.exp(-a * x), 0.0, 1.0, samples=256))
        found = whole(jnp.float32(2.0))
    assert found.converged
    assert abs(float(found.value) - (1 - np.exp(-2.0)) / 2) <= float(found.error)


def test_functions_that_jax_cannot_trace():
    import math

    with pytest.raises(TypeError, match=r"^f: expected a function of JAX where bounds or args are traced") as caught:
        jax.jit(lambda a: integrals.integrate(math.sin, 0.0, a).value)(1.0)
    assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"^f: expected a function of JAX operations") as caught:
        integrals.integrate_region(lambda x, y: math.sin(x) * y, [(0, 1), (0, 1)])
    assert "\n" not in str(caught.value)
    found = integrals.area_between(np.sin, np.cos, 0, 1)
    assert abs(float(found.value) - (2 * np.sqrt(2) - np.sin(1) - np.cos(1) - 1)) <= float(found.error)
