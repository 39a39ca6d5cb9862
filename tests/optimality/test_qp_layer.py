"""The quadratic program as a layer: derivatives against differences, closed forms and solution_map; what it learns.

All programs have one size and come in batches of fourteen, so that the tests share what is compiled.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse
from functional_dl.optimality import qp, qp_layer
from functional_dl.optimality.implicit import solution_map
from functional_dl.optimality.problem import Problem

N, P_ROWS, G_ROWS, PROGRAMS = 4, 1, 3, 14
WEIGHTS = np.array([0.7, -1.3, 0.4, 2.0])
NAMES = ("P", "q", "A", "b", "G", "h", "lower", "upper")


def stacked(programs):
    return {name: jnp.array(np.stack([program[name] for program in programs])) for name in NAMES}


def drawn(seed):
    """A strictly convex program with a feasible point inside, and all kinds of constraints."""
    rng = np.random.default_rng(seed)
    curvature, inside = rng.normal(size=(N, N)), rng.uniform(0.2, 0.8, N)
    A, G = rng.normal(size=(P_ROWS, N)), rng.normal(size=(G_ROWS, N))
    return {
        "P": curvature @ curvature.T + 0.3 * np.eye(N), "q": 2 * rng.normal(size=N), "A": A, "b": A @ inside, "G": G,
        "h": G @ inside + rng.uniform(0, 0.3, G_ROWS), "lower": np.zeros(N), "upper": np.ones(N),
    }  # fmt: skip


BATCH = stacked([drawn(seed) for seed in range(PROGRAMS)])
SOLVE = jax.jit(jax.vmap(lambda data: qp_layer.solution(**data)))


def loss(data):
    return jnp.sin(qp_layer.solution(**data)) @ jnp.asarray(WEIGHTS, data["q"].dtype)


GRADIENTS = jax.jit(jax.vmap(jax.grad(loss)))


def direction(seed):
    """A change of all of BATCH's data at once; symmetric in P."""
    rng = np.random.default_rng(seed)
    moved = {name: jnp.array(rng.normal(size=leaf.shape)) for name, leaf in BATCH.items()}
    return moved | {"P": moved["P"] + jnp.swapaxes(moved["P"], 1, 2)}


def shifted(step, along):
    return {name: leaf + step * along[name] for name, leaf in BATCH.items()}


def test_solutions_are_those_of_the_solver_but_exact():
    """Every kind of constraint is active in some program and not in another."""
    x = SOLVE(BATCH)
    np.testing.assert_allclose(x, jax.jit(jax.vmap(lambda d: qp.solve(**d)))(BATCH).x, atol=1e-6)
    np.testing.assert_allclose(jnp.einsum("kij,kj->ki", BATCH["A"], x), BATCH["b"], atol=1e-13)
    for distance in (BATCH["h"] - jnp.einsum("kij,kj->ki", BATCH["G"], x), x - BATCH["lower"], BATCH["upper"] - x):
        touching = jnp.abs(distance) <= 1e-12
        assert jnp.min(distance) >= -1e-12
        assert bool(touching.any())
        assert bool((~touching).any())
        assert not bool((~touching & (distance < 1e-7)).any()), "what is active is met exactly"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.sampled(4)
def test_the_gradient_in_each_number_against_differences(name):
    """Each number of each program's `name` moved by itself; all kinds of data take as many moves: one compiled call."""
    found, step = np.asarray(GRADIENTS(BATCH)[name]).reshape(PROGRAMS, -1), 1e-6
    size = found.shape[1]
    moves = np.zeros((N * N, *BATCH[name].shape[1:]))
    moves[:size] = step * np.eye(size).reshape(size, *BATCH[name].shape[1:])
    ends = [np.asarray(_moved(name, moves * sign)) for sign in (1, -1)]
    differences = ((np.sin(ends[0]) - np.sin(ends[1])) @ WEIGHTS)[:size].T / (2 * step)
    np.testing.assert_allclose(found, differences, atol=5e-8, rtol=1e-6)


def _moved(name, moves):
    every = {key: jnp.broadcast_to(leaf, (len(moves), *leaf.shape)) for key, leaf in BATCH.items()}
    every[name] = every[name] + jnp.asarray(moves)[:, None]
    return jax.vmap(SOLVE)(every)


def test_modes_agree():
    """In reverse, forward, and by hand."""
    expected, along = GRADIENTS(BATCH), direction(0)
    by_hand = jax.jit(jax.vmap(reverse.grad(loss)))(BATCH)
    for name in NAMES:
        np.testing.assert_allclose(by_hand[name], expected[name], atol=1e-11)
    _, forward = jax.jit(lambda batch, along: jax.jvp(jax.vmap(loss), (batch,), (along,)))(BATCH, along)
    slopes = sum(jnp.sum(expected[name] * along[name], axis=range(1, along[name].ndim)) for name in NAMES)
    np.testing.assert_allclose(forward, slopes, rtol=1e-9)


