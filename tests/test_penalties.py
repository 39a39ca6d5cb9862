"""Penalties: values, subgradients, proximal maps as minimisers; the lasso is scikit-learn's, ridge closed."""

import itertools
import operator

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import tree_leaves, tree_map
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet, Lasso

from functional_dl import penalties

EPS = np.finfo(np.float64).eps
PARAMS = {"layers": [{"weight": jnp.array([[1.0, -2.0], [0.0, 0.5]]), "bias": jnp.array([3.0, -4.0])}]}
RHO = 0.3


def no_bias(name):
    return not name.endswith("bias")


# penalty, its (sub)gradient, its proximal map, its value for one entry w
PENALTIES = {
    "l1": (penalties.l1, penalties.subgradient_l1, penalties.prox_l1, abs),
    "l2": (penalties.l2, penalties.gradient_l2, penalties.prox_l2, lambda w: w * w),
    "elastic_net": (
        lambda p, **k: penalties.elastic_net(p, RHO, **k),
        lambda p, **k: penalties.subgradient_elastic_net(p, RHO, **k),
        lambda p, step, **k: penalties.prox_elastic_net(p, step, RHO, **k),
        lambda w: RHO * abs(w) + (1 - RHO) * w * w,
    ),
}


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in tree_leaves(params)])


each = pytest.mark.parametrize("name", PENALTIES)


def test_values():
    assert float(penalties.l1(PARAMS)) == 10.5
    assert float(penalties.l2(PARAMS)) == 30.25  # the sum of squares: no half, no root
    assert float(penalties.l1(PARAMS, select=no_bias)) == 3.5
    assert float(penalties.l2(PARAMS, select=no_bias)) == 5.25
    assert abs(float(penalties.elastic_net(PARAMS, RHO)) - (RHO * 10.5 + (1 - RHO) * 30.25)) <= 32 * EPS
    assert float(penalties.elastic_net(PARAMS, 1.0)) == 10.5
    assert float(penalties.elastic_net(PARAMS, 0.0)) == 30.25
    assert float(penalties.l1({})) == float(penalties.l2(PARAMS, select=lambda name: False)) == 0.0


@each
@pytest.mark.parametrize("select", [None, no_bias])
def test_the_subgradient_is_jax_grads_and_supports_the_penalty_from_below(name, select):
    penalty, subgradient, _, one = PENALTIES[name]
    g = subgradient(PARAMS, select=select)
    chex.assert_trees_all_equal(g, jax.grad(lambda p: penalty(p, select=select))(PARAMS))
    if select:
        assert not g["layers"][0]["bias"].any()
        return
    for w, slope in zip(flat(PARAMS), flat(g), strict=True):
        for u in np.linspace(-5.0, 5.0, 41):  # the definition: f(u) >= f(w) + slope (u - w)
            assert one(u) >= one(w) + slope * (u - w) - 16 * EPS


@each
@pytest.mark.parametrize("step", [0.0, 0.25, 1.0, 3.0])
def test_the_proximal_map_is_the_minimiser(name, step):
    _, _, prox, one = PENALTIES[name]
    u = prox(PARAMS, step)
    grid = np.linspace(-5.0, 5.0, 200_001)
    for w, at in zip(flat(PARAMS), flat(u), strict=True):
        cost = lambda v: step * one(v) + (v - w) ** 2 / 2
        # The cost is strongly convex: nothing on the grid lies lower, its lowest point there is a cell away.
        best = grid[np.argmin(cost(grid))]
        assert cost(at) <= cost(best) + 16 * EPS
        assert abs(at - best) <= 5e-5


@each
def test_the_proximal_map_leaves_what_is_not_selected(name):
    out = PENALTIES[name][2](PARAMS, 1.0, select=no_bias)
    np.testing.assert_array_equal(out["layers"][0]["bias"], PARAMS["layers"][0]["bias"])
    assert float(out["layers"][0]["weight"][1, 1]) != 0.5
    assert jax.tree.structure(out) == jax.tree.structure(PARAMS)


@each
def test_traced_steps_dtypes_and_mixed_trees(name):
    penalty, subgradient, prox, _ = PENALTIES[name]
    mixed = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(3, jnp.bfloat16)}
    assert penalty(mixed).dtype == jnp.float32
    for out in (subgradient(mixed), prox(mixed, 0.5), jax.jit(prox)(mixed, jnp.float64(0.5))):
        assert (out["a"].dtype, out["b"].dtype) == (jnp.float32, jnp.bfloat16)
    stacked = jax.vmap(prox, in_axes=(None, 0))(PARAMS, jnp.array([0.25, 1.0]))
    for i, step in enumerate((0.25, 1.0)):
        chex.assert_trees_all_close(tree_map(operator.itemgetter(i), stacked), prox(PARAMS, step), rtol=2 * EPS)


