"""The quadratic program as a layer: derivatives against differences, closed forms and solution_map; what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from functional_dl import reverse
from functional_dl.optimality import qp, qp_layer
from functional_dl.optimality.implicit import solution_map
from functional_dl.optimality.problem import Problem

N, P_ROWS, G_ROWS, PROGRAMS = 4, 1, 3, 12
WEIGHTS = jnp.array([0.7, -1.3, 0.4, 2.0])


def drawn(seed):
    """A strictly convex program with a feasible point inside, and all kinds of constraints."""
    rng = np.random.default_rng(seed)
    curvature, inside = rng.normal(size=(N, N)), rng.uniform(0.2, 0.8, N)
    A, G = rng.normal(size=(P_ROWS, N)), rng.normal(size=(G_ROWS, N))
    return {
        "P": curvature @ curvature.T + 0.3 * np.eye(N), "q": 2 * rng.normal(size=N), "A": A, "b": A @ inside, "G": G,
        "h": G @ inside + rng.uniform(0, 0.3, G_ROWS), "lower": np.zeros(N), "upper": np.ones(N),
    }  # fmt: skip


BATCH = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *map(drawn, range(PROGRAMS)))
ONE = jax.tree.map(lambda leaf: leaf[3], BATCH)
SOLVE = jax.jit(jax.vmap(lambda data: qp_layer.solution(**data)))


def loss(data):
    return jnp.sin(qp_layer.solution(**data)) @ WEIGHTS


GRADIENTS = jax.jit(jax.vmap(jax.grad(loss)))


def around(data, step):
    """(data with each number moved up, moved down), stacked; and the way back from vectors."""
    vector, unravel = ravel_pytree(data)
    moves = step * jnp.eye(vector.size)
    return [jax.vmap(unravel)(vector[None] + sign * moves) for sign in (1, -1)]


def test_solutions_are_those_of_the_solver_but_exact():
    """Every kind of constraint is active in some program; the conditions hold to rounding."""
    x = SOLVE(BATCH)
    found = jax.jit(jax.vmap(lambda d: qp.solve(**d)))(BATCH)
    np.testing.assert_allclose(x, found.x, atol=1e-6)
    np.testing.assert_allclose(jnp.einsum("kij,kj->ki", BATCH["A"], x), BATCH["b"], atol=1e-13)
    slack = BATCH["h"] - jnp.einsum("kij,kj->ki", BATCH["G"], x)
    for distance in (slack, x - BATCH["lower"], BATCH["upper"] - x):
        assert jnp.min(distance) >= -1e-12
        touching = distance <= 1e-12
        assert bool(touching.any())
        assert bool((~touching).any())
    assert not bool(((slack > 1e-12) & (slack < 1e-7)).any()), "an active row is met exactly"


def test_the_gradient_in_all_data_against_differences():
    gradients, step = GRADIENTS(BATCH), 1e-6
    for k in range(0, PROGRAMS, 2):
        data = jax.tree.map(lambda leaf, k=k: leaf[k], BATCH)
        up, down = (jnp.sin(SOLVE(moved)) @ WEIGHTS for moved in around(data, step))
        found = ravel_pytree(jax.tree.map(lambda leaf, k=k: leaf[k], gradients))[0]
        np.testing.assert_allclose(found, (up - down) / (2 * step), atol=2e-8, rtol=1e-6)


def test_modes_agree():
    """Forward, in reverse, by hand."""
    expected = ravel_pytree(jax.tree.map(lambda leaf: leaf[3], GRADIENTS(BATCH)))[0]
    forward, by_hand = jax.jit(jax.jacfwd(loss))(ONE), jax.jit(reverse.grad(loss))(ONE)
    for found in (forward, by_hand):
        np.testing.assert_allclose(ravel_pytree(found)[0], expected, atol=1e-11)


def test_the_formula_of_the_docstring():
    """q_bar = u, P_bar = (u x' + x u') / 2, b_bar = -v, A_bar = y u' + v x'; no inequality active."""
    P, q = ONE["P"], ONE["q"]
    A, b, ct = ONE["A"], ONE["b"], WEIGHTS
    x, pull = jax.vjp(qp_layer.solution, P, q, A, b)
    kkt = np.block([[P, A.T], [A, np.zeros((1, 1))]])
    x_y = np.linalg.solve(kkt, np.concatenate([-q, b]))
    u_v = -np.linalg.solve(kkt, np.concatenate([ct, np.zeros(1)]))
    u, v, y = u_v[:N], u_v[N:], x_y[N:]
    np.testing.assert_allclose(x, x_y[:N], atol=1e-12)
    expected = (np.outer(u, x) + np.outer(x, u)) / 2, u, np.outer(y, u) + np.outer(v, x), -v
    for found, formula in zip(pull(ct), expected, strict=True):
        np.testing.assert_allclose(found, formula, atol=1e-11)


def test_second_derivatives_against_differences_of_first():
    """Of every pair in (q, G, h), where rows of G are active."""
    k = int(jnp.argmax(jnp.sum(BATCH["h"] - jnp.einsum("kij,kj->ki", BATCH["G"], SOLVE(BATCH)) < 1e-12, axis=1)))
    data = jax.tree.map(lambda leaf: leaf[k], BATCH)
    part = {name: data[name] for name in ("q", "G", "h")}
    vector, unravel = ravel_pytree(part)
    of_vector = lambda v: loss(data | unravel(v))
    found = jax.jit(jax.hessian(of_vector))(vector)
    slope, step = jax.jit(jax.vmap(jax.grad(of_vector))), 1e-6
    moves = step * jnp.eye(vector.size)
    differences = (slope(vector[None] + moves) - slope(vector[None] - moves)) / (2 * step)
    assert float(jnp.max(jnp.abs(found))) > 0.1
    np.testing.assert_allclose(found, differences, atol=1e-7 * float(jnp.max(jnp.abs(found))))


def test_equals_the_solution_map():
    def problem(theta):
        return Problem(
            lambda x: x @ (ONE["P"] @ x) / 2 + theta["q"] @ x,
            lambda x: ONE["A"] @ x - ONE["b"],
            lambda x: jnp.concatenate([theta["G"] @ x - ONE["h"], -x, x - 1]),
        )

    theta = {"q": ONE["q"], "G": ONE["G"]}
    implicit = jax.jit(jax.jacrev(solution_map(problem, jnp.full(N, 0.5))))(theta)
    layered = jax.jit(jax.jacrev(lambda t: qp_layer.solution(**(ONE | t))))(theta)
    for name in theta:
        np.testing.assert_allclose(layered[name], implicit[name], atol=1e-8)


def test_the_simplex():
    """argmin |x - t|^2 / 2 on {sum x = 1, x >= 0}: the projection's known Jacobian; bounds as rows give the same."""
    t, ones = jnp.array([0.6, 0.5, -1.0]), jnp.ones((1, 3))
    expected = [[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    bounds = lambda t: qp_layer.solution(jnp.eye(3), -t, ones, jnp.ones(1), lower=0.0)
    rows = lambda t: qp_layer.solution(jnp.eye(3), -t, ones, jnp.ones(1), -jnp.eye(3), jnp.zeros(3))
    for solve in (bounds, rows):
        np.testing.assert_allclose(solve(t), [0.55, 0.45, 0.0], atol=1e-14)
        np.testing.assert_allclose(jax.jacrev(solve)(t), expected, atol=1e-12)


def test_a_corner_of_a_linear_program_moves_with_its_sides():
    """max 2 x + y subject to x <= a, x + y <= b, x, y >= 0 at (a, b) = (1, 3): the corner (a, b - a)."""
    G, q = jnp.array([[1.0, 0.0], [1.0, 1.0]]), jnp.array([-2.0, -1.0])
    solve = jax.jit(lambda h, q: qp_layer.solution(jnp.zeros((2, 2)), q, None, None, G, h, lower=0.0))
    h = jnp.array([1.0, 3.0])
    np.testing.assert_allclose(solve(h, q), [1, 2], atol=1e-13)
    np.testing.assert_allclose(jax.jacrev(solve)(h, q), [[1, 0], [-1, 1]], atol=1e-12)
    np.testing.assert_allclose(jax.jacrev(solve, argnums=1)(h, q), jnp.zeros((2, 2)), atol=1e-12)


@pytest.mark.parametrize(("t", "slope"), [(0.9, 1.0), (1.0, 1.0), (1.1, 0.0)])
def test_a_weakly_active_inequality_counts_as_inactive(t, slope):
    one, t = jnp.ones((1, 1)), jnp.array([t])
    for solve in (
        lambda t: qp_layer.solution(one, -t, None, None, one, jnp.ones(1)),
        lambda t: qp_layer.solution(one, -t, upper=1.0),
    ):
        np.testing.assert_allclose(solve(t), jnp.minimum(t, 1), atol=1e-12)
        np.testing.assert_allclose(jax.jacrev(solve)(t), [[slope]], atol=1e-12)


def test_a_repeated_row_and_rows_without_limit():
    """x_0 <= 1, stated twice, and a row with limit infinity: LICQ fails, x and dx / dq stay."""
    G, h = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([1.0, 1.0, jnp.inf])
    solve = jax.jit(lambda q: qp_layer.solution(jnp.eye(2), -q, None, None, G, h))
    np.testing.assert_allclose(solve(jnp.array([2.0, 3.0])), [1, 3], atol=1e-9)
    np.testing.assert_allclose(jax.jacrev(solve)(jnp.array([2.0, 3.0])), [[0, 0], [0, 1]], atol=1e-9)


def test_no_solution_is_not_a_number():
    one = jnp.ones((1, 1))
    infeasible = qp_layer.solution(one, jnp.ones(1), None, None, jnp.array([[1.0], [-1.0]]), jnp.array([0.0, -1.0]))
    unbounded = qp_layer.solution(0 * one, jnp.ones(1), upper=3.0)
    assert bool(jnp.isnan(infeasible).all())
    assert bool(jnp.isnan(unbounded).all())


def test_single_precision():
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), BATCH)
    x, gradients = SOLVE(single), GRADIENTS_32(single)
    assert x.dtype == gradients["G"].dtype == jnp.float32
    np.testing.assert_allclose(x, SOLVE(BATCH), atol=2e-5)
    expected = GRADIENTS(BATCH)
    for name, value in gradients.items():
        np.testing.assert_allclose(value, expected[name], atol=2e-4 * (1 + float(jnp.max(jnp.abs(expected[name])))))


