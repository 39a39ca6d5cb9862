"""Many variables: no matrix is formed, and the certificate says what the dense one says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq

from functional_dl.optimality import Problem, certify, kkt_residuals, solve
from functional_dl.optimality.certificate import certify as certificate
from functional_dl.optimality.certificate import curvature
from functional_dl.optimality.certificate.certify import certify_flat
from functional_dl.optimality.kkt import residuals
from functional_dl.optimality.problem import LARGE, flatten
from functional_dl.optimality.solvers import augmented_lagrangian
from functional_dl.optimality.solvers.restoration import restore
from functional_dl.optimality.units import scale
from tests.campaigns import quick
from tests.optimality import large_problems as made
from tests.optimality.problems import KNOWN

BY_NAME = {known.name: known for known in KNOWN}
BOUNDED = [known.name for known in KNOWN if known.problem.bounds is not None]
WORDS = ("passed", "active", "licq", "mfcq", "second_order", "reason")


def compare(problem, x, multipliers, tolerance=1e-6):
    """The certificates of both paths: each field, at given and at found multipliers."""
    flat = flatten(problem, x)
    for lam, mu in (multipliers, (None, None)):
        dense, large = (certify_flat(f, flat.x0, lam, mu, tolerance) for f in (flat, flat._replace(large=True)))
        for field in WORDS:
            assert getattr(dense, field) == getattr(large, field), (field, dense.reason, large.reason)
        np.testing.assert_allclose(large.residuals, dense.residuals, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(large.gap, dense.gap, atol=1e-12)
        for name in ("eq_multipliers", "ineq_multipliers"):
            for ours, theirs in zip(*(jax.tree.leaves(getattr(c, name)) for c in (large, dense)), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def agree(name):
    known = BY_NAME[name]
    solution = solve(known.problem, jnp.asarray(known.start), starts=1)
    flat = flatten(known.problem, solution.x)
    multipliers = flat.pack_equality(solution.eq_multipliers), flat.pack_inequality(solution.ineq_multipliers)
    compare(known.problem, solution.x, multipliers)


@pytest.mark.parametrize("name", ["HS71"])
def test_dense_and_large_agree(name):
    agree(name)


@pytest.mark.campaign
@pytest.mark.parametrize("name", BOUNDED)
def test_dense_and_large_agree_everywhere(name):
    agree(name)


POINTS = {
    "twice the same half-plane": (
        Problem(lambda x: x[0] + x[1] ** 2, None, lambda x: jnp.stack([-x[0], -2 * x[0]])),
        (0, 0),
    ),
    "a flat direction": (Problem(lambda x: x[0] + 0 * x[1], bounds=(0.0, None)), (0, 1)),
    "a saddle": (Problem(lambda x: x[0] ** 2 - x[1] ** 2, bounds=(-1.0, 1.0)), (0, 0)),
    "an inflection": (Problem(lambda x: x[0] ** 3 + x[1] ** 2), (0, 0)),
    "not feasible": (Problem(lambda x: x @ x, bounds=(1.0, 2.0)), (0, 1)),
    "weak bound, in the cone": (Problem(lambda x: x[1] ** 2 - x[0] ** 2, bounds=(0.0, None)), (0, 1)),
    "weak bound": (Problem(lambda x: x @ x, bounds=(0.0, None)), (0, 0)),
    "fixed": (Problem(lambda x: x @ x, bounds=(1.0, 1.0)), (1, 1)),
    "no qualification": (Problem(lambda x: x[0] + x[1], None, lambda x: x[:1] ** 2), (0, 0)),
    "equality against a bound": (Problem(lambda x: x[0] - x[1], lambda x: x[0] + x[1] - 2, bounds=(1.0, 3.0)), (1, 1)),
    "slopes without end": (Problem(lambda x: jnp.exp(-x[0]) + x[1] ** 2), (30, 0)),
}


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.sampled(4)
def test_dense_and_large_agree_at_odd_points(name):
    problem, x = POINTS[name]
    compare(problem, jnp.asarray(x, float), (None, None))


def test_scales_residuals_and_the_way_back_agree():
    """On a problem with every sort of row: products from passes equal those with the matrix."""
    problem = Problem(
        made.entangled,
        lambda x: jnp.stack([1e4 * jnp.sum(x**2) - 3, x[0] * x[3] - 1]),
        lambda x: jnp.cumsum(x) ** 2 - 4,
        bounds=(np.array([-np.inf, 0, -1, -np.inf, 2]), np.array([3, np.inf, 1, np.inf, 4.0])),
    )
    dense = flatten(problem, jnp.array([0.3, -1.2, 2.0, 0.7, 1.1]))
    large = dense._replace(large=True)
    np.testing.assert_allclose(scale(large, dense.x0).factors, scale(dense, dense.x0).factors, rtol=1e-14)
    ends = [restore(flat, dense.x0) for flat in (dense, large)]
    for x, violation, slope in ends:
        assert float(slope) < 1e-6 * (1 + float(violation))
        np.testing.assert_allclose(violation, ends[0][1], rtol=1e-6)
        assert np.all(np.isfinite(x))


def solved(problem, x0, expected, **options):
    """The solution, certified, near the expected one, and a KKT point by residuals that are computed afresh."""
    assert x0.size > LARGE
    solution = solve(problem, x0, method="augmented_lagrangian", **options)
    assert solution.converged, solution.reason
    assert solution.certificate.passed
    np.testing.assert_allclose(solution.x, expected, atol=1e-5)
    fresh = kkt_residuals(problem, solution.x, solution.eq_multipliers, solution.ineq_multipliers)
    assert max(map(float, fresh)) <= 1e-8
    return solution


def check_obstacle(n):
    problem, x0 = made.obstacle(n)
    solution = solved(problem, x0, made.obstacle_by_policies(n))
    u, lower = np.asarray(solution.x), problem.bounds[0]
    force = (n + 1) * (2 * u - np.append(0, u[:-1]) - np.append(u[1:], 0)) + 8 / (n + 1)
    assert np.all(u >= lower)
    assert np.min(force) > -1e-7
    assert np.max(np.abs(np.minimum(force, u - lower))) < 1e-7
    np.testing.assert_allclose(solution.ineq_multipliers[1], np.maximum(force, 0) * (u <= lower), atol=1e-7)


def check_entropy(n):
    problem, x0, expected = made.entropy(n, 20)
    solution = solved(problem, x0, expected)
    assert solution.certificate.second_order == "strict minimum"


CASES = {
    "obstacle": check_obstacle,
    "projection": lambda n: solved(*made.projection(n)),
    "rosenbrock": lambda n: solved(*made.rosenbrock(n)),
    "entropy": check_entropy,
    "discs": lambda n: solved(*made.discs(n)),
}


@pytest.mark.parametrize("name", quick(["projection", "entropy"], "entropy"))
def test_many_variables(name):
    CASES[name](1200)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("obstacle", 1200),
        ("rosenbrock", 1200),
        ("obstacle", 10_000),
        ("projection", 50_000),
        ("projection", 100_000),
        ("rosenbrock", 5_000),
        ("rosenbrock", 100_000),
        ("entropy", 5_000),
        ("discs", 5_000),
    ],
)
def test_more_variables(name, n):
    CASES[name](n)


N = 2000
RISING = np.linspace(1, 10, N)
VERDICTS = {
    "strict": (made.separable(RISING), 0.0, "strict minimum", True, "a KKT point"),
    "saddle": (made.separable(np.append(RISING[1:], -1e-3)), 0.0, "not a minimum", False, "falls along"),
    "flat": (made.separable(np.append(RISING[1:], 0.0)), 0.0, "necessary", True, "necessary"),
    "saddle at a bound": (
        made.separable(np.append(RISING[1:], -1.0), (0.0, 1.0)),
        0.0,
        "not a minimum",
        False,
        "falls",
    ),
    "no stationary point": (made.separable(RISING), 0.5, "undecided", False, "stationarity ="),
    "not feasible": (made.separable(RISING, (0.0, 1.0)), -0.5, "undecided", False, "ineq_residual ="),
}


@pytest.mark.parametrize("name", VERDICTS)
@pytest.mark.sampled(4)
def test_verdicts(name):
    problem, x, second, passed, said = VERDICTS[name]
    certificate = certify(problem, jnp.full(N, x))
    assert (certificate.second_order, certificate.passed) == (second, passed), certificate.reason
    assert said in certificate.reason


def test_curvature_within_a_constraint():
    """-x_1^2 is no minimum but where sum x_i = 0 holds x to the side on which it is one: x_1 (1 - 1/n) by symmetry."""
    curved = lambda x: jnp.sum(x[1:] ** 2) / 2 - x[0] ** 2
    free = Problem(lambda x: curved(x), lambda x: jnp.sum(x) - x[0])
    held = Problem(lambda x: curved(x), lambda x: x[:1])
    assert certify(free, jnp.zeros(N)).second_order == "not a minimum"
    assert certify(held, jnp.zeros(N)).second_order == "strict minimum"


UNSOLVABLE = {
    "too great a sum": (Problem(lambda x: x @ x, lambda x: jnp.sum(x) - 3.0 * x.size, bounds=(0.0, 1.0)), "infeasible"),
    "down all axes": (Problem(lambda x: jnp.sum(x), bounds=(None, 1.0)), "unbounded"),
    "down one axis": (
        Problem(lambda x: -x[0] + jnp.sum(x[1:] ** 2), lambda x: x[1] - x[2] - 1, bounds=(0.0, None)),
        "unbounded",
    ),
}


def check_unsolvable(name):
    problem, word = UNSOLVABLE[name]
    solution = solve(problem, jnp.full(1500, 0.5), method="augmented_lagrangian")
    assert not solution.converged
    assert solution.reason.startswith(word), solution.reason


def test_what_has_no_solution():
    check_unsolvable("too great a sum")


@pytest.mark.campaign
@pytest.mark.parametrize("name", UNSOLVABLE)
def test_whatever_has_no_solution(name):
    check_unsolvable(name)


@pytest.mark.parametrize("shift", [0.0, -1e-2])
def test_the_bound_of_the_least_eigenvalue(shift):
    """tridiag(-1, 2, -1) + shift on the variables that are free, against LAPACK's eigenvalue of what is left."""
    n, cut = 400, 150

    def product(point, v):
        return (2 + shift) * v - jnp.append(0.0, v[:-1]) - jnp.append(v[1:], 0.0)

    free = np.ones(n)
    free[cut] = 0
    space = curvature.Subspace(free, np.zeros((0, n)))
    least = curvature.least(jax.jit(curvature.recurrence(product)), jnp.zeros(0), space, 1e-6)
    size = n - cut - 1
    exact = eigh_tridiagonal(np.full(size, 2 + shift), -np.ones(size - 1), eigvals_only=True)[0]
    assert least.lower - 1e-12 <= exact <= least.upper + 1e-12
    assert (least.lower > 1e-6) == (shift == 0)
    assert (least.upper < -1e-6) == (shift < 0)


