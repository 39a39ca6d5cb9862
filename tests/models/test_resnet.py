"""The residual network: parameters, the shortcut's derivative, zero initialisation, moments, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.golden import golden
from models.networks import close, parameters, shape_of, zeros

from functional_dl import layers, models, tree

KEY = jax.random.key(0)


def counted(depth, c, classes, widths=(16, 32, 64), axes=2, projection=False, before=False):
    """The docstring's formula."""
    n, w = (depth - 2) // (2 * len(widths)), 3**axes
    total = w * c * widths[0] + (0 if before else 2 * widths[0])
    c = widths[0]
    for s, k in enumerate(widths):
        for i in range(n):
            total += w * c * k + 2 * (c if before else k) + w * k * k + 2 * k
            if projection and (c != k or (s > 0 and i == 0)):
                total += c * k + (0 if before else 2 * k)
            c = k
    return total + (2 * c if before else 0) + (c + 1) * classes


def test_parameters_are_those_of_the_formula():
    assert parameters(models.resnet(20, 3, 10)) == counted(20, 3, 10) == 269722  # 0.27 million, He et al.'s table 6
    assert parameters(models.resnet(20, 3, 10, shortcut="projection")) == counted(20, 3, 10, projection=True) == 272474
    assert counted(110, 3, 10) == 1727962  # 1.7 million
    for widths, axes in (((4,), 1), ((3, 5), 3), ((4, 4), 2)):
        for projection in (False, True):
            options = {"shortcut": "projection" if projection else "padding", "pre_activation": True}
            model = models.resnet(4 * len(widths) + 2, 2, 3, widths=widths, axes=axes, **options)
            assert parameters(model) == counted(4 * len(widths) + 2, 2, 3, widths, axes, projection, True)


def test_names_and_shapes():
    model = models.resnet(8, 3, 10, shortcut="projection")
    shapes, moments = jax.eval_shape(model.init, KEY), jax.eval_shape(model.initial)
    assert "stages/1/0/projection/norm/scale" in tree.path_names(shapes)
    assert "stages/1/0/projection/norm/mean" in tree.path_names(moments)
    x = jax.ShapeDtypeStruct((2, 5, 9, 7, 3), shapes["head"]["bias"].dtype)  # two batch axes, odd sizes
    moved, y = jax.eval_shape(model.apply, shapes, moments, x)
    assert y.shape == (2, 5, 10)
    assert jax.tree.structure(moved) == jax.tree.structure(moments)


@pytest.mark.parametrize("pre_activation", [False, True])
def test_zero_init_is_the_network_without_blocks_and_learns(pre_activation):
    """F = 0: y = s(x), so the network is its stem and head, and so is its derivative; each block's F learns at once."""
    model = models.resnet(6, 2, 3, widths=(4,), axes=1, pre_activation=pre_activation, zero_init=True)
    norm = layers.batch_norm(4)
    x = golden("x", (3, 6, 2), 2.0)

    @jax.jit
    def all_of(key, x):
        params, moments = model.init(key), model.initial()

        def short(stem, x):
            z = layers.conv(2, 4, 3, use_bias=False).apply(stem["conv"], x)
            a = jax.nn.relu(norm.apply(params["norm"] if pre_activation else stem["norm"], norm.initial(), z)[1])
            return layers.affine(params["head"], a.mean(1))

        y, pullback = jax.vjp(lambda p, x: model.apply(p, moments, x)[1], params, x)
        expected, expected_pullback = jax.vjp(short, params["stem"], x)
        ct = jnp.sin(jnp.arange(9.0)).reshape(3, 3)
        return y, pullback(ct), expected, expected_pullback(ct)

    y, (bars, x_bar), expected, (stem_bar, expected_bar) = jax.device_get(all_of(KEY, x))
    close(y, expected)
    close(x_bar, expected_bar)
    close(bars["stem"]["conv"]["weight"], stem_bar["conv"]["weight"])
    name, leaf = ("conv2", "weight") if pre_activation else ("norm2", "scale")
    for block in bars["stages"][0]:
        assert np.abs(block[name][leaf]).max() > 1e-4
        assert not np.abs(block["conv1"]["weight"]).max()