GRADIENTS_32 = jax.jit(
    jax.vmap(jax.grad(lambda data: jnp.sin(qp_layer.solution(**data)) @ WEIGHTS.astype(jnp.float32)))
)


# ---- the layer --------------------------------------------------------------------------------------------


def test_the_layer_solves_the_program_that_its_parameters_stand_for():
    layer = qp_layer.layer(3, 2, 1, lower=0.0, upper=2.0)
    init, apply = layer
    params = init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
    q = jax.random.normal(jax.random.key(1), (2, 5, 3)) * 2
    x = jax.jit(apply)(params, q)
    assert x.shape == q.shape
    P, A, b, G, h = qp_layer.program(params, lower=0.0, upper=2.0)
    assert float(jnp.linalg.eigvalsh(P)[0]) >= 1e-2
    expected = jax.vmap(lambda q: qp.solve(P, q, A, b, G, h, 0.0, 2.0).x)(q.reshape(-1, 3))
    np.testing.assert_allclose(x.reshape(-1, 3), expected, atol=1e-6)


@pytest.mark.parametrize(("lower", "upper"), [(None, None), (-1.0, None), (None, -3.0), (5.0, 6.0)])
def test_the_layer_has_a_solution_whatever_its_parameters(lower, upper):
    """x_0 satisfies all constraints of parameters of any size: they are never empty."""
    layer = qp_layer.layer(3, 4, 2, lower=lower, upper=upper)
    for seed in range(5):
        start = layer.init(jax.random.key(seed))
        params = jax.tree.map(lambda p, k=seed: p + 3 * jax.random.normal(jax.random.key(k), p.shape), start)
        _, A, b, G, h = qp_layer.program(params, lower=lower, upper=upper)
        x = np.linalg.lstsq(A, b)[0]
        assert np.allclose(A @ x, b)
        inside = qp_layer._within(params["inside"], lower, upper)
        assert bool(jnp.all(G @ inside < h))
        assert lower is None or bool(jnp.all(inside >= lower))
        assert upper is None or bool(jnp.all(inside <= upper))