def test_the_formulas_of_the_docstring():
    """(u, v) = -K^{-1} (F x_bar, 0), in NumPy, on the active set that the solution shows."""
    x, pull = jax.vjp(SOLVE, BATCH)
    found = pull(jnp.broadcast_to(jnp.asarray(WEIGHTS), x.shape))[0]
    for k in range(PROGRAMS):
        d = {name: np.asarray(leaf[k]) for name, leaf in BATCH.items()}
        at = np.asarray(x[k])
        low, high = at <= 1e-12, at >= 1 - 1e-12
        free, B = (~(low | high)).astype(float), np.concatenate([d["A"], d["G"]])
        held = np.concatenate([np.ones(P_ROWS), np.abs(d["G"] @ at - d["h"]) <= 1e-12])
        SBF = held[:, None] * B * free
        K = np.block([[free[:, None] * d["P"] * free + np.diag(1 - free), SBF.T], [SBF, -np.diag(1 - held)]])
        nu = np.linalg.lstsq(SBF.T, -free * (d["P"] @ at + d["q"]))[0] * held
        uv = -np.linalg.solve(K, np.concatenate([free * WEIGHTS, np.zeros(len(B))]))
        u, v = uv[:N], uv[N:]
        of_rows, of_bounds = np.outer(nu, u) + np.outer(v, at), WEIGHTS + d["P"] @ u + B.T @ v
        formulas = {
            "P": (np.outer(u, at) + np.outer(at, u)) / 2, "q": u, "A": of_rows[:P_ROWS], "b": -v[:P_ROWS],
            "G": of_rows[P_ROWS:], "h": -v[P_ROWS:], "lower": low * of_bounds, "upper": high * of_bounds,
        }  # fmt: skip
        for name, formula in formulas.items():
            np.testing.assert_allclose(found[name][k], formula, atol=1e-9 * (1 + np.abs(uv).max()), err_msg=name)


def test_second_derivatives_against_differences_of_first():
    """Along a direction in all data at once: the derivative of the gradient."""
    along, step = direction(1), 1e-6
    _, found = jax.jvp(GRADIENTS, (BATCH,), (along,))
    up, down = GRADIENTS(shifted(step, along)), GRADIENTS(shifted(-step, along))
    for name in NAMES:
        difference = (up[name] - down[name]) / (2 * step)
        assert float(jnp.max(jnp.abs(difference))) > 0.1
        np.testing.assert_allclose(found[name], difference, atol=1e-7 * (1 + float(jnp.max(jnp.abs(difference)))))


@pytest.mark.campaign
def test_equals_the_solution_map():
    one = {name: leaf[3] for name, leaf in BATCH.items()}

    def problem(q):
        return Problem(
            lambda x: x @ (one["P"] @ x) / 2 + q @ x,
            lambda x: one["A"] @ x - one["b"],
            lambda x: jnp.concatenate([one["G"] @ x - one["h"], -x, x - 1]),
        )

    implicit = jax.jit(jax.jacrev(solution_map(problem, jnp.full(N, 0.5))))(one["q"])
    ours = jax.jacrev(lambda q: SOLVE(BATCH | {"q": BATCH["q"].at[3].set(q)})[3])(one["q"])
    np.testing.assert_allclose(ours, implicit, atol=1e-8)


# ---- programs known on paper, filled up to the common size -------------------------------------------------


def filled(P, q, G=None, h=None, A=None, b=None, lower=-np.inf, upper=np.inf):
    """Further variables have curvature 1 and stay at 0, further rows no limit (or, of A, no entry)."""
    n = len(q)
    wide = lambda rows, count: np.pad(np.zeros((0, n)) if rows is None else rows,
                                      ((0, count - (0 if rows is None else len(rows))), (0, N - n)))  # fmt: skip
    curvature, h, b = np.eye(N), [] if h is None else h, [] if b is None else b
    curvature[:n, :n] = P
    bounds = [np.concatenate([np.full(n, bound), np.full(N - n, np.copysign(np.inf, sign))])
              for bound, sign in ((lower, -1.0), (upper, 1.0))]  # fmt: skip
    return dict(zip(NAMES, [
        curvature, np.pad(q, (0, N - n)), wide(A, P_ROWS), np.pad(np.asarray(b, float), (0, P_ROWS - len(b))),
        wide(G, G_ROWS), np.concatenate([h, np.full(G_ROWS - len(h), np.inf)]), *bounds,
    ], strict=True))  # fmt: skip


