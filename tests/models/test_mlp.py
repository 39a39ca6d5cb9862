"""The MLP: its forward pass by NumPy, its activations, dropout, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import activations, tree
from functional_dl.models import mlp

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(7, 4))


def test_params_have_readable_names_independent_layers_and_their_count():
    params = mlp((4, 4, 3)).init(KEY)
    assert tree.path_names(params) == ["layers/0/bias", "layers/0/weight", "layers/1/bias", "layers/1/weight"]
    assert (params["layers"][0]["weight"][:, :3] != params["layers"][1]["weight"]).all()
    assert tree.size(params) == (4 + 1) * 4 + (4 + 1) * 3
    assert mlp((4, 4), dtype=jnp.float32).init(KEY)["layers"][0]["weight"].dtype == jnp.float32


def test_forward_pass_by_numpy():
    model = mlp((4, 5, 6, 3))
    params = model.init(KEY)
    a = X
    for l, layer in enumerate(params["layers"]):
        z = a @ np.asarray(layer["weight"]) + np.asarray(layer["bias"])
        a = np.maximum(z, 0) if l < 2 else z
    np.testing.assert_allclose(model.apply(params, X), a, rtol=1e-13, atol=1e-14)
    both = jax.jit(lambda p, x: (model.apply(p, x), jax.vmap(model.apply, (None, 0))(p, x)))
    for found in both(params, X):
        np.testing.assert_allclose(found, a, rtol=1e-13, atol=1e-14)


def test_activations_by_name_entry_function_and_sequence():
    sizes = (4, 5, 6, 3)
    ways = [
        activations.ACTIVATIONS["tanh"],
        jnp.tanh,
        ["tanh", jnp.tanh],
        ("tanh", "tanh", "identity"),
        "tanh",
    ]
    soft = [mlp(sizes, output="softmax"), mlp(sizes, ["relu", "relu", "softmax"])]
    *alike, one, two = jax.jit(lambda p: [m.apply(p, X) for m in [*(mlp(sizes, way) for way in ways), *soft]])(
        mlp(sizes).init(KEY)
    )
    for found in alike:
        np.testing.assert_allclose(found, alike[-1], rtol=1e-15)
    np.testing.assert_allclose(np.asarray(one).sum(-1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(one, two, rtol=1e-15)


def test_dropout_is_on_hidden_layers_alone():
    sizes = (4, 50, 3)
    model, plain = mlp(sizes, dropout_rate=0.5), mlp(sizes)

    @jax.jit
    def figures(params, shallow, rate):
        one, two, same = (model.apply(params, X, key=jax.random.key(k)) for k in (0, 1, 0))
        traced = mlp(sizes, dropout_rate=rate).apply(params, X, key=jax.random.key(0))
        used = model.apply(params, X, deterministic=True), plain.apply(params, X)
        bare = mlp((4, 3), dropout_rate=0.5).apply(shallow, X, key=KEY), mlp((4, 3)).apply(shallow, X)
        return one, two, same, traced, used, bare

    one, two, same, traced, used, bare = figures(plain.init(KEY), mlp((4, 3)).init(KEY), 0.5)
    assert np.any(np.asarray(one) != np.asarray(two))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_allclose(one, traced, rtol=1e-15)
    np.testing.assert_array_equal(*used)
    np.testing.assert_array_equal(*bare)


MODEL = mlp((4, 5, 3))


@pytest.mark.parametrize(("call", "message"), [
    (lambda p: mlp((4,)), r"sizes: expected at least an input and an output width, got \(4,\)"),
    (lambda p: mlp((4, -1)), r"sizes\[1\]: expected an integer of at least 1, got -1"),
    (lambda p: mlp((4, 5, 3), "rleu"), "activation: expected one of"),
    (lambda p: mlp((4, 5, 3), ["relu"] * 3, output="softmax"), "activation: expected one, or 1 .* got 3"),
    (lambda p: mlp((4, 5, 3), dropout_rate=1.5), "dropout_rate: expected values in"),
    (lambda p: MODEL.apply(p, X[:, :3]), "^layers/0: x: expected last axis 4"),
    (lambda p: mlp((4, 5, 3), dropout_rate=0.5).apply(p, X), "^layers/0: key: expected a random key"),
    (lambda p: mlp((4, 5, 6)).apply(p, X),
     r"^layers/1: params\['weight'\]: expected shape \(5, 6\), got \(5, 3\) \(axis 1\)"),
    (lambda p: mlp((4, 6, 2)).apply(p, X), r"^layers/0: params\['weight'\]: expected shape \(4, 6\), got \(4, 5\)"),
    (lambda p: mlp((4, 5, 3, 3)).apply(p, X), r"params\['layers'\]: expected a list of 3, got 2"),
    (lambda p: MODEL.apply(p["layers"][0], X), "params: expected an entry 'layers', got 'weight', 'bias'"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(MODEL.init(KEY))
