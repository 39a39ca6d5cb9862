"""Attention by its formula, its derivation, jax.nn's, by blocks and at once, in both modes and twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from functional_dl import check, derivations, layers, reverse

KEY = jax.random.key(0)


def _inputs(batch=(), queries=7, keys=7, heads=1, key_heads=1, d=3, e=3, dtype=jnp.float64):
    shapes = [(*batch, queries, heads, d), (*batch, keys, key_heads, d), (*batch, keys, key_heads, e)]
    return [jnp.array(np.random.default_rng(i).normal(size=shape), dtype) for i, shape in enumerate(shapes)]


def by_formula(q, k, v, mask=None, causal=False, scale=None):
    """Every weight by itself, in NumPy."""
    groups = q.shape[-2] // k.shape[-2]
    k, v = np.repeat(k, groups, -2), np.repeat(v, groups, -2)
    s = np.einsum("...nhd,...mhd->...hnm", q, k) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    allowed = np.broadcast_to(True if mask is None else mask, s.shape)
    allowed = allowed & np.tril(np.ones(s.shape[-2:], bool)) if causal else allowed
    weights = np.where(allowed, np.exp(s), 0)
    total = weights.sum(-1, keepdims=True)
    return np.einsum("...hnm,...mhe->...nhe", weights / np.where(total == 0, 1, total), v)


MASK = np.random.default_rng(0).random((2, 4, 7, 5)) < 0.6
MASK[1, :, 3] = False  # rows that may attend to nothing
CASES = {
    "one head": (_inputs(), {}),
    "batch, heads, other widths": (_inputs((2,), 7, 5, 4, 4, 3, 2), {}),
    "two batch axes": (_inputs((2, 1), 4, 5, 2, 2), {}),
    "grouped queries": (_inputs((2,), 7, 5, 4, 2), {}),
    "one head of keys": (_inputs((2,), 7, 5, 4, 1), {}),
    "causal": (_inputs((2,), 7, 7, 2, 2), {"causal": True}),
    "causal, more keys": (_inputs((), 5, 7, 2, 2), {"causal": True}),
    "mask": (_inputs((2,), 7, 5, 4, 2), {"mask": MASK}),
    "mask of keys": (_inputs((2,), 7, 5, 4, 2), {"mask": MASK[:, :1, :1]}),
    "mask of queries and keys": (_inputs((2,), 7, 5, 4, 4), {"mask": MASK[0, 0]}),
    "mask and causal": (_inputs((2,), 7, 5, 4, 4), {"mask": MASK, "causal": True}),
    "scale": (_inputs(), {"scale": 0.3}),
    "no key": (_inputs((2,), 3, 0), {}),
    "no query": (_inputs((2,), 0, 3), {}),
}


def _loss(options, weights):
    return lambda *args: jnp.sum(weights * layers.dot_product_attention(*args, **options))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(4)
def test_by_formula_at_once_and_by_blocks(name):
    args, options = CASES[name]
    expected = by_formula(*map(np.asarray, args), **options)
    weights = np.random.default_rng(1).normal(size=expected.shape)
    for size in (None, 2, 3):  # 7 = 3 2 + 1 = 2 3 + 1
        options = {**options, "block_size": size}
        value, found = jax.jit(
            lambda *a, o=options: (
                layers.dot_product_attention(*a, **o),
                (jax.grad(_loss(o, weights), (0, 1, 2))(*a), reverse.grad(_loss(o, weights), (0, 1, 2))(*a)),
            )
        )(*args)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-14)
        first = found[0] if size is None else first
        for bars in found:
            for bar, wanted in zip(bars, first, strict=True):
                np.testing.assert_allclose(bar, wanted, rtol=1e-11, atol=1e-13)
                assert np.isfinite(bar).all()


def test_its_derivation_is_the_layers():
    """The textbook's last line, held against the layer in both forms."""
    derivation = derivations.get("scaled_dot_product_attention")
    q, k, v = (x[:, 0] for x in _inputs())

    for size in (None, 2):

        def attend(q, k, v, size=size):
            return layers.dot_product_attention(q[:, None], k[:, None], v[:, None], block_size=size)[:, 0]

        def passed(*args, attend=attend):
            return attend(*args), derivation.vjp(*args)[1]

        check.assert_vjp(attend, passed, q, k, v)
        check.assert_vjp(derivation.fun, lambda *a, attend=attend: reverse.vjp(attend, *a), q, k, v)


