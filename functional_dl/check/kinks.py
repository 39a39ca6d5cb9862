"""Kinks: points where the derivatives from two sides differ, and what may stand in for a derivative there.

Clarke's subdifferential is the convex hull of the limits of gradients at nearby points.  It is sampled: gradients at
points close by, in random directions.  An entry whose gradient varies among them by far more than the function bends is
at a kink.  A value is a generalised derivative if it lies between the sampled ones, entry by entry, and if no
combination of entries that all nearby gradients agree on contradicts it (max(x, x') gives 1 to the two together, so
(1, 1) is outside although each 1 is inside).

A place where JAX's derivative is NaN though fun is defined on both sides (a norm at 0) is judged by itself, between the
one-sided derivatives of fun's values; where those have no limit either, nothing can be held against the cotangent.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from functional_dl.check import numeric
from functional_dl.check.evidence import Evidence, Trial
from functional_dl.check.function import Function, pairing, widen

SAMPLES = 96
MOST = 1536  # samples, where many entries tie
DISTANCE = 1e-7  # of the size of x
NEARER = 1e-4
TOGETHER = 240  # entries at kinks that are looked at as one vector
SPARE = 16  # samples of them beyond their number
PLACES = 32  # of a leaf, whose one-sided derivatives are looked at: each takes some thirty evaluations of fun
NAMED = 4  # places that a note lists


@dataclass(frozen=True)
class AtKink:
    """Which of the wrong entries are at kinks, and whether the values there are generalised derivatives."""

    all_bad_are_kinks: bool
    inside: bool
    mask: np.ndarray  # wrong entries that a kink excuses
    message: str


def at_kink(evidence: Evidence) -> AtKink | None:
    """None where the function cannot be sampled or no wrong entry is at a kink."""
    if evidence.reference.source == "numeric":
        return _from_one_sided(evidence)
    if evidence.reference.source != "autodiff":
        return None
    bad = np.argwhere(evidence.bad)
    if not len(bad):
        return None
    count = SAMPLES if evidence.x.size < 20_000 else 12
    judged = [_sampled(evidence, n, count) for n in range(len(evidence.actual))]
    kinked = np.any([s.kinked for s in judged], axis=0)
    if not kinked.any():
        return None
    # a value stands in for the derivative if it does so for every cotangent
    inside = kinked & np.all([s.between for s in judged], axis=0)
    for s in judged:
        inside[s.apart] = False
    mask = np.zeros(evidence.bad.shape, bool)
    mask[evidence.bad] = inside
    telling = max(judged, key=lambda s: int(s.kinked.sum()))
    first = int(np.flatnonzero(telling.kinked)[0])
    place = tuple(int(i) for i in bad[first])
    message = (
        f"{int(kinked.sum())} of the {len(bad)} wrong entries lie at a kink; at {list(place)} generalised derivatives "
        f"lie in [{telling.low[first]:.6g}, {telling.high[first]:.6g}], the cotangent is "
        f"{telling.given[first].real:.6g}."
    )
    return AtKink(bool(kinked.all()), bool(inside.all()), mask, message)


@dataclass(frozen=True)
class _Sampled:
    """Gradients near the point for one cotangent, at the wrong entries: their ends, which entries are kinked, which
    given values lie between, and the entries that no generalised derivative has together."""

    low: np.ndarray
    high: np.ndarray
    kinked: np.ndarray
    between: np.ndarray
    apart: np.ndarray
    given: np.ndarray


def _sampled(evidence, n, count) -> _Sampled:
    t, wrong = evidence.trials[n], np.flatnonzero(evidence.bad)
    given, expected, tolerance = (
        np.ravel(part) for part in (evidence.actual[n], t.expected[evidence.k], t.tolerance[evidence.k])
    )
    samples, before = _near(evidence, t.cts, DISTANCE, count), None
    while True:
        low, high = samples.real.min(0), samples.real.max(0)
        size = np.maximum(np.abs(samples).max(0), np.abs(expected))
        varied = (high - low) > 1e-4 * size + 4 * tolerance
        kinked = varied
        if varied[wrong].any():  # where fun merely bends, less remains nearer by
            near = _near(evidence, t.cts, NEARER * DISTANCE, len(samples) // 4 if before is None else len(samples))
            kinked = varied & (near.real.max(0) - near.real.min(0) > 0.1 * (high - low))
        slack = 2 * tolerance + 1e-5 * size
        between = (given.real >= low - slack) & (given.real <= high + slack)
        between |= np.abs(given - expected) <= tolerance
        # of many entries that tie each is rarely the one that is chosen: seen while more samples still show more
        ends = np.stack([low, high])
        shown = before is None or bool((np.abs(ends - before) > 1e-3 * size).any())
        if (kinked & between)[wrong].all() or not varied.any() or not shown or len(samples) >= MOST or count < SAMPLES:
            break
        samples, before = np.concatenate([samples, _near(evidence, t.cts, DISTANCE, len(samples))]), ends
    apart = _sums_depart(evidence.bad.shape, samples.real, given.real, size, tolerance)[wrong] & varied[wrong]
    # what does not vary in any combination of the entries that vary must be as the samples have it
    columns = _around(np.flatnonzero(varied), wrong[kinked[wrong]], evidence.bad.shape)
    if len(columns) and between[columns].all() and count == SAMPLES:
        more = len(columns) + SPARE - len(samples)
        samples = samples[:, columns].real
        if more > 0:
            samples = np.concatenate([samples, _near(evidence, t.cts, DISTANCE, more)[:, columns].real])
        centre = samples.mean(0)
        _, values, directions = np.linalg.svd(samples - centre)
        values = np.concatenate([values, np.zeros(len(directions) - len(values))])
        fixed = directions[values <= 1e-4 * max(values[0], 1e-300)]
        off = np.abs(fixed @ (given[columns].real - centre))
        if len(off) and off.max() > 1e-3 * float(np.max(size[columns])) + 4 * float(tolerance[columns].max()):
            apart |= np.isin(wrong, columns)
    return _Sampled(low[wrong], high[wrong], kinked[wrong], between[wrong], apart, given[wrong])


def _sums_depart(shape, samples, given, size, tolerance):
    """Entries in a sum along some axes that all samples agree on, and the given values do not."""
    found = np.zeros(shape, bool)
    whole = samples.reshape(-1, *shape)
    for count in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), count):
            total = lambda x, axes=axes: x.reshape(shape).sum(axes, keepdims=True)
            sums = whole.sum(tuple(a + 1 for a in axes), keepdims=True)
            least, most = sums.min(0), sums.max(0)
            agreed = most - least <= 1e-6 * total(size) + total(tolerance)
            off = np.abs(total(given) - (least + most) / 2)
            limit = 1e-3 * size.reshape(shape).max(axes, keepdims=True) + 4 * total(tolerance)
            found |= agreed & (off > limit)
    return found.ravel()


def _around(varied, wrong, shape):
    """Of the entries that vary those that are looked at together: the nearest to the first wrong one."""
    if not len(wrong) or len(varied) <= TOGETHER:
        return varied if len(wrong) else wrong
    places, first = np.unravel_index(varied, shape), np.unravel_index(wrong[0], shape)
    distance = np.max([np.abs(at - start) for at, start in zip(places, first)], axis=0)
    return np.sort(varied[np.argsort(distance, kind="stable")[:TOGETHER]])


def _near(evidence, cts, distance, count):
    """Gradients at random points close by, of the whole leaf."""
    function, samples = evidence.function, []
    for _ in range(count):
        moved = [
            x + distance * s * evidence.rng.uniform(-1, 1, x.shape)
            for x, s in zip(function.wide_point, function.scales)
        ]
        samples.append(np.ravel(evidence.pull_at(moved, cts)))
    return np.array(samples)


def _from_one_sided(evidence) -> AtKink | None:
    """For functions that JAX cannot trace: each wrong entry's own one-sided derivatives."""
    t = evidence.trials[0]
    actual = evidence.actual[0]
    bad = [tuple(i) for i in np.argwhere(evidence.bad)]
    if not bad or len(bad) > 200 or np.iscomplexobj(evidence.x):
        return None
    mask = np.zeros(evidence.bad.shape, bool)
    kinked, message = 0, ""
    for index in bad:
        direction = [np.zeros(x.shape, x.dtype) for x in evidence.function.wide_point]
        step = evidence.function.scales[evidence.k][index]
        direction[evidence.k][index] = step
        found = numeric.along(evidence.function, direction, t.cts)
        if not found.kink:
            continue
        kinked += 1
        low, high = (float(v) / step for v in found.interval)
        slack = 2 * float(t.tolerance[evidence.k][index]) + 1e-5 * max(abs(low), abs(high))
        mask[index] = low - slack <= actual[index] <= high + slack
        message = message or (
            f"at {list(index)} the one-sided derivatives are {low:.6g} and {high:.6g}, the cotangent is "
            f"{actual[index]:.6g}."
        )
    if not kinked:
        return None
    return AtKink(
        kinked == len(bad), bool(mask[evidence.bad].all()), mask, f"{kinked} wrong entries at kinks; {message}"
    )


