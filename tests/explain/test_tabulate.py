"""The table of a network's layers: sums against the parameters and the ledger, shared layers, loops, its text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import explain, layers, models, tree
from functional_dl.layers.layer import layer_path

KEY = jax.random.key(0)


def _normed():
    """A dense layer and a batch norm, whose moments go in and come out."""
    dense, norm = layers.dense(3, 4), layers.batch_norm(4)

    def init(key):
        return {"dense": dense.init(key), "norm": norm.init(key)}

    def apply(params, moments, x, deterministic=False):
        with layer_path("dense"):
            x = dense.apply(params["dense"], x)
        with layer_path("norm"):
            return norm.apply(params["norm"], moments, x, deterministic)

    return models.StatefulModel(init, apply, norm.initial)


def _tied():
    """A language model whose last layer is the embedding's transpose, with one dense layer applied twice."""
    embedding, dense = layers.embedding(5, 3), layers.dense(3, 3)

    def init(key):
        return {"embedding": embedding.init(key), "dense": dense.init(key)}

    def apply(params, tokens):
        with layer_path("embedding"):
            x = embedding.apply(params["embedding"], tokens)
        for _ in range(2):
            with layer_path("dense"):
                x = jnp.tanh(dense.apply(params["dense"], x))
        with layer_path("logits"):
            return x @ params["embedding"]["weight"].T

    return models.Model(init, apply)


def _over_time():
    """An Elman network, its two products as layers within a scan."""
    into, on = layers.dense(3, 4), layers.dense(4, 4)

    def init(key):
        return {"cell": {"input": into.init(key), "hidden": on.init(key)}}

    def apply(params, xs):
        params = params["cell"]

        def step(h, x):
            with layer_path("input"):
                a = into.apply(params["input"], x)
            with layer_path("hidden"):
                h = jnp.tanh(a + on.apply(params["hidden"], h))
            return h, h

        with layer_path("cell"):
            return jax.lax.scan(step, jnp.zeros((2, 4)), xs)[1]

    return models.Model(init, apply)


def _wrapped(transform):
    model = models.mlp((4, 5, 3))
    return models.Model(model.init, transform(model.apply))


MODELS = {
    "mlp": (models.mlp((4, 5, 3), "tanh"), (7, 4), {}),
    "mlp, dropout": (models.mlp((4, 5, 3), dropout_rate=0.5), (7, 4), {"key": KEY}),
    "vmapped": (_wrapped(lambda f: jax.vmap(f, (None, 0))), (7, 4), {}),
    "jitted": (_wrapped(jax.jit), (7, 4), {}),
    "checkpointed": (_wrapped(jax.checkpoint), (7, 4), {}),
    "vae": (models.vae((4, 3, 2)), (7, 4), {"deterministic": True}),
    "gan": (models.gan(8, latent=3, width=2), (2, 3), {}),
    "stateful": (_normed(), (6, 3), {}),
    "stateful, used": (_normed(), (6, 3), {"deterministic": True}),
    "scan": (_over_time(), (6, 2, 3), {}),
}


def _ledger(model, params, inputs, call):
    stateful = isinstance(model, models.StatefulModel)
    carry = (model.initial(),) if stateful else ()

    def fun(params):
        out = model.apply(params, *carry, *inputs, **call)
        return out[1] if stateful else out

    return explain.explain(fun, params, check=False, values=False).ledger


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.sampled(4)
def test_rows_sum_to_the_parameters_and_to_the_ledger(name):
    model, shape, call = MODELS[name]
    x = np.random.default_rng(0).uniform(size=shape)
    table, params = explain.tabulate(model, x, **call), model.init(KEY)
    ledger = _ledger(model, params, (x,), call)
    assert table.parameters == tree.size(params)
    assert table.flops == ledger.forward_flops > 0
    assert table.backward_flops == ledger.backward_flops > 0
    assert 0 <= table.bytes_kept <= ledger.residual_bytes
    assert all(min(row.parameters, row.flops, row.backward_flops, row.bytes_kept) >= 0 for row in table.rows)
    of = {row.path: row for row in table.rows}
    named = {"/".join(path.split("/")[:-1]) for path in tree.path_names(params)}
    assert named - {""} <= of.keys()
    again = explain.tabulate(model, jax.ShapeDtypeStruct(shape, float), params=jax.eval_shape(model.init, KEY), **call)
    assert again == table