@each
def test_the_proximal_map_does_not_expand_distances(name):
    prox = PENALTIES[name][2]
    w = jax.random.normal(jax.random.key(0), (6, 20))
    for a, b in itertools.combinations(w, 2):
        assert jnp.linalg.norm(prox(a, 0.7) - prox(b, 0.7)) <= jnp.linalg.norm(a - b) * (1 + 4 * EPS)


def diabetes():
    x, y = load_diabetes(return_X_y=True, scaled=False)
    x = (x - x.mean(0)) / x.std(0)
    return jnp.array(x), jnp.array(y - y.mean())


def proximal_gradient(prox, x, y, steps):
    """argmin_w |x w - y|^2 / (2n) + penalty, by Beck and Teboulle's accelerated proximal gradient steps."""
    n = x.shape[0]
    length = n / float(jnp.linalg.norm(x, 2)) ** 2

    def step(_, state):
        w, v, t = state
        new = prox(v - length * (x.T @ (x @ v - y)) / n, length)
        t_new = (1 + jnp.sqrt(1 + 4 * t * t)) / 2
        return new, new + ((t - 1) / t_new) * (new - w), t_new

    start = jnp.zeros(x.shape[1])
    return jax.jit(lambda: jax.lax.fori_loop(0, steps, step, (start, start, jnp.ones(())))[0])()


@pytest.mark.parametrize("alpha", [30.0, 10.0, 2.0, 0.5])
def test_the_lasso_path_is_scikit_learns(alpha):
    x, y = diabetes()
    w = proximal_gradient(lambda v, step: penalties.prox_l1(v, step * alpha), x, y, 20_000)
    theirs = Lasso(alpha, fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(np.asarray(x), np.asarray(y)).coef_
    np.testing.assert_allclose(w, theirs, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(w == 0, theirs == 0)


def test_the_elastic_net_is_scikit_learns():
    x, y = diabetes()
    alpha, ratio = 2.0, 0.4  # theirs: alpha (ratio |w|_1 + (1 - ratio) |w|^2 / 2)
    strength = alpha * ratio + alpha * (1 - ratio) / 2
    rho = alpha * ratio / strength
    w = proximal_gradient(lambda v, step: penalties.prox_elastic_net(v, step * strength, rho), x, y, 5_000)
    theirs = ElasticNet(alpha=alpha, l1_ratio=ratio, fit_intercept=False, tol=1e-14, max_iter=1_000_000)
    np.testing.assert_allclose(w, theirs.fit(np.asarray(x), np.asarray(y)).coef_, rtol=1e-8, atol=1e-8)


def test_ridge_is_the_closed_form():
    x, y = diabetes()
    n, d = x.shape
    alpha = 0.5  # |x w - y|^2 / (2n) + alpha |w|^2: its gradient carries 2 alpha w
    closed = jnp.linalg.solve(x.T @ x / n + 2 * alpha * jnp.eye(d), x.T @ y / n)
    w = proximal_gradient(lambda v, step: penalties.prox_l2(v, step * alpha), x, y, 2_000)
    np.testing.assert_allclose(w, closed, rtol=1e-10, atol=1e-10)
    gradient = x.T @ (x @ closed - y) / n + alpha * penalties.gradient_l2(closed)
    assert jnp.abs(gradient).max() <= 1e-11 * jnp.abs(x.T @ y / n).max()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: penalties.prox_l1(PARAMS, -0.1), ValueError, "step: expected values in .0, inf., got -0.1"),
    (lambda: penalties.prox_l2(PARAMS, float("nan")), ValueError, "step: expected values in .0, inf., got nan"),
    (lambda: penalties.prox_l1(PARAMS, jnp.ones(2)), ValueError, "step: expected one number, got shape .2,."),
    (lambda: penalties.elastic_net(PARAMS, 1.5), ValueError, "l1_ratio: expected values in .0, 1., got 1.5"),
    (lambda: penalties.subgradient_elastic_net(PARAMS, -1.0), ValueError, "l1_ratio: expected values"),
    (lambda: penalties.prox_elastic_net(PARAMS, 1.0, 2.0), ValueError, "l1_ratio: expected values"),
    (lambda: penalties.l1({"n": jnp.arange(3)}), TypeError, r"params\[n\]: expected floating numbers, got int"),
    (lambda: penalties.prox_l1([1j], 1.0), TypeError, r"params\[0\]: expected floating numbers, got"),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