@dataclass(frozen=True)
class Interval:
    """The generalised derivatives along a line: [low, high], one number where there is no kink.

    Fields:
      low, high: ends of the interval.
      error: bound of their error.
      kink: whether the derivatives from the two sides differ.
    """

    low: float
    high: float
    error: float
    kink: bool

    def __contains__(self, value: Any) -> bool:
        slack = self.error + 1e-9 * max(abs(self.low), abs(self.high))
        return self.low - slack <= float(value) <= self.high + slack


def subdifferential(fun: Callable[..., Any], x: float, direction: Any = None) -> Interval:
    r"""The interval of generalised derivatives of a real function along a direction, from one-sided derivatives.

    [min(f'(x; v), -f'(x; -v)), max(...)],   f'(x; v) = lim_{h -> 0+} (f(x + h v) - f(x)) / h.

    Args:
      fun: function of one pytree with a real scalar value.
      x: where; a number or a pytree of arrays.
      direction: v, a pytree like x; 1 by default, for a number.
    Returns:
      Interval; `value in interval` allows for its error.
    Raises:
      TypeError: fun's value is no real scalar.
      ValueError: x is no scalar and no direction is given, or direction does not fit x.
    Source: Clarke, Optimization and Nonsmooth Analysis, 1983, section 2.1 (for functions with one-sided derivatives).
    Example:
      >>> between = check.subdifferential(jnp.abs, 0.0)
      >>> between.low, between.high, 0.5 in between, 1.5 in between
      (-1.0, 1.0, True, False)
    """
    function = Function(fun, (x,))
    if len(function.outs) != 1 or np.shape(function.outs[0]) != () or np.iscomplexobj(function.outs[0]):
        raise TypeError(f"fun: expected a real scalar value, got {[np.shape(y) for y in function.outs]}")
    if direction is None:
        if len(function.leaves) != 1 or np.shape(function.leaves[0]) != ():
            raise ValueError("direction: expected one, as x is no scalar")
        parts = [np.ones(())]
    else:
        other = Function(lambda *_: 0.0, (direction,))
        if other.tree != function.tree or [v.shape for v in other.leaves] != [v.shape for v in function.leaves]:
            raise ValueError(f"direction: expected the tree and shapes of x, got {direction!r}")
        parts = [np.asarray(other.leaves[i], np.float64) for i in function.active]
    scale = max(float(np.max(np.abs(v) / s, initial=0.0)) for v, s in zip(parts, function.scales)) or 1.0

    def value(t):
        moved = [p + t / scale * v for p, v in zip(function.wide_point, parts)]
        return np.asarray(pairing([np.ones(())], function.evaluate(moved)))

    found = numeric.derivative(value)
    left, right, middle = (float(v) * scale for v in (found.left, found.right, found.value))
    error = float(found.error) * scale
    if not found.kink:
        return Interval(middle, middle, error, False)
    return Interval(min(left, right), max(left, right), error, True)


