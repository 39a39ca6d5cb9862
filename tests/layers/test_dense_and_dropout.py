"""Dense layers and dropout: formulas, exact expectation over all masks, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import initializers, layers

EPS = np.finfo(np.float64).eps
KEY = jax.random.key(0)


def test_dense_is_x_w_plus_b_for_any_batch():
    init, apply = layers.dense(4, 3)
    params = init(KEY)
    assert {name: leaf.shape for name, leaf in params.items()} == {"weight": (4, 3), "bias": (3,)}
    params["bias"] = jnp.arange(3.0)
    for batch in ((), (5,), (2, 5), (0,)):
        x = jax.random.normal(KEY, (*batch, 4))
        expected = np.einsum("...d,dk->...k", x, params["weight"]) + np.arange(3.0)
        np.testing.assert_allclose(apply(params, x), expected, rtol=8 * EPS, atol=8 * EPS)
        np.testing.assert_allclose(jax.jit(apply)(params, x), expected, rtol=8 * EPS, atol=8 * EPS)


def test_dense_backward_is_its_docstring():
    layer = layers.dense(4, 3)
    params, x = layer.init(KEY), jax.random.normal(KEY, (5, 4))
    y, pullback = jax.vjp(layer.apply, params, x)
    y_bar = jax.random.normal(jax.random.key(1), y.shape)
    params_bar, x_bar = pullback(y_bar)
    np.testing.assert_allclose(x_bar, y_bar @ params["weight"].T, rtol=8 * EPS, atol=8 * EPS)
    np.testing.assert_allclose(params_bar["weight"], x.T @ y_bar, rtol=8 * EPS, atol=8 * EPS)
    np.testing.assert_allclose(params_bar["bias"], y_bar.sum(0), rtol=8 * EPS, atol=8 * EPS)


def test_dense_options():
    bare = layers.dense(4, 3, use_bias=False, dtype=jnp.float32)
    params = bare.init(KEY)
    assert set(params) == {"weight"}
    assert params["weight"].dtype == bare.apply(params, jnp.ones((2, 4), jnp.float32)).dtype == jnp.float32
    assert bare.apply(params, jnp.ones((2, 4), jnp.int32)).dtype == jnp.float32
    assert not layers.dense(4, 3, initializer="zeros").init(KEY)["weight"].any()
    ones = layers.dense(4, 3, initializer=lambda key, shape, dtype: jnp.ones(shape, dtype)).init(KEY)
    assert (ones["weight"] == 1).all()


@pytest.mark.parametrize(("name", "variance"), [
    ("glorot_normal", 2 / 500), ("glorot_uniform", 2 / 500), ("he_normal", 2 / 300), ("he_uniform", 2 / 300),
    ("lecun_normal", 1 / 300), ("lecun_uniform", 1 / 300),
])  # fmt: skip
def test_initial_variances(name, variance):
    weight = layers.dense(300, 200, initializer=name).init(KEY)["weight"]
    # The sample variance of n = 60000 draws strays by sqrt(2/n) = 0.6 % at most (normal draws): 5 of those.
    assert abs(float(weight.var()) / variance - 1) <= 5 * np.sqrt(2 / weight.size)
    assert abs(float(weight.mean())) <= 5 * np.sqrt(variance / weight.size)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_the_expectation_over_all_masks_is_exact(rate):
    x = jnp.array([1.0, -2.0, 0.5, 3.0, -0.25, 7.0])
    ct = jnp.array([0.3, 1.0, -2.0, 0.7, 5.0, -1.0])
    masks = jnp.array(list(itertools.product([False, True], repeat=x.size)))

    def value_and_pullback(mask):
        y, pullback = jax.vjp(lambda x: layers.apply_mask(mask, x, rate), x)
        return y, pullback(ct)[0]

    ys, x_bars = jax.vmap(value_and_pullback)(masks)
    kept = np.asarray(masks).sum(1)
    probability = (1 - rate) ** kept * rate ** (x.size - kept)
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=16 * EPS)
    np.testing.assert_allclose(probability @ ys, x, rtol=32 * EPS)
    np.testing.assert_allclose(probability @ x_bars, ct, rtol=32 * EPS)
    np.testing.assert_array_equal(ys, np.where(masks, x / (1 - rate), 0.0))
    np.testing.assert_array_equal(x_bars == 0, ~np.asarray(masks))  # the backward pass has the mask of the forward


def test_dropout_draws_at_its_rate_and_repeats_by_key():
    x = jnp.ones(100_000)
    y = layers.dropout(KEY, x, 0.3)
    assert set(np.unique(y)) == {0.0, 1 / (1 - 0.3)}
    spread = np.sqrt(0.3 * 0.7 / x.size)
    assert abs(float((y == 0).mean()) - 0.3) <= 5 * spread
    np.testing.assert_array_equal(y, layers.dropout(KEY, x, 0.3))
    assert (y != layers.dropout(jax.random.key(1), x, 0.3)).any()
    # dropout's mask goes through apply_mask, so the exact expectation above is dropout's too
    np.testing.assert_array_equal(y, layers.apply_mask(jax.random.bernoulli(KEY, 0.7, x.shape), x, 0.3))


def test_dropout_off_and_traced():
    x = jnp.array([1.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(layers.dropout(None, x, 0.5, deterministic=True), x)
    np.testing.assert_array_equal(layers.dropout(None, x, 0.0), x)
    ones = jnp.ones(8, jnp.float32)
    traced = jax.jit(layers.dropout)(KEY, ones, jnp.float64(0.5))
    assert traced.dtype == jnp.float32
    np.testing.assert_array_equal(traced, layers.dropout(KEY, ones, 0.5))
    assert not jnp.isnan(layers.apply_mask(jnp.zeros(2, bool), x[1:], 0.5)).any()
    keys = jax.random.split(KEY, 3)
    rows = jax.vmap(lambda key: layers.dropout(key, ones, 0.5))(keys)
    np.testing.assert_array_equal(rows[1], layers.dropout(keys[1], ones, 0.5))


X = jnp.ones(2)
PARAMS = {"weight": jnp.ones((4, 3)), "bias": jnp.ones(3)}


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: layers.dropout(KEY, X, 1.0), ValueError, r"rate: expected values in \[0, 1\), got 1"),
    (lambda: layers.dropout(KEY, X, -0.1), ValueError, r"rate: expected values in \[0, 1\), got -0.1"),
    (lambda: layers.dropout(KEY, X, float("nan")), ValueError, "rate: expected values .* got nan"),
    (lambda: layers.dropout(None, X, 0.5), ValueError, "key: expected a random key"),
    (lambda: layers.dropout(KEY, 1j, 0.5), TypeError, "x: expected real numbers"),
    (lambda: layers.apply_mask(jnp.ones(3, bool), X, 0.5), ValueError, "mask: expected the shape of x"),
    (lambda: layers.dense(0, 3), ValueError, "in_features: expected an integer of at least 1, got 0"),
    (lambda: layers.dense(4, 2.5), TypeError, "out_features: expected an integer, got 2.5"),
    (lambda: layers.dense(4, 3, initializer="xavier"), ValueError, "initializer: expected one of"),
    (lambda: layers.affine(PARAMS, jnp.ones((2, 5))), ValueError, r"x: expected last axis 4 .*\(2, 5\)"),
    (lambda: layers.affine(PARAMS, 1.0), ValueError, r"x: expected last axis 4 .*got shape \(\)"),
    (lambda: layers.affine({"weight": X}, X), ValueError, r"'weight'\]: expected shape \(in, out\), got"),
    (lambda: layers.affine({**PARAMS, "bias": X}, jnp.ones(4)), ValueError, "'bias'.: expected shape .3,."),
])  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", initializers.INITIALIZERS)
def test_every_initializer_makes_a_weight(name):
    weight = layers.dense(6, 5, initializer=name).init(KEY)["weight"]
    assert weight.shape == (6, 5)
    assert jnp.isfinite(weight).all()
