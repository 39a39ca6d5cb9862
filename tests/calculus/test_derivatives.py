"""Derivatives from their definition: errors are not understated, and small on smooth functions at every scale."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from calculus import derivative_cases
from calculus.derivative_cases import ROUGH, SMOOTH

from functional_dl import calculus


def exact(case, x):
    with mpmath.workdps(40):
        return float(case.exact(mpmath, mpmath.mpf(x)))


def test_the_table_is_right():
    """Each exact derivative against one by mpmath of a second, independent formula: f's own differences at 60
    digits."""
    assert sum(len(case.points) for case in SMOOTH + ROUGH) >= 60
    for case in SMOOTH:
        for x in case.points:
            jvp = float(jax.jvp(case.f, (jnp.float64(x),), (jnp.float64(1.0),))[1])
            assert jvp == pytest.approx(exact(case, x), rel=1e-8, abs=1e-12), (case.name, x)


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)
def test_smooth_functions(case):
    for x in case.points:
        found, true = calculus.derivative(case.f, x), exact(case, x)
        assert abs(found.value - true) <= found.error, (x, found, true)
        assert abs(found.value - true) <= (1e-9 * abs(true) or 1e-12), (x, found, true)
        assert found.error <= 1e-7 * abs(true) or true == 0, (x, found, true)


@pytest.mark.parametrize("case", ROUGH, ids=lambda case: case.name)
def test_errors_are_honest_where_functions_are_rough(case):
    for x in case.points:
        true = exact(case, x)
        for method in ("richardson", "central", "forward", "backward"):
            found = calculus.derivative(case.f, x, method=method)
            assert math.isnan(found.value) or abs(found.value - true) <= found.error, (method, x, found, true)


NONE = [
    ("a jump", jnp.floor, 1.0),
    ("a jump at 0", jnp.sign, 0.0),
    ("a vertical tangent", lambda x: jnp.sign(x) * jnp.abs(x) ** (1 / 3), 0.0),
    ("a cusp", lambda x: jnp.sqrt(jnp.abs(x - 2)), 2.0),
    ("a kink", jax.nn.relu, 0.0),
    ("quotients that oscillate", lambda x: jnp.where(x == 0, 0.0, x * jnp.sin(1 / jnp.where(x == 0, 1.0, x))), 0.0),
    ("the edge of the domain", jnp.sqrt, 0.0),
]


@pytest.mark.parametrize("method", ["richardson", "central"])
@pytest.mark.parametrize(("name", "f", "x"), NONE, ids=[name for name, _, _ in NONE])
def test_where_there_is_no_derivative(name, f, x, method):
    found = calculus.derivative(f, x, method=method)
    assert math.isnan(found.value)
    assert found.error == math.inf


@pytest.mark.parametrize("method", ["complex_step", "central", "forward", "backward"])
def test_other_methods(method):
    for f, slope in ((jnp.sin, math.cos(0.7)), (jnp.exp, math.exp(0.7)), (lambda x: 1 / x, -1 / 0.49)):
        found = calculus.derivative(f, 0.7, method=method)
        assert abs(found.value - slope) <= found.error <= {"complex_step": 1e-13}.get(method, 1e-6)


def test_functions_of_python_and_numpy():
    for f in (math.sin, np.sin):
        found = calculus.derivative(f, 0.7)
        assert abs(found.value - math.cos(0.7)) <= found.error <= 1e-11
    found = calculus.derivative(np.exp, 0.7, method="complex_step")
    assert abs(found.value - math.exp(0.7)) <= found.error <= 1e-13


@pytest.mark.parametrize("order", [2, 3, 4])
def test_higher_orders(order):
    for f, true in ((jnp.exp, math.e), (jnp.sin, [-math.sin(1), -math.cos(1), math.sin(1)][order - 2])):
        found = calculus.derivative(f, 1.0, order=order)
        assert abs(found.value - true) <= found.error <= 1e-6


def test_one_sided_derivatives_of_the_modulus():
    sides = calculus.one_sided_derivatives(jnp.abs, 0.0)
    assert (sides.left.value, sides.right.value, sides.exists) == (-1.0, 1.0, False)
    assert "kink" in sides.reason
    whole = calculus.derivative(jnp.abs, 0.0)
    assert math.isnan(whole.value)
    assert whole.error == math.inf
    assert calculus.one_sided_derivatives(jnp.sin, 0.0).exists
    assert math.isnan(calculus.derivative(jnp.sqrt, 0.0, side="right").value)  # infinite


def test_jit_and_vmap():
    x = jnp.array([0.2, 0.3])
    value, error = jax.jit(jax.vmap(lambda t: calculus.derivative(jnp.tanh, t)))(x)
    assert (jnp.abs(value - (1 - jnp.tanh(x) ** 2)) <= error).all()


def test_array_valued_functions():
    found = calculus.derivative(lambda t: jnp.stack([jnp.cos(t), jnp.abs(t)]), 0.5)
    assert found.value == pytest.approx([-math.sin(0.5), 1.0])


REFUSALS = [
    (lambda: calculus.derivative(jnp.abs, 1.0, "complex_step"), ValueError, "analytic"),
    (lambda: calculus.derivative(jnp.sin, 1.0, "euler"), ValueError, "method: expected one of.*'euler'"),
    (lambda: calculus.derivative(jnp.sin, 1.0, side="up"), ValueError, "side: expected one of.*'up'"),
    (lambda: calculus.derivative(jnp.sin, math.nan), ValueError, "x: expected a finite number"),
    (lambda: calculus.derivative(jnp.sin, jnp.ones(2)), ValueError, "x: expected one number.*\\(2,\\)"),
    (lambda: calculus.derivative(jnp.sin, 1.0, order=0), ValueError, "order: expected an integer of at least 1"),
    (lambda: calculus.derivative(jnp.sin, 1.0, order=-1), ValueError, "order: expected"),
    (lambda: calculus.derivative(jnp.sin, 1.0, "forward", order=2), ValueError, "order"),
    (lambda: calculus.derivative(jnp.sin, 1.0, "central", side="left"), ValueError, "side"),
    (lambda: calculus.derivative(3, 1.0), TypeError, "f: expected a function"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_outside_of_the_domain():
    assert math.isnan(calculus.derivative(jnp.log, -1.0).value)
    assert calculus.derivative(jnp.log, -1.0).error == math.inf


def test_cases_are_counted(record_property):
    record_property("cases", sum(len(case.points) for case in derivative_cases.SMOOTH + derivative_cases.ROUGH))
