"""The dual function against closed forms, weak duality, supergradients, ascent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality.duality import dual_ascent, dual_function
from functional_dl.optimality.problem import Problem

A = jnp.array([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]])
B = jnp.array([1.0, 2.0])
LEAST_NORM = Problem(lambda x: x @ x, lambda x: A @ x - B)
CLIPPED = Problem(lambda x: (x[0] - 2) ** 2, None, lambda x: x[0] - 1)


def test_least_norm_is_the_closed_form_and_its_optimum_strong():
    q = dual_function(LEAST_NORM, jnp.ones(3))
    for lam in np.random.default_rng(0).normal(size=(5, 2)):
        lam = jnp.asarray(lam)
        assert float(q(lam)) == pytest.approx(float(-lam @ A @ A.T @ lam / 4 - B @ lam), rel=1e-12, abs=1e-12)
    best = -2 * jnp.linalg.solve(A @ A.T, B)
    x = A.T @ jnp.linalg.solve(A @ A.T, B)
    assert float(q(best)) == pytest.approx(float(x @ x), rel=1e-12)


def test_the_gradient_is_the_constraint_at_the_minimiser():
    q = dual_function(LEAST_NORM, jnp.zeros(3))
    lam = jnp.array([0.3, -2.0])
    np.testing.assert_allclose(jax.grad(q)(lam), -A @ A.T @ lam / 2 - B, rtol=1e-10)
    np.testing.assert_allclose(jax.vmap(jax.jit(q))(jnp.stack([lam, 0 * lam])), [q(lam), q(0 * lam)], rtol=1e-12)


def test_an_inequality_and_its_sign():
    q = dual_function(CLIPPED, jnp.zeros(1))
    for mu in (0.0, 1.0, 2.0, 5.0):
        assert float(q(None, jnp.asarray(mu))) == pytest.approx(mu - mu**2 / 4, abs=1e-12)
    assert q(None, jnp.asarray(-1.0)) == -jnp.inf


UNBOUNDED = {
    "linear": Problem(lambda x: x[0], None, lambda x: -x[1]),
    "product": Problem(lambda x: -x[0] * x[1], lambda x: x[0] + x[1] - 1),
    "logarithm": Problem(lambda x: -jnp.sum(jnp.log(x)), None, lambda x: jnp.sum(x) * 0),
}


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_lagrangian_that_falls_without_bound(name):
    problem = UNBOUNDED[name]
    size = jnp.asarray(0.5)
    lam, mu = (size, None) if problem.equalities else (None, size)
    assert dual_function(problem, jnp.array([0.5, 0.5]))(lam, mu) == -jnp.inf


def test_a_linear_program_is_finite_only_where_its_dual_is_feasible():
    c = jnp.array([1.0, 2.0])
    problem = Problem(lambda x: c @ x, lambda x: jnp.sum(x) - 1, None, (0.0, jnp.inf))
    q = dual_function(problem, jnp.array([0.3, 0.3]))
    mu = lambda m: (None, jnp.asarray(m), jnp.zeros(2))
    assert float(q(jnp.asarray(-1.0), mu([0.0, 1.0]))) == pytest.approx(1.0, abs=1e-9)
    assert q(jnp.asarray(-1.0), mu([0.0, 0.5])) == -jnp.inf


def test_two_wells_from_the_top_between_them():
    """x^4 - 2 x^2 has its least value -1 at 1 and -1: a start at 0, where the gradient vanishes, finds it."""
    q = dual_function(Problem(lambda x: x**4 - 2 * x**2), jnp.zeros(()))
    assert float(q()) == pytest.approx(-1.0, abs=1e-9)


def test_an_infimum_that_is_approached_only():
    q = dual_function(Problem(lambda x: jnp.exp(-x[0])), jnp.zeros(1))
    assert 0 <= float(q()) <= 1e-8


@pytest.mark.parametrize("rate", [0.2, lambda k: 1 / (k + 1.0)])
@pytest.mark.sampled(3)
def test_ascent_stays_below_the_optimum_and_reaches_it(rate):
    x = A.T @ jnp.linalg.solve(A @ A.T, B)
    ascent = dual_ascent(LEAST_NORM, jnp.zeros(3), 200, rate if callable(rate) else 0.15)
    assert bool(jnp.all(ascent.values <= x @ x + 1e-9))
    assert float(ascent.value) == pytest.approx(float(x @ x), abs=1e-6)
    clipped = dual_ascent(CLIPPED, jnp.zeros(1), 200, rate)
    assert bool(jnp.all(clipped.values <= 1 + 1e-9))
    # q = mu - mu^2 / 4, so that each step leaves the fraction 1 - a_k / 2 of the distance to mu = 2;
    # the best of the iterates is told by its value, which is flat there: mu to the square root of a rounding.
    left = np.prod([1 - (rate(k) if callable(rate) else rate) / 2 for k in range(199)])
    assert float(clipped.ineq_multipliers) == pytest.approx(2 - 2 * left, abs=4 * np.sqrt(np.finfo(float).eps))


def test_steps_must_be_positive():
    with pytest.raises(ValueError, match="steps"):
        dual_ascent(CLIPPED, jnp.zeros(1), 0)