def test_a_batch_under_jit_and_vmap():
    """The method on several problems at once takes each to where it goes alone."""
    centers = jnp.array([[1.0, 0.5, 0.1], [2.0, -1.0, 0.3], [0.3, 0.3, 0.3]])

    def projected(center):
        problem = Problem(lambda x: jnp.sum((x - center) ** 2), lambda x: jnp.sum(x**3) - 1, bounds=(0.0, None))
        flat = flatten(problem, jnp.full(3, 0.5))
        end = augmented_lagrangian.minimise(flat, flat.x0, 1e-9, 100)
        return end.x, end.lam, end.mu, end.error

    together = jax.jit(jax.vmap(projected))(centers)
    alone = jax.jit(projected)
    for k, center in enumerate(centers):
        for ours, theirs in zip(together, alone(center), strict=True):
            np.testing.assert_allclose(ours[k], theirs, atol=1e-8)
    assert float(jnp.max(together[3])) <= 1e-9


@pytest.mark.parametrize("part", ["minimise", "restore", "residuals"])
def test_memory_grows_with_n(part):
    """At most 100 vectors at once, where a matrix would be 20,000 of them."""
    n = 20_000
    problem, x0, _ = made.projection(n)
    flat = flatten(problem, x0)
    run = {
        "minimise": lambda x: augmented_lagrangian.minimise(flat, x, 1e-8, 10),
        "restore": lambda x: restore(flat, x),
        "residuals": lambda x: residuals(flat, x, jnp.ones(1), jnp.ones(n)),
    }[part]
    memory = jax.jit(run).lower(x0).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 100 * n * x0.dtype.itemsize


