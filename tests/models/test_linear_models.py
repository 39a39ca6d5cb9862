"""Linear and logistic models: shapes, formulas, the gradients of their losses in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import losses
from functional_dl.models import linear, logistic

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (9, 4))


def test_linear_regression_has_its_closed_form_gradient():
    params = linear.init(KEY, 4)
    y = jax.random.normal(jax.random.key(2), (9, 1))
    grads = jax.grad(lambda p: losses.half_squared_error(linear.apply(p, X), y).mean())(params)
    r = X @ params["weight"] + jnp.broadcast_to(params["bias"], (9, 1)) - y
    np.testing.assert_allclose(grads["weight"], X.T @ r / 9, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(grads["bias"], r.mean(0), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("classes", [1, 3])
def test_logistic_regression_has_its_closed_form_gradient(classes):
    params = logistic.init(KEY, 4, classes)
    labels = jnp.arange(9) % max(classes, 2)
    if classes == 1:
        targets, loss = labels[:, None].astype(float), losses.sigmoid_cross_entropy
    else:
        targets, loss = jax.nn.one_hot(labels, classes, dtype=float), losses.softmax_cross_entropy
    grads = jax.grad(lambda p: loss(logistic.apply(p, X), targets).mean())(params)
    error = logistic.probabilities(params, X) - targets
    np.testing.assert_allclose(grads["weight"], X.T @ error / 9, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(grads["bias"], error.mean(0), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("model", [linear, logistic])
def test_shapes_starts_and_refusals(model):
    params = model.init(KEY, 4, 3, initializer="zeros", dtype=jnp.float32)
    assert params["weight"].dtype == jnp.float32
    assert not any(leaf.any() for leaf in params.values())
    assert model.apply(params, jnp.ones((2, 5, 4), jnp.float32)).shape == (2, 5, 3)
    with pytest.raises(ValueError, match="x: expected last axis 4"):
        model.apply(params, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="expected an integer of at least 1, got 0"):
        model.init(KEY, 0)


def test_probabilities_sum_to_one():
    for classes in (1, 4):
        p = logistic.probabilities(logistic.init(KEY, 4, classes), X)
        assert ((p >= 0) & (p <= 1)).all()
        if classes > 1:
            np.testing.assert_allclose(p.sum(-1), 1.0, rtol=1e-14)
