"""Cross-entropy of a linear classifier, by blocks of examples where all its logits would be large."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Integer

from functional_dl.activations import log_softmax
from functional_dl.aliases import Array
from functional_dl.arguments import array, integer, real
from functional_dl.blocks import by_rows, rows_of
from functional_dl.losses.terms import known_labels
from functional_dl.precision import of_sums

BLOCKS_FROM = 2**22  # logits: 16 MiB in float32
BLOCK = 2**20  # logits in a block


def linear_cross_entropy(
    features: Float[Array, "*batch d"],
    weight: Float[Array, "d classes"],
    labels: Integer[Array, "*batch"],
    bias: Float[Array, " classes"] | None = None,
    *,
    block_size: int | None = None,
) -> Float[Array, "*batch"]:
    """Softmax cross-entropy of the logits z = x W + b,  l = ln sum_c e^{z_c} - z_t for the label t.

    l_bar given, with p = softmax(z) and e_t the label's unit vector:

      z_bar = l_bar (p - e_t),   x_bar = z_bar W^T,   W_bar = sum x^T z_bar,   b_bar = sum z_bar.

    Many examples of many classes (tokens of a large vocabulary) are taken by blocks, of which no logits are kept: with
    l_dot = (p - e_t) . (x_dot W + x W_dot + b_dot) stated by blocks, the pullback above is by blocks too.

    Args:
      features: x, any number of batch axes.
      weight, bias: W and b of the classifier, layers.dense's.
      labels: t, integers in [0, classes).
      block_size: examples in a block; by default all at once up to 2^22 logits, and from there blocks of 2^20.
    Returns:
      Loss per example, in nats.
    Raises:
      ValueError: shapes do not fit; a concrete label lies outside [0, classes).
      TypeError: an input is no array of real numbers, labels no integers.
    Kinks: none.
    Numerics: by log_softmax, with relative accuracy down to the smallest loss; of half precision, logits are float32.
      Under jit a label outside [0, classes) gives NaN.
    Source: Goodfellow, Bengio, Courville 2016, section 6.2.2.3; by blocks, Wijmans et al. 2025.
    Example:
      >>> round(float(losses.linear_cross_entropy(jnp.zeros((1, 2)), jnp.ones((2, 4)), jnp.array([3]))[0]), 4)
      1.3863
    """
    features, weight, labels = real("features", features), real("weight", weight), array("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels: expected integers, got dtype {labels.dtype}")
    if weight.ndim != 2 or features.ndim == 0 or features.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"weight: expected shape (d, classes) for features (*batch, d), got {weight.shape} and {features.shape}"
        )
    if labels.shape != features.shape[:-1]:
        raise ValueError(f"labels: expected the batch axes of features, {features.shape[:-1]}, got {labels.shape}")
    classes = weight.shape[1]
    known = known_labels("labels", labels, classes)
    if bias is not None:
        bias = real("bias", bias)
        if bias.shape != (classes,):
            raise ValueError(f"bias: expected shape {(classes,)}, got {bias.shape}")
    batch = labels.shape
    rows = features.reshape(-1, features.shape[-1]), labels.reshape(-1)
    count = math.prod(batch)
    if block_size is None:
        size = count if count * classes <= BLOCKS_FROM else rows_of(BLOCK, classes, count)
    else:
        size = integer("block_size", block_size)
    loss = _block(rows, None, weight, bias)[0] if size >= count else _by_blocks(size, rows, weight, bias)
    return jnp.where(known, loss.reshape(batch).astype(features.dtype), jnp.nan)


def _logits(x, weight, bias):
    wide = of_sums(x.dtype)
    logits = jnp.dot(x, weight, preferred_element_type=wide)
    return logits if bias is None else logits + bias.astype(wide)[None]


def _at(z, labels):
    """z_t of each row, and 0 in the others' columns: a comparison, whose transpose is no scatter."""
    chosen = lax.broadcasted_iota(labels.dtype, z.shape, 1) == labels[:, None]
    return jnp.sum(jnp.where(chosen, z, 0.0), 1)


def _block(rows, _, weight, bias):
    """l and ln sum e^z of some examples."""
    x, labels = rows
    z = _logits(x, weight, bias)
    log_p = log_softmax(z)
    return -_at(log_p, labels), jnp.max(z, 1) - jnp.max(log_p, 1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _by_blocks(size, rows, weight, bias):
    return by_rows(_block, size, rows, weight, bias)[0]


@_by_blocks.defjvp
def _by_blocks_jvp(size, primals, tangents):
    rows, weight, bias = primals
    (x_dot, _), weight_dot, bias_dot = tangents
    loss, logsum = by_rows(_block, size, rows, weight, bias)

    def tangent(block, x_dot, weight, bias, weight_dot, bias_dot):
        (x, labels), logsum = block
        p = jnp.exp(_logits(x, weight, bias) - logsum[:, None])
        z_dot = _logits(x_dot, weight, None) + _logits(x, weight_dot, bias_dot)
        return jnp.sum(p * z_dot, 1) - _at(z_dot, labels)

    return loss, by_rows(tangent, size, (rows, logsum), weight, bias, weight_dot, bias_dot, tangents=x_dot)