def test_the_layer_learns_an_unknown_limit():
    """Answers of max. x_0 + x_1 on a hidden budget 2 x_0 + x_1 <= 1.5: 60 steps of descent find the line."""
    budget, limit = jnp.array([[2.0, 1.0]]), jnp.array([1.5])
    q = -2 * jax.random.uniform(jax.random.key(0), (30, 2))
    wanted = jax.vmap(lambda q: qp_layer.solution(jnp.eye(2), q, None, None, budget, limit))(q)
    layer = qp_layer.layer(2, 1)
    params = layer.init(jax.random.key(1)) | {"rows": jnp.array([[1.0, 1.0]])}
    cost = lambda params: jnp.mean((layer.apply(params, q) - wanted) ** 2)
    step = jax.jit(lambda params: jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(cost)(params)))
    first = float(cost(params))
    for _ in range(60):
        params = step(params)
    assert float(cost(params)) <= 0.01 * first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: qp_layer.layer(0), "variables: expected a whole number of at least 1"),
        (lambda: qp_layer.layer(2, -1), "inequalities: expected a whole number of at least 0"),
        (lambda: qp_layer.layer(2, 0, 2), "equalities: expected fewer than variables"),
        (lambda: qp_layer.layer(2, ridge=0.0), "ridge: expected a number > 0"),
        (lambda: qp_layer.layer(2, lower=1.0, upper=1.0), "lower, upper: expected lower < upper"),
        (lambda: qp_layer.layer(2).apply(qp_layer.layer(2).init(jax.random.key(0)), jnp.ones(3)), "q: expected shape"),
        (lambda: qp_layer.solution(jnp.eye(3), jnp.ones(2)), "P: expected shape"),
        (lambda: qp_layer.solution(jnp.eye(2), jnp.ones(2), jnp.ones((1, 2))), "A, b: expected both or neither"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(ValueError, match=message):
        make()
