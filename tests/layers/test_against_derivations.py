"""Textbook line and layer are one thing: the last line of each derivation that names a layer, held to the layer."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from functional_dl import check, derivations, layers

EPSILON = 1e-3  # of the derivations of normalisation


def _conv(x, k, b):
    """The derivation has channels first and the kernel (out, in, height, width)."""
    layer = layers.conv(k.shape[1], k.shape[0], k.shape[2:], padding="valid")
    params = {"weight": k.transpose(2, 3, 1, 0), "bias": b}
    return layer.apply(params, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def _strided(x, k):
    layer = layers.conv(1, 1, k.size, stride=2, padding="valid", use_bias=False)
    return layer.apply({"weight": k[:, None, None]}, x[:, None])[:, 0]


def _pooled(pool):
    return lambda x: pool(x[..., None], (2, 2))[..., 0]


def _batch_norm(x, g, b):
    layer = layers.batch_norm(g.size, epsilon=EPSILON)
    return layer.apply({"scale": g, "bias": b}, layer.initial(), x)[1]


def _layer_norm(x, g, b):
    return layers.layer_norm(g.size, epsilon=EPSILON).apply({"scale": g, "bias": b}, x)


def _rms_norm(x, g):
    return layers.rms_norm(g.size, epsilon=EPSILON).apply({"scale": g}, x)


def _embedding(table, ids):
    return layers.embedding(*table.shape).apply({"weight": table}, ids)


def _dense(x, w, b):
    return layers.dense(*w.shape).apply({"weight": w, "bias": b}, x)


def _rnn(w, u, b, h0, xs):
    layer = layers.recurrent(layers.rnn_cell(u.shape[1], w.shape[0]))
    params = {"input": {"weight": u.T, "bias": b}, "hidden": {"weight": w.T, "bias": jnp.zeros_like(b)}}
    return layer.apply(params, h0, xs)[1]


def _gates(w, u, b):
    """(gates, n, m) in the layer's order, one gate beside the other."""
    return {
        "input": {"weight": w.reshape(-1, w.shape[-1]).T, "bias": b.reshape(-1)},
        "hidden": {"weight": u.reshape(-1, u.shape[-1]).T, "bias": jnp.zeros(b.size, b.dtype)},
    }


def _lstm(x, h, c, w, u, b):
    return layers.lstm_cell(x.size, h.size).apply(_gates(w, u, b), (h, c), x)[0]


def _attention(x, wq, wk, wv, wo):
    heads, features, width = wq.shape
    layer = layers.attention(features, heads, use_bias=False)
    assert features == heads * width
    params = {name: {"weight": w.transpose(1, 0, 2).reshape(features, -1)} for name, w in
              (("query", wq), ("key", wk), ("value", wv))}  # fmt: skip
    return layer.apply(params | {"output": {"weight": wo.reshape(-1, features)}}, x)


def _square_heads():
    """Two heads of width 1 on two features: the derivation's own draw has another width."""
    keys = jax.random.split(jax.random.key(3), 5)
    shapes = [(3, 2), (2, 2, 1), (2, 2, 1), (2, 2, 1), (2, 1, 2)]
    return [jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True)]


LAYERS = {
    "convolution": _conv,
    "strided_convolution": _strided,
    "max_pooling": _pooled(layers.max_pool),
    "average_pooling": _pooled(layers.average_pool),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "embedding": _embedding,
    "dense": _dense,
    "rnn": _rnn,
    "lstm_cell": _lstm,
    "multi_head_attention": _attention,
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.sampled(3)
def test_the_last_line_is_the_layers(name):
    derivation = derivations.get(name)
    args = _square_heads() if name == "multi_head_attention" else list(derivation.draw(jax.random.key(5)))
    args = args[: 5 if name == "rnn" else len(args) - (name != "multi_head_attention")]
    args = [x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x for x in args]
    layer = jax.jit(LAYERS[name])
    check.assert_vjp(layer, lambda *a: (layer(*a), derivation.vjp(*a)[1]), *args)


def test_gru_by_its_formula():
    """The derivation's GRU resets before the product, as Cho et al. wrote it first; the layer resets after it."""
    x, h = jax.random.normal(jax.random.key(0), (2,)), jax.random.normal(jax.random.key(1), (3,))
    cell = layers.gru_cell(2, 3)
    params = jax.tree.map(lambda p: p + 0.1, cell.init(jax.random.key(2)))
    a, b = (
        x @ params["input"]["weight"] + params["input"]["bias"],
        h @ params["hidden"]["weight"] + params["hidden"]["bias"],
    )
    (a_r, a_u, a_n), (b_r, b_u, b_n) = jnp.split(a, 3), jnp.split(b, 3)
    r, u = lax.logistic(a_r + b_r), lax.logistic(a_u + b_u)
    n = jnp.tanh(a_n + r * b_n)

    def fun(x, h):
        return cell.apply(params, h, x)[1]

    def by_hand(x, h):
        def pullback(ct):
            m = ct * (1 - u) * (1 - n**2)
            u_bar, r_bar = ct * (h - n) * u * (1 - u), m * b_n * r * (1 - r)
            from_x, from_h = jnp.concatenate([r_bar, u_bar, m]), jnp.concatenate([r_bar, u_bar, m * r])
            return from_x @ params["input"]["weight"].T, ct * u + from_h @ params["hidden"]["weight"].T

        return (1 - u) * n + u * h, pullback

    check.assert_vjp(fun, by_hand, x, h)