ONE, TWO, THREE, ROW = np.eye(1), np.eye(2), np.eye(3), np.ones((1, 3))
T, NOT = np.array([0.6, 0.5, -1.0]), np.full(1, np.nan)
PROJECTION = [[-0.5, 0.5, 0.0], [0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]  # dx / dq, q = -t
SIDES, THIRD = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

# name -> program, x, dx / dq, dx / dh (or None)
KNOWN = {
    "projection on the simplex, bounds": (filled(THREE, -T, None, None, ROW, [1.0], lower=0.0), [0.55, 0.45, 0.0],
                                          PROJECTION, None),
    "projection on the simplex, rows": (filled(THREE, -T, -THREE, np.zeros(3), ROW, [1.0]), [0.55, 0.45, 0.0],
                                        PROJECTION, None),
    "max 2 x + y, x <= 1, x + y <= 3": (filled(0 * TWO, [-2.0, -1.0], SIDES, [1.0, 3.0], lower=0.0), [1.0, 2.0],
                                        np.zeros((2, 2)), [[1.0, 0.0], [-1.0, 1.0]]),
    "a row stated twice": (filled(TWO, [-2.0, -3.0], TWO[[0, 0]], [1.0, 1.0]), [1.0, 3.0], [[0.0, 0.0], [0.0, -1.0]],
                           None),
    "three limits almost meet, the third beyond": (
        filled(TWO, [-3.0, -4.0], THIRD, [1.0, 1.0, 2 + 1e-6]), [1.0, 1.0], np.zeros((2, 2)),
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    ),
    "three limits almost meet, the third before": (
        filled(TWO, [-3.0, -4.0], THIRD, [1.0, 1.0, 2 - 1e-6]), [1 - 1e-6, 1.0], np.zeros((2, 2)),
        [[0.0, -1.0, 1.0], [0.0, 1.0, 0.0]],
    ),
    "row inactive": (filled(ONE, [-0.9], ONE, [1.0]), [0.9], [[-1.0]], [[0.0]]),
    "row weakly active": (filled(ONE, [-1.0], ONE, [1.0]), [1.0], [[-1.0]], [[0.0]]),
    "row active": (filled(ONE, [-1.1], ONE, [1.0]), [1.0], [[0.0]], [[1.0]]),
    "bound inactive": (filled(ONE, [-0.9], upper=1.0), [0.9], [[-1.0]], None),
    "bound weakly active": (filled(ONE, [-1.0], upper=1.0), [1.0], [[-1.0]], None),
    "bound active": (filled(ONE, [-1.1], upper=1.0), [1.0], [[0.0]], None),
    "nothing feasible": (filled(ONE, [1.0], np.array([[1.0], [-1.0]]), [0.0, -1.0]), NOT, None, None),
    "no lower end": (filled(0 * ONE, [1.0], upper=3.0), NOT, None, None),
}  # fmt: skip


@functools.cache
def known():
    """x, dx / dq and dx / dh of every program of the table."""
    data = stacked([entry[0] for entry in KNOWN.values()])
    of = lambda q, h, rest: qp_layer.solution(**rest, q=q, h=h)
    rest = {name: leaf for name, leaf in data.items() if name not in "qh"}
    of_q, of_h = jax.vmap(jax.jacrev(of, argnums=(0, 1)))(data["q"], data["h"], rest)
    return {name: (x, a, b) for name, x, a, b in zip(KNOWN, SOLVE(data), of_q, of_h, strict=True)}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.sampled(3)
def test_known_on_paper(name):
    """Where there is no solution, x is not a number; weakly active counts as inactive."""
    _, x, of_q, of_h = KNOWN[name]
    found = known()[name]
    np.testing.assert_allclose(found[0][: len(x)], x, atol=1e-9)
    for expected, derivative in ((of_q, found[1]), (of_h, found[2])):
        if expected is not None:
            rows, columns = np.shape(expected)
            np.testing.assert_allclose(derivative[:rows, :columns], expected, atol=1e-9)


def test_without_any_constraint():
    """x = -P^{-1} q, and dx / dq = -P^{-1}."""
    P, q = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -1.0])
    x, pull = jax.vjp(qp_layer.solution, P, q)
    inverse = np.linalg.inv(P)
    np.testing.assert_allclose(x, -inverse @ q, atol=1e-14)
    np.testing.assert_allclose(pull(jnp.array([1.0, 0.0]))[1], -inverse[0], atol=1e-14)


