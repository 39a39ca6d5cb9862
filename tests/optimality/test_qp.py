"""Quadratic and linear programs against Clarabel and SciPy; infeasible and unbounded ones are named with a proof."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from scipy.optimize import linprog

from functional_dl.optimality import qp
from functional_dl.optimality.qp import batched_while_loop
from tests.optimality.programs import SOLVED, UNSOLVED, Known, Quadratic, badly_scaled, random, reference, rescaled

EVERY = {known.name: known for known in SOLVED + UNSOLVED}
SCALED = [badly_scaled(seed) for seed in range(300)]
CLARABEL = {"solved": "Solved", "infeasible": "PrimalInfeasible", "unbounded": "DualInfeasible"}


@functools.cache
def solved(dtype="float64"):
    """Every program of the tables in one call: name or number -> QPSolution."""
    programs = {name: known.program for name, known in EVERY.items()}
    programs |= {seed: known for seed, (known, _) in enumerate(SCALED)}
    for name, known in EVERY.items():
        programs |= {(name, way): change(known.program) for way, change in UNITS.items()}
    stacked = [np.stack(parts).astype(dtype) for parts in zip(*programs.values(), strict=True)]
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(qp.solve))(*stacked))
    return {name: jax.tree.map(lambda leaf, i=i: leaf[i], found) for i, name in enumerate(programs)}


def _of_objective(known: Quadratic):
    return known._replace(P=known.P * 2.0**40, q=known.q * 2.0**40)


def _of_rows(known: Quadratic):
    of_a, of_g = 2.0 ** np.array([30, -40]), 2.0 ** np.array([40, -40, 20, -20, 0])
    A, G = known.A * of_a[:, None], known.G * of_g[:, None]
    return known._replace(A=A, b=known.b * of_a, G=G, h=known.h * of_g)


BY = 2.0 ** np.array([40, -40, 20, -20, 0, 10])
UNITS = {
    "objective": _of_objective,
    "objective, small": lambda known: known._replace(P=known.P / 2.0**40, q=known.q / 2.0**40),
    "rows": _of_rows,
    "all variables": lambda known: rescaled(known, np.full(6, 2.0**40)),
    "variables": lambda known: rescaled(known, BY),
}


@functools.cache
def clarabels(name):
    return reference(EVERY[name].program)


def multipliers(found):
    return found.eq_multipliers, found.ineq_multipliers, found.lower_multipliers, found.upper_multipliers


@pytest.mark.parametrize("known", EVERY.values(), ids=EVERY.keys())
def test_the_table_says_what_clarabel_finds(known: Known):
    assert clarabels(known.name)[0] == CLARABEL[known.status]


@pytest.mark.parametrize("known", SOLVED, ids=[known.name for known in SOLVED])
@pytest.mark.sampled(4)
def test_objective_and_multipliers(known: Known):
    found, (_, objective, *duals) = solved()[known.name], clarabels(known.name)
    assert found.status == qp.CONVERGED
    np.testing.assert_allclose(found.objective, objective, rtol=1e-6, atol=1e-6)
    assert found.gap <= 1e-8 * (1 + abs(objective))
    size = 1 + max(np.max(np.abs(dual)) for dual in duals)
    if known.unique:
        for ours, theirs in zip(multipliers(found), duals, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6 * size)


@pytest.mark.parametrize("known", SOLVED, ids=[known.name for known in SOLVED])
@pytest.mark.sampled(4)
def test_the_conditions_hold(known: Known):
    """Convex: stationarity, feasibility, signs and slackness prove the optimum, whatever another solver says."""
    P, q, A, b, G, h, lower, upper = known.program
    found = solved()[known.name]
    x, (y, z, low, high) = found.x, multipliers(found)
    terms = P @ x, q, A.T @ y, G.T @ z, low, high
    size = 1 + max(np.max(np.abs(term)) for term in terms)
    np.testing.assert_allclose(P @ x + q + A.T @ y + G.T @ z - low + high, 0, atol=1e-8 * size)
    np.testing.assert_allclose(A @ x, b, atol=1e-7)
    assert np.all(G @ x <= h + 1e-7)
    assert np.all((x >= lower - 1e-7) & (x <= upper + 1e-7))
    assert min(np.min(part) for part in (z, low, high)) >= 0
    for multiplier, slack in ((z, h - G @ x), (low, x - lower), (high, upper - x)):
        assert not multiplier[~np.isfinite(slack)].any()
        there = np.isfinite(slack)
        assert np.all(multiplier[there] * slack[there] <= 1e-8 * size * (1 + np.abs(x).max()))


def _terms(known: Quadratic, x):
    return np.abs(x) @ (np.abs(known.P @ x) / 2 + np.abs(known.q))


@pytest.mark.parametrize(("dtype", "share", "tolerance"), [("float64", 1, 1e-7), ("float32", 0.98, 1e-3)])
@pytest.mark.sampled(3)
def test_badly_scaled_programs(dtype, share, tolerance):
    """Solved, and what is called solved is: feasible row by row, with the objective of the solution that is known."""
    right = 0
    for seed, (known, x) in enumerate(SCALED):
        found = solved(dtype)[seed]
        assert found.status in (qp.CONVERGED, qp.STUCK), seed
        if found.status == qp.CONVERGED:
            right += 1
            P, q, A, b, G, h, lower, upper = (np.asarray(part, dtype).astype(float) for part in known)
            here = np.asarray(found.x, float)
            objective = lambda x: x @ (P @ x) / 2 + q @ x
            assert abs(objective(here) - objective(x)) <= tolerance * (_terms(known, x) + _terms(known, here)), seed
            assert np.all(np.abs(A @ here - b) <= tolerance * (np.abs(A) @ np.abs(here) + np.abs(b))), seed
            limit = np.where(np.isfinite(h), h, 0)
            assert np.all(G @ here <= h + tolerance * (np.abs(G) @ np.abs(here) + np.abs(limit))), seed
            assert np.all((here >= lower) & (here <= upper)), seed
    assert right >= share * len(SCALED)


@pytest.mark.parametrize("way", UNITS)
def test_units_do_not_matter(way):
    """The same verdict, and the same point to the tolerance, whatever x, rows and the objective are counted in."""
    back = {"all variables": 2.0**40, "variables": BY}.get(way, 1.0)
    for name, known in EVERY.items():
        for dtype, tolerance in (("float64", 1e-6), ("float32", 3e-3)):
            found, before = solved(dtype)[name, way], solved(dtype)[name]
            if dtype == "float64":
                assert found.status == before.status, name
            else:
                assert qp.STUCK in (found.status, before.status) or found.status == before.status, name
            if known.status == "solved" and found.status == before.status == qp.CONVERGED:
                here, there = (float(_terms(known.program, x) + 1e-9) for x in (found.x * back, before.x))
                value = lambda x: x @ (known.program.P @ x) / 2 + known.program.q @ x
                off = abs(value(found.x * back) - value(before.x))
                assert off <= tolerance * (here + there), name


def test_examples_of_the_bug_reports():
    """Bounds active at sizes from 1e-12 to 1e12, a triangle for P, P not semidefinite: in both precisions."""
    sizes = 10.0 ** np.arange(-12, 13, 3)
    for dtype in (jnp.float64, jnp.float32):
        pull = jnp.asarray(np.stack([-sizes, 2 * sizes], axis=1), dtype)
        bounded = lambda P: jax.vmap(lambda q: qp.solve(P, q, lower=jnp.zeros(2, dtype)))
        square, upper, saddle = (jnp.asarray(P, dtype) for P in ([[1, 0], [0, 1]], [[1, 1], [0, 1]], [[1, 0], [0, -1]]))
        ours = jax.jit(lambda q: jax.vmap(lambda P: bounded(P)(q))(jnp.stack([square, upper, saddle])))(pull)
        status = np.asarray(ours.status)
        np.testing.assert_array_equal(status[:2], qp.CONVERGED)
        np.testing.assert_array_equal(status[2], qp.STUCK)
        x = np.asarray(ours.x, float)[:2] / sizes[None, :, None]
        np.testing.assert_allclose(x[..., 0], 1, atol=2e-6 if dtype == jnp.float64 else 1e-3)
        np.testing.assert_allclose(x[..., 1], 0, atol=2e-6 if dtype == jnp.float64 else 2e-2)


def test_a_linear_program_against_scipy():
    for known in SOLVED:
        if known.name.startswith("linear"):
            p = known.program
            bounds = np.stack([p.lower, p.upper], axis=1)
            expected, found = linprog(p.q, p.G, p.h, p.A, p.b, bounds), solved()[known.name]
            np.testing.assert_allclose(found.x, expected.x, atol=1e-7)
            theirs = (-expected.eqlin.marginals, -expected.ineqlin.marginals, expected.lower.marginals)
            for ours, his in zip(multipliers(found), (*theirs, -expected.upper.marginals), strict=True):
                np.testing.assert_allclose(ours, his, atol=1e-6)


def test_infeasible_programs_have_a_proof():
    for known in UNSOLVED:
        if known.status == "infeasible":
            found, p = solved()[known.name], known.program
            y, z, low, high = multipliers(found)
            assert found.status == qp.INFEASIBLE, known.name
            assert found.objective == np.inf
            np.testing.assert_allclose(p.A.T @ y + p.G.T @ z - low + high, 0, atol=1e-6)
            assert min(np.min(part) for part in (z, low, high)) >= 0
            finite = lambda limit: np.where(np.isfinite(limit), limit, 0)
            value = p.b @ y + finite(p.h) @ z - finite(p.lower) @ low + finite(p.upper) @ high
            np.testing.assert_allclose(value, -1, atol=1e-9)


def test_unbounded_programs_have_a_ray():
    for known in UNSOLVED:
        if known.status == "unbounded":
            found, p = solved()[known.name], known.program
            assert found.status == qp.UNBOUNDED, known.name
            assert found.objective == -np.inf
            np.testing.assert_allclose(p.q @ found.x, -1, atol=1e-9)
            np.testing.assert_allclose(p.P @ found.x, 0, atol=1e-6)
            np.testing.assert_allclose(p.A @ found.x, 0, atol=1e-6)
            assert np.all((p.G @ found.x)[np.isfinite(p.h)] <= 1e-6)
            assert np.all(found.x[np.isfinite(p.lower)] >= -1e-6)
            assert np.all(found.x[np.isfinite(p.upper)] <= 1e-6)


def test_single_precision_is_as_good_as_it_says():
    """What it calls converged is right to the tolerance that it can reach; a good part is."""
    counted = 0
    for known in SOLVED:
        found, (_, objective, *_) = solved("float32")[known.name], clarabels(known.name)
        if found.status == qp.CONVERGED:
            counted += 1
            assert abs(found.objective - objective) <= 3e-4 * (1 + abs(objective)), known.name
            assert found.residual <= 1e-5
        assert found.status not in (qp.INFEASIBLE, qp.UNBOUNDED), known.name
        assert found.x.dtype == np.float32
    assert counted >= len(SOLVED) - 4


def test_constraints_may_be_missing():
    """Alone and compiled: the minimum of a parabola, of least norm, and of a bounded line."""
    P, q = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -1.0])
    free = jax.jit(qp.solve)(P, q)
    np.testing.assert_allclose(free.x, -np.linalg.solve(P, q), atol=1e-12)
    assert free.ineq_multipliers.shape == free.eq_multipliers.shape == (0,)
    line = jax.jit(lambda q: qp.solve(jnp.zeros((2, 2)), q, lower=-1.0, upper=jnp.array([2.0, 3.0])))(q)
    np.testing.assert_allclose(line.x, [-1, 3], atol=1e-8)
    np.testing.assert_allclose(line.lower_multipliers, [1, 0], atol=1e-8)
    np.testing.assert_allclose(line.upper_multipliers, [0, 1], atol=1e-8)
    least = jax.jit(lambda A, b: qp.solve(jnp.eye(2), jnp.zeros(2), A, b))(jnp.array([[1.0, 1.0]]), jnp.array([2.0]))
    np.testing.assert_allclose(least.x, [1, 1], atol=1e-12)
    np.testing.assert_allclose(least.eq_multipliers, [-1], atol=1e-12)


def test_a_large_batch_equals_its_elements_alone():
    """Elements leave the batch as they end: none may take another's place."""
    columns = [jnp.stack(parts) for parts in zip(*(random(seed) for seed in range(467)), strict=True)]
    together = jax.jit(jax.vmap(qp.solve))(*columns)
    assert np.all(together.status == qp.CONVERGED)
    alone = jax.jit(qp.solve)
    for i in range(0, 467, 58):
        expected = alone(*(column[i] for column in columns))
        np.testing.assert_allclose(together.x[i], expected.x, atol=1e-7)
        assert together.iterations[i] == expected.iterations