def test_both_modes_and_twice():
    args, options = CASES["mask and causal"]
    weights = np.random.default_rng(2).normal(size=(2, 7, 4, 3))
    tangents = [jax.random.normal(jax.random.key(9 + i), x.shape) for i, x in enumerate(args)]

    def derivatives(size):
        loss = _loss({**options, "block_size": size}, weights)
        slope = jax.jvp(loss, args, tangents)
        forward_over_reverse = jax.jvp(lambda *a: jax.grad(loss, (0, 1, 2))(*a), args, tangents)[1]
        reverse_over_reverse = reverse.grad(
            lambda *a: sum(jnp.vdot(g, t) for g, t in zip(reverse.grad(loss, (0, 1, 2))(*a), tangents)), (0, 1, 2)
        )(*args)
        mapped = jax.vmap(loss)(*[jnp.stack([x, 2 * x]) for x in args])
        return slope, forward_over_reverse, reverse_over_reverse, mapped

    at_once, by_blocks = jax.jit(lambda: (derivatives(None), derivatives(3)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), by_blocks, at_once)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), by_blocks[1], by_blocks[2])


def test_dropout():
    """One mask a key, whatever the blocks; the mean over keys is the layer without."""
    args = _inputs((2,), 7, 5, 4, 2)
    rate = 0.4

    def values(key, size, rate=rate):
        return layers.dot_product_attention(*args, dropout_rate=rate, dropout_key=key, block_size=size)

    np.testing.assert_allclose(values(KEY, None), values(KEY, 2), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(values(KEY, None), jax.jit(values, static_argnums=1)(KEY, 3, rate), rtol=1e-12)
    assert not np.allclose(values(KEY, None), values(jax.random.key(1), None))
    drawn = jax.jit(jax.vmap(lambda key: values(key, None)))(jax.random.split(KEY, 4000))
    error = np.abs(drawn.mean(0) - layers.dot_product_attention(*args))
    assert (error < 6 * drawn.std(0) / np.sqrt(4000) + 1e-12).all()

    weights = np.random.default_rng(2).normal(size=(2, 7, 4, 3))
    bars = [
        jax.jit(jax.grad(_loss({"dropout_rate": rate, "dropout_key": KEY, "block_size": size}, weights), (0, 1, 2)))(
            *args
        )
        for size in (None, 3)
    ]
    for at_once, by_blocks in zip(*bars, strict=True):
        np.testing.assert_allclose(by_blocks, at_once, rtol=1e-11, atol=1e-13)


def test_jax_nn_agrees():
    args = _inputs((2,), 7, 7, 4, 2, 3, 3, jnp.float32)
    for causal in (False, True):
        expected = jax.nn.dot_product_attention(*args, is_causal=causal)
        np.testing.assert_allclose(layers.dot_product_attention(*args, causal=causal), expected, rtol=2e-5, atol=2e-6)


SPECS = {
    "batch and length": (P("a", "b"), P("a", "b")),
    "heads, keys apart": (P(None, None, "a"), P(None, "b")),
    "length of keys": (P("a"), P("a", "b")),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.sampled(4)
def test_on_an_explicit_mesh(name):
    """Queries, heads, keys split over 2 x 4 devices: the numbers of one device, at once and by blocks."""
    args = _inputs((2,), 8, 8, 4, 2)
    weights = np.random.default_rng(2).normal(size=(2, 8, 4, 3))
    options = {"causal": True, "mask": np.random.default_rng(3).random((2, 1, 8, 8)) < 0.7}

    def gradients(*args):
        losses = [_loss({**options, "block_size": size}, weights) for size in (None, 3)]
        return [d(loss, (0, 1, 2))(*args) for loss in losses for d in (jax.value_and_grad, reverse.value_and_grad)]

    expected = jax.value_and_grad(_loss(options, weights), (0, 1, 2))(*args)
    mesh = jax.make_mesh((2, 4), ("a", "b"))
    with jax.set_mesh(mesh):
        of_queries, of_keys = SPECS[name]
        specs = of_queries, of_keys, of_keys
        found = jax.jit(gradients)(*[jax.device_put(x, jax.NamedSharding(mesh, spec)) for x, spec in zip(args, specs)])
    for each in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), each, expected)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_half_precision_sums_in_float32(dtype):
    args = _inputs((), 40, 40, 2, 2, 8, 8)
    narrow = [x.astype(dtype) for x in args]
    expected = by_formula(*(np.asarray(x, np.float64) for x in narrow))
    for size in (None, 16):
        found = layers.dot_product_attention(*narrow, block_size=size)
        assert found.dtype == dtype
        np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=4 * float(jnp.finfo(dtype).eps))


