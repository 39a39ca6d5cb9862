"""The table of known optima is itself tested: another solver reaches every one, and finds nothing lower."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from tests.optimality.oracle import minima
from tests.optimality.problems import KNOWN

QUICK = ("HS10", "HS71", "HS76", "HS106", "HS118")


def confirm(known, count):
    """Some run ends at the optimum, and none at a lower feasible point."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's and NumPy's, from trial points outside a function's domain
        values = sorted(f for f, violation, _ in minima(known, count) if violation <= 1e-7)
    close = 1e-6 * (1 + abs(known.value))
    assert any(abs(f - known.value) <= close for f in values), (known.value, values)
    assert values[0] >= known.value - 2 * close, (known.value, values[0])


def test_each_problem_is_there_once():
    names = [known.name for known in KNOWN]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("known", [known for known in KNOWN if known.name in QUICK], ids=lambda known: known.name)
@pytest.mark.sampled(3)
def test_another_solver_agrees(known):
    confirm(known, 3)


@pytest.mark.campaign
@pytest.mark.parametrize("known", [known for known in KNOWN if known.name != "HS55"], ids=lambda known: known.name)
def test_another_solver_agrees_from_many_starts(known):
    confirm(known, 12)


def test_55_by_hand():
    """Its equalities have rank 5 and leave x4 in [0, 1]: f = 17/3 - x4/3 + exp(x4 - x4^2) >= 17/3 - 1/3 + 1 = 19/3."""
    known = next(known for known in KNOWN if known.name == "HS55")
    for x4 in np.linspace(0, 1, 11):
        x5 = (1 + x4) / 3
        x = jnp.array([1 - x4, 2 - x5, x5 + x4, x4, x5, 2 - x4 - x5])
        np.testing.assert_allclose(known.problem.equalities(x), 0, atol=1e-14)
        assert np.all((known.problem.bounds[0] <= x) & (x <= known.problem.bounds[1]))
        np.testing.assert_allclose(known.problem.objective(x), 17 / 3 - x4 / 3 + np.exp(x4 * (1 - x4)), rtol=1e-14)
    np.testing.assert_allclose(known.value, 17 / 3 - 1 / 3 + 1)
