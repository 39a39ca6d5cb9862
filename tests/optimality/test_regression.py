"""Lasso, ridge and logistic regression: gaps, scikit-learn's numbers, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets, linear_model

from functional_dl.optimality import regression


def data(load, labels=False):
    found = load()
    x = (found.data - found.data.mean(0)) / found.data.std(0)
    return jnp.asarray(x), jnp.array(np.where(found.target == 1, 1.0, -1.0) if labels else found.target)


@pytest.mark.parametrize("strength", [0.1, 1.0, 20.0])
def test_lasso(strength):
    x, y = data(datasets.load_diabetes)
    found = regression.lasso(x, y, strength, tolerance=1e-13)
    other = linear_model.Lasso(alpha=strength, tol=1e-14, max_iter=100_000).fit(x, y)
    assert found.converged
    assert -1e-9 <= found.gap <= 1e-13 * (1 + found.primal_value) + 1e-9
    np.testing.assert_allclose(found.weights, other.coef_, atol=1e-6)
    np.testing.assert_allclose(found.predict(x), other.predict(x), atol=1e-6)
    assert set(np.flatnonzero(found.weights)) == set(np.flatnonzero(other.coef_))


def test_a_path_at_once_and_where_it_begins():
    """All weights are 0 from s = max |X' (y - mean)| / n on."""
    x, y = data(datasets.load_diabetes)
    largest = float(jnp.max(jnp.abs((x - x.mean(0, keepdims=True)).T @ (y - y.mean()))) / len(y))
    path = jax.vmap(lambda s: regression.lasso(x, y, s))(largest * jnp.array([1.0001, 0.9999, 0.5]))
    assert path.converged.all()
    np.testing.assert_array_equal((path.weights != 0).sum(1) > 0, [False, True, True])


@pytest.mark.parametrize("strength", [0.01, 3.0])
def test_ridge(strength):
    x, y = data(datasets.load_diabetes)
    found = regression.ridge(x, y, strength)
    other = linear_model.Ridge(alpha=2 * len(y) * strength).fit(x, y)
    assert found.converged
    np.testing.assert_allclose(found.weights, other.coef_, atol=1e-9)
    np.testing.assert_allclose(found.bias, other.intercept_, rtol=1e-12)


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
def test_logistic(strength):
    x, y = data(datasets.load_breast_cancer, labels=True)
    found = regression.logistic(x, y, strength, tolerance=1e-14)
    other = linear_model.LogisticRegression(C=1 / (2 * len(y) * strength), tol=1e-12, max_iter=100_000).fit(x, y)
    assert found.converged
    assert found.gap <= 1e-10 * (1 + found.primal_value)
    np.testing.assert_allclose(found.weights, other.coef_[0], atol=1e-4)
    p = jax.nn.sigmoid(-y * found.predict(x))
    np.testing.assert_allclose(-(x.T @ (y * p)) / len(y) + 2 * strength * found.weights, 0, atol=1e-7)


def test_a_gap_bounds_what_is_left():
    """Broken off early, P - P* <= gap."""
    x, y = data(datasets.load_diabetes)
    best = regression.lasso(x, y, 0.1, tolerance=1e-13).primal_value
    for sweeps in (1, 3, 10, 50):
        early = regression.lasso(x, y, 0.1, sweeps=sweeps)
        assert not early.converged
        assert early.primal_value - best <= early.gap
        assert early.dual_value <= best + 1e-9


def test_bad_input():
    x, y = data(datasets.load_diabetes)
    with pytest.raises(ValueError, match="strength: expected a number >= 0, got -1"):
        regression.lasso(x, y, -1.0)
    with pytest.raises(ValueError, match="strength: expected a number > 0, got 0"):
        regression.ridge(x, y, 0.0)
    with pytest.raises(ValueError, match="x, y: expected shapes"):
        regression.ridge(x, y[1:], 1.0)
    with pytest.raises(ValueError, match="labels -1 and 1"):
        regression.logistic(x, y, 1.0)


def test_units_of_the_data_do_not_matter():
    """y, or x, times 2^k: the same model in other units, and no claim that rests on an absolute size."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(30, 4))
    y = x @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.normal(size=30)

    def fits(k):
        unit = 2.0**k
        of_y = regression.lasso(x, y * unit, 0.1 * unit), regression.ridge(x, y * unit, 0.1)
        of_x = regression.lasso(x * unit, y, 0.1 * unit)
        weights = jnp.stack([of_y[0].weights / unit, of_y[1].weights / unit, of_x.weights * unit])
        return weights, jnp.stack([fit.converged for fit in (*of_y, of_x)])

    weights, converged = jax.jit(jax.vmap(fits))(jnp.array([-40.0, -20, 0, 20, 40]))
    assert np.all(converged)
    np.testing.assert_allclose(weights, np.broadcast_to(weights[2][None], weights.shape), rtol=1e-12)
    assert np.all(np.abs(weights[:, 0, :2]) > 0.5)


def test_empty_data_are_refused():
    for fit in (regression.lasso, regression.ridge, regression.logistic):
        with pytest.raises(ValueError, match="x: expected at least one example"):
            fit(jnp.zeros((0, 2)), jnp.zeros(0), 0.1)
