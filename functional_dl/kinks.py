"""Points where a function has no derivative, and the convention that stands in for it there."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array

__all__ = ["Kink", "first_unbeaten"]


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


def first_unbeaten(beaten: Array, axes: Sequence[int]) -> Array:
    """Booleans of the same shape: the first entry along these axes, in row-major order, that is not beaten.

    An extremum has as many derivatives as entries that tie; libraries give it to the first of a window.

    Args:
      beaten: booleans, x < y for the largest entries y of x.  Where y is NaN nothing is beaten.
      axes: different axes.
    Example:
      >>> kinks.first_unbeaten(jnp.array([True, False, False]), (0,)).tolist()
      [False, True, False]
    """
    lengths = [beaten.shape[axis] for axis in sorted(axes)]
    places = np.arange(prod(lengths), dtype=np.int32)
    shape = [n if i in axes else 1 for i, n in enumerate(beaten.shape)]
    at = jnp.where(beaten, places.size, places.reshape(shape))
    return at == jnp.min(at, tuple(axes), keepdims=True)
