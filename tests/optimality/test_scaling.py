"""Units do not matter: objective, rows and variables times powers of two leave every verdict and every digit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import optimality
from functional_dl.optimality import Problem, certify, dual_function, kkt_residuals, slater_point, solve
from functional_dl.optimality.solve import METHODS
from tests.optimality.degenerate import DEGENERATE
from tests.optimality.large_problems import entropy, projection
from tests.optimality.problems import KNOWN
from tests.optimality.scaling import scalable

TABLE = {case.name: case for case in [*KNOWN, *DEGENERATE]}
KINDS = ("f", "rows", "x", "all")
# no scale: f is linear and vanishes at the start, or all derivatives do, so that nothing says how long a step is
HOMOGENEOUS = ("down a ray with an equality",)
SAMPLE = [
    ("interior_point", "x^2 + 1 <= 0"),
    ("sqp", "HS9"),
    ("augmented_lagrangian", "HS3"),
]


def outcome(given, factors, method):
    """Status, point and value in the units of the table, and what a certificate of its own says."""
    problem = given.problem(factors)
    found = solve(problem, given.start(factors), method, starts=1)
    again = certify(problem, found.x, found.eq_multipliers, found.ineq_multipliers)
    value = np.asarray(found.objective) / factors.f
    return found.status, np.asarray(found.x) * factors.x, value, again.passed, again.second_order


def compare(case, method, kinds):
    given = scalable(case.problem, jnp.asarray(case.start))
    expected = outcome(given, given.drawn(40, "none"), method)
    for kind in kinds:
        found = outcome(given, given.drawn(40, kind), method)
        if case.name in HOMOGENEOUS:
            assert found[0] == expected[0], kind
            continue
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"{case.name} {method} {kind}")


@pytest.mark.parametrize(("method", "name"), SAMPLE)
@pytest.mark.sampled(4)
def test_units_of_a_problem(method, name):
    compare(TABLE[name], method, ("x", "all"))


@pytest.mark.campaign
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", TABLE)
def test_units_of_every_problem(method, name):
    compare(TABLE[name], method, KINDS)


@pytest.mark.campaign
@pytest.mark.parametrize("make", [projection, lambda n: entropy(n, 3)])
def test_units_of_many_variables(make):
    problem, start, _ = make(1500)
    given = scalable(problem, start)
    expected, found = (outcome(given, given.drawn(40, kind), "augmented_lagrangian") for kind in ("none", "all"))
    assert found[0] == expected[0]
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-12)


def test_units_in_single_precision():
    """Nearest point of a disc: x = target / |target|."""
    target = jnp.array([3.0, 4.0], jnp.float32)
    problem = Problem(lambda x: jnp.sum((x - target) ** 2), inequalities=lambda x: x @ x - 1)
    given = scalable(problem, jnp.zeros(2, jnp.float32))
    expected, found = (outcome(given, given.drawn(20, kind), "interior_point") for kind in ("none", "all"))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(found[1], [0.6, 0.8], rtol=1e-4)


# ---- one compiled program for each of the room's other functions ----------------------------------------------------


def measured(s, x, rows, y):
    """What each function gives for data in units of s, brought back to units of 1."""
    project, fit = optimality.projections, optimality.regression
    third, one = jnp.asarray(1 / 3, x.dtype), jnp.ones((), x.dtype)
    soft = lambda by: lambda v, step: jnp.sign(v) * jnp.maximum(jnp.abs(v) - step * by * third, 0)
    steps = {"tolerance": 1e-5, "steps": 500}
    squares = lambda of_f, of_x: lambda w: of_f * jnp.sum((rows @ (of_x * w) - y) ** 2)
    results = {
        "simplex": project.simplex(s * x, s) / s,
        "l1_ball": project.l1_ball(s * x, s) / s,
        "l2_ball": project.l2_ball(s * x, s) / s,
        "linf_ball": project.linf_ball(s * x, s) / s,
        "half_space": project.half_space(s * x, s * rows[0], s * s * third) / s,
        "affine": project.affine(s * x, s * rows[:2], s * s * y[:2]) / s,
        "second_order_cone": project.second_order_cone(s * x, s * third)[0] / s,
        "proximal gradient, f": optimality.proximal_gradient(squares(s, one), soft(s), 0 * x, **steps)[::4],
        "proximal gradient, x": optimality.proximal_gradient(squares(one, s), soft(s), x / s, **steps)[::4],
        "lasso": fit.lasso(rows, s * y, s * third / 10)[::6],
        "ridge": fit.ridge(s * rows, y, s * s * third)[::6],
        "logistic": fit.logistic(s * rows, jnp.sign(y), s * s * third)[::6],
        "svm": optimality.svm.fit_dual(s * rows, jnp.sign(y), 1 / s / s).alpha * s * s,
        "kkt": kkt_residuals(
            Problem(lambda w: s * jnp.sum((s * w - 2) ** 2), lambda w: s * w[0] * w[1]), x / s, s * s * third
        ),
    }
    back = {"proximal gradient, x": s, "lasso": 1 / s, "ridge": s, "logistic": s}
    return {
        name: (value[0] * back.get(name, one), value[1]) if isinstance(value, tuple) and len(value) == 2 else value
        for name, value in results.items()
    }


@pytest.mark.parametrize(("dtype", "power"), [(jnp.float64, 40), (jnp.float32, 20)])
def test_units_of_data(dtype, power):
    rng = np.random.default_rng(0)
    x, rows, y = (jnp.asarray(rng.normal(size=size), dtype) for size in (3, (12, 3), 12))
    run = jax.jit(measured)
    expected = run(jnp.asarray(1, dtype), x, rows, y)
    for sign in (1, -1):
        found = run(jnp.asarray(np.ldexp(1.0, sign * power), dtype), x, rows, y)
        for name, value in expected.items():
            for one, other in zip(jax.tree.leaves(found[name]), jax.tree.leaves(value), strict=True):
                eps = 64 * np.finfo(dtype).eps
                np.testing.assert_allclose(one, other, rtol=eps, atol=eps, err_msg=f"{name} {sign}")


def test_proximal_gradient_claims_nothing_where_steps_are_lost_in_rounding():
    """f's curvature is 1e-24 times that of 1: no step below 1e8 moves x."""
    found = optimality.proximal_gradient(lambda x: 1e-24 * jnp.sum((x - 5) ** 2), lambda v, s: v, jnp.ones(2))
    np.testing.assert_allclose(found.x, 5, rtol=1e-6)
    short = optimality.proximal_gradient(
        lambda x: 1e-24 * jnp.sum((x - 5) ** 2), lambda v, s: v, jnp.ones(2), first_step=1.0, steps=3
    )
    assert not short.converged


