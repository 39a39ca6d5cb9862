r"""Integrals to infinity that converge by cancellation: between its zeros the integrand gives an alternating series.

    int_a^inf f = int_a^{z_0} f + t_0 + t_1 + ...,      t_k = int_{z_k}^{z_{k+1}} f,    f(z_k) = 0,  z_k -> inf

Where the t_k alternate and fall steadily, a fixed combination of a few of them has the sum to many digits; that they go
on falling is looked up far out.  Source: Longman 1956; Cohen, Rodriguez Villegas and Zagier 2000, algorithm 1.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functional_dl.integrals import host, result, rules
from functional_dl.integrals.core import Core, Settings

PLAIN, SUMMED = 8, 32  # terms that are added as they are, and terms that are combined
NODES = 32
GRID = 4096
SEARCHES = 60
FAR = (30.0, 900.0, 27_000.0)  # multiples of the last zero at which the terms' decrease is examined
FALL = 0.05  # the least power of k by which they fall
STEADY = 0.6  # of that power, far out


class Terms(NamedTuple):
    """Zeros (n + 1,), the terms between them (n,), their errors, and the rule's nodes and weights (n, NODES)."""

    zeros: np.ndarray
    terms: np.ndarray
    errors: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray


def integrate(sampler: host.Sampler, lower: Any, upper: Any, settings: Settings) -> Core | None:
    """The integral, one of whose bounds is infinite and the other not; None where this method does not apply."""
    sign = 1.0 if lower <= upper else -1.0
    low, high = min(lower, upper), max(lower, upper)
    if sampler.size != 1 or math.isinf(low) == math.isinf(high):
        return None
    turn = 1.0 if math.isinf(high) else -1.0  # to -infinity: f(-x)
    start = low if turn > 0 else -high
    fun = lambda x: sampler(turn * x)[:, 0]
    with np.errstate(all="ignore"):
        series = _terms(fun, start, PLAIN + SUMMED)
        if series is None or not _falls(fun, series):
            return None
    first = host.integrate(sampler, turn * start, turn * series.zeros[0], settings)
    value, coefficients = _sum(series.terms, PLAIN, SUMMED)
    others = [_sum(series.terms, PLAIN, SUMMED - 8)[0], _sum(series.terms, PLAIN + 6, SUMMED - 6)[0]]
    doubt = 8 * max(abs(other - value) for other in others) + np.sum(np.abs(coefficients) * series.errors)
    error = float(np.asarray(first.error)[0]) + doubt + 64 * settings.eps * float(np.sum(np.abs(series.terms)))
    weights = (series.weights * coefficients[:, None]).ravel()
    return Core(
        sign * (turn * np.asarray(first.value) + value),
        np.array([error]),
        np.asarray(first.code if np.asarray(first.error)[0] > 0.5 * error else result.UNRESOLVED),
        np.asarray(turn * series.zeros[-1]),
        np.int64(first.evaluations + 2 * GRID + 4 * series.nodes.size),
        np.concatenate([first.nodes, turn * series.nodes.ravel()]),
        sign * np.concatenate([turn * np.asarray(first.weights), weights]),
    )


def _terms(fun: Callable[..., Any], start: float, count: int) -> Terms | None:
    """The first `count` terms from `start` on; None where zeros are not found, or do not alternate."""
    length = max(1.0, abs(start)) * 1e-3
    for _ in range(SEARCHES):
        x = start + length * (np.arange(GRID) + 0.5) / GRID
        f = fun(x)
        if not np.all(np.isfinite(f)):
            return None
        change = np.flatnonzero(f[:-1] * f[1:] < 0)[: count + 1]
        resolved = len(change) < 2 or np.min(np.diff(change)) >= 6
        if resolved and len(change) > count:
            found = _between(fun, x[change], x[change + 1], f[change])
            if found is not None:
                return found
            resolved = False
        length *= 1.5 if resolved else 0.3
    return None


def _between(fun: Callable[..., Any], low, high, at_low) -> Terms | None:
    """The terms between the zeros in (low, high); None where the integrand has other zeros between these."""
    for _ in range(60):
        middle = (low + high) / 2
        same = fun(middle) * at_low > 0
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    zeros = (low + high) / 2
    (unit, weight), (other, other_weight) = rules.gauss(NODES), rules.gauss(NODES // 2 + 3)
    width = np.diff(zeros)[:, None]
    at = lambda u: zeros[:-1, None] + width * u
    nodes, weights = at(unit), width * weight
    f, g = (fun(at(u).ravel()).reshape(len(width), -1) for u in (unit, other))
    terms = np.sum(f * weights, axis=1)
    if np.any(f * terms[:, None] <= 0) or np.any(terms[:-1] * terms[1:] >= 0):
        return None
    return Terms(zeros, terms, np.abs(terms - np.sum(g * width * other_weight, axis=1)), nodes, weights)


def _falls(fun: Callable[..., Any], series: Terms) -> bool:
    """Whether the terms fall steadily, like a power of the distance, and go on far out."""
    size, place = np.abs(series.terms), series.zeros[:-1]
    if np.any(np.diff(size[PLAIN:]) >= 0):
        return False
    slopes, begin = [], place[0] - (place[1] - place[0])
    size_of, reached = size[-1], place[-1] - begin
    slopes.append(math.log(size[PLAIN] / size_of) / math.log(reached / (place[PLAIN] - begin)))
    for factor in FAR:
        far = _terms(fun, begin + factor * reached, 3)
        if far is None:
            return False
        slopes.append(math.log(size_of / abs(far.terms[0])) / math.log(factor))
    return min(slopes) >= max(FALL, STEADY * slopes[0])


def _sum(terms, plain: int, count: int):
    """(the series' sum, the coefficients of the terms given) from `plain` terms and `count` more."""
    coefficients = np.zeros(len(terms))
    coefficients[:plain] = 1.0
    d = (3 + math.sqrt(8.0)) ** count
    d = (d + 1 / d) / 2
    b, c = -1.0, -d
    for k in range(count):
        c = b - c
        coefficients[plain + k] = c / d * (-1) ** k
        b *= (k + count) * (k - count) / ((k + 0.5) * (k + 1))
    return float(coefficients @ terms), coefficients
