"""Places where the derivative of fun is not finite: each is judged by itself, so that the others are judged as ever.

Where JAX's derivative is NaN though fun is defined on both sides (a norm at 0), the truth lies between the one-sided
slopes of fun's values; where those have no limit either, nothing can be held against the cotangent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from functional_dl.check import numeric
from functional_dl.check.evidence import Trial
from functional_dl.check.function import Function, widen

PLACES = 32  # of a leaf, whose one-sided slopes are looked at: each takes some thirty evaluations of fun
NAMED = 4  # places that a note lists


@dataclass(frozen=True)
class Settled:
    """Trials without places that are not finite.

    Fields:
      trials: the trials, with the expected value at a place taken from one-sided slopes where these tell it; 0 in
        `expected` and `actual` where nothing is to be compared.
      blank: for each leaf the entries that are not compared.
      notes: a sentence for each leaf with such places.
    """

    trials: list[Trial]
    blank: list[np.ndarray]
    notes: list[str]


def settle(function: Function, trials: Sequence[Trial]) -> Settled:
    """The trials with every place where the right cotangent is not finite judged by itself."""
    leaves = [[np.array(a) for a in t.expected] for t in trials]
    actual = [[np.array(a) for a in t.actual] for t in trials]
    tolerance = [[np.array(a) for a in t.tolerance] for t in trials]
    blanks, notes = [], []
    for k in range(len(function.active)):
        expected = [np.stack([t[k] for t in part]) for part in (leaves, actual)]
        blank, note = _leaf(function, trials, k, *expected, [t[k] for t in leaves], [t[k] for t in tolerance])
        for part in (leaves, actual):
            for t in part:
                t[k][blank] = 0.0
        blanks.append(blank)
        notes += [note] if note else []
    if not any(blank.any() for blank in blanks) and not notes:
        return Settled(list(trials), blanks, [])
    settled = [Trial(t.cts, tuple(e), tuple(a), tuple(o)) for t, e, a, o in zip(trials, leaves, actual, tolerance)]
    return Settled(settled, blanks, notes)


def _leaf(function, trials, k, expected, actual, truths, tolerances) -> tuple[np.ndarray, str]:
    """The entries of a leaf that are not compared, and the note; writes into truths and tolerances what slopes tell."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = widen(expected.astype(function.point[k].dtype))
    beyond = ~np.isfinite(rounded).all(0)
    if not beyond.any():
        return beyond, ""
    same = ((actual == rounded) | (np.isnan(actual) & np.isnan(rounded))).all(0)
    undefined = ~np.isfinite(expected).all(0)  # the others are only too large for the caller's dtype
    blank = beyond & (same | undefined)
    told = 0
    if not np.iscomplexobj(expected):
        for index in [tuple(i) for i in np.argwhere(undefined & ~same)][:PLACES]:
            slopes = numeric.of_entry(function, k, index)
            found = [_between(slopes, t.cts) for t in trials]
            if not np.isfinite(found).all():
                continue
            for n, (low, high, error) in enumerate(found):
                given = actual[(n, *index)]
                truths[n][index] = np.clip(given, low, high) if np.isfinite(given) else (low + high) / 2
                tolerances[n][index] = np.nanmax([tolerances[n][index], 0.0]) + error
            blank[index] = False
            told += 1
    places = [list(map(int, i)) for i in np.argwhere(undefined)]
    if not places:
        return blank, ""
    rest = int((undefined & blank & ~same).sum())
    parts = [
        f"{count} {what}"
        for count, what in (
            (int((undefined & same).sum()), "where the backward pass returns the same"),
            (told, "held against one-sided differences of fun's values"),
            (rest, "not judged"),
        )
        if count
    ]
    shown = ", ".join(map(str, places[:NAMED])) + (", ..." if len(places) > NAMED else "")
    path = function.paths[function.active[k]]
    return blank, (
        f"{path}: the derivative of fun is not finite in {len(places)} of {undefined.size} entries ({shown}): "
        f"{', '.join(parts)}."
    )


def _between(slopes: numeric.Slopes, cts) -> tuple[float, float, float]:
    """The ends of what the entry's cotangent may be, and their error."""
    flat = np.concatenate([numeric._real_ct(c) for c in cts])
    with np.errstate(invalid="ignore"):
        ends = [np.where(flat == 0, 0.0, flat * np.where(slopes.kink, side, slopes.value))
                for side in (slopes.left, slopes.right)]  # fmt: skip
        error = np.where(flat == 0, 0.0, np.abs(flat) * slopes.error)
    return float(np.minimum(*ends).sum()), float(np.maximum(*ends).sum()), float(error.sum())
