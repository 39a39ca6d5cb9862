"""Every layer by its formula, entry by entry in NumPy; its options, its state, what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import layers, reverse

KEY = jax.random.key(0)


def _close(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def _convolved(x, weight, pads, stride, dilation, groups):
    """y_i = sum_k x_{s i + d k - p} W_k for a batch of one space axis or two."""
    rank = weight.ndim - 2
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    extent = [(w - 1) * dilation + 1 for w in weight.shape[:rank]]
    out = [(n - e) // stride + 1 for n, e in zip(x.shape[1:-1], extent, strict=True)]
    y = np.zeros((x.shape[0], *out, weight.shape[-1]))
    into, outof = x.shape[-1] // groups, weight.shape[-1] // groups
    for place in itertools.product(*map(range, out)):
        for tap in itertools.product(*map(range, weight.shape[:rank])):
            at = tuple(stride * p + dilation * t for p, t in zip(place, tap, strict=True))
            for g in range(groups):
                rows = x[(slice(None), *at, slice(g * into, (g + 1) * into))]
                y[(slice(None), *place, slice(g * outof, (g + 1) * outof))] += (
                    rows @ weight[tap][:, g * outof : (g + 1) * outof]
                )
    return y


CONVOLUTIONS = [
    ((3, 2), "valid", 1, 1, 1, [(0, 0), (0, 0)]),
    ((3, 2), "same", 1, 1, 2, [(1, 1), (0, 1)]),
    ((3, 2), "same", 2, 1, 1, [(1, 1), (0, 0)]),
    ((2, 2), 1, 2, 1, 2, [(1, 1), (1, 1)]),
    ((3, 2), [(2, 0), (0, 1)], 1, 2, 1, [(2, 0), (0, 1)]),
    ((3,), "causal", 1, 2, 1, [(4, 0)]),
    ((4,), "same", 1, 1, 1, [(1, 2)]),
]


@pytest.mark.parametrize(("window", "padding", "stride", "dilation", "groups", "pads"), CONVOLUTIONS)
def test_convolution_and_its_adjoint(window, padding, stride, dilation, groups, pads):
    space = (7, 6)[: len(window)]
    layer = layers.conv(4, 6, window, stride, padding, dilation, groups)
    adjoint = layers.conv_transpose(6, 4, window, stride, padding, dilation, groups)
    params = layer.init(KEY) | {"bias": jnp.arange(6.0)}
    x = jax.random.normal(KEY, (2, *space, 4))

    @jax.jit
    def figures(params, x):
        y = layer.apply(params, x)
        back = adjoint.apply({"weight": params["weight"], "bias": jnp.ones(4)}, y)
        u = jnp.cos(3 * back)
        again = layer.apply(params | {"bias": jnp.zeros(6)}, u)
        return y, layer.apply(params, x[0]), layer.apply(params, x[None]), again, u, back

    y, single, nested, again, u, back = figures(params, x)
    _close(y, _convolved(np.asarray(x), np.asarray(params["weight"]), pads, stride, dilation, groups) + np.arange(6.0))
    _close(single, y[0])
    _close(nested, y[None])
    assert again.shape == y.shape
    _close(jnp.vdot(again, y), jnp.vdot(u, back - 1), 1e-9)  # <conv u, y> = <u, conv_transpose y>


def test_pooling():
    x = jax.random.normal(KEY, (2, 5, 6, 3))
    for window, stride, padding, pads in (
        ((2, 3), None, "valid", ((0, 0), (0, 0))),
        ((3, 2), 2, "same", ((1, 1), (0, 0))),
        ((2, 2), 1, 1, ((1, 1), (1, 1))),
    ):
        steps = window if stride is None else (stride, stride)
        padded = np.pad(np.asarray(x), [(0, 0), *pads, (0, 0)], constant_values=np.nan)
        out = [(n - w) // s + 1 for n, w, s in zip(padded.shape[1:3], window, steps, strict=True)]
        cut = [
            [
                padded[:, i * steps[0] : i * steps[0] + window[0], j * steps[1] : j * steps[1] + window[1]]
                for j in range(out[1])
            ]
            for i in range(out[0])
        ]
        cut = np.stack([np.stack(row, 1) for row in cut], 1)  # (batch, i, j, *window, channels)
        _close(layers.max_pool(x, window, stride, padding), np.nanmax(cut, (3, 4)))
        _close(layers.average_pool(x, window, stride, padding), np.nanmean(cut, (3, 4)))
        counted = np.nansum(cut, (3, 4)) / np.prod(window)
        _close(layers.average_pool(x, window, stride, padding, count_padding=True), counted)
        _close(layers.max_pool(x[0], window, stride, padding), np.nanmax(cut, (3, 4))[0])
    _close(layers.global_average_pool(x), x.mean((1, 2)))


def test_windows_side_by_side_have_the_gradient_of_windows_that_slide():
    """Where entries tie, too: the first of a window; and nothing goes to what no window covers."""
    x = np.array([[2, 2, 1, 0, 5], [0, 2, 3, 3, 5], [1, 1, 4, 0, 5], [1, 1, 0, 4, 5], [9, 9, 9, 9, 9]], np.float64)
    x, weights = x[None, :, :, None], np.arange(1.0, 5).reshape(1, 2, 2, 1)
    slide = lambda x, *of: lax.reduce_window(x, *of, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    pairs = {
        "max": (lambda x: layers.max_pool(x, (2, 2)), lambda x: slide(x, -np.inf, lax.max)),
        "mean": (lambda x: layers.average_pool(x, (2, 2)), lambda x: slide(x, 0.0, lax.add) / 4),
    }

    @jax.jit
    def both(x):
        found = lambda f: (jax.value_and_grad(lambda x: jnp.sum(weights * f(x)))(x), jax.jvp(f, (x,), (x,)))
        return {name: [jax.tree.leaves(found(f)) for f in pair] for name, pair in pairs.items()}

    for name, (ours, plain) in both(x).items():
        for a, b in zip(ours, plain):
            np.testing.assert_allclose(a, b, rtol=1e-14, err_msg=name)


def test_normalisations():
    x = 3 + 2 * jax.random.normal(KEY, (4, 5, 6))
    gain, shift = np.arange(1.0, 7.0), np.arange(6.0)
    params = {"scale": jnp.asarray(gain), "bias": jnp.asarray(shift)}

    def standard(x, axes):
        return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)

    n = np.asarray(x)
    _close(layers.layer_norm(6).apply(params, x), standard(n, (2,)) * gain + shift)
    whole = layers.layer_norm((5, 6))
    _close(whole.apply(whole.init(KEY), x), standard(n, (1, 2)))
    rms = n / np.sqrt((n**2).mean(-1, keepdims=True) + 1e-5)
    _close(layers.rms_norm(6).apply({"scale": params["scale"]}, x), rms * gain)
    grouped = standard(n.reshape(4, 5, 3, 2), (1, 3)).reshape(n.shape)
    _close(layers.group_norm(6, 3).apply(params, x), grouped * gain + shift)
    layer = layers.batch_norm(6, momentum=0.8)
    moments, y = layer.apply(params, layer.initial(), x)
    _close(y, standard(n, (0, 1)) * gain + shift)
    _close(moments["mean"], 0.2 * n.mean((0, 1)), 1e-6)
    _close(moments["variance"], 0.8 + 0.2 * n.var((0, 1)), 1e-6)
    same, used = layer.apply(params, moments, x, deterministic=True)
    assert same is moments
    mean, variance = np.asarray(moments["mean"]), np.asarray(moments["variance"])
    expected = (n - mean) / np.sqrt(variance + 1e-5) * gain + shift
    _close(used, expected, 1e-6)


def test_batch_norm_of_padded_rows_and_of_a_split_batch():
    """Rows of weight 0 count for nothing, NaN among them; a batch split over a mapped axis has the whole's moments."""
    layer = layers.batch_norm(3)
    params = layer.init(KEY)
    x = jax.random.normal(KEY, (4, 2, 3))
    padded = jnp.concatenate([x, jnp.full((2, 2, 3), jnp.nan)])
    weights = jnp.array([1.0, 1, 1, 1, 0, 0])
    moments, y = layer.apply(params, layer.initial(), padded, weights=weights)
    expected_moments, expected = layer.apply(params, layer.initial(), x)
    _close(y[:4], expected)
    jax.tree.map(lambda a, b: _close(a, b, 1e-6), moments, expected_moments)
    bar = jax.grad(lambda x: jnp.sum(layer.apply(params, layer.initial(), x, weights=weights)[1][:4] ** 3))(padded)
    right = jax.grad(lambda x: jnp.sum(layer.apply(params, layer.initial(), x)[1] ** 3))(x)
    _close(bar[:4], right, 1e-9)
    assert not bar[4:].any()
    split = layers.batch_norm(3, axis_name="devices")
    of_each = jax.vmap(lambda x: split.apply(params, split.initial(), x), axis_name="devices")(x.reshape(2, 2, 2, 3))
    _close(of_each[1].reshape(x.shape), expected)