@pytest.mark.campaign
def test_single_precision():
    single = {name: leaf.astype(jnp.float32) for name, leaf in BATCH.items()}
    x, found, expected = SOLVE(single), GRADIENTS(single), GRADIENTS(BATCH)
    np.testing.assert_allclose(x, SOLVE(BATCH), atol=2e-5)
    for name in NAMES:
        assert found[name].dtype == jnp.float32
        np.testing.assert_allclose(found[name], expected[name], atol=2e-4 * (1 + np.abs(expected[name]).max()))


# ---- the layer --------------------------------------------------------------------------------------------

LAYER, BOUNDS = qp_layer.layer(N, G_ROWS, P_ROWS, lower=0.0, upper=1.0), {"lower": 0.0, "upper": 1.0}


def test_the_layer_solves_the_program_that_its_parameters_stand_for():
    init, apply = LAYER
    params = jax.tree.map(lambda p: p + 0.3 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), init(jax.random.key(0)))
    x = apply(params, BATCH["q"].reshape(2, 7, N))
    assert x.shape == (2, 7, N)
    P, A, b, G, h = qp_layer.program(params, **BOUNDS)
    assert float(jnp.linalg.eigvalsh(P)[0]) >= 1e-2
    same = {"P": P, "A": A, "b": b, "G": G, "h": h, "lower": jnp.zeros(N), "upper": jnp.ones(N)}
    every = {name: jnp.broadcast_to(leaf, (PROGRAMS, *leaf.shape)) for name, leaf in same.items()}
    np.testing.assert_allclose(x.reshape(-1, N), SOLVE(every | {"q": BATCH["q"]}), atol=1e-12)


@pytest.mark.parametrize(("lower", "upper"), [(None, None), (-1.0, None), (None, -3.0), (5.0, 6.0)])
def test_the_learned_program_is_feasible_whatever_the_parameters(lower, upper):
    """x_0 is between the bounds, with A x_0 = b and G x_0 < h."""
    start = qp_layer.layer(3, 4, 2, lower=lower, upper=upper).init(jax.random.key(0))
    for seed in range(5):
        params = jax.tree.map(lambda p, k=seed: p + 3 * jax.random.normal(jax.random.key(k), p.shape), start)
        _, A, b, G, h = qp_layer.program(params, lower=lower, upper=upper)
        x = {None: lambda v: v, -1.0: lambda v: np.log1p(np.exp(v)) - 1, 5.0: lambda v: 5 + 1 / (1 + np.exp(-v))}
        x = x[lower] if upper != -3.0 else lambda v: -3 - np.log1p(np.exp(v))
        inside = x(np.asarray(params["inside"]))
        np.testing.assert_allclose(A @ inside, b, atol=1e-12)
        assert np.all(G @ inside < h)


@pytest.mark.campaign
def test_the_layer_learns():
    """Twenty steps down the slope of its error on the answers of a hidden program; rows start close, so as to act."""
    close = lambda key: LAYER.init(key) | {"slack": jnp.full(G_ROWS, -2.0)}
    q = 2 * jax.random.normal(jax.random.key(1), (PROGRAMS, N))
    wanted = LAYER.apply(close(jax.random.key(2)), q)
    cost = jax.value_and_grad(lambda params: jnp.mean((LAYER.apply(params, q) - wanted) ** 2))
    params, values = close(jax.random.key(3)), []
    for _ in range(20):
        value, slope = cost(params)
        values.append(float(value))
        params = jax.tree.map(lambda p, g: p - g, params, slope)
    assert values[-1] <= values[0] / 3
    assert all(float(jnp.max(jnp.abs(leaf))) > 0 for leaf in jax.tree.leaves(slope)), "every parameter is reached"


PARAMS = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(LAYER.init, jax.random.key(0)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qp_layer.layer(0), "variables: expected an integer of at least 1"),
        (lambda: qp_layer.layer(2, -1), "inequalities: expected an integer of at least 0"),
        (lambda: qp_layer.layer(2, 0, 2), "equalities: expected fewer than variables"),
        (lambda: qp_layer.layer(2, ridge=0.0), "ridge: expected a number > 0"),
        (lambda: qp_layer.layer(2, lower=1.0, upper=1.0), "lower, upper: expected lower < upper"),
        (lambda: LAYER.apply(PARAMS, jnp.ones(3)), "q: expected shape"),
        (lambda: qp_layer.solution(jnp.eye(3), jnp.ones(2)), "P: expected shape"),
        (lambda: qp_layer.solution(jnp.eye(2), jnp.ones(2), jnp.ones((1, 2))), "A, b: expected both or neither"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
