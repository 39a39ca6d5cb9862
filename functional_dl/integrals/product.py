"""Product rules over a region: as many nodes on each axis as lines ask for, judged by a rule of other nodes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from functional_dl.integrals import box, rules
from functional_dl.integrals.box import DOUBLE_EXPONENTIAL, SHARE, Axis, Box
from functional_dl.integrals.lines import Lines

LADDER = (
    3, 4, 6, 8, 10, 12, 14, 16, 19, 22, 26, 32, 38, 45, 54, 64, 76, 90, 108, 128, 152, 180, 215, 256, 362, 512, 724,
    1024,
)  # fmt: skip
TARGET = 1e-13
FEW = 64  # up to so many nodes Gauss's rule is taken without trying the other


def rule(
    region: Box, total: Callable[..., Any], kinds: np.ndarray, sizes: list[int], eps: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """(value, error, evaluations) of a product rule, judged by one with an eighth fewer nodes on every axis."""
    fine = [_axis(region, k, kind, n) for k, (kind, n) in enumerate(zip(kinds, sizes))]
    coarse = [_axis(region, k, kind, n - max(1, n // 8)) for k, (kind, n) in enumerate(zip(kinds, sizes))]
    (value, size), (other, _) = total(fine), total(coarse)
    used = sum(math.prod(len(axis.nodes) for axis in axes) for axes in (fine, coarse))
    return value, 2 * np.abs(value - other) + 64 * eps * size, used


def sizes(region: Box, values: Callable[..., Any], lines: Lines) -> tuple[np.ndarray, list[int], bool, int]:
    """(kinds, sizes, whether all lines settled, evaluations): the nodes after which lines do not change."""
    placed = box.place(region, box.plain(region), lines.places)
    tops = box.place(region, box.plain(region), lines.tops)
    heights = np.abs(values(box.plain(region), tops))
    peaks, count = [heights * lines.breadths[:, k, None] for k in range(region.ndim)], len(tops)

    def settle(k, kind):
        """The first size after which two more change nothing."""
        nonlocal count
        mixed = box.plain(region)
        mixed[k] = kind
        found, quiet, weights = [], 0, lines.weights[:, k, None]
        at_tops = np.all(placed[:, None] == tops[None], axis=2).argmax(axis=0)
        for rung, n in enumerate(LADDER):
            axis = _axis(region, k, kind, n)
            points = np.repeat(placed, n, axis=0)
            points[:, k] = np.tile(axis.nodes, len(placed))
            g = values(mixed, points).reshape(len(placed), n, -1)
            count += len(points)
            found.append(np.einsum("lnk,n->lk", g, axis.weights))
            scale = np.maximum(np.max(weights * np.abs(found[-1]), axis=0), np.finfo(float).tiny)
            still = rung and np.all(weights * np.abs(found[-1] - found[-2]) <= TARGET * scale)
            # the nodes meet the tops that their lines go through
            mass = np.einsum("lnk,n->lk", np.abs(g[at_tops]), np.abs(axis.weights))
            quiet = quiet + 1 if still and np.all(peaks[k] <= 10 * mass) else 0
            if quiet == 2:
                return LADDER[rung - (2 if region.ndim > 4 else 1)], True  # in many dimensions every node counts
        return 256, False

    kinds, counts, settled = [], [], True
    for k in range(region.ndim):
        kind = DOUBLE_EXPONENTIAL if region.infinite[k] else SHARE
        n, good = settle(k, kind)
        if not region.infinite[k] and not (good and n <= FEW):
            other, other_good = settle(k, DOUBLE_EXPONENTIAL)
            if other_good and (not good or other < n):
                kind, n, good = DOUBLE_EXPONENTIAL, other, True
        kinds.append(kind)
        counts.append(n)
        settled &= good
    return np.array(kinds), counts, settled, count


def within(counts: list[int], budget: float) -> list[int]:
    """Sizes whose product stays within the budget: the largest axis gives way first."""
    counts = list(counts)
    while math.prod(counts) > budget:
        counts[int(np.argmax(counts))] = max(2, int(max(counts) * 0.95) - 1)
    return counts


def _axis(region: Box, k: int, kind: int, n: int) -> Axis:
    """n nodes on axis k."""
    if kind == SHARE:
        return Axis(kind, *rules.gauss(n))
    reach = box.span(region, np.full(region.ndim, kind))[1][k]
    step = 2 * reach / n
    return Axis(kind, -reach + step * (np.arange(n) + 0.4871), np.full(n, step))
