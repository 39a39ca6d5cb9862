"""integrate_region: exact volumes, order of variables, honesty on Genz's families, bad input."""

import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import integrals
from tests.integrals import genz
from tests.integrals.regions import BALL, CASES


def check(found, true, converged=True):
    assert bool(found.converged) == converged, found.reason
    assert abs(float(found.value) - true) <= float(found.error)


@pytest.mark.campaign
def test_the_unit_ball_and_the_order_of_the_variables():
    found = integrals.integrate_region(lambda x, y, z: {"volume": 1 + 0 * x, "x^2": x * x, "z^4": z**4}, BALL)
    assert found.converged
    for name, true in (("volume", 4 * np.pi / 3), ("x^2", 4 * np.pi / 15), ("z^4", 4 * np.pi / 35)):
        assert abs(float(found.value[name]) - true) <= float(found.error[name]) <= 1e-10
    check(integrals.integrate_region(lambda x, y: x * y**2, [(0, 2), (1, lambda x: x)]), (32 / 5 - 2) / 3)


def test_infinite_ranges_and_one_dimension():
    check(integrals.integrate_region(lambda x, y: jnp.exp(-x * x - y), [(-np.inf, np.inf), (0, np.inf)]), np.pi**0.5)
    check(integrals.integrate_region(jnp.exp, [(0, 1)]), np.e - 1)


def test_under_a_surface():
    check(integrals.volume_under_surface(lambda x, y: x**2 + y**2, [(0, 1), (0, 1)]), 2 / 3)


def assert_honest(found, exact):
    """Within the error that is said, and within 1e-10 where it converges."""
    error = abs(float(found.value) - exact)
    assert error <= float(found.error)
    assert bool(found.converged) == (found.reason == "")
    if found.converged:
        assert error <= 1e-9 * max(1, abs(exact))


@pytest.mark.parametrize("family", genz.DIFFICULTY)
@pytest.mark.sampled(4)
def test_genz_in_three_dimensions(family):
    problem = genz.problem(family, 3, 1)
    found = integrals.integrate_region(problem.f, [(0, 1)] * 3, evaluations=4_000_000)
    assert found.converged, found.reason
    assert_honest(found, problem.exact)


@pytest.mark.parametrize("case", [case for case in CASES if case.quick], ids=lambda case: case.name)
@pytest.mark.sampled(4)
def test_known_integrals(case):
    found = integrals.integrate_region(case.f, case.bounds)
    assert found.converged == case.converges, found.reason
    assert_honest(found, case.exact)


@pytest.mark.campaign
@pytest.mark.parametrize("case", [case for case in CASES if not case.quick], ids=lambda case: case.name)
def test_more_known_integrals(case):
    found = integrals.integrate_region(case.f, case.bounds)
    assert found.converged == case.converges, found.reason
    assert_honest(found, case.exact)


def test_a_vector_with_a_kink_in_one_entry():
    found = integrals.integrate_region(lambda x, y: jnp.stack([jnp.abs(x - 0.3) * y, jnp.exp(x * y)]), [(0, 1)] * 2)
    assert found.converged
    np.testing.assert_allclose(found.value, [0.145, 1.3179021514544038], rtol=1e-13)


def test_what_is_not_finite_is_refused():
    assert not integrals.integrate_region(lambda x, y: 1 / (x * y), [(0, 1), (0, 1)]).converged
    found = integrals.integrate_region(lambda x, y: jnp.sqrt(x - y), [(0, 1), (0, 1)])
    assert not found.converged
    assert "NaN or infinite" in found.reason


@pytest.mark.parametrize(("bounds", "error", "message"), [
    ([], ValueError, "bounds: expected one to 6 pairs, got 0"),
    ([(0, 1)] * 7, ValueError, "bounds: expected one to 6 pairs, got 7"),
    ([(0, 1), (0, 1, 2)], ValueError, r"bounds\[1\]: expected a pair"),
    ([(0, 1), 3], ValueError, r"bounds\[1\]: expected a pair"),
    (3, TypeError, "bounds: expected a list of pairs, got 3"),
    ([(0, 1), (0, float("nan"))], ValueError, r"bounds\[1\]\[1\]: expected a number, got NaN"),
    ([(lambda x: x, 1), (0, 1)], TypeError, r"bounds\[0\]: expected functions of the 0 variable\(s\) before"),
    ([(0, 1)] * 3, TypeError, "f: expected a function of 3 argument"),
])  # fmt: skip
def test_bad_input(bounds, error, message):
    with pytest.raises(error, match=message):
        integrals.integrate_region(lambda x, y: x * y, bounds)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("d", [2, 4, 5, 6])
@pytest.mark.parametrize("family", genz.DIFFICULTY)
def test_genz(family, d, seed):
    problem = genz.problem(family, d, seed)
    found = integrals.integrate_region(problem.f, [(0, 1)] * d)
    error = abs(float(found.value) - problem.exact)
    assert found.converged, found.reason
    assert error <= float(found.error)
    assert error <= 1e-10 * max(1, abs(problem.exact))
