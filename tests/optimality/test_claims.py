"""Claims that were false, and refusals that were wrong, each a case of its kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality import Problem, certify, qp, qp_layer, solution_map, solve

ALONE = {
    # its scale at the start says nothing of its end: x_0 had not moved when it was called converged
    "a scale that ends": (lambda x: (x[0] / 1e5 - 1) ** 2 + (x[1] / 1e-3 - 1) ** 4, [1.0, 1.0], [1e5, 1e-3]),
    "a plateau": (lambda x: jnp.tanh(x[0] - 30) ** 2, [0.0], [30.0]),
    # was "unbounded" in units of a gradient of 1e-53, and "converged" where that is 0
    "a narrow well far off": (lambda x: -jnp.exp(-jnp.sum((x - 5) ** 2)), [-5.0, 0.0], [5.0, 5.0]),
    "a maximum to start at": (lambda x: jnp.cos(x[0]) + 0.01 * x[0] ** 2, [0.0], [-3.0799545]),
}
NO_MINIMUM = {
    "an infimum far out": Problem(lambda x: 1 / x[0], bounds=(0.1, None)),
    "a cusp": Problem(lambda x: x[0], inequalities=lambda x: x[1] ** 2 - x[0] ** 3),
}


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("name", ALONE)
def test_the_minimum_is_found(name, dtype):
    objective, start, x = ALONE[name]
    found = solve(Problem(objective), jnp.array(start, dtype))
    if (
        dtype == jnp.float64 and "well" in name
    ):  # the slope at the start is 1e-53, and no plateau: a refusal is right too
        assert found.converged or found.reason.startswith("stuck"), found.reason
        return
    assert found.converged, found.reason
    np.testing.assert_allclose(found.x, x, rtol=1e-2)


@pytest.mark.parametrize("name", NO_MINIMUM)
def test_what_is_no_minimum_is_not_called_one(name):
    found = solve(NO_MINIMUM[name], jnp.array([1.0, 0.5][: 1 if name == "an infimum far out" else 2], jnp.float32))
    assert not found.converged, found.reason


def test_second_order_where_nothing_tells_a_length():
    """At 0 all derivatives up to the second vanish: a power that overflows is no length, and x^2 y^2 needs both."""
    monkey = lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2 + (x @ x) ** 2
    assert not certify(Problem(monkey), jnp.zeros(2, jnp.float32)).passed
    motzkin = lambda x, unit: (x[0] * x[1] / unit**2) ** 2 * (x @ x / unit**2 - 3) + 1
    for unit in (2.0**-40, 1.0, 2.0**40):
        assert not certify(Problem(motzkin, args=(jnp.asarray(unit),)), jnp.zeros(2)).passed, unit


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.campaign)])
def test_programs_whose_optimum_is_0(dtype):
    """The gap stays a share of the objective as both fall to 0: they were given up as stuck."""
    q, upper = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype), jnp.array([jnp.inf, 1.0, 1.0], dtype)
    found = jax.vmap(lambda q, upper: qp.solve(jnp.eye(2, dtype=dtype), q, lower=0.0, upper=upper))(q, upper)
    np.testing.assert_array_equal(found.status, qp.CONVERGED)
    np.testing.assert_allclose(found.x, 0, atol=1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_solutions_as_functions_count_in_their_own_units(unit):
    """The nearest point to t of {x <= 1}, in float32: x = min(t, 1); its derivative was -0.005 and 0.1 at t = 3."""
    family = lambda t: Problem(
        lambda x: jnp.sum((x / unit - t) ** 2) / unit, inequalities=lambda x: (x / unit - 1) * unit
    )
    solution = solution_map(family, jnp.zeros(1, jnp.float32))
    value_and_slope = jax.jit(jax.vmap(lambda t: (solution(t)[0], jax.grad(lambda t: solution(t)[0])(t))))
    x, slope = value_and_slope(jnp.array([0.5, 3.0], jnp.float32))
    np.testing.assert_allclose(x / unit, [0.5, 1.0], rtol=1e-5)
    np.testing.assert_allclose(slope / unit, [1.0, 0.0], atol=1e-5)


def test_layers_count_in_their_own_units():
    """x in units of 2^k and the objective in units of 2^j: the same solution and derivative, to the last digit."""
    P, q, G, h = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([-1.0, -1.0]), jnp.array([[1.0, 1.0]]), jnp.ones(1)

    def of(k, j):
        x, f = jnp.asarray(2.0**k), jnp.asarray(2.0**j)
        solve = lambda q: qp_layer.solution(f * P / x**2, f * q / x, None, None, G / x, h, 0.0) / x
        return solve(q), jax.jacrev(solve)(q)

    plain = of(0, 0)
    for k, j in ((-30, 0), (30, -30), (0, 40)):
        for found, expected in zip(of(k, j), plain, strict=True):
            np.testing.assert_array_equal(found, expected)
