"""Derivatives at 50 digits: an oracle for functions of numbers that shares no rounding with JAX.

It needs mpmath, which is imported when asked for.
"""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from functional_dl import arguments

DIGITS = 50


def available() -> bool:
    """Whether mpmath is installed."""
    return importlib.util.find_spec("mpmath") is not None


def partial_derivative(
    exact: Callable[..., Any], primals: Sequence[Any], argument: int = 0, digits: int = DIGITS
) -> np.ndarray:
    r"""\partial f / \partial x_i, entry by entry, of a function that works entry by entry.

    Args:
      exact: `exact(mp, *numbers)` -> number, f written with mpmath's functions; mp is an mpmath context.
      primals: arrays of one shape, or of shapes that broadcast; read as exact floats.
      argument: i.
      digits: the precision kept in the result; the work is done with three times as many.
    Returns:
      The derivative in float64, of the primals' broadcast shape.
    Raises:
      ImportError: mpmath is not installed.
    """
    try:
        import mpmath
    except ImportError as error:
        raise ImportError(arguments.missing("mpmath", "a derivative of many digits", "calculus")) from error
    mp = mpmath.mp.clone()
    mp.dps = 3 * digits  # a difference costs a third of the digits
    arrays = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in primals))
    found = np.empty(arrays[0].shape)
    for index in np.ndindex(found.shape):
        numbers = [mp.mpf(float(x[index])) for x in arrays]

        def along(v, numbers=numbers):
            return exact(mp, *numbers[:argument], v, *numbers[argument + 1 :])

        found[index] = float(mp.diff(along, numbers[argument]))
    return found