@pytest.mark.parametrize(("seed", "rank"), [(327, 6), (1397, 3)])
def test_no_cycle(seed, rank):
    """On these programs predictor and corrector alone come back to the same four points for ever."""
    found = jax.jit(qp.solve)(*random(seed, rank))
    assert found.status == qp.CONVERGED
    assert found.gap <= 5e-9 * (1 + abs(found.objective))


def test_a_batch_on_many_devices_equals_that_on_one():
    """shard_map: each device its share, with as many rounds as its own elements want."""
    columns = [jnp.stack(parts) for parts in zip(*(random(seed) for seed in range(32)), strict=True)]
    mesh = jax.make_mesh((8,), ("programs",), axis_types=(AxisType.Auto,))
    axis = PartitionSpec("programs")
    shared = jax.jit(jax.shard_map(jax.vmap(qp.solve), mesh=mesh, in_specs=axis, out_specs=axis))(*columns)
    together = jax.jit(jax.vmap(qp.solve))(*columns)
    np.testing.assert_array_equal(shared.iterations, together.iterations)
    np.testing.assert_allclose(shared.x, together.x, atol=1e-7)


@pytest.mark.campaign
def test_two_batches_in_one_program_do_not_block_each_other():
    """Batched LAPACK calls do, on a machine with few cores: each loop holds a thread that the other one waits for."""
    code = """
import jax, jax.numpy as jnp
from functional_dl.optimality import qp
from tests.optimality.programs import random
columns = [jnp.stack(parts) for parts in zip(*(random(seed) for seed in range(1000)), strict=True)]
halves = [[part[:500] for part in columns], [part[500:] for part in columns]]
both = jax.jit(lambda first, second: (jax.vmap(qp.solve)(*first), jax.vmap(qp.solve)(*second)))
for _ in range(20):
    jax.block_until_ready(both(*halves))
"""
    environment = os.environ | {"JAX_ENABLE_X64": "1", "XLA_FLAGS": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=300, check=True)


