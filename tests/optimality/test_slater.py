"""Strictly feasible points and proofs of none; every claim is checked by the functions' own values."""

import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality.problem import Problem
from functional_dl.optimality.slater import slater_point
from tests.campaigns import quick


def zero(x):
    return jnp.sum(x) * 0


SOME = {
    "disc": (None, lambda x: jnp.sum(x**2) - 1, None, [3.0, -2.0]),
    "sliver": (None, lambda x: jnp.stack([x[0] - 1e-3, -x[0]]), None, [5.0]),
    "disc on a line": (lambda x: x[0] + x[1] - 1, lambda x: jnp.sum(x**2) - 1, None, [4.0, 4.0]),
    "box": (lambda x: jnp.sum(x) - 1, None, (0.0, 1.0), [5.0, -5.0, 0.0]),
    "small units": (lambda x: 1e-12 * (x[1] - x[2]), lambda x: 1e-10 * (x[0] - 1), None, [3.0, 1.0, 2.0]),
    "mixed units": (None, lambda x: jnp.stack([1e-10 * (x[0] - 1), x[0] + 5]), None, [3.0]),
    "from a saddle": (None, lambda x: 1 - x[0] ** 2, None, [0.0]),
    "between circles": (None, lambda x: jnp.stack([x @ x - 4, 1 - x @ x]), None, [0.0, 0.0]),
    "far start": (None, lambda x: x[0] ** 2 - 1, None, [1e6]),
    "half-space without end": (None, lambda x: -x[0], None, [-4.0]),
}
NONE = {
    "x^2 <= 0": (None, lambda x: x[0] ** 2, None, [3.0]),
    "point": (None, lambda x: jnp.stack([x[0] - 1, 1 - x[0]]), None, [-2.0]),
    "square, expanded": (None, lambda x: x[0] ** 2 - 2 * x[0] + 1, None, [3.0]),
    "apart, small units": (None, lambda x: jnp.stack([1e-10 * (x[0] + 1), 1e-10 * (1 - x[0])]), None, [0.5]),
    "apart": (None, lambda x: jnp.stack([x[0] + 1, 1 - x[0]]), None, [0.5]),
    "tangent line": (lambda x: x[1] - 1, lambda x: jnp.sum(x**2) - 1, None, [2.0, 0.0]),
    "corner": (lambda x: jnp.sum(x), None, (0.0, jnp.inf), [1.0, 1.0]),
}


@pytest.mark.parametrize("name", quick(SOME, "sliver", "far start", "disc on a line"))
@pytest.mark.sampled(4)
def test_a_witness_is_strictly_feasible(name):
    h, g, bounds, x0 = SOME[name]
    found = slater_point(Problem(zero, h, g, bounds), jnp.array(x0))
    assert found.found
    assert found.margin > 0
    if g is not None:
        assert np.all(np.asarray(g(found.x)) <= -found.margin)
    if h is not None:
        assert np.max(np.abs(np.asarray(h(found.x)))) <= 1e-7
    if bounds is not None:
        assert np.all((found.x > bounds[0]) & (found.x < bounds[1]))


def test_the_margin_is_the_greatest():
    found = slater_point(Problem(zero, None, SOME["sliver"][1]), jnp.array([5.0]))
    assert found.margin == pytest.approx(5e-4, abs=1e-7)


@pytest.mark.parametrize("name", quick(NONE, "corner"))
def test_none_comes_with_multipliers_that_prove_it(name):
    h, g, bounds, x0 = NONE[name]
    found = slater_point(Problem(zero, h, g, bounds), jnp.array(x0))
    assert not found.found
    assert "none near x" in found.reason
    own, lower, upper = (found.ineq_multipliers, 0.0, 0.0) if bounds is None else found.ineq_multipliers
    total = sum(float(jnp.sum(m)) for m in (own, lower, upper) if m is not None)
    assert total == pytest.approx(1, abs=1e-6)

    def combination(x):
        value = 0.0 if h is None else float(jnp.sum(found.eq_multipliers * h(x)))
        value += 0.0 if g is None else float(jnp.sum(own * g(x)))
        return value + (0.0 if bounds is None else float(jnp.sum(lower * (bounds[0] - x))))

    draws = np.random.default_rng(0).normal(size=(50, len(x0))) * 3
    assert min(combination(jnp.asarray(x)) for x in draws) >= -1e-5


def test_without_inequalities_any_feasible_point_serves():
    found = slater_point(Problem(zero, lambda x: x[0] + x[1] - 1), jnp.array([3.0, 4.0]))
    assert found.found
    assert found.margin == np.inf
    assert abs(float(jnp.sum(found.x)) - 1) < 1e-7


@pytest.mark.campaign
def test_a_search_that_fails_claims_nothing():
    contradiction = Problem(zero, lambda x: jnp.stack([x[0], x[0] - 1]), lambda x: -x[1])
    for problem in (contradiction, Problem(zero, None, lambda x: jnp.log(x[0]))):
        found = slater_point(problem, jnp.array([-1.0, 1.0]))
        assert not found.found
        assert found.ineq_multipliers is None
        assert "without a certificate" in found.reason


def test_a_tolerance_must_be_positive():
    with pytest.raises(ValueError, match="tolerance"):
        slater_point(Problem(zero), jnp.array([1.0]), tolerance=0.0)
