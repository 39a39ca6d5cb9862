"""Looking at the integrand before it is integrated: where it is finite, how large it is, where its features hide.

A rule sees an integrand at its nodes only; a peak between two nodes is missed by the rule and by its error estimate
alike.  So the integrand is sampled first, densely and off any rule's nodes: evenly in t (which also is a quadrature,
the trapezoidal rule being exponentially accurate there), and evenly along the range itself or, where that is
infinite, along its logarithm; and along the logarithms of distances from 0.  The places where a sample departs most
from its neighbours become break points.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functional_dl.integrals import substitution
from functional_dl.integrals.substitution import Range

PLACES = 10  # features that get break points
REACH = (1, 4, 16)  # samples on either side of a feature where these are set
APART = 4  # samples between two features
GOLDEN = (np.sqrt(5.0) - 1) / 2


class SearchResult(NamedTuple):
    """What the samples say."""

    t_lower: Any  # the part of the t axis where the integrand can be evaluated
    t_upper: Any
    breaks: Any  # (6 PLACES,), increasing, within it
    size: Any  # (K,) about the integral of |f|
    trapezoid: Any  # (K,) the integral by the trapezoidal rule in t
    doubt: Any  # (K,) how far that rule may be off
    hole: Any  # whether the integrand is not finite on a part of the range that matters
    hole_at: Any  # and where (x)


def sample(evaluate: Callable[..., Any], span: Range, count: int) -> SearchResult:
    """Sample `evaluate: t (n,) -> (values (n, K), finite (n,))` at `count` places twice over."""
    xp = span.xp
    t_lower, t_upper = substitution.limits(span)
    even, step = _evenly_in_t(xp, t_lower, t_upper, count)
    extra = xp.concatenate([_along_the_range(span, count), _about_zero(span, count // 8)])
    t = xp.concatenate([even, xp.clip(extra, t_lower, t_upper)])
    values, finite = evaluate(t)
    order = xp.argsort(t)
    # projections stand for vectors: a feature of any entry shows in a sum with random weights
    weights = xp.asarray(np.random.default_rng(7).uniform(0.5, 1.5, values.shape[1]) * _signs(values.shape[1]))
    projected, t, finite = (values @ weights)[order], t[order], finite[order]
    t_lower, t_upper, hole, hole_at = _finite_part(span, t, projected, finite, t_lower, t_upper)
    breaks = _features(xp, t, projected, t_lower, t_upper)
    rows = xp.where(((even >= t_lower) & (even <= t_upper))[:, None], values[:count], 0.0)
    whole, half = xp.sum(rows, axis=0) * step, xp.sum(rows[::2], axis=0) * (2 * step)
    bend = xp.sort(xp.abs(rows[1:-1] - (rows[2:] + rows[:-2]) / 2), axis=0)[-64:]
    # a jump costs the rule half a step of it, and each jump shows as a bend of two samples
    doubt = 4 * xp.abs(whole - half) + 2 * step * xp.sum(bend, axis=0)
    return SearchResult(t_lower, t_upper, breaks, xp.sum(xp.abs(rows), axis=0) * step, whole, doubt, hole, hole_at)


def _signs(n):
    return np.where(np.random.default_rng(8).random(n) < 0.5, -1.0, 1.0)


def _evenly_in_t(xp, t_lower, t_upper, count):
    step = (t_upper - t_lower) / count
    return t_lower + step * (xp.arange(count, dtype=xp.float64) + 0.5), step


def _along_the_range(span: Range, count):
    """The t of places evenly spread along the range, each moved a little; logarithmically where it is infinite."""
    xp, (finite, right, left, _) = span.xp, span.kinds
    parts = xp.asarray((np.arange(count) + 0.25 + 0.5 * np.mod(GOLDEN * np.arange(count), 1.0)) / count)
    a, b = xp.where(xp.isfinite(span.lower), span.lower, 0.0), xp.where(xp.isfinite(span.upper), span.upper, 0.0)
    far = xp.exp(-16.0 + 35.0 * parts)  # from 1e-7 to 1e8
    # both halves of the whole line, each the logarithmic scale
    folded = xp.where(parts < 0.5, -xp.exp(18.0 - 68.0 * parts), xp.exp(-50.0 + 68.0 * parts))
    x = xp.where(finite, a + (b - a) * parts, xp.where(right, a + far, xp.where(left, b - far, folded)))
    return xp.where(finite, substitution.share_to_t(xp, parts), substitution.to_t(span, x))


def _about_zero(span: Range, count):
    """The t of places on both sides of 0 on the logarithmic scale: what is narrow on a long range tends to sit at 0."""
    xp = span.xp
    size = np.exp(np.linspace(-18.0, 35.0, max(count // 2, 2)))  # from 1e-8 to 1e15
    x = xp.asarray(np.concatenate([-size[::-1], size]))
    # not the middle, where symmetric integrands have their holes
    elsewhere, _, _ = substitution.to_x(span, 0.137 + 0.0 * x)
    return substitution.to_t(span, xp.where((x > span.lower) & (x < span.upper), x, elsewhere))


def _finite_part(span: Range, t, g, finite, t_lower, t_upper):
    """Cut off runs without a finite value at the ends, where the integrand has died out before; else it is a hole.

    x^2 exp(-x^2) is inf * 0 at x = 1e200: nothing is lost there.  sqrt(x) on [-1, 1] is NaN on half of the range.
    """
    xp, n = span.xp, t.shape[0]
    any_finite = xp.any(finite)
    first = _first(xp, finite)
    last = n - 1 - _first(xp, finite[::-1])
    between = (xp.arange(n) > first) & (xp.arange(n) < last) & ~finite
    largest = xp.max(xp.where(finite, xp.abs(g), 0.0))
    bounded_below, bounded_above = xp.isfinite(span.lower), xp.isfinite(span.upper)
    x_first, _, _ = substitution.to_x(span, t[first])
    x_last, _, _ = substitution.to_x(span, t[last])
    width = xp.where(bounded_below & bounded_above, span.upper - span.lower, 1.0)
    dead_first = xp.abs(g[first]) <= 1e-16 * largest
    dead_last = xp.abs(g[last]) <= 1e-16 * largest
    lost_below = (first > 0) & ~(dead_first & (~bounded_below | (x_first - span.lower < 1e-3 * width)))
    lost_above = (last < n - 1) & ~(dead_last & (~bounded_above | (span.upper - x_last < 1e-3 * width)))
    hole = ~any_finite | xp.any(between) | lost_below | lost_above
    where = xp.where(xp.any(between), t[_first(xp, between)], xp.where(lost_below, t[first], t[last]))
    x_where, _, _ = substitution.to_x(span, where)
    cut_below = xp.where((first > 0) & any_finite, t[first], t_lower)
    cut_above = xp.where((last < n - 1) & any_finite, t[last], t_upper)
    return cut_below, cut_above, hole, x_where


def _first(xp, holds):
    """The first place where a condition holds; 0 if nowhere.  A program's own argmax is not to be had where x64 is
    off."""
    if xp is np:
        return np.argmax(holds)
    place = xp.min(xp.where(holds, xp.arange(holds.shape[0]), holds.shape[0]))
    return xp.where(place == holds.shape[0], 0, place)


def _features(xp, t, g, t_lower, t_upper):
    """Break points around each of the places where a sample departs most from the line of its neighbours."""
    g = xp.where((t >= t_lower) & (t <= t_upper), g, 0.0)
    gap = xp.maximum(t[2:] - t[:-2], np.finfo(np.float64).tiny)
    line = g[:-2] + (g[2:] - g[:-2]) * ((t[1:-1] - t[:-2]) / gap)
    bend = xp.pad(xp.abs(g[1:-1] - line) * gap, 1)
    around = [xp.roll(bend, k) for k in range(-APART, APART + 1) if k]
    peak = xp.all(xp.stack([bend >= other for other in around]), axis=0) & (bend > 0)
    index = xp.argsort(xp.where(peak, bend, -1.0))[-PLACES:]
    # where there are fewer features than places, the rest is spread evenly
    spread = xp.asarray(np.linspace(0, 1, PLACES + 2)[1:-1] * (t.shape[0] - 1), index.dtype)
    index = xp.where(peak[index], index, spread)
    around = [xp.clip(index + k * side, 0, t.shape[0] - 1) for k in REACH for side in (-1, 1)]
    breaks = xp.sort(t[xp.concatenate(around)])
    length = t_upper - t_lower
    breaks = xp.clip(breaks, t_lower + 1e-6 * length, t_upper - 1e-6 * length)
    return breaks + xp.asarray(np.arange(1, len(breaks) + 1) * 1e-9) * length  # no two alike
