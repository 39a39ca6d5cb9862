"""The solver against known optima; hard problems are named, and never called solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality import Problem, certify, solve
from tests.optimality.problems import KNOWN
from tests.optimality.score import judge

BY_NAME = {known.name: known for known in KNOWN}
QUICK = ("HS71",)


@pytest.mark.parametrize("name", QUICK)
def test_known_optimum(name):
    good, _, solution = judge(BY_NAME[name])
    assert good, solution.reason
    assert solution.converged, solution.reason


@pytest.mark.campaign
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_every_known_optimum(known):
    good, _, solution = judge(known)
    assert good, solution.reason


def test_multipliers_of_the_textbook():
    solution = solve(Problem(lambda x: (x - 2) ** 2, inequalities=lambda x: x - 1), jnp.array(5.0))
    assert solution.converged
    assert solution.reason.startswith("converged")
    np.testing.assert_allclose([solution.x, solution.ineq_multipliers], [1, 2], rtol=1e-7)


def test_pytrees_with_bounds():
    """min sum (x - c)^2 with sum x = 1, x >= 0: the projection to the simplex; the bound at 0 has multiplier 2."""
    center = {"a": jnp.array([1.0, 0.5]), "b": jnp.array(-1.0)}
    problem = Problem(
        lambda x: sum(jnp.sum((x[k] - center[k]) ** 2) for k in x),
        lambda x: jnp.sum(x["a"]) + x["b"] - 1,
        bounds=(0.0, None),
    )
    solution = solve(problem, {"a": jnp.ones(2), "b": jnp.array(1.0)})
    assert solution.converged, solution.reason
    np.testing.assert_allclose(solution.x["a"], [0.75, 0.25], atol=1e-7)
    np.testing.assert_allclose(solution.eq_multipliers, 0.5, atol=1e-6)
    own, lower, upper = solution.ineq_multipliers
    assert own is None
    assert not np.any(upper["a"])
    np.testing.assert_allclose(lower["b"], 2.5, atol=1e-6)


@pytest.mark.parametrize(
    ("word", "problem", "start"),
    [
        ("infeasible", Problem(lambda x: x, inequalities=lambda x: x**2 + 1), 3.0),
        ("unbounded", Problem(lambda x: x, inequalities=lambda x: x - 1), 0.0),
        ("stuck", Problem(lambda x: x, inequalities=lambda x: x**2), 3.0),  # no multiplier exists at the optimum 0
    ],
)
def test_hard_problems_are_named(word, problem, start):
    solution = solve(problem, jnp.array(start))
    assert not solution.converged
    assert solution.reason.startswith(word), solution.reason


def test_bad_input():
    problem = Problem(lambda x: x**2)
    with pytest.raises(ValueError, match="method: expected one of"):
        solve(problem, jnp.array(1.0), method="magic")
    with pytest.raises(ValueError, match="tolerance: expected a number > 0"):
        solve(problem, jnp.array(1.0), tolerance=0.0)
    with pytest.raises(TypeError, match="floating"):
        solve(problem, jnp.array(1))


def test_multipliers_are_sensitivities():
    """f*(b) of min x^2 + 2 y^2 s.t. x + y = b is 2 b^2 / 3; h = x + y - b, so lambda = -df*/db = -4 b / 3."""
    solution = solve(Problem(lambda x: x[0] ** 2 + 2 * x[1] ** 2, lambda x: x[0] + x[1] - 3), jnp.zeros(2))
    np.testing.assert_allclose(solution.eq_multipliers, -4.0, rtol=1e-8)
    assert certify(Problem(lambda x: x[0] ** 2), jax.tree.map(jnp.zeros_like, solution.x)).passed
