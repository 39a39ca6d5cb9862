"""Kinks: points where the slopes from two sides differ, and what may stand in for a derivative there.

Clarke's subdifferential is the convex hull of the limits of gradients at nearby points.  It is sampled: gradients at
points close by, in random directions.  An entry whose gradient varies among them by far more than the function bends is
at a kink.  A value is a generalised derivative if it lies between the sampled ones, entry by entry, and if no
combination of entries that all nearby gradients agree on contradicts it (max(x, x') gives 1 to the two together, so
(1, 1) is outside although each 1 is inside).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from functional_dl.check import numeric
from functional_dl.check.function import Function, pairing

SAMPLES = 96
DISTANCE = 1e-7  # of the size of x
NEARER = 1e-4
TOGETHER = 40  # wrong entries that are looked at as one vector


@dataclass(frozen=True)
class AtKink:
    """Which of the wrong entries are at kinks, and whether the values there are generalised derivatives."""

    all_bad_are_kinks: bool
    inside: bool
    mask: np.ndarray  # wrong entries that a kink excuses
    message: str


def at_kink(evidence: Any, actual: Any = None) -> AtKink | None:
    """None where the function cannot be sampled or no wrong entry is at a kink."""
    if evidence.reference.source == "numeric":
        return _from_one_sided(evidence, actual)
    if evidence.reference.source != "autodiff":
        return None
    bad = np.argwhere(evidence.bad)
    if not len(bad):
        return None
    given = [a if actual is None else actual for a in evidence.actual][: 1 if actual is not None else None]
    count = SAMPLES if evidence.x.size < 20_000 else 12
    judged = [_sampled(evidence, n, value[evidence.bad], count) for n, value in enumerate(given)]
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


def _sampled(evidence, n, given, count) -> _Sampled:
    t = evidence.trials[n]
    samples = _near(evidence, t.cts, DISTANCE, count)
    expected, tolerance = t.expected[evidence.k][evidence.bad], t.tolerance[evidence.k][evidence.bad]
    low, high = samples.real.min(0), samples.real.max(0)
    size = np.maximum(np.abs(samples).max(0), np.abs(expected))
    kinked = (high - low) > 1e-4 * size + 4 * tolerance
    if kinked.any():  # where fun merely bends, less remains nearer by
        near = _near(evidence, t.cts, NEARER * DISTANCE, count // 4)
        kinked &= near.real.max(0) - near.real.min(0) > 0.1 * (high - low)
    slack = 2 * tolerance + 1e-5 * size
    between = (given.real >= low - slack) & (given.real <= high + slack)
    between |= np.abs(given - expected) <= tolerance
    apart = np.zeros(0, int)
    # what does not vary in any combination of the kinked entries must be as the samples have it
    columns = np.flatnonzero(kinked)[:TOGETHER]
    if len(columns) and between[columns].all() and len(samples) > len(columns) + 8:
        centre = samples[:, columns].real.mean(0)
        _, values, directions = np.linalg.svd(samples[:, columns].real - centre, full_matrices=True)
        values = np.concatenate([values, np.zeros(len(directions) - len(values))])
        fixed = directions[values <= 1e-4 * max(values[0], 1e-300)]
        off = np.abs(fixed @ (given[columns].real - centre))
        if len(off) and off.max() > 1e-3 * float(np.max(size[columns])) + 4 * float(tolerance[columns].max()):
            apart = columns
    return _Sampled(low, high, kinked, between, apart, given)


def _near(evidence, cts, distance, count):
    """Gradients at random points close by, at the wrong entries."""
    function, samples = evidence.function, []
    for _ in range(count):
        moved = [
            x + distance * s * evidence.rng.uniform(-1, 1, x.shape)
            for x, s in zip(function.wide_point, function.scales)
        ]
        samples.append(evidence.pull_at(moved, cts)[evidence.bad])
    return np.array(samples)


def _from_one_sided(evidence, actual) -> AtKink | None:
    """For functions that JAX cannot trace: each wrong entry's own one-sided slopes."""
    t = evidence.trials[0]
    actual = evidence.actual[0] if actual is None else actual
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
            f"at {list(index)} the one-sided slopes are {low:.6g} and {high:.6g}, the cotangent is {actual[index]:.6g}."
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
      kink: whether the slopes from the two sides differ.
    """

    low: float
    high: float
    error: float
    kink: bool

    def __contains__(self, value: Any) -> bool:
        slack = self.error + 1e-9 * max(abs(self.low), abs(self.high))
        return self.low - slack <= float(value) <= self.high + slack


def subdifferential(fun: Callable[..., Any], x: float, direction: Any = None) -> Interval:
    r"""The interval of generalised derivatives of a real function along a direction, from one-sided slopes.

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
    Source: Clarke, Optimization and Nonsmooth Analysis, 1983, section 2.1 (for functions with one-sided slopes).
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

    found = numeric.slopes(value)
    left, right, middle = (float(v) * scale for v in (found.left, found.right, found.value))
    error = float(found.error) * scale
    if not found.kink:
        return Interval(middle, middle, error, False)
    return Interval(min(left, right), max(left, right), error, True)
