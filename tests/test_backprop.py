"""Textbook backpropagation equals jax.grad for every activation, every loss, any depth."""

import ast
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import backprop, losses
from functional_dl.activations import ACTIVATIONS
from functional_dl.losses import LOSSES
from functional_dl.models import mlp
from functional_dl.models.mlp import per_layer

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (6, 4))
RELU_RELU_SOFTMAX = ["relu", "relu", "softmax"]
# An output activation whose range is the loss's domain.
OUTPUT = {
    "real": "identity",
    "vector": "identity",
    "unit": "sigmoid",
    "positive": "softplus",
    "simplex": "softmax",
}


def target(domain):
    draw = {
        "real": lambda: jax.random.normal(KEY, (6, 3)),
        "unit": lambda: jax.random.uniform(KEY, (6, 3)),
        "count": lambda: jax.random.randint(KEY, (6, 3), 0, 4).astype(float),
        "sign": lambda: 2 * jax.random.bernoulli(KEY, 0.5, (6, 3)).astype(float) - 1,
        "simplex": lambda: jax.nn.softmax(jax.random.normal(KEY, (6, 3))),
    }
    return draw["real" if domain == "vector" else domain]()


def reference(params, x, y, activation, loss, output=None):
    """jax.value_and_grad of the mean loss; its derivative in every z comes from adding zeros to each."""

    def value(params, shifts):
        functions = per_layer(activation, output, len(shifts))
        a = x
        for layer, shift, f in zip(params["layers"], shifts, functions, strict=True):
            a = ACTIVATIONS[f].fun(a @ layer["weight"] + jnp.broadcast_to(layer["bias"], shift.shape) + shift)
        return jnp.mean(LOSSES[loss].fun(a, y))

    shifts = [jnp.zeros((x.shape[0], layer["bias"].size)) for layer in params["layers"]]
    out, (grads, deltas) = jax.value_and_grad(value, argnums=(0, 1))(params, shifts)
    return out, grads, deltas


def assert_equal_to_jax(params, y, activation, loss, output=None):
    @jax.jit
    def both(params):
        ours = backprop.gradients(params, X, y, activation, loss, output=output)
        return ours, reference(params, X, y, activation, loss, output)

    chex.assert_trees_all_close(*both(params), rtol=1e-12, atol=1e-14)


def params_of(sizes):
    params = mlp(sizes).init(KEY)
    for layer in params["layers"]:  # biases away from 0, so that a wrong one shows
        layer["bias"] = 0.1 + 0.1 * jnp.arange(layer["bias"].size, dtype=float)
    return params


@pytest.mark.parametrize("sizes", [(4, 5, 6, 3), (4, 8, 8, 3)], ids=str)
def test_dense_relu_dense_relu_dense_softmax_with_cross_entropy(sizes):
    y = jax.nn.one_hot(jnp.arange(6) % 3, 3, dtype=float)
    assert_equal_to_jax(params_of(sizes), y, RELU_RELU_SOFTMAX, "cross_entropy")
    _, _, deltas = backprop.gradients(params_of(sizes), X, y, RELU_RELU_SOFTMAX, "cross_entropy")
    p = mlp(sizes, RELU_RELU_SOFTMAX).apply(params_of(sizes), X)
    np.testing.assert_allclose(deltas[-1], (p - y) / 6, rtol=1e-14, atol=1e-16)  # p - y, over the mean's n


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.sampled(4)
def test_every_activation_in_every_layer(activation):
    assert_equal_to_jax(params_of((4, 5, 6, 3)), target("real"), [activation] * 3, "half_squared_error")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.sampled(4)
def test_every_loss(loss):
    entry = LOSSES[loss]
    y = target(entry.target)
    assert_equal_to_jax(params_of((4, 5, 3)), y, "tanh", loss, OUTPUT[entry.pred])


@pytest.mark.parametrize("depth", [1, 2, 5, 12])
def test_any_depth(depth):
    assert_equal_to_jax(params_of((4, *[5] * (depth - 1), 3)), jnp.arange(6) % 3, "gelu", "softmax_cross_entropy")


