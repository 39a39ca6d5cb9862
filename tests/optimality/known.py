"""The form of a problem with a known optimum: Hock and Schittkowski 1981, written as in the book.

Functions take x1, x2, ... as arguments; g >= 0, as there, is turned into ours, g <= 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from functional_dl.optimality import Problem

INF = np.inf


class Known(NamedTuple):
    """A problem, its published start, and its published optimal value."""

    name: str
    problem: Problem
    start: tuple
    value: float


def hs(number, f, start, value, h=None, g=None, lower=None, upper=None):
    """Problem `number`: h(x1, x2, ...) = 0 and g(x1, x2, ...) >= 0 are lists of numbers."""
    bounds = None
    if lower is not None or upper is not None:
        n = len(start)
        wide = lambda b, default: np.asarray(np.broadcast_to(default if b is None else b, n), float)
        bounds = (wide(lower, -INF), wide(upper, INF))
    return Known(
        f"HS{number}",
        Problem(
            lambda x: f(*x),
            None if h is None else lambda x: jnp.stack(h(*x)),
            None if g is None else lambda x: -jnp.stack(g(*x)),
            bounds,
        ),
        tuple(map(float, start)),
        float(value),
    )
