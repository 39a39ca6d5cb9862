"""Means over scrambled nets: of the integrand, or of what separated factors leave of it.

With s = A_1(x_1) ... A_d(x_d) close to f, int f = int s + int (f - s): the first is exact, the second small, and its
mean over randomised points is unbiased whatever s is.  Source: Owen 1997; Glasserman 2004, control variates.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functional_dl.integrals import box, panels, separated
from functional_dl.integrals.box import Box
from functional_dl.integrals.lines import Lines

REPLICATES = 16
ERRORS = 8  # standard errors: by Student's distribution with 15 degrees exceeded less than once in a million
POINTS = 2**12  # a replicate, at first
PROBES = 2**15  # nodes at which narrow panels are judged


class Mean(NamedTuple):
    value: np.ndarray
    error: np.ndarray
    best: np.ndarray  # shares of the way of the points of the greatest values
    finite: bool
    evaluations: int
    highest: float  # the greatest modulus


def plain_mean(region: Box, values: Callable[..., Any], points: int) -> Mean:
    """The mean of the integrand itself."""
    return _mean(region, values, box.plain(region), points, None)


def mean_around_factors(region: Box, values: Any, kinds: Any, lines: Lines, budget: int, enough: Any) -> Mean:
    """The integral of separated factors, plus the mean of what they leave."""
    low, high = box.span(region, kinds)
    placed = box.place(region, kinds, lines.places)
    edges = _edges(region, kinds, lines)
    axes = []
    for k in range(region.ndim):
        weights = np.repeat(lines.weights[:, k], region.size)
        axes.append(panels.cut(_along(values, kinds, placed, k), edges[k], weights))
    parts, used = [], 0
    for component in range(region.size):

        def entry(points, component=component):
            nonlocal used
            used += len(points)
            return values(kinds, points)[:, component]

        parts.append(separated.separate(entry, axes, placed, budget // (4 * region.size)))
    unseen = _unseen(values, kinds, axes, parts)
    # the worst of the lines, times the breadth of the other axes
    for axis, breadth in zip(axes, np.prod(high - low) / (high - low)):
        unseen += breadth * np.max(np.sum(axis.hidden, axis=0).reshape(len(placed), -1), axis=0)
    most = 2**17 if max(part.rank for part in parts) <= 16 else 2**15
    for points in (POINTS, int(np.clip(budget / REPLICATES / 8, POINTS, most))):
        mean = _mean(region, values, kinds, points, parts)
        used += mean.evaluations
        mean = mean._replace(error=mean.error + unseen, evaluations=used)
        if enough(mean):
            break
    return mean


def _mean(region: Box, values, kinds, points: int, parts) -> Mean:
    from scipy.stats import qmc

    points = 2 ** int(np.log2(points))
    low, high = box.span(region, kinds)
    volume, means, moduli, best, largest, finite = np.prod(high - low), [], [], [], -1.0, True
    for replicate in range(REPLICATES):
        unit = qmc.Sobol(region.ndim, scramble=True, rng=np.random.default_rng(replicate)).random(points)
        at = low + (high - low) * unit
        g = values(kinds, at)
        finite &= bool(np.all(np.isfinite(g)))
        size = np.max(np.abs(np.where(np.isfinite(g), g, 0.0)), axis=1)
        if size.max() > largest:
            largest, best = size.max(), unit[np.argsort(size)[-4:]]
        rest = g if parts is None else g - np.stack([part(at) for part in parts], axis=1)
        means.append(volume * rest.mean(axis=0))
        moduli.append(volume * np.abs(g).mean(axis=0))
    known = 0.0 if parts is None else np.array([part.integral() for part in parts])
    spread = ERRORS * np.std(means, axis=0, ddof=1) / np.sqrt(REPLICATES)
    error = spread + 64 * np.finfo(float).eps * np.mean(moduli, axis=0)
    error = np.where(np.isfinite(error), error, np.inf)
    return Mean(known + np.mean(means, axis=0), error, np.asarray(best), finite, REPLICATES * points, float(largest))


def _edges(region: Box, kinds, lines: Lines) -> list[np.ndarray]:
    """Where panels end at first: at the ends, and at and around narrow tops."""
    low, high = box.span(region, kinds)
    shares = np.clip(np.concatenate([lines.tops + step * lines.breadths for step in (-2, 0, 2)]), 1e-11, 1 - 1e-11)
    around = box.place(region, kinds, shares)
    edges = []
    for k in range(region.ndim):
        narrow = np.tile(lines.breadths[:, k] < 0.1, 3)
        places = np.unique(np.concatenate([[low[k]], around[narrow, k], [high[k]]]))
        apart = np.diff(places, prepend=-np.inf) > 1e-11 * (high[k] - low[k])
        edges.append(np.concatenate([places[apart][:-1], [high[k]]]))
    return edges


def _along(values, kinds, placed, k):
    """Places on axis k -> the integrand on all lines, (n, lines * K)."""

    def at(u):
        points = np.repeat(placed, len(u), axis=0)
        points[:, k] = np.tile(u, len(placed))
        found = values(kinds, points).reshape(len(placed), len(u), -1)
        return np.moveaxis(found, 1, 0).reshape(len(u), -1)

    return at


def _unseen(values, kinds, axes, parts):
    """What the factors may miss over panels too narrow for samples: sum of weight times fault, from random nodes."""
    rng = np.random.default_rng(13)
    nodes, weights = [axis.nodes for axis in axes], [axis.weights for axis in axes]
    index = np.stack([rng.integers(len(n), size=PROBES) for n in nodes], axis=1)
    narrow = [axis.narrow[index[:, k] // panels.ORDER] for k, axis in enumerate(axes)]
    index = index[np.any(narrow, axis=0)]
    if not len(index):
        return np.zeros(len(parts))
    at = np.stack([n[index[:, k]] for k, n in enumerate(nodes)], axis=1)
    weight = np.prod([w[index[:, k]] * len(w) for k, w in enumerate(weights)], axis=0)
    fault = np.abs(values(kinds, at) - np.stack([part.at(index) for part in parts], axis=1)) * weight[:, None]
    return (np.sum(fault, axis=0) + ERRORS * np.sqrt(np.sum(fault**2, axis=0))) / PROBES
