"""Features too narrow for samples, found by interval arithmetic; and the proof that an integrand is zero.

On a piece of the range an enclosure says what the integrand is at most and at least.  Where the two are far apart times
the piece's width, something may hide, and the piece is halved; around a spike or jump this ends in very narrow pieces.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from functional_dl.calculus.intervals import Enclosure
from functional_dl.integrals import substitution
from functional_dl.integrals.substitution import Range

PIECES = 256
AT_ONCE = 48
ROUNDS = 48
NARROW = 2.0**-13  # of a piece's share of the first ones: samples see what is wider
PLACES = 12
PROOF = 64
MOVES = 1e-6  # of its values, by which the integrand moves around a feature
STEPS = (-64.37, -8.41, -1.13, -0.29, 0.37, 1.19, 2.23, 9.31, 65.71)  # widths from a place to break points around it


def _edges(span: Range, count: int) -> np.ndarray:
    """Ends of pieces, increasing."""
    if np.isfinite(span.lower) and np.isfinite(span.upper):
        x = span.lower + (span.upper - span.lower) * np.linspace(0.0, 1.0, count + 1)
        x[-1] = span.upper
        return np.unique(x)
    return np.unique(substitution.to_x(span, np.linspace(*substitution.limits(span), count + 1))[0])


def hidden(enclosure: Enclosure, values: Callable[..., Any], lower: Any, upper: Any) -> np.ndarray:
    """Places around which the integrand does much on little width; none where that cannot be told.

    Args:
      values: x (n,) -> (n, K), the integrand itself: an enclosure that is wide for want of sharpness hides nothing.
    """
    span = Range(np.float64(min(lower, upper)), np.float64(max(lower, upper)), np)
    if not span.upper > span.lower:
        return np.zeros(0)
    with np.errstate(all="ignore"):
        places = _narrow_places(enclosure, _edges(span, PIECES))
        if not places.size:
            return places.ravel()
        rows = np.clip(places, np.nextafter(span.lower, span.upper), np.nextafter(span.upper, span.lower))
        found = values(rows.ravel()).reshape(*rows.shape, -1)
        moved = np.ptp(found, axis=1) > MOVES * np.max(np.abs(found), axis=1)
        return np.unique(rows[np.any(moved, axis=1)])


def _narrow_places(enclosure, edges):
    left, right = edges[:-1], edges[1:]
    if not len(left):
        return np.zeros((0, 0))
    try:
        weight = _weights(enclosure, left, right)
        first = (right - left).copy()
        for _ in range(ROUNDS):
            middle = (left + right) / 2
            worth = np.where((middle > left) & (middle < right), weight, 0.0)
            chosen = np.argsort(worth)[-AT_ONCE:]
            chosen = chosen[worth[chosen] > max(1e-3 * np.max(worth), 1e-6 * np.mean(weight))]
            if not len(chosen):
                break
            new_left = np.concatenate([left[chosen], middle[chosen]])
            new_right = np.concatenate([middle[chosen], right[chosen]])
            new = _weights(enclosure, new_left, new_right)
            keep = np.setdiff1d(np.arange(len(left)), chosen)
            left, right = np.concatenate([left[keep], new_left]), np.concatenate([right[keep], new_right])
            weight = np.concatenate([weight[keep], new])
            first = np.concatenate([first[keep], first[chosen], first[chosen]])
    except NotImplementedError:
        return np.zeros((0, 0))
    narrow = np.flatnonzero((right - left < NARROW * first) & (weight > 0))
    places: list[float] = []
    for k in narrow[np.argsort(-weight[narrow])]:
        width = right[k] - left[k]
        if all(abs(left[k] - place) > 16 * width for place in places):
            places.append(float(left[k]))
            if len(places) == PLACES:
                break
    narrowest = [np.min((right - left)[np.abs(left - place) <= 1e-3 * first[0]], initial=first[0]) for place in places]
    return np.array(places)[:, None] + np.array(narrowest)[:, None] * np.array(STEPS)


def _weights(enclosure, left, right):
    """How much may hide in each piece: the range of values times the width."""
    lo, hi, _ = enclosure(left, right)
    with np.errstate(all="ignore"):
        found = np.max(np.minimum(hi, 1e300) - np.maximum(lo, -1e300), axis=1) * (right - left)
    return np.where(np.isfinite(found), np.minimum(found, 1e300), 0.0)


def bound_of_zero(enclosure: Enclosure, lower: Any, upper: Any) -> float:
    """A bound of the integral of |f|, 0 where f is proved to be 0; inf where nothing can be said."""
    span = Range(np.float64(min(lower, upper)), np.float64(max(lower, upper)), np)
    edges = _edges(span, PROOF)
    if not (np.isfinite(span.lower) and np.isfinite(span.upper)):
        edges = np.unique(np.concatenate([[span.lower], edges, [span.upper]]))
    try:
        lo, hi, _ = enclosure(edges[:-1], edges[1:])
    except NotImplementedError:
        return float("inf")
    most = np.max(np.maximum(np.abs(lo), np.abs(hi)), axis=1)
    if np.all(most == 0):
        return 0.0
    return float(np.sum(np.where(most > 0, most, 0.0) * np.where(most > 0, np.diff(edges), 0.0)))
