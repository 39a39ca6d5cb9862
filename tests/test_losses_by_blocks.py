"""The cross-entropy of a linear classifier: its logits' loss, at once and by blocks, in both modes and twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import losses, reverse

X, W, B, CT = (jnp.array(np.random.default_rng(0).normal(size=shape)) for shape in ((2, 5, 3), (3, 11), (11,), (2, 5)))
LABELS = jnp.asarray([[0, 10, 3, 3, 7], [1, 0, 2, 10, 9]])


def _direct(x, w, b):
    logits = jnp.dot(x, w) + jnp.broadcast_to(b, (2, 5, 11))
    return losses.softmax_cross_entropy(logits, LABELS)


def _figures(fun):
    args = X, W, B
    tangents = tuple(jnp.cos(7 * x) for x in args)

    def loss(*args):
        return jnp.vdot(CT, fun(*args))

    bars = jax.grad(loss, (0, 1, 2))
    ours = reverse.grad(loss, (0, 1, 2))
    twice = reverse.grad(lambda *a: sum(jnp.vdot(g, t) for g, t in zip(ours(*a), tangents, strict=True)), (0, 1, 2))
    return (
        fun(*args),
        bars(*args),
        ours(*args),
        jax.jvp(loss, args, tangents),
        jax.jvp(bars, args, tangents),
        twice(*args),
    )


def test_at_once_and_by_blocks():
    def by(size):
        return lambda x, w, b: losses.linear_cross_entropy(x, w, LABELS, b, block_size=size)

    expected, *found = jax.jit(lambda: [_figures(f) for f in (_direct, by(None), by(4), by(1))])()
    for figures in found:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), figures, expected)


def test_memory_is_that_of_a_block():
    """No array of all logits in a long batch of many classes."""
    x, w = jax.ShapeDtypeStruct((8192, 16), jnp.float32), jax.ShapeDtypeStruct((16, 8192), jnp.float32)
    labels = jax.ShapeDtypeStruct((8192,), jnp.int32)
    gradient = jax.jit(jax.grad(lambda x, w, t: losses.linear_cross_entropy(x, w, t).sum(), (0, 1)))
    memory = gradient.lower(x, w, labels).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 8192 * 8192 * 4 / 4


def test_certain_predictions_half_precision_and_labels_under_jit():
    x = jnp.array([[40.0]])
    w = jnp.array([[1.0, -1.0]])
    found = losses.linear_cross_entropy(x, w, jnp.array([0]))
    np.testing.assert_allclose(found, np.exp(-80.0), rtol=1e-12)
    half = losses.linear_cross_entropy(X.astype(jnp.bfloat16), W.astype(jnp.bfloat16), LABELS, block_size=4)
    assert half.dtype == jnp.bfloat16
    assert np.isnan(jax.jit(losses.linear_cross_entropy)(x, w, jnp.array([2])))


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((X, W[:2], LABELS), ValueError, "weight: expected shape"),
        ((X, W, LABELS[0]), ValueError, "labels: expected the batch axes"),
        ((X, W, LABELS + 9), ValueError, r"labels: expected labels in \[0, 11\)"),
        ((X, W, LABELS.astype(float)), TypeError, "labels: expected integers"),
        ((X, W, LABELS, B[:3]), ValueError, "bias: expected shape"),
        ((X.astype(complex), W, LABELS), TypeError, "features"),
    ],
)
def test_bad_input(args, error, message):
    with pytest.raises(error, match=message):
        losses.linear_cross_entropy(*args)