@pytest.mark.campaign
def test_slater_and_dual_in_other_units():
    given = scalable(
        Problem(lambda x: jnp.sum((x - 3) ** 2), lambda x: x[0] - x[1], lambda x: jnp.stack([x @ x - 1, -x[1] - 5])),
        jnp.array([2.0, 1.0]),
    )
    values, points = [], []
    for kind in ("none", "all"):
        factors = given.drawn(40, kind)
        problem, start = given.problem(factors), given.start(factors)
        found = slater_point(problem, start)
        points.append((found.found, np.asarray(found.x) * factors.x))
        dual = jax.jit(dual_function(problem, start))
        mu = jnp.asarray(np.array([0.5, 0.25]) * factors.f / factors.g)
        values.append(float(dual(jnp.asarray(np.array([0.75]) * factors.f / factors.h), mu)) / factors.f)
    assert points[0][0]
    np.testing.assert_array_equal(points[0][1], points[1][1])
    assert values[0] == values[1]


# ---- second order: whatever curvature leaves open -------------------------------------------------------------------

SADDLES = {
    "steep": lambda x, y: 1e6 * x**2 - y**2,
    "steeper": lambda x, y: 1e8 * x**2 - y**2,
    "shallow": lambda x, y: x**2 - 1e-12 * y**2,
    "turned": lambda x, y: 1e6 * (x + y) ** 2 - (x - y) ** 2,
    "quartic": lambda x, y: -(x**4),
    "octic": lambda x, y: -(x**8),
    "sextic": lambda x, y: y**2 - x**6,
    "quartic saddle": lambda x, y: x**4 - y**4,
    "turned quartic": lambda x, y: (x + 2 * y) ** 2 - (2 * x - y) ** 4,
    "cubic": lambda x, y: x**3 + y**2,
    "quintic": lambda x, y: x**5 + y**2,
    "monkey": lambda x, y: x**3 - 3 * x * y**2,
    "three planes": lambda x, y: x * y * (x + y),
    "between the axes": lambda x, y: x**2 * y,
    "product": lambda x, y: x * y,
    "Peano": lambda x, y: (y - x**2) * (y - 3 * x**2),
    "a narrow Peano": lambda x, y: (y - x**2) * (y - 1.5 * x**2),
    "a cubic Peano": lambda x, y: (y - x**3) * (y - 2 * x**3),
    "a bent valley that falls": lambda x, y: 100 * (y - x**2) ** 2 - x**6,
    "a cubic valley that falls": lambda x, y: (y - x**3) ** 2 - x**7,
    "a crossed sextic": lambda x, y: x**4 * y**2 - x**2 * y**4,
    "beside a constant": lambda x, y: 1e3 + x**2 - y**4,
    "cubic edge": lambda x, y: x**2 * y + y**2,
}
MINIMA = {
    "zero on the axes": lambda x, y: x**2 * y**2,
    "bowl of fourth order": lambda x, y: x**4 + y**4,
    "bowl of sixth order": lambda x, y: x**6 + y**2,
    "a bent valley": lambda x, y: 100 * (y - x**2) ** 2,
    "a line of fourth order": lambda x, y: (x + y) ** 4,
    "a flat bend": lambda x, y: x**2 * y + y**2 + x**4,
    "a constant": lambda x, y: 0 * x + 3,
}


def chosen(x, which, of_f, of_x):
    z = of_x * x
    return of_f * lax.switch(which, [lambda z, f=f: f(*z) for f in (*SADDLES.values(), *MINIMA.values())], z)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("of_f", "of_x"), [(1e8, (1e8, 1e-8)), (1e-8, (1e-8, 1e-8))], ids=str)
def test_no_saddle_is_a_minimum_in_any_unit(of_f, of_x):
    wrong = []
    for k, name in enumerate((*SADDLES, *MINIMA)):
        args = jnp.asarray(k), jnp.asarray(of_f), jnp.asarray(of_x)
        said = certify(Problem(chosen, args=args), jnp.zeros(2))
        sure = name in MINIMA and "stationary, second order undecided" not in said.reason
        if said.passed != (name in MINIMA) or sure:
            wrong.append((name, of_f, said.reason))
    assert not wrong


def test_a_slope_along_a_free_variable_is_no_minimum_however_small_the_variable():
    fun = lambda v, slope: (v[0] - 1) ** 2 + slope * v[1]
    slope, flat = (Problem(fun, args=(jnp.asarray(value),)) for value in (1.0, 0.0))
    assert not any(certify(slope, jnp.array([1.0, at])).passed for at in (1.0, 1e-17, 0.0))
    assert certify(flat, jnp.array([1.0, 1e-17])).passed