def test_embedding_and_positions():
    layer = layers.embedding(5, 3)
    params = layer.init(KEY)
    ids = jnp.array([[1, 4, 1], [0, 1, 2]])
    _close(layer.apply(params, ids), np.asarray(params["weight"])[np.asarray(ids)])
    bar = reverse.grad(lambda p: layer.apply(p, ids).sum())(params)["weight"]
    _close(bar, np.repeat([[1.0], [3.0], [1.0], [0.0], [1.0]], 3, 1))  # repeated ids add up
    assert np.isnan(jax.jit(layer.apply)(params, jnp.array([5, -1]))).all()
    table = layers.sinusoidal_positions(6, 4, jnp.float64)
    t = np.arange(6)[:, None]
    expected = np.stack([np.sin(t[:, 0]), np.cos(t[:, 0]), np.sin(t[:, 0] / 100), np.cos(t[:, 0] / 100)], 1)
    _close(table, expected, 1e-7)
    q, k = jax.random.normal(KEY, (2, 6, 1, 4))
    scores = jnp.einsum("thd,shd->ts", layers.rotary(q), layers.rotary(k))
    later = jnp.einsum("thd,shd->ts", layers.rotary(q, jnp.arange(6) + 9), layers.rotary(k, jnp.arange(6) + 9))
    _close(scores, later, 1e-6)  # they depend on the distance alone
    assert not np.allclose(scores, jnp.einsum("thd,shd->ts", q, k))


