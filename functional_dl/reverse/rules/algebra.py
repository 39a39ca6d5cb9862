"""What several families of rules share: sums over broadcast axes, and numbers of the right dtype.  No rules here.

The rules call `jax.lax`, which applies one primitive a call, rather than operators, which promote and broadcast first:
the backward pass of a program of n equations is traced in the time of a few n such calls.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from functional_dl.aliases import Array
from functional_dl.reverse.values import Reshaped
from functional_dl.sharding import cotangent_sharding, full, sharding_of, type_of


def unbroadcast(ct: Array, x: Array) -> Array:
    """Transpose of the broadcasting that binary primitives do: x_bar = sum of y_bar over the repeated entries.

    Their operands have one rank, where an axis of length 1 is repeated, or are 0-d.
    """
    if ct.shape == x.shape:
        return ct
    if x.ndim == 0:
        return lax.reduce_sum(ct, tuple(range(ct.ndim)))
    repeated = tuple(i for i in range(x.ndim) if x.shape[i] != ct.shape[i])
    return reshape_as(lax.reduce_sum(ct, repeated), x)


def unbroadcast_later(ct: Array, x: Array) -> Any:
    """As `unbroadcast`, where the cotangent is not read by the rule itself: reshaped when it is."""
    if ct.shape == x.shape or x.ndim == 0:
        return unbroadcast(ct, x)
    repeated = tuple(i for i in range(x.ndim) if x.shape[i] != ct.shape[i])
    return Reshaped(lax.reduce_sum(ct, repeated), x)


def reshape_as(ct: Array, x: Array) -> Array:
    """The entries in the shape of x, laid out as x is."""
    return lax.reshape(ct, x.shape, out_sharding=cotangent_sharding(x))


def number(value: Any, like: Array) -> Array:
    """A Python number as a constant of the dtype of `like`: a NumPy scalar, the cheapest thing to stage."""
    return like.dtype.type(value)


def times(value: ArrayLike, x: Array) -> Array:
    """c x for a Python number c."""
    return lax.mul(x, number(value, x))


def plus(value: int, x: Array) -> Array:
    """c + x for a Python number c."""
    return lax.add(x, number(value, x))


def minus(value: int, x: Array) -> Array:
    """c - x for a Python number c."""
    return lax.sub(number(value, x), x)


def over(value: Any, x: Array) -> Any:
    """c / x for a Python number c."""
    return lax.div(number(value, x), x)


def is_complex(x: ArrayLike) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.complexfloating))


def zeros_like(x: Array, dtype: Any = None) -> Array:
    """Zeros of the shape and dtype (or of another dtype) of x, laid out as x is."""
    return full(type_of(x), 0, dtype)


def full_like(x: Array, value: Any, dtype: Any = None) -> Array:
    """An array of one number, of the shape and dtype (or of another dtype) of x, laid out as x is."""
    return full(type_of(x), value, dtype)


def spread_like(number: Array, x: Array) -> Array:
    """A number (a 0-d array) at every place of x, laid out as x is."""
    return lax.broadcast_in_dim(number, x.shape, (), out_sharding=sharding_of(x))
