"""Pooling: the largest or the mean entry of each window."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.arguments import real
from functional_dl.kinks import first_best
from functional_dl.layers.windows import Padding, check_fits, pads, per_axis, window_of

FEW = 16  # entries of a window, each of which is an operation where windows lie side by side


def max_pool(
    x: Float[Array, "*batch_and_space channels"],
    window: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> Float[Array, "*batch_and_space channels"]:
    """The largest entry of each window, of each channel by itself.

    x_bar: each window's y_bar goes to its largest entry, the first of several equal ones; sums where windows overlap.

    Args:
      x: (*batch, *space, channels), any number of batch axes.
      window: sizes along the axes of space, one to three of them.
      stride: one for all axes or one an axis; the window's by default.
      padding: as of `conv`; what is padded is -inf and never the largest.
    Returns:
      (*batch, *space, channels).
    Raises:
      ValueError: x has too few axes; the window is larger than the padded input.  TypeError: x is no array of reals.
    Kinks: where two entries of a window are equal and largest.  Numerics: exact.
    Source: Goodfellow, Bengio, Courville 2016, section 9.3.
    Example:
      >>> layers.max_pool(jnp.array([1.0, 3.0, 2.0, 0.0]).reshape(1, 4, 1), 2)[0, :, 0].tolist()
      [3.0, 2.0]
    """
    x, window, strides, padded = _prepared(x, window, stride, padding)
    if _apart(x, window, strides, padded) and np.prod(window) <= FEW:
        return _largest(*_cut(x, window))
    return lax.reduce_window(x, x.dtype.type(-np.inf), lax.max, window, strides, padded)


def average_pool(
    x: Float[Array, "*batch_and_space channels"],
    window: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
) -> Float[Array, "*batch_and_space channels"]:
    """The mean of each window, of each channel by itself.

    x_bar: each window's y_bar, divided by the number of its entries, goes to all of them.

    Args:
      x, window, stride, padding: as of `max_pool`; zeros are padded.
      count_padding: whether what is padded counts as entries of the window.
    Returns, raises: as `max_pool`.
    Kinks: none (linear).
    Source: Goodfellow, Bengio, Courville 2016, section 9.3.
    Example:
      >>> layers.average_pool(jnp.arange(4.0).reshape(1, 4, 1), 2)[0, :, 0].tolist()
      [0.5, 2.5]
    """
    x, window, strides, padded = _prepared(x, window, stride, padding)
    if _apart(x, window, strides, padded):
        axes, windows = _cut(x, window)
        return jnp.mean(windows, axes)
    zero = x.dtype.type(0)  # a number that is known while tracing: by it lax tells a sum of windows
    total = lax.reduce_window(x, zero, lax.add, window, strides, padded)
    if count_padding or not any(low or high for low, high in padded):
        count = 1
        for size in window:
            count *= size
        return total / jnp.array(count, x.dtype)
    ones = jnp.ones((*(1 for _ in range(x.ndim)),), x.dtype)
    space = tuple(n if w > 1 or s > 1 or p != (0, 0) else 1 for n, w, s, p in zip(x.shape, window, strides, padded))
    count = lax.reduce_window(jnp.broadcast_to(ones, space), zero, lax.add, window, strides, padded)
    return total / jnp.broadcast_to(count, total.shape)


def global_average_pool(x: Float[Array, "batch *space channels"], space: int | None = None) -> Float[Array, "..."]:
    """The mean over all axes of space: (batch, *space, channels) -> (batch, channels).

    Args:
      x: at least two axes.
      space: how many axes are space, where there is not exactly one batch axis.
    Raises:
      ValueError: x has too few axes.  TypeError: x is no array of real numbers.
    Kinks: none (linear).  Source: Lin, Chen, Yan 2014.
    Example:
      >>> layers.global_average_pool(jnp.arange(4.0).reshape(1, 4, 1)).tolist()
      [[1.5]]
    """
    x = real("x", x)
    rank = x.ndim - 2 if space is None else space
    if rank < 0 or x.ndim < rank + 1:
        raise ValueError(f"x: expected shape (batch, *space, channels), got {x.shape}")
    return jnp.mean(x, tuple(range(x.ndim - 1 - rank, x.ndim - 1)))


def _prepared(x, window, stride, padding):
    """x, and window, strides and padding for all of its axes."""
    x, window = real("x", x), window_of(window)
    rank = len(window)
    if x.ndim < rank + 1:
        raise ValueError(f"x: expected {rank} axes of space and one of channels, got shape {x.shape}")
    strides = window if stride is None else per_axis("stride", stride, rank)
    space = x.shape[x.ndim - rank - 1 : -1]
    padded = pads(padding, space, window, strides)
    check_fits("x", space, window, padded)
    before = (1,) * (x.ndim - rank - 1)
    return x, (*before, *window, 1), (*before, *strides, 1), (*((0, 0) for _ in before), *padded, (0, 0))


def _apart(x, window, strides, padded):
    """Whether the windows are blocks of x: then their axes are cut in two, and XLA has no windows to search."""
    return x.size and window == strides and not any(low or high for low, high in padded)


def _cut(x, window):
    """The axes of places inside the windows, and x with each axis that is cut as (windows, places)."""
    whole = [n // w * w for n, w in zip(x.shape, window)]
    x = x if tuple(whole) == x.shape else lax.slice(x, (0,) * x.ndim, whole)
    cut = [axis for axis, w in enumerate(window) if w > 1]
    for axis in reversed(cut):  # one at a time, as arrays can be reshaped that are split over devices
        x = x.reshape(*x.shape[:axis], -1, window[axis], *x.shape[axis + 1 :])
    return tuple(axis + 1 + k for k, axis in enumerate(cut)), x


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _largest(axes, x):
    return jnp.max(x, axes)


@_largest.defjvp
def _largest_jvp(axes, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    chosen = first_best(x, axes, jnp.greater)
    return jnp.max(x, axes), jnp.sum(jnp.where(chosen, x_dot, jnp.zeros_like(x_dot)), axes)
