"""Values and cotangents of PyTorch's layers, made by make_references.py, to 1e-10 in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import layers
from tests.references import assert_agrees, load

REFERENCES = load(__file__, "references.json")
MASK = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]], bool)
MOMENTS = {"mean": jnp.array([0.5, -1.0, 2.0]), "variance": jnp.array([1.5, 0.5, 2.0])}


def _last(x):
    return jnp.moveaxis(x, 1, -1)


def _second(x):
    return jnp.moveaxis(x, -1, 1)


def _conv(**options):
    def fun(x, w, b=None):
        groups = options.get("groups", 1)
        layer = layers.conv(w.shape[1] * groups, w.shape[0], w.shape[2:], use_bias=b is not None, **options)
        params = {"weight": jnp.moveaxis(w, (0, 1), (-1, -2))} | ({} if b is None else {"bias": b})
        return _second(layer.apply(params, _last(x)))

    return fun


def _conv_transpose(**options):
    def fun(x, w, b=None):  # w is (in, out / groups, *window)
        groups = options.get("groups", 1)
        layer = layers.conv_transpose(w.shape[0], w.shape[1] * groups, w.shape[2:], use_bias=b is not None, **options)
        params = {"weight": jnp.moveaxis(w, (0, 1), (-1, -2))} | ({} if b is None else {"bias": b})
        return _second(layer.apply(params, _last(x)))

    return fun


def _batch_norm(x, g, b, **call):
    layer = layers.batch_norm(3)
    return _second(layer.apply({"scale": g, "bias": b}, MOMENTS, _last(x), **call)[1])


def _attention(**options):
    def fun(q, k, v):
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
        return jnp.swapaxes(layers.dot_product_attention(q, k, v, **options), 1, 2)

    return fun


def _heads(x, w_in, b_in, w_out, b_out):
    weights, biases = jnp.split(w_in, 3), jnp.split(b_in, 3)
    names = ("query", "key", "value")
    params = {name: {"weight": w.T, "bias": b} for name, w, b in zip(names, weights, biases, strict=True)}
    params["output"] = {"weight": w_out.T, "bias": b_out}
    return jnp.swapaxes(layers.attention(4, 2).apply(params, jnp.swapaxes(x, 0, 1)), 0, 1)


def _over_time(cell, lengths=None, both=False):
    def params(weights, suffix):
        return {
            name: {"weight": weights[f"weight_{part}_l0{suffix}"].T, "bias": weights[f"bias_{part}_l0{suffix}"]}
            for name, part in (("input", "ih"), ("hidden", "hh"))
        }

    def fun(x, **weights):
        one = cell(3, 4)
        layer = layers.bidirectional(one, one) if both else layers.recurrent(one)
        of = params(weights, "")
        of = {"forward": of, "backward": params(weights, "_reverse")} if both else of
        return layer.apply(of, layer.initial((2,), x.dtype), x, None if lengths is None else jnp.array(lengths))[1]

    return fun


OURS = {
    "conv1d, causal and dilated": _conv(padding="causal", dilation=2),
    "conv2d, stride and padding": _conv(stride=2, padding=1),
    "conv2d, groups and same": _conv(groups=2),
    "conv3d": _conv(padding="valid"),
    "conv_transpose2d": _conv_transpose(stride=2, padding=1),
    "conv_transpose1d, groups and dilation": _conv_transpose(stride=2, dilation=2, groups=2),
    "max_pool2d": lambda x: _second(layers.max_pool(_last(x), (3, 2), (2, 1), [(1, 1), (0, 0)])),
    "avg_pool2d, counted": lambda x: _second(layers.average_pool(_last(x), (2, 2), 2, 1, count_padding=True)),
    "avg_pool2d": lambda x: _second(layers.average_pool(_last(x), (3, 3), 2, 1)),
    "batch_norm": _batch_norm,
    "batch_norm in use": lambda x, g, b: _batch_norm(x, g, b, deterministic=True),
    "layer_norm": lambda x, g, b: layers.layer_norm((3, 4)).apply({"scale": g, "bias": b}, x),
    "rms_norm": lambda x, g: layers.rms_norm(4).apply({"scale": g}, x),
    "group_norm": lambda x, g, b: _second(layers.group_norm(4, 2).apply({"scale": g, "bias": b}, _last(x))),
    "embedding": lambda ids, w: layers.embedding(4, 3).apply({"weight": w}, ids),
    "attention, masked": _attention(mask=MASK),
    "attention, causal": _attention(causal=True),
    "attention, grouped": _attention(block_size=2),
    "multi_head_attention": _heads,
    **{
        f"{kind}, lengths {lengths}{', both ways' if both else ''}": _over_time(cell, lengths, both)
        for kind, cell in (("RNN", layers.rnn_cell), ("LSTM", layers.lstm_cell), ("GRU", layers.gru_cell))
        for lengths, both in ((None, False), ([3, 5], False), ([4, 2], True))
    },
}


def test_every_reference_is_looked_at():
    assert set(OURS) == set(REFERENCES)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.sampled(3)
def test_values_and_cotangents(name):
    assert_agrees(REFERENCES[name], OURS[name])