def test_large_scores_and_long_sequences():
    q, k, v = (100 * x for x in _inputs((), 6, 6))
    for size in (None, 2):
        y, bars = jax.value_and_grad(
            lambda *a, s=size: layers.dot_product_attention(*a, block_size=s).sum(), (0, 1, 2)
        )(q, k, v)
        assert np.isfinite(y)
        assert all(np.isfinite(bar).all() for bar in bars)
    args = [jax.ShapeDtypeStruct((4096, 1, 64), jnp.float32)] * 3
    gradient = jax.value_and_grad(lambda *a: layers.dot_product_attention(*a).sum(), (0, 1, 2))
    shapes = [max((v.size for v in eqn.outvars_shapes), default=0) for eqn in _shapes(jax.make_jaxpr(gradient)(*args))]
    assert max(shapes) < 4096 * 1024  # no array of 4096 by 4096


def _shapes(closed):
    import types

    from functional_dl.jaxprs import equations

    found, todo = [], [closed]
    while todo:
        for eqn in equations(todo.pop()):
            found.append(types.SimpleNamespace(outvars_shapes=[v.aval for v in eqn.outvars]))
            for value in eqn.params.values():
                todo += [x for x in (value if isinstance(value, (tuple, list)) else [value]) if hasattr(x, "jaxpr")]
    return found


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(query=jnp.ones((4, 3))), ValueError, r"query: expected shape \(\*batch, length, heads, features\)"),
        (dict(key=jnp.ones((5, 2, 4))), ValueError, "key: expected last axis 3"),
        (dict(key=jnp.ones((5, 3, 3)), value=jnp.ones((5, 3, 3))), ValueError, "divides the query's 4, got 3"),
        (dict(value=jnp.ones((6, 2, 3))), ValueError, r"value: expected \(keys, heads\)"),
        (dict(key=jnp.ones((2, 5, 2, 3))), ValueError, "key: expected the batch axes of query"),
        (dict(mask=jnp.ones((7, 5))), TypeError, "mask: expected booleans"),
        (dict(mask=jnp.ones((6, 5), bool)), ValueError, "mask: expected a shape that broadcasts"),
        (dict(dropout_rate=0.5), ValueError, "dropout_key: expected a random key"),
        (dict(dropout_rate=1.5, dropout_key=KEY), ValueError, "dropout_rate"),
        (dict(block_size=0), ValueError, "block_size"),
        (dict(query=jnp.ones((7, 4, 3), complex)), TypeError, "query"),
    ],
)
def test_bad_input(change, error, message):
    args = dict(query=jnp.ones((7, 4, 3)), key=jnp.ones((5, 2, 3)), value=jnp.ones((5, 2, 3)))
    with pytest.raises(error, match=message):
        layers.dot_product_attention(**{**args, **change})