def test_a_blocks_cotangent_is_that_behind_it_plus_the_branchs():
    """x_bar = y_bar + F'(x)^T y_bar: a factor of F, on its conv2, multiplies the second summand alone."""
    model = models.resnet(4, 1, 1, widths=(2,), axes=1, pre_activation=True)
    x, moments = golden("x", (3, 5, 1), 2.0), model.initial()

    @jax.jit
    def all_of(params, x):
        def of(scale):
            block = params["stages"][0][0]
            scaled = {**block, "conv2": {"weight": scale * block["conv2"]["weight"]}}
            changed = {**params, "stages": [[scaled]]}
            # the last norm's moments are given ones, so that logits are linear in the last activations before relu
            return jax.grad(lambda x: model.apply(changed, moments, x, deterministic=True)[1].sum())(x)

        return [of(s) for s in (0.0, 1e-3, 2e-3)]

    params = model.init(KEY)
    params["norm"] = {
        "scale": params["norm"]["scale"],
        "bias": params["norm"]["bias"] + 9,
    }  # relu is the identity there
    none, one, two = all_of(params, x)
    assert np.abs(none).max() > 1e-2
    close(two - none, 2 * (one - none), 1e-12)


def test_moments_at_evaluation():
    """With momentum 0 the running moments are the batch's, and rows of weight 0 are none of the batch."""
    model = models.resnet(8, 1, 3, widths=(2, 2, 3), axes=1, momentum=0.0, shortcut="projection")
    x = golden("x", (4, 8, 1), 2.0)
    padded = np.concatenate([x, np.full((2, 8, 1), np.nan)])
    weights = np.array([1.0, 1, 1, 1, 0, 0])

    @jax.jit
    def all_of(params, x, padded):
        moments = model.initial()
        moved, y = model.apply(params, moments, x)
        same, used = model.apply(params, moved, x, deterministic=True)
        masked, z = model.apply(params, moments, padded, weights=weights)
        bars = jax.grad(lambda p: jnp.sum(model.apply(p, moments, padded, weights=weights)[1][:4] ** 2))(params)
        expected = jax.grad(lambda p: jnp.sum(model.apply(p, moments, x)[1] ** 2))(params)
        return moved, y, same, used, masked, z[:4], bars, expected

    moved, y, same, used, masked, z, bars, expected = jax.device_get(all_of(model.init(KEY), x, padded))
    close(used, y, 1e-9)
    jax.tree.map(np.testing.assert_array_equal, same, moved)
    jax.tree.map(close, masked, moved)
    close(z, y)
    jax.tree.map(close, bars, expected)


MODEL = models.resnet(8, 3, 10)
X = np.zeros((2, 8, 8, 3))


def _applied(model=MODEL, of=MODEL, moments=MODEL, x=X):
    return shape_of(model, zeros(of), jax.eval_shape(moments.initial), x)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: models.resnet(19, 3, 10), r"depth: expected 6 n \+ 2 for 3 stages \(8, 14, 20, \.\.\.\), got 19"),
    (lambda: models.resnet(2, 3, 10), "depth: expected 6 n"),
    (lambda: models.resnet(8, 3, 10, widths=(8, 4, 4)), r"widths\[1\]: expected at least 8 channels to pad to, got 4"),
    (lambda: models.resnet(8, 3, 10, widths=()), "widths: expected a sequence of channels"),
    (lambda: models.resnet(8, 3, 10, axes=4), "axes: expected 1 to 3 axes of space, got 4"),
    (lambda: models.resnet(8, 3, 10, shortcut="pad"), "shortcut: .* did you mean 'padding'"),
    (lambda: _applied(x=X[..., :2]), r"stem/conv: x: expected shape \(\*batch, space, space, 3\), got \(2, 8, 8, 2\)"),
    (lambda: _applied(x=X[0, 0]), "stem/conv: x: expected shape"),
    (lambda: _applied(of=models.resnet(14, 3, 10)), r"params\['stages'\]\[0\]: expected a list of 1, got 2"),
    (lambda: _applied(of=models.resnet(8, 3, 9)), r"head: params\['weight'\]: expected shape \(64, 10\)"),
    (lambda: _applied(of=models.resnet(8, 3, 10, widths=(16, 16, 64))),
     r"stages/1/0/conv1: params\['weight'\]: expected shape \(3, 3, 16, 32\)"),
    (lambda: _applied(moments=models.resnet(8, 3, 10, widths=(16, 16, 64))),
     r"stages/1/0/norm1: moments\['mean'\]: expected shape \(32,\), got \(16,\)"),
    (lambda: _applied(moments=models.cnn((8, 8), 3, 10, batch_norm=True)), "moments: expected an entry 'stem'"),
])  # fmt: skip
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
