"""A number with a bound of its error, and the extrapolation that gives both.

Source: Ridders, Accurate computation of F'(x) and F'(x)F''(x), Adv. Eng. Softw. 4 (1982) 75.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Estimate", "extrapolated_rows"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


class _Pair(NamedTuple):
    value: Any
    error: Any


class Estimate(_Pair):
    """A value (array or pytree) and a bound of its error, of the same form.

    Attributes:
      reason: why there is no value, where it is NaN; not kept by jit and vmap.
    """

    reason: str

    def __new__(cls, value: Any, error: Any, reason: str = "") -> "Estimate":
        made = super().__new__(cls, value, error)
        made.reason = reason
        return made

    def __repr__(self) -> str:
        return f"Estimate(value={self.value!r}, error={self.error!r})"


def extrapolated_rows(quotients, rounding, factor: Callable[[int], Any], columns: int | None = None, xp: Any = np):
    r"""Neville's scheme for quotients that are a series in powers of w: of each row the best entry, and its error.

        T_{k,0} = q_k,   T_{k,j} = T_{k,j-1} + (T_{k,j-1} - T_{k-1,j-1}) / (w_{k-j} / w_k - 1):   row k loses j powers.

    The best entry agrees most with its two neighbours; its error is that disagreement and twice the rounding.

    Args:
      quotients: their values at ever narrower steps, the first axis.
      rounding: of the quotients, of their shape or broadcast to it.
      factor: factor(j) -> w_{k-j} / w_k, a number or one for each row (those of rows k < j are not used).
      columns: of the scheme; as many as rows, by default.
      xp: the module that computes: numpy, or jax.numpy where the quotients are traced.
    Returns:
      Values and errors, of the shape of quotients; the error of the first row, which has no neighbour, is infinite.
    """
    place = xp.arange(len(quotients)).reshape(-1, *[1] * (quotients.ndim - 1))
    best, least = quotients, xp.full_like(quotients, xp.inf)
    before = quotients
    for j in range(1, len(quotients) if columns is None else columns):
        above = xp.concatenate([before[:1], before[:-1]])
        now = before + (before - above) / (factor(j) - 1)
        error = xp.maximum(xp.abs(now - before), xp.abs(now - above)) + 2 * rounding
        better = (place >= j) & xp.isfinite(now) & (error < least)
        best, least = xp.where(better, now, best), xp.where(better, error, least)
        before = now
    return best, least
