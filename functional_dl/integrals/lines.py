"""Lines along the axes of a region, on which the rules for it are chosen and judged.

Any line tells of peaks, kinks and jumps that it crosses.  Some go anywhere; some through the greatest values, climbed
to from the greatest of a sample, so that a narrow peak or an unbounded place is crossed at its middle; some around
these at smaller and smaller distances, and some close to the ends of the other axes, where functions that are singular
at edges and corners are hardest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functional_dl.integrals.box import Box, place, plain

ANYWHERE, NEAR_ENDS, TOPS = 20, 8, 4
ROUNDS = 4
WIDE = 192  # places on the whole of an axis, tried in climbing
NEAR = 10.0 ** -np.arange(1, 11)  # and on both sides of where one is
AROUND = 10.0 ** -np.arange(1, 8)  # distances from the first tops at which lines pass
STEPS = 10.0 ** -np.arange(0.5, 13, 0.5)  # distances at which a top's breadth is looked for


class Lines(NamedTuple):
    """Places are shares of the way; a line along each axis goes through each place.

    Fields:
      places: (n, d).
      weights: (n, d): what share of the region's breadth a line along axis k stands for.
      tops: (m, d), places of greatest values; breadths: (m, d), how far they are more than half as great.
      evaluations: what finding them took.
    """

    places: np.ndarray
    weights: np.ndarray
    tops: np.ndarray
    breadths: np.ndarray
    evaluations: int


def through(box: Box, values: Callable[..., Any], best: np.ndarray) -> Lines:
    """The lines for a region, given places (m, d) of great values."""
    rng, d = np.random.default_rng(3), box.ndim
    tops, breadths, count = _climb(box, values, best[-TOPS:])
    around = np.concatenate([top + np.outer(AROUND, rng.choice([-1, 1], d)) for top in tops[-2:]])
    around = np.clip(np.abs(around), 1e-12, None)
    around = np.where(around < 1, around, 2 - around)
    ends = 10.0 ** -rng.uniform(1, 8, (NEAR_ENDS, d))
    sided = np.where(rng.random(ends.shape) < 0.5, ends, 1 - ends)
    anywhere = rng.random((ANYWHERE, d))
    places = np.concatenate([best, tops, around, sided, anywhere])
    extents = [
        np.ones(best.shape),
        breadths,
        np.tile(np.repeat(AROUND[:, None], d, 1), (2, 1)),
        ends,
        np.ones((ANYWHERE, d)),
    ]
    extents = np.minimum(1.0, 2 * np.concatenate(extents))
    others = [np.prod(np.delete(extents, k, axis=1), axis=1) for k in range(d)]
    return Lines(places, np.stack(others, axis=1), tops, breadths, count)


def _climb(box: Box, values, best):
    """From each place to the greatest modulus along one axis after the other: (places, breadths, evaluations)."""
    kinds, at = plain(box), np.array(best)
    rng = np.random.default_rng(7)
    offsets = np.concatenate([[0.0], NEAR, -NEAR])

    def moduli(k, tried):
        points = np.repeat(at, tried.shape[1], axis=0)
        points[:, k] = np.clip(tried, 1e-12, 1 - 1e-12).ravel()
        size = np.max(np.abs(values(kinds, place(box, kinds, points))), axis=1).reshape(tried.shape)
        return np.where(np.isfinite(size), size, -1.0)

    count = 0
    for _ in range(ROUNDS):
        before = at.copy()
        for k in range(box.ndim):
            wide = np.broadcast_to(rng.random(WIDE), (len(at), WIDE))
            tried = np.clip(np.concatenate([at[:, k, None] + offsets, wide], axis=1), 1e-12, 1 - 1e-12)
            size = moduli(k, tried)
            count += size.size
            at[:, k] = tried[np.arange(len(at)), np.argmax(size, axis=1)]
        if np.all(at == before):
            break
    breadths = np.ones(at.shape)
    for k in range(box.ndim):
        tried = np.concatenate([at[:, k, None], at[:, k, None] + STEPS, at[:, k, None] - STEPS], axis=1)
        size = moduli(k, tried)
        count += size.size
        low = np.minimum(size[:, 1 : 1 + len(STEPS)], size[:, 1 + len(STEPS) :]) < size[:, :1] / 2
        breadths[:, k] = np.min(np.where(low, STEPS, 1.0), axis=1)
    return at, breadths, count
