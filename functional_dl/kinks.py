"""Points where a function has no derivative, and the convention that stands in for it there."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array

__all__ = ["Kink", "first_best"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


@dataclass(frozen=True)
class Kink:
    """A point of a piecewise smooth function where its one-sided derivatives differ.

    Every value between the two is a generalised derivative there (Clarke's subdifferential is the interval
    from the smaller to the larger); a library has to take one.

    Fields:
      location: where: z for an activation, an example (pred, target) for a loss.
      left, right: the one-sided derivatives.
      value: the one taken here, in the hand derivative and in jax.grad of the function alike.
      jax: what JAX's own function takes (jax.nn for activations, optax for losses); None where it has none.
      pytorch: what PyTorch's takes; None where it has none.
      where: the set of all such points, in words, where `location` is an example.
    """

    location: float | tuple[float, float]
    left: float
    right: float
    value: float
    jax: float | None = None
    pytorch: float | None = None
    where: str = ""

    def __post_init__(self) -> None:
        low, high = min(self.left, self.right), max(self.left, self.right)
        for name in ("value", "jax", "pytorch"):
            taken = getattr(self, name)
            if taken is not None and not low <= taken <= high:
                raise ValueError(f"{name}: expected a value in Clarke's [{low:g}, {high:g}], got {taken:g}")


def first_best(x: Array, axes: Sequence[int], beats: Callable[[Array, Array], Array]) -> Array:
    """Booleans of x's shape: the best entry along the axes, in row-major order the first of several that tie.

    An extremum has as many derivatives as entries that tie; libraries give it to the first of a window.  Entry is
    compared with entry: a comparison with the extremum fails where a compiler computes x twice, rounded in two ways.

    Args:
      x: any shape; few entries along the axes, for each is an operation.
      axes: different axes of x, ascending.
      beats: jnp.greater for the largest entry, jnp.less for the least.
    Example:
      >>> kinks.first_best(jnp.array([1.0, 2.0, 2.0]), (0,), jnp.greater).tolist()
      [False, True, False]
    """
    sizes = [x.shape[axis] for axis in axes]

    def entry(place):
        starts, ends = [0] * x.ndim, list(x.shape)
        for axis, at in zip(axes, place):
            starts[axis], ends[axis] = at, at + 1
        return lax.slice(x, starts, ends)

    first, *others = map(entry, product(*map(range, sizes)))
    best, number = first, jnp.zeros_like(first, jnp.int32)  # of the best so far, in row-major order
    for k, other in enumerate(others, 1):
        wins = beats(other, best)
        best, number = lax.select(wins, other, best), lax.select(wins, jnp.full_like(number, k), number)
    numbers = np.arange(math.prod(sizes), dtype=np.int32)
    return number == numbers.reshape([size if axis in axes else 1 for axis, size in enumerate(x.shape)])
