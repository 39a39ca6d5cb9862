"""Derivatives of scalar functions at signed zeros, subnormals, the largest floats, infinities, NaN, branch points and
their neighbours, against multiple precision, in units of the last place.

A value is right if it is the derivative, to ULPS, of a point within ULPS of x: |error| <= ULPS eps (|f'| + |x f''|).
XLA takes subnormal numbers for zero on some machines, so there the derivative at zero is as good.
"""

import functools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from functional_dl import reverse
from tests.reverse import special_values
from tests.reverse.special_values import FUNCTIONS, LOST

ULPS = 16
# before 0.11, tests/conftest.py has XLA take another path, whose cube root is a power good to some 100 units only
OPTIONS = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else {}


def slopes_of(function, points):
    return np.asarray(jax.jit(jax.vmap(reverse.grad(function.fun)), compiler_options=OPTIONS)(jnp.asarray(points)))


@functools.cache
def exact(name, x):
    """The derivative at x, and |x f''(x)|, as multiple-precision numbers; floats where `ends` has them."""
    function = FUNCTIONS[name]
    if x in function.ends:
        return function.ends[x], mpmath.mpf(0)
    if math.isnan(x):
        return math.nan, mpmath.mpf(0)
    with mpmath.workdps(60):
        at = mpmath.mpf(x)
        slope = mpmath.mpf(function.derivative(mpmath, at))
        step = abs(at) * mpmath.mpf(10) ** -20 or mpmath.mpf(10) ** -340
        inside = step if x < function.high else -step
        curvature = (function.derivative(mpmath, at + inside) - slope) / inside
        return slope, abs(at * curvature)


def is_right(name, x, value, ulps=ULPS):
    candidates = [x, 0.0] if 0 < abs(x) < special_values.TINY else [x]
    for point in candidates:
        slope, spread = exact(name, point)
        if math.isnan(slope):
            right = math.isnan(value)
        elif math.isinf(float(slope)):
            right = value == float(slope)  # beyond the largest float too
        elif not math.isfinite(value):
            # within rounding of overflow
            right = math.isinf(value) and abs(slope) + ulps * special_values.ULP * spread >= special_values.MAX
        else:
            tolerance = ulps * special_values.ULP * (abs(slope) + spread) + special_values.TINY
            right = abs(mpmath.mpf(value) - slope) <= tolerance
        if right:
            return True
    return False


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.sampled(3)
def test_special_values(name):
    function = FUNCTIONS[name]
    points = function.points()
    assert len(points) >= 20
    slopes = slopes_of(function, points)
    lost = {p for names, values, _ in LOST if name in names for p in points if values(p)}
    wrong = {
        p: (float(slope), str(exact(name, p)[0]))
        for p, slope in zip(points, slopes)
        if not is_right(name, p, float(slope)) and p not in lost
    }
    assert not wrong, f"{name}: at each point, ours and the derivative: {wrong}"


def test_every_lost_value_is_lost():
    """An entry of the ledger that is no longer needed goes."""
    for names, values, reason in LOST:
        assert reason
        for name in names:
            points = [p for p in FUNCTIONS[name].points() if values(p)]
            slopes = slopes_of(FUNCTIONS[name], points)
            assert any(not is_right(name, p, float(slope)) for p, slope in zip(points, slopes)), (name, reason)


def test_the_judge_finds_a_wrong_slope():
    assert is_right("exp", 1.0, math.e)
    assert not is_right("exp", 1.0, math.e * (1 + 1e-13))
    assert not is_right("exp", math.inf, 1e308)
    assert not is_right("sin", math.inf, 0.0)