def test_layers_are_told_apart():
    """A dense layer from n to m, b rows: 2 b n m + b m forward; 2 b n m for W_bar and for x_bar, b m - m for b_bar."""
    of = {row.path: row for row in explain.tabulate(models.mlp((4, 5, 3), "tanh"), np.ones((7, 4))).rows}
    assert (of["layers/0"].flops, of["layers/1"].flops) == (2 * 7 * 20 + 35, 2 * 7 * 15 + 21)
    assert of["layers/1"].backward_flops == 4 * 7 * 15 + 18
    assert of["layers/0"].shape == (7, 5)
    assert of["layers/1"].bytes_kept + of["layers/0"].bytes_kept == 7 * 5 * 8  # tanh's output, which both read


def test_a_tied_weight_counts_once_and_a_layer_applied_twice_is_one_row():
    model, tokens = _tied(), np.array([[0, 1, 4, 1]])
    table, params = explain.tabulate(model, tokens), model.init(KEY)
    assert {row.path: row.parameters for row in table.rows} == {"embedding": 15, "dense": 12, "logits": 0}
    of = {row.path: row for row in table.rows}
    assert of["dense"].flops == 2 * (2 * 4 * 9 + 12)
    assert of["logits"].flops == 2 * 4 * 15
    ledger = _ledger(model, params, (tokens,), {})
    assert (table.flops, table.backward_flops) == (ledger.forward_flops, ledger.backward_flops)


def test_layers_in_a_loop_count_once_for_each_step():
    table = explain.tabulate(_over_time(), np.ones((6, 2, 3)))
    of = {row.path: row for row in table.rows}
    assert list(of) == ["cell", "cell/input", "cell/hidden"]
    assert of["cell/input"].flops == 6 * (2 * 2 * 12 + 8)
    assert of["cell/hidden"].flops == 6 * (2 * 2 * 16 + 2 * 8)
    assert of["cell"].flops == 0
    assert of["cell"].shape == (6, 2, 4)
    assert of["cell/hidden"].shape == (2, 4)
    # W_bar, U_bar and both b_bar add up, but for the first step nothing was there
    assert of["cell"].backward_flops >= 6 * (12 + 4 + 16 + 4)


def test_what_is_not_applied_has_parameters_alone():
    table = explain.tabulate(models.gan(8, latent=3, width=2), np.ones((2, 3)))
    critic = [row for row in table.rows if row.path.startswith("critic")]
    assert [row.path for row in critic] == ["critic/blocks/0/conv", "critic/dense"]
    assert all(row.shape is None and row.flops == 0 for row in critic)


TEXT = """\
layer     output   parameters  forward  backward   kept
-------------------------------------------------------
layers/0  (16, 8)          40   1.15 k    1.53 k  512 B
layers/1  (16, 2)          18      544    1.05 k    0 B
-------------------------------------------------------
total                      58    1.7 k    2.58 k  512 B"""


def test_its_text():
    x = jax.ShapeDtypeStruct((16, 4), jnp.float32)
    table = explain.tabulate(models.mlp((4, 8, 2), "tanh", dtype=jnp.float32), x)
    assert str(table) == TEXT
    assert repr(table) == ("Table(2 layers, 58 parameters, 1.7 k flops forward, 2.58 k backward, 512 B kept; print it)")
    page = table._repr_html_()
    assert page.count("<tr>") == 4
    assert '<td style="text-align: left">layers/0</td>' in page
    bare = explain.tabulate(models.linear(4), np.ones((7, 4)))
    assert str(bare).splitlines()[2].split() == ["(model)", "(7,", "1)", "5", "63", "62", "0", "B"]


@pytest.mark.parametrize("model", [3, "mlp", (jnp.sin,), (jnp.sin, 2.0), models.mlp])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match=r"model: expected a pair \(init, apply\) of functions"):
        explain.tabulate(model, np.ones(3))
