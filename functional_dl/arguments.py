"""Checks of what a caller hands in: each error names the argument, what was expected and what came.

Shapes and dtypes are known while JAX traces and are always checked.  Values are not: `concrete` gives them
where they exist and None under jit, grad and vmap, and a check of values is skipped there.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array

__all__ = ["array", "concrete", "function", "lookup", "one_of", "pair", "positive", "real", "whole", "within"]
__dir__ = __all__.copy  # what dir() and completion show


def concrete(x) -> np.ndarray | None:
    """The numbers of x, or None while JAX traces it."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def array(name: str, x) -> Array:
    """x as an array, of whatever dtype; lists of numbers are read as arrays.

    Raises:
      TypeError: x is no array of numbers.
    """
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array of numbers, got {type(x).__name__}") from error


def real(name: str, x) -> Array:
    """x as a floating array; integers are read in the default float dtype.

    Raises:
      TypeError: x is complex, or no array of numbers.
    """
    x = array(name, x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    if jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == jnp.bool_:
        return x.astype(float)
    raise TypeError(f"{name}: expected real numbers, got dtype {x.dtype}")


def pair(first: str, x, second: str, y) -> tuple[Array, Array]:
    """x and y as floating arrays of one shape; nothing is broadcast.

    Integers take the dtype of the other argument.

    Raises:
      ValueError: the shapes differ.
      TypeError: one is complex.
    """
    x, y = array(first, x), array(second, y)
    if x.shape != y.shape:
        raise ValueError(
            f"{first} and {second}: expected one shape (nothing is broadcast), got {first} of shape "
            f"{x.shape} and {second} of shape {y.shape}"
        )
    x_floats, y_floats = (jnp.issubdtype(v.dtype, jnp.floating) for v in (x, y))
    x, y = real(first, x), real(second, y)
    if x_floats and not y_floats:
        y = y.astype(x.dtype)
    if y_floats and not x_floats:
        x = x.astype(y.dtype)
    return x, y


def within(name: str, x, low: float, high: float, *, open_right: bool = False) -> None:
    """Hold a concrete x to [low, high], or to [low, high) if open_right.

    Raises:
      ValueError: a value lies outside, or is NaN.
    """
    values = concrete(x)
    if values is None or values.size == 0:
        return
    values = values.astype(np.float64)
    inside = (values >= low) & ((values < high) if open_right else (values <= high))
    if not inside.all():
        interval = f"[{low:g}, {high:g}{')' if open_right or high == np.inf else ']'}"
        raise ValueError(f"{name}: expected values in {interval}, got {values[~inside].flat[0]:g}")


def one_of(name: str, x, allowed: tuple[float, ...]) -> None:
    """Hold a concrete x to a few values.

    Raises:
      ValueError: another value is among them.
    """
    values = concrete(x)
    if values is None:
        return
    outside = ~np.isin(values.astype(np.float64), allowed)
    if outside.any():
        raise ValueError(f"{name}: expected values among {allowed}, got {values[outside].flat[0]:g}")


def whole(name: str, value, least: int = 1) -> int:
    """`value` as an int: a layer's width, a number of steps, an order.

    Raises:
      TypeError: it is no whole number.  ValueError: it is less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r} ({type(value).__name__})") from None
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected a whole number, got {value!r} (bool)")
    if number < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {number}")
    return number


def function(name: str, value) -> None:
    """Refuses what cannot be called.

    Raises:
      TypeError: `value` is no function.
    """
    if not callable(value):
        raise TypeError(f"{name}: expected a function, got {value!r} ({type(value).__name__})")


def positive(name: str, x) -> None:
    """Refuses a number that is not above 0, where it is known.

    Raises:
      ValueError: x is 0, negative or NaN.
    """
    known = concrete(x)
    if known is not None and not (known > 0).all():
        raise ValueError(f"{name}: expected a number > 0, got {x}")


def lookup(name: str, key: str, table: dict):
    """table[key].

    Raises:
      ValueError: there is no such entry; the message lists those there are.
    """
    if key not in table:
        raise ValueError(f"{name}: expected one of {', '.join(sorted(table))}; got {key!r}")
    return table[key]
