"""What was reported against other libraries, and more of its kinds: right, or refused with a reason; none false."""

import math

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from calculus.reported import DERIVATIVES, LIMITS, NONE, SEQUENCES, SET_POINTS, SLOW, TAYLOR, bug

from functional_dl import calculus
from tests.every import every

NAME = lambda case: case.name


def answer(case):
    return float(case.answer(mpmath)) if callable(case.answer) else case.answer


def check_limit(case, found):
    right = answer(case)
    assert found.reason
    if right in (NONE, SLOW):
        assert math.isnan(found.value)
        assert found.exists is not True
        return
    assert found.value == right or abs(found.value - right) <= found.error + 4e-16 * abs(right), found
    assert found.exists is math.isfinite(right)


def test_limits():
    assert every(LIMITS, lambda case: check_limit(case, calculus.limit(case.f, case.x0, case.side)), NAME) >= 25


def test_sequences():
    every(SEQUENCES, lambda case: check_limit(case, calculus.limit_of_sequence(case.f)), NAME)


def test_derivatives():
    def check(case):
        found, right = calculus.derivative(case.f, case.x0), answer(case)
        if right in (NONE, SLOW):
            assert math.isnan(found.value)
            assert "as slowly as a logarithm" in found.reason
            return
        assert abs(found.value - right) <= found.error <= 1e-6 * abs(right) + 1e-9
        assert not found.reason

    every(DERIVATIVES, check, NAME)


def test_series_at_removable_points():
    def check(case):
        _, f, x0, right = case
        np.testing.assert_allclose(calculus.taylor(f, x0, 4), right, rtol=1e-12, atol=1e-14)

    every(TAYLOR, check, lambda case: case[0])


def test_points_that_a_condition_sets():
    zero, ones = np.zeros(2), np.ones(2)
    calls = (
        lambda f: calculus.directional_derivative(f, zero, ones),
        lambda f: calculus.gradient(f, zero),
        lambda f: calculus.hessian(f, zero),
    )

    def check(case):
        _, f, *answers = case
        for call, right in zip(calls, answers):
            if right is None:
                with pytest.raises(ValueError, match=r"^f: a condition sets its value at x"):
                    call(f)
            else:
                np.testing.assert_allclose(call(f), right, rtol=0, atol=1e-12)

    every(SET_POINTS, check, lambda case: case[0])


def test_derivatives_of_other_kinds_at_such_points():
    sinc = lambda v: jnp.where(v[0] == 0, 1.0, jnp.sin(v[0]) / jnp.where(v[0] == 0, 1.0, v[0]))
    at = np.array([0.0, 2.0])
    field = lambda v: jnp.stack([v[0], v[1] * sinc(v)])
    np.testing.assert_allclose(calculus.jacobian(field, at), [[1.0, 0.0], [0.0, 1.0]], atol=1e-12)
    np.testing.assert_allclose(calculus.partial(field, at, 1), [0.0, 1.0], atol=1e-12)
    # a kink is no such point: JAX's convention holds
    assert calculus.gradient(lambda x: jnp.where(x > 0, x, 0.0), 0.0) == 0.0


@pytest.mark.parametrize("call", [
    lambda: calculus.limit(bug, 0.0), lambda: calculus.limit_of_sequence(bug), lambda: calculus.derivative(bug, 0.0),
    lambda: calculus.one_sided_derivatives(bug, 0.0), lambda: calculus.taylor(bug, 0.0, 2),
], ids=["limit", "limit_of_sequence", "derivative", "one_sided_derivatives", "taylor"])  # fmt: skip
def test_the_callers_mistake_is_shown(call):
    with pytest.raises(ValueError, match="a mistake of the author's"):
        call()


def test_arithmetic_that_fails_everywhere_is_named():
    found = calculus.limit(lambda x: x / (x - x) if float(x) else x, 1.0)
    assert found.exists is None
    assert "ZeroDivisionError: float division by zero" in found.reason
