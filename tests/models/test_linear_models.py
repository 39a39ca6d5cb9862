"""Linear and logistic models: shapes, formulas, the gradients of their losses in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import losses, models

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(9, 4))


def test_linear_regression_has_its_closed_form_gradient():
    model, y = models.linear(4), np.random.default_rng(1).normal(size=(9, 1))

    @jax.jit
    def figures(params):
        loss = lambda p: losses.half_squared_error(model.apply(p, X), jnp.asarray(y)).mean()
        return jax.grad(loss)(params)

    params = model.init(KEY)
    grads, weight = figures(params), np.asarray(params["weight"])
    r = X @ weight - y
    np.testing.assert_allclose(grads["weight"], X.T @ r / 9, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(grads["bias"], r.mean(0), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("classes", [1, 3])
def test_logistic_regression_has_its_closed_form_gradient(classes):
    model, labels = models.logistic(4, classes), np.arange(9) % max(classes, 2)
    targets = labels[:, None].astype(float) if classes == 1 else np.eye(classes)[labels]
    loss = losses.sigmoid_cross_entropy if classes == 1 else losses.softmax_cross_entropy

    @jax.jit
    def figures(params):
        grads = jax.grad(lambda p: loss(model.apply(p, X), jnp.asarray(targets)).mean())(params)
        return grads, model.probabilities(params, X)

    params = model.init(KEY)
    grads, found = jax.tree.map(np.asarray, figures(params))
    z = X @ np.asarray(params["weight"])
    p = 1 / (1 + np.exp(-z)) if classes == 1 else np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, p, rtol=1e-13)
    np.testing.assert_allclose(grads["weight"], X.T @ (p - targets) / 9, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(grads["bias"], (p - targets).mean(0), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("model", [models.linear, models.logistic])
def test_shapes_starts_and_refusals(model):
    init, apply = model(4, 3, initializer="zeros", dtype=jnp.float32)[:2]
    params = init(KEY)
    assert {name: leaf.shape for name, leaf in params.items()} == {"weight": (4, 3), "bias": (3,)}
    assert params["weight"].dtype == jnp.float32
    assert not any(np.asarray(leaf).any() for leaf in params.values())
    assert jax.eval_shape(apply, params, np.ones((2, 5, 4), np.float32)).shape == (2, 5, 3)
    with pytest.raises(ValueError, match="x: expected last axis 4"):
        apply(params, X[:, :3])
    with pytest.raises(ValueError, match="expected an integer of at least 1, got 0"):
        model(0)
    with pytest.raises(ValueError, match=r"params\['weight'\]: expected shape \(4, 3\), got \(4, 2\) \(axis 1\)"):
        apply(model(4, 2).init(KEY), X)