def test_elements_run_as_long_as_each_of_them_wants():
    """Counting to one's own number, in a batch, in a batch of batches, and cut at the limit."""
    count = batched_while_loop.run(lambda k: 100 - k[0], lambda k, state: state + k[1], lambda state: state < 100, 50)
    wanted = np.random.default_rng(0).integers(1, 30, 1300)
    many = jax.vmap(lambda k: count((k, jnp.ones((), int))))
    np.testing.assert_array_equal(jax.jit(many)(jnp.asarray(wanted)), 100)
    np.testing.assert_array_equal(jax.vmap(many)(jnp.asarray(wanted).reshape(13, 100)), 100)
    np.testing.assert_array_equal(many(jnp.arange(40, 60)), np.minimum(100, 150 - np.arange(40, 60)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"P": jnp.eye(3)}, "P: expected shape"),
        ({"A": jnp.ones((1, 2))}, "A, b: expected both or neither"),
        ({"G": jnp.ones((1, 3)), "h": jnp.ones(1)}, "G: expected shape"),
        ({"lower": jnp.ones(3)}, "lower: expected shape"),
        ({"q": jnp.ones((2, 2))}, "q: expected shape"),
        ({"lower": jnp.inf}, "lower: expected no inf"),
        ({"upper": -jnp.inf}, "upper: expected no -inf"),
    ],
)
def test_errors_name_the_argument(change, message):
    with pytest.raises(ValueError, match=message):
        qp.solve(**({"P": jnp.eye(2), "q": jnp.ones(2)} | change))
