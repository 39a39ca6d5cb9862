"""The solver against known optima; hard problems are named, and never called solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality import Problem, certify, solve
from functional_dl.optimality.problem import flatten
from functional_dl.optimality.solve import METHODS
from functional_dl.optimality.solve import _method as compile_programs
from functional_dl.optimality.solvers import interior_point, sqp
from tests.optimality.degenerate import DEGENERATE
from tests.optimality.problems import KNOWN
from tests.optimality.score import judge, judge_degenerate

BY_NAME = {known.name: known for known in KNOWN}
CASES = {case.name: case for case in DEGENERATE}
QUICK = [("interior_point", "HS71"), ("sqp", "HS43"), ("augmented_lagrangian", "HS24")]
QUICK_CASES = ["equalities that repeat", "parallel lines", "down a parabola", "two discs that touch"]
SHARE = 0.95


@pytest.mark.parametrize(("method", "name"), QUICK)
@pytest.mark.sampled(4)
def test_known_optimum(method, name):
    good, _, solution = judge(BY_NAME[name], method, starts=1)
    assert good, solution.reason
    assert solution.converged, solution.reason


@pytest.mark.campaign
@pytest.mark.parametrize("method", METHODS)
def test_all_known_optima(method, record_property):
    """The share that is solved; every claim of success is a KKT point, judged afresh."""
    solved = {}
    for known in KNOWN:
        good, _, solution = judge(known, method)
        solved[known.name] = good
        if solution.converged:
            residuals = certify(
                known.problem, solution.x, solution.eq_multipliers, solution.ineq_multipliers, 1e-6
            ).residuals
            assert max(map(float, residuals)) <= 1e-6, known.name
    record_property("cases", len(KNOWN))
    assert np.mean(list(solved.values())) >= SHARE, [name for name, good in solved.items() if not good]


@pytest.mark.parametrize("name", QUICK_CASES)
@pytest.mark.sampled(3)
def test_degenerate(name):
    right, false, solution = judge_degenerate(CASES[name], starts=1)
    assert right, solution.reason
    assert not false, solution.reason


def _sampled(case):
    """In every run those without a minimum, where a slope dies away; all in the campaign."""
    marks = () if case.name in ("down a cubic", "exp(-x)", "1/x") else (pytest.mark.campaign,)
    return pytest.param(case, marks=marks, id=case.name)


@pytest.mark.parametrize("case", [_sampled(case) for case in DEGENERATE])
@pytest.mark.sampled(4)
def test_every_degenerate_case(case):
    right, false, solution = judge_degenerate(case)
    assert right, (solution.objective, solution.reason)
    assert not false, (solution.objective, solution.reason)


@pytest.mark.parametrize("method", [interior_point, sqp])
def test_a_batch_of_problems(method):
    """min |x - c|^2 with sum x = 1, x >= 0, for several c at once: the projections to the simplex."""
    centers = jnp.array([[1.0, 0.5], [2.0, -1.0], [0.3, 0.3]])

    def projection(center):
        problem = Problem(lambda x: jnp.sum((x - center) ** 2), lambda x: jnp.sum(x) - 1, lambda x: -x)
        flat = flatten(problem, jnp.ones(2))
        return method.minimise(flat, flat.x0, 1e-10, 100).x

    found = jax.jit(jax.vmap(projection))(centers)
    np.testing.assert_allclose(found, [[0.75, 0.25], [1, 0], [0.5, 0.5]], atol=1e-7)


def test_more_starts_find_the_deeper_well():
    """x^4 - x^2 + x / 10 has its lower minimum left of 0; 0.6 leads to the other."""
    problem = Problem(lambda x: x**4 - x**2 + x / 10)
    assert float(solve(problem, jnp.array(0.6), starts=1).x) > 0
    assert float(solve(problem, jnp.array(0.6)).x) < 0


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


def test_bad_input():
    problem = Problem(lambda x: x**2)
    with pytest.raises(ValueError, match="method: expected one of"):
        solve(problem, jnp.array(1.0), method="magic")
    with pytest.raises(ValueError, match="tolerance: expected a number > 0"):
        solve(problem, jnp.array(1.0), tolerance=0.0)
    with pytest.raises(TypeError, match="args: expected a tuple"):
        Problem(lambda x, y: x * y, args=jnp.ones(()))
    with pytest.raises(TypeError, match="floating"):
        solve(problem, jnp.array(1))


def test_multipliers_are_sensitivities():
    """f*(b) of min x^2 + 2 y^2 s.t. x + y = b is 2 b^2 / 3; h = x + y - b, so lambda = -df*/db = -4 b / 3."""
    solution = solve(Problem(lambda x: x[0] ** 2 + 2 * x[1] ** 2, lambda x: x[0] + x[1] - 3), jnp.zeros(2))
    np.testing.assert_allclose(solution.eq_multipliers, -4.0, rtol=1e-8)
    assert certify(Problem(lambda x: x[0] ** 2), jax.tree.map(jnp.zeros_like, solution.x)).passed


SMALL = {
    "minimum": (Problem(lambda x: 1e-9 * (x - 5.0) ** 2), 5.0),
    "unbounded": (Problem(lambda x: 1e-9 * x), None),
    "equality": (Problem(lambda x: x**2, equalities=lambda x: 1e-9 * (x - 1.0)), 1.0),
    "large": (Problem(lambda x: 1e12 * (x - 5.0) ** 2, inequalities=lambda x: 1e9 * (x - 3.0)), 3.0),
}


@pytest.mark.parametrize("method", ["interior_point", "sqp"])
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.sampled(4)
def test_units_of_objective_and_constraints(name, method):
    """From 0, where each gradient is small or great: relative to it, not to 1, the conditions are far from holding."""
    problem, x = SMALL[name]
    found = solve(problem, jnp.zeros(()), method=method, starts=1)
    if x is None:
        assert found.reason.startswith("unbounded")
        assert not found.converged
    else:
        assert found.converged, found.reason
        np.testing.assert_allclose(found.x, x, atol=1e-6)
    if name == "large":  # 2e12 (3 - 5) + 1e9 mu = 0
        np.testing.assert_allclose(found.ineq_multipliers, 4000, rtol=1e-6)
        np.testing.assert_allclose(found.objective, 4e12, rtol=1e-6)


def data_objective(x, data):
    return data["unit"] * jnp.sum((x - data["target"]) ** 2)


def data_inequality(x, data):
    return data["row"] * (x @ x - 1)


@pytest.mark.parametrize("method", ["interior_point", "sqp"])
def test_problems_of_the_same_functions_share_what_is_compiled(method):
    """The nearest point of the disc, mu = |target| - 1, for other data; units of 2^+-40 change neither."""
    before = compile_programs.cache_info().misses
    for k, target in enumerate(([2.0, 0.0], [3.0, 4.0], [1.5, -2.0])):
        unit, row = np.ldexp(1.0, [(0, 0), (-40, 40), (40, -40)][k])
        data = {"target": jnp.array(target), "unit": jnp.asarray(unit), "row": jnp.asarray(row)}
        problem = Problem(data_objective, inequalities=data_inequality, args=(data,))
        found = solve(problem, jnp.zeros(2), method=method, starts=1)
        assert found.converged, found.reason
        size = np.linalg.norm(target)
        np.testing.assert_allclose(found.x, np.divide(target, size), atol=1e-6)
        np.testing.assert_allclose(found.ineq_multipliers * row / unit, size - 1, rtol=1e-6)
        again = certify(problem, found.x, None, found.ineq_multipliers)
        np.testing.assert_allclose(again.ineq_multipliers, found.ineq_multipliers)
    assert compile_programs.cache_info().misses == before + 1


def test_without_data_a_problem_has_its_own_programs():
    """What a closure reads may change: nothing is shared then."""
    centre = [1.0]
    objective = lambda x: (x - centre[0]) ** 2
    for value in (1.0, 2.0):
        centre[0] = value
        np.testing.assert_allclose(solve(Problem(objective), jnp.zeros(()), starts=1).x, value, atol=1e-7)