# --- places where the derivative is not finite


@dataclass(frozen=True)
class Settled:
    """Trials without places that are not finite.

    Fields:
      trials: the trials, with the expected value at a place taken from one-sided derivatives where these tell it; 0 in
        `expected` and `actual` where nothing is to be compared.
      blank: for each leaf the entries that are not compared.
      notes: a sentence for each leaf with such places.
    """

    trials: list[Trial]
    blank: list[np.ndarray]
    notes: list[str]


def settle(function: Function, trials: Sequence[Trial]) -> Settled:
    """The trials with every place where the right cotangent is not finite judged by itself.

    What is not finite among the primals spreads to other places in each way of writing a pass: there a cotangent that
    is not finite is not judged either.
    """
    spoilt = not all(np.isfinite(x).all() for x in function.wide_point)
    leaves = [[np.array(a) for a in t.expected] for t in trials]
    actual = [[np.array(a) for a in t.actual] for t in trials]
    tolerance = [[np.array(a) for a in t.tolerance] for t in trials]
    blanks, notes = [], []
    for k in range(len(function.active)):
        expected, given = (np.stack([t[k] for t in part]) for part in (leaves, actual))
        blank, note = _leaf(function, trials, k, expected, given, [t[k] for t in leaves], [t[k] for t in tolerance])
        spread = ~np.isfinite(given).all(0) & ~blank if spoilt else np.zeros(blank.shape, bool)
        if spread.any():
            blank = blank | spread
            path = function.paths[function.active[k]]
            notes.append(
                f"{path}: the primals hold NaN or infinity; {int(spread.sum())} entries of the cotangent that are not "
                "finite are not judged."
            )
        for part in (leaves, actual):
            for t in part:
                t[k][blank] = 0.0
        blanks.append(blank)
        notes += [note] if note else []
    if not any(blank.any() for blank in blanks) and not notes:
        return Settled(list(trials), blanks, [])
    settled = [
        replace(t, expected=tuple(e), actual=tuple(a), tolerance=tuple(o))
        for t, e, a, o in zip(trials, leaves, actual, tolerance)
    ]
    return Settled(settled, blanks, notes)