def test_the_bound_from_below_is_that_of_the_theorem():
    """theta - lambda_min > e R with chance 1.648 sqrt(d) exp(-(2k - 1) sqrt(e)); both ends: R <= span / (1 - 2e)."""
    k, d = 48, 3000
    alphas, betas = np.cos(np.arange(k)), 1 + 0.1 * np.sin(np.arange(k))
    values = np.linalg.eigvalsh(np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1))
    e = brentq(lambda e: 1.648 * np.sqrt(d) * np.exp(-(2 * k - 1) * np.sqrt(e)) - curvature.CHANCE, 1e-6, 1, xtol=1e-14)
    upper, lower = curvature._bounds(alphas, betas, d, False)
    np.testing.assert_allclose(upper, values[0], rtol=1e-12)
    np.testing.assert_allclose(lower, values[0] - e * (values[-1] - values[0]) / (1 - 2 * e), rtol=1e-9)


@pytest.mark.parametrize("numbers", [certificate.NUMBERS, 0])
def test_large_multipliers_do_not_pass_where_nothing_is_decided(numbers, monkeypatch):
    """Beside the point at which two discs touch: all residuals vanish, with multipliers 1 / (4 t)."""
    monkeypatch.setattr(certificate, "NUMBERS", numbers)
    discs = lambda x: jnp.stack([x[0] ** 2 + x[1] ** 2 - 1, (x[0] - 2) ** 2 + x[1] ** 2 - 1])
    t = 1e-5
    flat = flatten(Problem(lambda x: x[1], None, discs), jnp.array([1.0, -t]))._replace(large=True)
    found = certify_flat(flat, flat.x0, jnp.zeros(0), jnp.full(2, 1 / (4 * t)), 1e-8)
    assert max(map(float, found.residuals)) <= 1e-8
    assert not found.passed
    assert ("only in the limit" if numbers else "was not decided") in found.reason
