"""The MLP: its forward pass by NumPy, its activations, dropout, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import activations, tree
from functional_dl.models import mlp

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (7, 4))


def test_params_have_readable_names_and_independent_layers():
    params = mlp.init(KEY, (4, 4, 4))
    assert tree.path_names(params) == ["layers/0/bias", "layers/0/weight", "layers/1/bias", "layers/1/weight"]
    assert (params["layers"][0]["weight"] != params["layers"][1]["weight"]).all()
    assert mlp.init(KEY, (4, 4), dtype=jnp.float32)["layers"][0]["weight"].dtype == jnp.float32


def test_forward_pass_by_numpy():
    params = mlp.init(KEY, (4, 5, 6, 3))
    a = np.asarray(X)
    for l, layer in enumerate(params["layers"]):
        z = a @ np.asarray(layer["weight"]) + np.asarray(layer["bias"])
        a = np.maximum(z, 0) if l < 2 else z
    np.testing.assert_allclose(mlp.apply(params, X), a, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(jax.jit(mlp.apply)(params, X), a, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(jax.vmap(mlp.apply, (None, 0))(params, X), a, rtol=1e-13, atol=1e-14)


def test_activations_by_name_entry_function_and_sequence():
    params = mlp.init(KEY, (4, 5, 6, 3))
    expected = mlp.apply(params, X, "tanh")
    for activation in (
        activations.ACTIVATIONS["tanh"],
        jnp.tanh,
        ["tanh", jnp.tanh],
        ("tanh", "tanh", "identity"),
    ):
        np.testing.assert_array_equal(mlp.apply(params, X, activation), expected)
    np.testing.assert_allclose(mlp.apply(params, X, output="softmax").sum(-1), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(
        mlp.apply(params, X, output="softmax"), mlp.apply(params, X, ["relu", "relu", "softmax"])
    )


def test_dropout_is_on_hidden_layers_alone():
    params = mlp.init(KEY, (4, 50, 3))
    one, two = (mlp.apply(params, X, dropout_rate=0.5, key=jax.random.key(k)) for k in (0, 1))
    assert (one != two).any()
    np.testing.assert_array_equal(mlp.apply(params, X, dropout_rate=0.5, deterministic=True), mlp.apply(params, X))
    shallow = mlp.init(KEY, (4, 3))
    np.testing.assert_array_equal(mlp.apply(shallow, X, dropout_rate=0.5, key=KEY), mlp.apply(shallow, X))


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: mlp.init(KEY, (4,)), r"sizes: expected at least an input and an output width, got \(4,\)"),
    (lambda p: mlp.init(KEY, (4, -1)), "out_features: expected an integer of at least 1, got -1"),
    (lambda p: mlp.apply(p, X[:, :3]), "x: expected last axis 4"),
    (lambda p: mlp.apply(p, X, "rleu"), "activation: expected one of"),
    (lambda p: mlp.apply(p, X, ["relu"] * 3, output="softmax"), "activation: expected one, or 1 .* got 3"),
    (lambda p: mlp.apply(p, X, dropout_rate=0.5), "key: expected a random key"),
    (lambda p: mlp.apply(p, X, dropout_rate=1.5, key=KEY), "rate: expected values in"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(mlp.init(KEY, (4, 5, 3)))
