"""An axis cut into panels on which functions are polynomials to rounding: peaks, kinks and jumps across it are found.

On each panel a function is known at the nodes of Gauss's rule.  A panel is halved until its values between them
are those of the polynomial.  Around a kink or jump this ends in many narrow panels: the axis is cut
there instead, and two wide ones serve.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functional_dl.aliases import Array
from functional_dl.integrals import rules

ORDER = 12
POINTWISE = 1e-13  # of the greatest value: what a panel's polynomial may be wrong by
INTEGRATED = 1e-15  # the same times the panel's share of the axis: what jumps may be wrong by
DEPTH = 48
MOST = 160  # panels
ENDS = 10.0 ** -np.arange(2, 9)  # of a panel: where else it is asked, for what hides between its ends and its nodes
UNSEEN = 1e-3  # of the axis: samples meet wider panels
NARROW = 1e-5  # of the axis: panels below it surround a kink or a jump


class Panels(NamedTuple):
    """Edges of panels, in increasing order; and over each panel that is too narrow to be met by samples the integral
    of the polynomial's fault, for each function (0 over wider ones)."""

    edges: np.ndarray
    hidden: np.ndarray

    @property
    def nodes(self) -> np.ndarray:
        return _nodes(self.edges).ravel()

    @property
    def weights(self) -> np.ndarray:
        return (np.diff(self.edges)[:, None] * rules.gauss(ORDER)[1]).ravel()

    @property
    def narrow(self) -> np.ndarray:
        """Which panels samples do not meet."""
        return np.diff(self.edges) < UNSEEN * (self.edges[-1] - self.edges[0])

    def locate(self, u: Array) -> tuple[np.ndarray, np.ndarray]:
        """For places u (n,): the panel of each, and the weights (n, ORDER) of that panel's nodes in the polynomial."""
        panel = np.clip(np.searchsorted(self.edges, u, side="right") - 1, 0, len(self.edges) - 2)
        share = (u - self.edges[panel]) / np.diff(self.edges)[panel]
        return panel, rules.interpolation(rules.gauss(ORDER)[0], share)


def cut(values: Callable[..., Any], edges: Any, weights: Any) -> Panels:
    """Panels of an axis for values: places (n,) -> (n, functions).

    Args:
      edges: its ends, with places between at which panels shall end.
      weights: (functions,), each at most 1: how much a fault of each counts.
    """
    found = _halve(values, edges, weights)
    spots = _spots(found)
    if spots:
        places = (found.edges[spots] + found.edges[np.add(spots, 1)]) / 2
        again = _halve(values, np.unique(np.concatenate([edges, places])), weights)
        if len(again.edges) < len(found.edges):
            # a place is known to half the panel that it is the middle of
            return Panels(again.edges, np.concatenate([again.hidden, found.hidden[spots]]))
    return found


def _halve(values: Callable[..., Any], edges, weights) -> Panels:
    """The panels after halving whatever is no polynomial yet."""
    nodes = rules.gauss(ORDER)[0]
    places = np.concatenate([nodes / 2, (1 + nodes) / 2, ENDS, 1 - ENDS])
    predict = rules.interpolation(nodes, places)
    whole = edges[-1] - edges[0]
    left, right = edges[:-1], edges[1:]
    known = _at(values, left, right, nodes)
    scale, kept = np.max(np.abs(known), axis=(0, 1)), []
    for depth in range(DEPTH):
        found = _at(values, left, right, places)
        scale = np.maximum(scale, np.max(np.abs(found), axis=(0, 1)))
        fault = weights * np.max(np.abs(found - np.einsum("hn,pnk->phk", predict, known)), axis=1)
        width = right - left
        small = (fault <= POINTWISE * scale) | (fault * (width / whole)[:, None] <= INTEGRATED * scale)
        split = ~np.all(small, axis=1)
        if depth + 1 == DEPTH or len(kept) + 2 * len(left) > MOST:
            split[:] = False
        kept.extend(zip(left[~split], width[~split], fault[~split]))
        if not split.any():
            break
        middle = ((left + right) / 2)[split]
        left, right = np.concatenate([left[split], middle]), np.concatenate([middle, right[split]])
        known = np.concatenate([found[split, :ORDER], found[split, ORDER : 2 * ORDER]])
    kept.sort(key=lambda panel: panel[0])
    hidden = [width * fault * (width < UNSEEN * whole) for _, width, fault in kept]
    return Panels(np.array([*(start for start, _, _ in kept), edges[-1]]), np.array(hidden))


def _at(values, left, right, places):
    """(panels, places, functions) at shares of the way through each panel."""
    points = left[:, None] + (right - left)[:, None] * places
    return values(points.ravel()).reshape(len(left), len(places), -1)


def _nodes(edges):
    return edges[:-1, None] + np.diff(edges)[:, None] * rules.gauss(ORDER)[0]


def _spots(found: Panels) -> list[int]:
    """Of each run of narrow panels the narrowest; the one with the greatest fault where two are as narrow."""
    widths = np.diff(found.edges)
    narrow = np.flatnonzero(widths < NARROW * (found.edges[-1] - found.edges[0]))
    runs = np.split(narrow, np.flatnonzero(np.diff(narrow) > 1) + 1) if len(narrow) else []
    faults = np.sum(found.hidden, axis=1)
    return [int(max(run, key=lambda k: (-np.rint(np.log2(widths[k])), faults[k]))) for run in runs]
