"""Proximal and projected gradient against closed forms and other solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import penalties
from functional_dl.optimality import first_order, projections, regression

RNG = np.random.default_rng(3)
X, Y = jnp.asarray(RNG.normal(size=(30, 6))), jnp.asarray(RNG.normal(size=30))


def quadratic(w):
    return jnp.sum((X @ w - Y) ** 2) / (2 * len(Y))


@pytest.mark.parametrize("accelerated", [True, False])
def test_the_lasso(accelerated):
    strength = 0.1
    found = first_order.proximal_gradient(
        quadratic, lambda w, s: penalties.prox_l1(w, s * strength), jnp.zeros(6),
        penalty=lambda w: strength * penalties.l1(w), accelerated=accelerated,
    )  # fmt: skip
    assert found.converged
    centred = regression.lasso(jnp.concatenate([X, -X]), jnp.concatenate([Y, -Y]), strength)  # whose bias is 0
    np.testing.assert_allclose(found.x, centred.weights, atol=1e-5)
    assert jnp.all((found.x == 0) == (jnp.abs(centred.weights) < 1e-12))


def test_acceleration_takes_fewer_steps_where_the_problem_is_ill_conditioned():
    scale = jnp.logspace(0, -1.7, 20)
    run = lambda accelerated: first_order.proximal_gradient(
        lambda w: jnp.sum((scale * w - 1) ** 2), lambda w, s: w, jnp.zeros(20), accelerated=accelerated
    )
    fast, slow = run(True), run(False)
    assert fast.converged
    assert fast.iterations * 3 < slow.iterations
    np.testing.assert_allclose(fast.x, 1 / scale, rtol=1e-4)


def test_projected_gradient_under_jit_and_vmap():
    """The nearest point of the simplex to a: min |w - a|^2 over it."""
    targets = jnp.asarray(RNG.normal(size=(5, 4)))
    solve = lambda a: first_order.projected_gradient(
        lambda w: jnp.sum((w - a) ** 2), projections.simplex, jnp.full(4, 0.25)
    )
    found = jax.jit(jax.vmap(solve))(targets)
    assert found.converged.all()
    np.testing.assert_allclose(found.x, projections.simplex(targets), atol=1e-7)


def test_trees():
    found = first_order.projected_gradient(
        lambda p: jnp.sum((p["w"] - 3) ** 2) + (p["b"] + 2) ** 2,
        lambda p: {"w": projections.box(p["w"], -1, 1), "b": p["b"]}, {"w": jnp.zeros(2), "b": jnp.zeros(())},
    )  # fmt: skip
    np.testing.assert_allclose(found.x["w"], 1.0)
    np.testing.assert_allclose(found.x["b"], -2.0, atol=1e-7)
    assert found.converged


def test_what_has_no_minimum_does_not_converge():
    found = first_order.proximal_gradient(lambda w: -jnp.sum(w), lambda w, s: w, jnp.zeros(2), steps=50)
    assert not found.converged


def test_units_do_not_matter():
    """f times 2^k, or x in other units: the same point, with as much claimed."""

    def both(k):
        unit = 2.0**k
        of_f = first_order.proximal_gradient(lambda x: unit * jnp.sum((x - 5) ** 2), lambda x, s: x, jnp.zeros(2))
        of_x = first_order.projected_gradient(
            lambda x: jnp.sum((x / unit - 5) ** 2), projections.nonnegative, jnp.zeros(2)
        )
        return of_f.x, of_f.converged, of_x.x / unit, of_x.converged

    for x, converged, y, too in zip(*jax.jit(jax.vmap(both))(jnp.array([-40.0, -20, 0, 20, 40])), strict=True):
        assert converged & too
        np.testing.assert_allclose([x, y], 5, rtol=1e-6)
