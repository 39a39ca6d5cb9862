"""Mini-batches by shuffled epochs, as pure functions of (key, step)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from functional_dl.aliases import Array, Key

ORDER, NOISE = 0, 1  # what a run's key is folded with: one stream shuffles, the other feeds the loss


@partial(jax.jit, static_argnames="examples")
def epoch_order(key: Key, epoch: ArrayLike, examples: int) -> Array:
    """The order of the examples in an epoch: a permutation that depends on (key, epoch) alone."""
    return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, ORDER), epoch), examples)


def noise_key(key: Key, step: ArrayLike) -> Key:
    """The key that the loss gets at a step (for dropout and the like)."""
    return jax.random.fold_in(jax.random.fold_in(key, NOISE), step)


def batch_indices(key: Key, step: Array | int, order: Array, size: int) -> tuple[Array, Array]:
    """(indices of the batch at `step`, the order of its epoch), given the order of the step before.

    An epoch has examples // size batches; the examples % size last ones of its order sit this epoch out, so
    that all batches have one shape.  The order is drawn anew only at an epoch's first batch.
    """
    (examples,) = order.shape
    per_epoch = examples // size
    epoch, place = step // per_epoch, step % per_epoch
    if size == examples:  # a full batch needs no shuffling
        return order, order
    order = jax.lax.cond(place == 0, lambda: epoch_order(key, epoch, examples), lambda: order)
    return jax.lax.dynamic_slice_in_dim(order, place * size, size), order


def order_before(key: Key, step: int, examples: int, size: int) -> Array:
    """The order that `batch_indices` expects at `step`: that of the epoch which `step` belongs to."""
    if size == examples:
        return jnp.arange(examples)
    return epoch_order(key, step // (examples // size), examples)
