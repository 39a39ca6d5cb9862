"""Gradient descent: the textbook's numbers, its rate on a quadratic, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import training

X = np.array([1.0, 2.0, 3.0, 4.0])
Y = 2 * X


def cost(theta):
    """J = 1/(2m) sum (theta_0 + theta_1 x - y)^2, m = 4."""
    return jnp.sum((theta[0] + theta[1] * X - Y) ** 2) / (2 * len(X))


@pytest.mark.parametrize("start", [(0.0, 0.0), (jnp.zeros(()), jnp.zeros(())), jnp.zeros(2), np.zeros(2)])
def test_mission_row_8(start):
    theta, losses = training.gradient_descent(cost, start, 0.01, 1000)
    assert abs(float(theta[0]) - 0.13630728673236478) < 1e-12
    assert abs(float(theta[1]) - 1.9536389002891459) < 1e-12
    assert losses.shape == (1000,)
    assert losses.dtype == jnp.float64
    assert float(losses[0]) == 15.0  # 1/8 (4 + 16 + 36 + 64), before the first step
    assert np.all(np.diff(losses) < 0)


def test_quadratic_follows_its_closed_form():
    """J = 1/2 x'Dx: x_t = (1 - alpha d)^t x_0 in each coordinate, growing where alpha d > 2."""
    d, start, alpha, steps = jnp.array([0.5, 1.0, 4.5]), jnp.array([1.0, -2.0, 3.0]), 0.5, 20
    theta, losses = training.gradient_descent(lambda x: 0.5 * jnp.sum(d * x * x), start, alpha, steps)
    np.testing.assert_allclose(theta, (1 - alpha * d) ** steps * start, rtol=1e-13)
    path = (1 - alpha * np.asarray(d)) ** np.arange(steps)[:, None] * np.asarray(start)
    np.testing.assert_allclose(losses, 0.5 * (path * path) @ np.asarray(d), rtol=1e-13)


def test_pytrees_vmap_and_derivative_with_respect_to_the_learning_rate():
    def final(rate):
        params, _ = training.gradient_descent(lambda p: 0.5 * p["a"]["b"] ** 2, {"a": {"b": jnp.array(3.0)}}, rate, 5)
        return params["a"]["b"]

    rates = jnp.array([0.1, 0.5, 1.0])
    np.testing.assert_allclose(jax.vmap(final)(rates), 3 * (1 - rates) ** 5, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(jax.vmap(jax.grad(final))(rates), -15 * (1 - rates) ** 4, rtol=1e-14, atol=1e-15)


def test_low_precision_stays_in_its_dtype():
    theta, losses = training.gradient_descent(lambda x: jnp.sum(x * x), jnp.ones(3, jnp.float32), 0.1, 3)
    assert theta.dtype == losses.dtype == jnp.float32


def test_divergence_is_shown():
    _, losses = training.gradient_descent(lambda x: jnp.sum(x * x), jnp.ones(1), 10.0, 400)
    assert np.isinf(losses[-1]) or np.isnan(losses[-1])


def test_zero_steps():
    theta, losses = training.gradient_descent(cost, jnp.ones(2), 0.1, 0)
    assert theta.tolist() == [1.0, 1.0]
    assert losses.shape == (0,)


def test_differentiate_is_used():
    def doubled(fun):
        return lambda p: (fun(p), jax.tree_util.tree_map(lambda g: 2 * g, jax.grad(fun)(p)))

    twice, _ = training.gradient_descent(cost, jnp.zeros(2), 0.005, 50, differentiate=doubled)
    once, _ = training.gradient_descent(cost, jnp.zeros(2), 0.01, 50)
    np.testing.assert_allclose(twice, once, rtol=1e-13)


BAD = [
    (dict(learning_rate=-0.1), ValueError, r"learning_rate: expected a finite number >= 0, got -0.1"),
    (dict(learning_rate=float("nan")), ValueError, r"learning_rate: .*nan"),
    (dict(learning_rate=jnp.ones(2)), ValueError, r"learning_rate: expected one number"),
    (dict(steps=-1), ValueError, r"steps: expected an integer of at least 0, got -1"),
    (dict(steps=1.5), TypeError, r"steps: expected an integer, got 1.5"),
    (dict(params=jnp.array([1, 2])), TypeError, r"params: expected floating numbers, got int"),
    (dict(params={"w": (1.0, 2)}), TypeError, r"params\[w/1\]: expected floating numbers, got 2 .int"),
    (dict(params=()), ValueError, r"params: expected a pytree with at least one array"),
    (dict(loss=lambda p: p), TypeError, r"loss: expected a function to one real floating number"),
    (dict(loss="mse"), TypeError, r"loss: expected a function, got 'mse'"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input(change, error, message):
    arguments = dict(loss=cost, params=jnp.zeros(2), learning_rate=0.01, steps=3) | change
    with pytest.raises(error, match=message):
        training.gradient_descent(**arguments)