@pytest.mark.parametrize("rotary", [False, True])
def test_attention_layer_and_its_cache(rotary):
    layer = layers.attention(8, 4, 2, rotary=rotary)
    params = jax.tree.map(lambda p: p + 0.05, layer.init(KEY))
    x = jax.random.normal(KEY, (3, 7, 8))
    q, k, v = (layers.affine(params[n], x) for n in ("query", "key", "value"))
    q, k, v = q.reshape(3, 7, 4, 2), k.reshape(3, 7, 2, 2), v.reshape(3, 7, 2, 2)
    if rotary:
        q, k = layers.rotary(q), layers.rotary(k)
    mixed = layers.dot_product_attention(q, k, v, causal=True).reshape(3, 7, 8)
    expected = layers.affine(params["output"], mixed)
    _close(layer.apply(params, x, causal=True), expected)
    extend = jax.jit(layer.extend)
    cache, parts = layer.initial((3,), 7, jnp.float64), []
    for piece in (x[:, :4], x[:, 4:5], x[:, 5:6], x[:, 6:]):
        cache, y = extend(params, cache, piece)
        parts.append(y)
    _close(jnp.concatenate(parts, 1), expected)
    assert np.isnan(extend(params, cache, x[:, :1])[1]).all()
    with pytest.raises(ValueError, match="at most 0 positions more"):
        layer.extend(params, cache, x[:, :1])
    cross = layer.apply(params, x[:, :2], x, x)
    assert cross.shape == (3, 2, 8)


