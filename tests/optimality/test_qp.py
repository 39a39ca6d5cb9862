"""Quadratic and linear programs against SciPy; infeasible and unbounded ones are named with a proof."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

from functional_dl.optimality import qp


def program(seed, n=6, m=9, p=2):
    """A feasible and bounded program: x0 is inside, and |x| <= 10."""
    rng = np.random.default_rng(seed)
    x0, root = rng.normal(size=n), rng.normal(size=(n, n))
    G = np.concatenate([rng.normal(size=(m, n)), np.eye(n), -np.eye(n)])
    h = np.concatenate([G[:m] @ x0 + rng.uniform(0, 1, m), np.full(2 * n, 10.0)])
    A = rng.normal(size=(p, n))
    return root @ root.T, rng.normal(size=n), A, A @ x0, G, h


def test_batch_satisfies_its_conditions():
    """Convex: stationarity, feasibility and a gap of 0 prove each optimum."""
    P, q, A, b, G, h = (jnp.stack(parts) for parts in zip(*map(program, range(20)), strict=True))
    found = jax.jit(jax.vmap(qp.solve))(P, q, A, b, G, h)
    assert np.all(found.status == qp.CONVERGED), found.status
    for i in range(20):
        x, y, z = found.x[i], found.eq_multipliers[i], found.ineq_multipliers[i]
        np.testing.assert_allclose(P[i] @ x + q[i] + A[i].T @ y + G[i].T @ z, 0, atol=1e-7)
        np.testing.assert_allclose(A[i] @ x, b[i], atol=1e-7)
        assert np.all(G[i] @ x <= h[i] + 1e-7)
        assert np.all(z >= 0)
        assert float(z @ (h[i] - G[i] @ x)) <= 1e-6


def test_linear_programs_against_scipy():
    run = jax.jit(qp.solve)
    for seed in range(10):
        P, q, A, b, G, h = program(seed)
        found = run(0 * P, q, A, b, G, h)
        expected = linprog(q, G, h, A, b, bounds=(None, None))
        assert int(found.status) == qp.CONVERGED
        np.testing.assert_allclose(found.objective, expected.fun, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(found.ineq_multipliers, -expected.ineqlin.marginals, atol=1e-6)
        np.testing.assert_allclose(found.eq_multipliers, -expected.eqlin.marginals, atol=1e-6)


def test_infeasible_and_unbounded_have_proofs():
    zero, G = jnp.zeros((2, 2)), jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]])
    q, run = jnp.array([1.0, -1.0]), jax.jit(lambda q, h: qp.solve(zero, q, G=G, h=h))
    none = run(-q, jnp.array([0.0, -1.0, 0.0]))  # x <= 0 and x >= 1
    assert int(none.status) == qp.INFEASIBLE
    z = none.ineq_multipliers / jnp.max(none.ineq_multipliers)
    np.testing.assert_allclose(G.T @ z, 0, atol=1e-6)
    assert float(jnp.array([0.0, -1.0, 0.0]) @ z) < -0.1
    ray = run(q, jnp.ones(3))  # y runs to infinity
    assert int(ray.status) == qp.UNBOUNDED
    direction = ray.x / jnp.linalg.norm(ray.x)
    assert np.all(G @ direction <= 1e-6)
    assert float(q @ direction) < -0.1