def _leaf(function, trials, k, expected, actual, truths, tolerances) -> tuple[np.ndarray, str]:
    """The entries of a leaf that are not compared, and the note.

    Writes into truths and tolerances what one-sided derivatives tell.
    """
    rounded = widen(expected.astype(function.point[k].dtype))
    for n, t in enumerate(trials):  # JAX's own pullback may overflow on the way, as fun itself does
        if t.rounding and t.rounding[k].lost is not None:
            over = np.isfinite(expected[n]) & ~np.isfinite(t.rounding[k].lost)
            rounded[n] = np.where(over, expected[n] + t.rounding[k].lost, rounded[n])
    beyond = np.asarray(~np.isfinite(rounded).all(0))
    if not beyond.any():
        return beyond, ""
    same = ((actual == rounded) | (np.isnan(actual) & np.isnan(rounded))).all(0)
    undefined = ~np.isfinite(expected).all(0)  # the others are only too large for the caller's dtype
    blank = np.asarray(beyond & (same | undefined))
    told = 0
    if not np.iscomplexobj(expected):
        for index in [tuple(i) for i in np.argwhere(undefined & ~same)][:PLACES]:
            sides = numeric.of_entry(function, k, index)
            found = [_between(sides, t.cts) for t in trials]
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


def _between(sides: numeric.DirectionalDerivative, cts) -> tuple[float, float, float]:
    """The ends of what the entry's cotangent may be, and their error."""
    flat = np.concatenate([numeric.real_ct(c) for c in cts])
    ends = [np.where(flat == 0, 0.0, flat * np.where(sides.kink, side, sides.value))
            for side in (sides.left, sides.right)]  # fmt: skip
    error = np.where(flat == 0, 0.0, np.abs(flat) * sides.error)
    return float(np.minimum(*ends).sum()), float(np.maximum(*ends).sum()), float(error.sum())