CELLS = {"rnn": layers.rnn_cell, "lstm": layers.lstm_cell, "gru": layers.gru_cell}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.sampled(4)
def test_cells_over_time_and_lengths(name):
    cell = CELLS[name](3, 4)
    params = jax.tree.map(lambda p: p + 0.1, cell.init(KEY))
    xs, lengths = jax.random.normal(KEY, (2, 5, 3)), jnp.array([3, 5])
    step = jax.jit(cell.apply)
    for backwards in (False, True):
        layer = layers.recurrent(cell, reverse=backwards)
        carry, ys = jax.jit(layer.apply)(params, layer.initial((2,), jnp.float64), xs, lengths)
        for b in range(2):
            state = cell.initial((), jnp.float64)
            for t in list(range(int(lengths[b])))[:: -1 if backwards else 1]:
                state, y = step(params, state, xs[b, t])
                _close(ys[b, t], y)
            assert not ys[b, int(lengths[b]) :].any()
            jax.tree.map(lambda a, e, b=b: _close(a[b], e), carry, state)
    both = layers.bidirectional(cell, cell)
    two = both.init(KEY)
    _, ys = both.apply(two, both.initial((2,), jnp.float64), xs, lengths)
    assert ys.shape == (2, 5, 8)
    first = layers.recurrent(cell).apply(two["forward"], cell.initial((2,), jnp.float64), xs, lengths)[1]
    _close(ys[..., :4], first)

    def loss(params, xs):
        return jnp.sum(layer.apply(params, layer.initial((2,), jnp.float64), xs, lengths)[1] ** 2)

    bars, expected = jax.jit(lambda *a: (reverse.grad(loss, (0, 1))(*a), jax.grad(loss, (0, 1))(*a)))(params, xs)
    jax.tree.map(_close, bars, expected)
    assert not bars[1][0, 3:].any()


def _conv(*sizes, weight, x, **options):
    return layers.conv(*sizes, use_bias=False, **options).apply({"weight": jnp.ones(weight)}, jnp.ones(x))


def _norm(layer, x):
    return layer.apply(layer.init(KEY), jnp.ones(x))


def _moments_of_another():
    layer = layers.batch_norm(3)
    return layer.apply(layer.init(KEY), layers.batch_norm(4).initial(), jnp.ones((2, 3)))


def _params_of_another():
    cell = layers.lstm_cell(3, 4)
    return cell.apply(layers.gru_cell(3, 4).init(KEY), cell.initial(), jnp.ones(3))


def _carry_of_another():
    cell = layers.rnn_cell(3, 4)
    return cell.apply(cell.init(KEY), jnp.ones(3), jnp.ones(3))


def _too_long():
    cell = layers.rnn_cell(1, 1)
    return layers.recurrent(cell).apply(cell.init(KEY), jnp.ones((2, 1)), jnp.ones((2, 3, 1)), jnp.array([1, 4]))


def _embedded(weight, ids):
    return layers.embedding(3, 2).apply({"weight": jnp.ones(weight)}, jnp.array(ids))


REFUSED = [
    (lambda: _conv(3, 4, (3, 3), weight=(3, 3, 3, 4), x=(5, 5, 2)), "x: expected shape"),
    (lambda: _conv(3, 4, (3,), weight=(3, 2, 4), x=(5, 3)), r"params\['weight'\]"),
    (lambda: layers.conv(3, 4, 3, groups=2), "groups: expected a divisor of in_features"),
    (lambda: layers.conv(3, 4, (3, 3, 3, 3)), "window: expected sizes of 1 to 3 axes"),
    (lambda: layers.conv(3, 4, 3, padding="full"), "padding: expected one of causal, same, valid"),
    (lambda: _conv(1, 1, 5, padding="valid", weight=(5, 1, 1), x=(3, 1)), "axis 0 of space to be at least 5"),
    (lambda: layers.max_pool(jnp.ones((3, 1)), 4), "x: expected axis 0 of space to be at least 4"),
    (lambda: layers.max_pool(jnp.ones(3), (2, 2)), "x: expected 2 axes of space"),
    (lambda: _norm(layers.layer_norm(3), (2, 4)), "x: expected last axes"),
    (lambda: layers.group_norm(4, 3), "groups: expected a divisor"),
    (_moments_of_another, r"moments\['mean'\]: expected shape \(3,\), got \(4,\)"),
    (lambda: _embedded((3, 2), [3]), r"ids: expected integers in \[0, 3\)"),
    (lambda: _embedded((3, 3), [0]), r"params\['weight'\]"),
    (lambda: layers.attention(8, 3), "heads: expected a divisor of the 8 features"),
    (lambda: layers.attention(8, 4, 3), "key_value_heads: expected a divisor of the 4 heads"),
    (_params_of_another, r"input: params\['weight'\]: expected shape \(3, 16\), got \(3, 12\)"),
    (_carry_of_another, "carry: expected shape"),
    (_too_long, r"lengths: expected integers in \[0, 3\]"),
    (lambda: layers.sinusoidal_positions(3, 3), "features: expected an even number"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
