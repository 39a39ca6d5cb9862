"""Normalisation of features: to mean 0 and variance 1, or to mean square 1."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.arguments import number, real
from functional_dl.precision import of_sums


def standardize(x: Float[Array, "..."], axis: int | Sequence[int] = -1, epsilon: float = 1e-5) -> Float[Array, "..."]:
    """y = r (x - mean x),  r = 1 / sqrt(var x + epsilon), mean and (biased) variance over the axes: layer norm's core.

    dy = r (dx - mean dx - y mean(y dx)), symmetric in dx  =>  x_bar = r (y_bar - mean y_bar - y mean(y y_bar)).
    The rule reads y and r alone, and is one pass over the cotangent where x and its mean would be read again.

    Args:
      x: any shape, floating.
      axis: an axis or several, over which moments are taken.
      epsilon: > 0, added to the variance.
    Returns:
      y, same shape and dtype.
    Raises:
      ValueError: an axis does not exist.  TypeError: x is no array of real numbers.
    Kinks: none.
    Numerics: the variance is the mean of squares about the mean; of half precision, moments are float32.
    Source: Ba, Kiros, Hinton 2016.
    """
    return _standardize(*_prepared(x, axis, epsilon))


def rms_normalize(x: Float[Array, "..."], axis: int | Sequence[int] = -1, epsilon: float = 1e-5) -> Float[Array, "..."]:
    """y = r x,  r = 1 / sqrt(mean x^2 + epsilon) over the axes: RMS norm's core.

    dy = r (dx - y mean(y dx)), which is symmetric in dx  =>  x_bar = r (y_bar - y mean(y y_bar)).

    Args, returns, raises: as standardize.
    Kinks: none.  Numerics: of half precision, the mean square is float32.
    Source: Zhang and Sennrich 2019.
    """
    return _rms_normalize(*_prepared(x, axis, epsilon))


def _prepared(x, axis, epsilon):
    x = real("x", x)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    for a in axes:
        if not -x.ndim <= a < x.ndim:
            raise ValueError(f"axis: expected an axis of x, whose shape is {x.shape}, got {a}")
    return tuple(a % x.ndim for a in axes), number("epsilon", epsilon), x


def _wide(x: Array) -> Array:
    return x.astype(of_sums(x.dtype))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.mean(x, axes, keepdims=True)


def _standard(axes, epsilon, x):
    """y and r."""
    wide = _wide(x)
    centred = wide - _mean(wide, axes)
    r = lax.rsqrt(_mean(jnp.square(centred), axes) + epsilon)
    return (r * centred).astype(x.dtype), r


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _standardize(axes, epsilon, x):
    return _standard(axes, epsilon, x)[0]


@_standardize.defjvp
def _standardize_jvp(axes, epsilon, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    y, r = _standard(axes, epsilon, x)
    wide, moved = _wide(y), _wide(x_dot)
    y_dot = r * (moved - _mean(moved, axes) - wide * _mean(wide * moved, axes))
    return y, y_dot.astype(x.dtype)


def _scaled(axes, epsilon, x):
    """y and r."""
    wide = _wide(x)
    r = lax.rsqrt(_mean(jnp.square(wide), axes) + epsilon)
    return (r * wide).astype(x.dtype), r


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _rms_normalize(axes, epsilon, x):
    return _scaled(axes, epsilon, x)[0]


@_rms_normalize.defjvp
def _rms_normalize_jvp(axes, epsilon, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    y, r = _scaled(axes, epsilon, x)
    wide, moved = _wide(y), _wide(x_dot)
    y_dot = r * (moved - wide * _mean(wide * moved, axes))
    return y, y_dot.astype(x.dtype)