@pytest.mark.parametrize(("output", "loss"), [("softmax", "cross_entropy"), ("sigmoid", "binary_cross_entropy")])
def test_p_minus_y_is_what_the_general_formula_gives(output, loss):
    f, l = ACTIVATIONS[output], LOSSES[loss]
    z, y = jax.random.normal(KEY, (6, 3)), target(l.target)
    general = backprop.through(f, z, l.prime(f.fun(z), y))
    np.testing.assert_allclose(backprop.output_delta(f, l, z, f.fun(z), y), general, rtol=1e-12, atol=1e-14)


def test_a_probability_that_underflows_does_no_harm():
    params = {"layers": [{"weight": jnp.diag(jnp.array([1.0, 2000.0])), "bias": jnp.zeros(2)}]}
    y = jnp.array([[1.0, 0.0]])  # the class whose probability is e^-2000
    loss, grads, deltas = backprop.gradients(params, jnp.ones((1, 2)), y, ["softmax"], "cross_entropy")
    assert float(loss) == np.inf
    np.testing.assert_array_equal(deltas[0], [[-1.0, 1.0]])
    np.testing.assert_array_equal(grads["layers"][0]["bias"], [-1.0, 1.0])


def test_linear_regression_by_hand():
    # One layer, half squared error: J = 1/(2m) sum (x w + b - y)^2, dJ/dw = mean of r x, dJ/db = mean of r.
    x, y = jnp.array([[1.0], [2.0], [3.0], [4.0]]), jnp.array([[2.0], [4.0], [6.0], [8.0]])
    params = {"layers": [{"weight": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}]}
    loss, grads, (delta,) = backprop.gradients(params, x, y, loss="half_squared_error")
    assert float(loss) == 15.0
    assert float(grads["layers"][0]["weight"][0, 0]) == -15.0
    assert float(grads["layers"][0]["bias"][0]) == -5.0
    np.testing.assert_array_equal(delta, -y / 4)


def test_float32_a_missing_bias_and_a_loss_of_ones_own():
    params = {"layers": [{"weight": jnp.ones((4, 3), jnp.float32)}]}
    loss, grads, _ = backprop.gradients(params, X.astype(jnp.float32), jnp.arange(6) % 3)
    assert loss.dtype == grads["layers"][0]["weight"].dtype == jnp.float32
    assert set(grads["layers"][0]) == {"weight"}
    assert backprop.gradients(params, jnp.ones((6, 4), int), jnp.arange(6) % 3)[0].dtype == jnp.float32
    narrow = losses.Loss(
        lambda p, t: losses.huber(p, t, 0.1), lambda p, t: losses.huber_prime(p, t, 0.1), (), "Huber 1964", ""
    )
    params, y = params_of((4, 3)), target("real")
    _, grads, _ = backprop.gradients(params, X, y, loss=narrow)
    expected = jax.grad(lambda p: losses.huber(mlp((4, 3)).apply(p, X), y, 0.1).mean())(params)
    chex.assert_trees_all_close(grads, expected, rtol=1e-12, atol=1e-15)


def test_no_derivative_is_taken_by_jax():
    words = {node.attr for node in ast.walk(ast.parse(inspect.getsource(backprop))) if isinstance(node, ast.Attribute)}
    assert not words & {
        "grad",
        "vjp",
        "jvp",
        "value_and_grad",
        "linearize",
        "jacrev",
        "jacfwd",
        "linear_transpose",
    }


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: backprop.gradients(p, X[:0], jnp.zeros(0, int)), r"x: expected shape .* got \(0, 4\)"),
    (lambda p: backprop.gradients(p, X[0], 1), r"x: expected shape \(n, d\) with n > 0, got \(4,\)"),
    (lambda p: backprop.gradients(p, X[:, :2], jnp.zeros(6, int)), "x: expected last axis 4"),
    (lambda p: backprop.gradients(p, X, jnp.zeros(6, int), "rleu"), "activation: expected one of"),
    (lambda p: backprop.gradients(p, X, jnp.zeros(6, int), loss="mse"), "loss: expected one of"),
    (lambda p: backprop.gradients(p, X, jnp.zeros(6), loss="huber"), "pred and target: expected one shape"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(params_of((4, 5, 3)))
