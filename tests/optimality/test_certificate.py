"""Residuals and certificates: every condition is needed, and each one that fails is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality import Problem, certify, kkt_residuals, lagrangian

TEXTBOOK = Problem(lambda x: (x - 2) ** 2, inequalities=lambda x: x - 1)


@pytest.mark.parametrize(
    ("x", "mu", "named"),
    [
        (2.0, 0.0, "ineq_residual"),
        (1.0, 0.0, "stationarity"),
        (0.0, 4.0, "slackness"),
        (3.0, -2.0, "dual_residual"),
    ],
)
def test_a_violated_condition_is_named(x, mu, named):
    certificate = certify(TEXTBOOK, jnp.array(x), mu=jnp.array(mu))
    assert not certificate.passed
    assert f"{named} =" in certificate.reason
    assert float(getattr(certificate.residuals, named)) > 0.1


def test_the_optimum_passes_with_given_and_with_found_multipliers():
    for mu in (jnp.array(2.0), None):
        certificate = certify(TEXTBOOK, jnp.array(1.0), mu=mu)
        assert certificate.passed
        assert certificate.licq
        assert certificate.mfcq
        assert certificate.active.strong == (0,)
        assert certificate.second_order == "strict minimum"
        np.testing.assert_allclose(certificate.ineq_multipliers, 2.0, rtol=1e-12)


def test_lagrangian_and_jit():
    value = lagrangian(Problem(lambda x: x @ x, lambda x: x[0] - 1, lambda x: x - 2))
    x, lam, mu = jnp.array([1.0, 3.0]), jnp.array(5.0), jnp.array([1.0, 2.0])
    assert float(value(x, lam, mu)) == 10 + 0 + (-1 + 2)
    found = jax.jit(lambda x, mu: kkt_residuals(TEXTBOOK, x, None, mu))(jnp.array(1.0), jnp.array(2.0))
    assert max(map(float, found)) == 0


@pytest.mark.parametrize(
    ("curvature", "verdict", "passed"),
    [(1.0, "strict minimum", True), (0.0, "necessary", True), (-1.0, "not a minimum", False)],
)
def test_second_order(curvature, verdict, passed):
    """x + curvature y^2 on x >= 0: at 0 the critical cone is the y axis."""
    problem = Problem(lambda x: x[0] + curvature * x[1] ** 2, inequalities=lambda x: -x[0])
    certificate = certify(problem, jnp.zeros(2))
    assert (certificate.second_order, certificate.passed) == (verdict, passed)


def test_weakly_active():
    """min x^2 + y^2 on x >= 0: active at 0 with multiplier 0."""
    certificate = certify(Problem(lambda x: x @ x, inequalities=lambda x: -x[0]), jnp.zeros(2))
    assert certificate.passed
    assert certificate.active.weak == (0,)
    assert not certificate.active.strong


def test_mfcq_without_licq():
    """The same half-plane twice: gradients dependent, one direction goes inside both."""
    problem = Problem(lambda x: x[0] + x[1] ** 2, inequalities=lambda x: jnp.stack([-x[0], -2 * x[0]]))
    certificate = certify(problem, jnp.zeros(2))
    assert certificate.passed
    assert certificate.mfcq
    assert not certificate.licq


def test_neither_qualification():
    """x^2 <= 0 has the gradient 0 at its only point; nothing goes inside."""
    certificate = certify(Problem(lambda x: x, inequalities=lambda x: x**2), jnp.array(0.0))
    assert not certificate.passed
    assert not certificate.mfcq
    assert not certificate.licq


def test_bad_input():
    with pytest.raises(ValueError, match="multipliers: expected as many"):
        kkt_residuals(TEXTBOOK, jnp.array(1.0), None, jnp.ones(2))
    with pytest.raises(ValueError, match="lower <= upper"):
        kkt_residuals(Problem(lambda x: x, bounds=(1.0, 0.0)), jnp.array(1.0))
    with pytest.raises(ValueError, match="scalar"):
        kkt_residuals(Problem(lambda x: x), jnp.ones(2))
    with pytest.raises(ValueError, match="tolerance"):
        certify(TEXTBOOK, jnp.array(1.0), tolerance=-1.0)


@pytest.mark.parametrize("steep", [1.0, 1e5, 3e5, 1e6, 1e8])
@pytest.mark.sampled(4)
def test_a_saddle_however_steep_its_other_side(steep):
    certificate = certify(Problem(lambda v: steep * v[0] ** 2 - v[1] ** 2), jnp.zeros(2))
    assert certificate.second_order == "not a minimum"
    assert not certificate.passed


@pytest.mark.parametrize(
    ("function", "second"),
    [
        (lambda v: -(v[0] ** 4) + v[1] ** 2, "not a minimum"),
        (lambda v: v[0] ** 3 + v[1] ** 2, "not a minimum"),
        (lambda v: (v[1] - v[0] ** 2) * (v[1] - 3 * v[0] ** 2), "not a minimum"),  # Peano: a minimum on every line
        (lambda v: 1e-9 * (v[1] - v[0] ** 2) * (v[1] - 3 * v[0] ** 2), "not a minimum"),
        (lambda v: v[0] ** 4 + v[1] ** 2, "necessary"),
        (lambda v: (v[1] - v[0] ** 2) ** 2, "necessary"),
    ],
)
@pytest.mark.sampled(4)
def test_where_curvature_decides_nothing_steps_are_tried(function, second):
    certificate = certify(Problem(function), jnp.zeros(2))
    assert certificate.second_order == second
    assert second == "not a minimum" or "stationary, second order undecided" in certificate.reason
