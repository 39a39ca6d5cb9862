"""Derivatives of solutions against closed forms and differences of re-solved problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse
from functional_dl.optimality.implicit import regularity, solution_map
from functional_dl.optimality.problem import Problem
from tests.campaigns import quick
from tests.optimality.parametric import FAMILIES

A = jnp.array([[1.0, 2.0, -1.0]])


def projection(theta):
    """The nearest point of {sum x = 1, x >= 0}: the simplex."""
    return Problem(lambda x: jnp.sum((x - theta) ** 2), lambda x: jnp.sum(x) - 1, lambda x: -x)


SIMPLEX = solution_map(projection, jnp.full(3, 0.3))
THETA = jnp.array([0.6, 0.5, -1.0])
JACOBIAN = jnp.array([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.campaign
def test_the_simplex_in_every_mode():
    np.testing.assert_allclose(SIMPLEX(THETA), [0.55, 0.45, 0.0], atol=1e-12)
    for mode in (jax.jacfwd, jax.jacrev, reverse.jacrev):
        np.testing.assert_allclose(mode(SIMPLEX)(THETA), JACOBIAN, atol=1e-10)
    many = jnp.stack([THETA, THETA[::-1]])
    batched = jax.jit(jax.vmap(jax.jacrev(SIMPLEX)))(many)
    np.testing.assert_allclose(batched, jnp.stack([JACOBIAN, JACOBIAN[::-1, ::-1]]), atol=1e-10)


def test_sensitivity_of_the_optimal_value_is_minus_the_multiplier():
    """min x.x subject to a.x = b: f* = b^2 / |a|^2, df*/db = 2 b / |a|^2 = -lambda; d2f*/db2 = 2 / |a|^2."""
    solve = solution_map(lambda b: Problem(lambda x: x @ x, lambda x: A @ x - b), jnp.zeros(3))
    value = lambda b: jnp.sum(solve(b) ** 2)
    b = jnp.asarray(1.5)
    assert float(jax.grad(value)(b)) == pytest.approx(2 * 1.5 / 6, abs=1e-10)
    assert float(jax.grad(jax.grad(value))(b)) == pytest.approx(2 / 6, abs=1e-8)


@pytest.mark.parametrize("family", quick(FAMILIES, "quadratic", name=lambda family: family.name))
def test_five_places_of_a_family_against_differences(family):
    """Central differences of the problem solved anew; all places, all parameters and both sides in one call."""
    places = jnp.asarray([place for place, _ in family.places])
    solve = solution_map(family.problem, jnp.asarray(family.start))
    h = 1e-5 * jnp.eye(places.shape[1])
    around = jnp.concatenate([places[:, None], places[:, None] + h[None], places[:, None] - h[None]], 1)
    x = jax.jit(jax.vmap(jax.vmap(solve)))(around)
    for place, at, (_, active) in zip(places, x[:, 0], family.places, strict=True):
        near = np.abs(family.problem(place).inequalities(at)) <= 1e-7
        assert set(np.flatnonzero(near)) == active, "the table"
    plus, minus = jnp.split(x[:, 1:], 2, axis=1)
    differences = jnp.swapaxes((plus - minus) / 2e-5, 1, 2)
    modes = {"curved": (jax.jacfwd, reverse.jacrev)}
    for mode in modes.get(family.name, (jax.jacrev,)):
        found = jax.jit(jax.vmap(mode(solve)))(places)
        np.testing.assert_allclose(found, differences, rtol=1e-6, atol=1e-6)


def test_a_curved_problem_over_pytrees_against_differences():
    def problem(theta):
        return Problem(
            lambda x: (x["a"] - theta["p"]) ** 2 + jnp.exp(x["b"]) - theta["q"] * x["b"],
            None,
            lambda x: x["a"] ** 2 + x["b"] ** 2 - theta["r"],
        )

    solve = solution_map(problem, {"a": jnp.asarray(0.1), "b": jnp.asarray(0.1)})
    theta = {"p": jnp.asarray(2.0), "q": jnp.asarray(3.0), "r": jnp.asarray(1.3)}
    for name, value in jax.jacrev(lambda t: solve(t)["b"])(theta).items():
        h = 1e-5
        ends = [solve(theta | {name: theta[name] + e})["b"] for e in (h, -h)]
        assert float(value) == pytest.approx(float((ends[0] - ends[1]) / (2 * h)), abs=1e-7), name


def test_a_layer_of_quadratic_programs_with_a_repeated_constraint():
    """x = argmin |x - q|^2 subject to x_0 <= 1, stated twice: LICQ fails, x* and its derivative stay."""
    solve = solution_map(
        lambda q: Problem(lambda x: jnp.sum((x - q) ** 2), None, lambda x: jnp.stack([x[0] - 1, x[0] - 1])),
        jnp.zeros(2),
    )
    q = jnp.array([2.0, 3.0])
    np.testing.assert_allclose(solve(q), [1, 3], atol=1e-10)
    np.testing.assert_allclose(jax.jacrev(solve)(q), [[0, 0], [0, 1]], atol=1e-8)


@pytest.mark.parametrize(("theta", "slope"), [(0.9, 1.0), (1.0, 1.0), (1.1, 0.0)])
@pytest.mark.sampled(4)
def test_a_weakly_active_inequality_counts_as_inactive(theta, slope):
    solve = solution_map(lambda t: Problem(lambda x: jnp.sum((x - t) ** 2), None, lambda x: x - 1), jnp.zeros(1))
    theta = jnp.array([theta])
    np.testing.assert_allclose(solve(theta), jnp.minimum(theta, 1), atol=1e-6)
    np.testing.assert_allclose(jax.jacrev(solve)(theta), [[slope]], atol=1e-8)


@pytest.mark.campaign
def test_regularity_tells_where_the_derivative_is_one_sided():
    """min (x - t)^2 s.t. x <= 1 (mu = 2 (t - 1)), and x + y = 0 once or twice."""
    judge = regularity(lambda t: Problem(lambda x: jnp.sum((x - t) ** 2), None, lambda x: x - 1), jnp.zeros(1))
    found = jax.jit(jax.vmap(judge))(jnp.array([[0.7], [1.0], [1.2]]))
    np.testing.assert_array_equal(found.differentiable, [True, False, True])
    np.testing.assert_array_equal(found.weak, [[False], [True], [False]])
    np.testing.assert_allclose(found.margin, [0.3, 0.0, 0.4], atol=1e-5)
    rows = lambda second: lambda x: jnp.stack([x[0] + x[1], second * (x[0] + x[1])])
    twice = regularity(lambda t: Problem(lambda x: jnp.sum((x - t) ** 2), rows(2.0)), jnp.zeros(2))
    failed = twice(jnp.array([1.0, 2.0]))
    assert not failed.differentiable
    assert failed.pivot <= 1e-15
    assert failed.margin == jnp.inf
    none = regularity(lambda t: Problem(lambda x: t * x[0]), jnp.zeros(1), max_iterations=30)(jnp.asarray(1.0))
    assert not none.differentiable


def test_no_solution_is_not_a_number():
    solve = solution_map(lambda t: Problem(lambda x: t * x[0]), jnp.zeros(1), max_iterations=30)
    assert bool(jnp.all(jnp.isnan(solve(jnp.asarray(1.0)))))


def test_bounds_that_depend_on_the_parameter_are_refused_by_name():
    solve = solution_map(lambda t: Problem(lambda x: x**2, bounds=(t, 3.0)), jnp.asarray(2.0))
    with pytest.raises(TypeError, match="bounds: expected fixed"):
        solve(jnp.asarray(1.0))
