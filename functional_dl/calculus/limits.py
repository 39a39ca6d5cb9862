r"""Limits: lim_{x -> x0} f(x) with an error that is not understated, or with the reason why there is none to give.

f is never evaluated at x0.  What JAX can trace is evaluated with as many digits as it takes, down to distances of
1e-999, so neither cancellation nor slow powers hide the limit; functions of Python and NumPy are evaluated in
float64, whose rounding is measured.  Where f depends on a condition (a comparison, a step) that is not proved to be
the same all the way to x0, it is also tried with that otherwise: what happens at a sparse set of places, which no
sample meets, is not taken for nothing.  Constants of the program that are rounded (0.1, numpy.pi) are taken for any
number they may stand for.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.calculus import verdict
from functional_dl.calculus.points import Side
from functional_dl.calculus.program import NotReadable, TooLate
from functional_dl.calculus.samples import SECONDS, Approach, DeepSampler, FloatSampler, grid, sampler

DEEP = 300.0  # log of 1/distance as far as which every function is evaluated: a distance of 1e-130
FLIPS = 4  # samples at which f is tried with a condition otherwise
SIDES: dict[Side, tuple[int, ...]] = {"both": (-1, 1), "left": (-1,), "right": (1,)}


class Limit(NamedTuple):
    """lim f(x).

    Fields:
      value: the limit; +-inf where f grows beyond all bounds; NaN where there is no limit, or it could not be
        determined.
      error: a bound of |value - limit|; inf where value is NaN.
      exists: True; False where there is no (finite) limit; None where that could not be determined.
      left, right: the one-sided limits, NaN where they do not exist, could not be determined or were not asked for.
      reason: a sentence.
    """

    value: float
    error: float
    exists: bool | None
    left: float
    right: float
    reason: str


def limit(f: Callable[..., Any], x0: ArrayLike, side: Side = "both") -> Limit:
    r"""lim f(x) as x -> x0: from the "left", from the "right", or from "both" sides, which must agree.

    Args:
      f: function of one real number with one real number as its value.
      x0: a number, inf or -inf (which has one side only).
      side: "both", "left" (x < x0) or "right" (x > x0).
    Returns:
      Limit(value, error, exists, left, right, reason).  Where f is defined on one side of x0 only, the limit is that of
      this side, and the reason says so.
    Raises:
      ValueError: x0 is NaN or no number, side is unknown, or f returns anything but one real number.
      What f itself raises, but for arithmetic that fails (an overflow, a division by zero) and a domain error.
    Source: of the definition, Rudin, Principles of Mathematical Analysis (3rd ed.), 4.1.
    Example:
      >>> round(calculus.limit(lambda x: jnp.sin(x) / x, 0.0).value, 9)
      1.0
      >>> none = calculus.limit(lambda x: jnp.abs(x) / x, 0.0)
      >>> none.exists, none.left, none.right
      (False, -1.0, 1.0)
    """
    arguments.function("f", f)
    directions = arguments.lookup("side", side, SIDES)
    x0 = _point(x0)
    if math.isinf(x0):
        found = _approach(f, Approach(x0, 1 if x0 > 0 else -1))
        return _one(found, left=x0 > 0)
    if side != "both":
        return _one(_approach(f, Approach(x0, directions[0])), left=side == "left")
    left, right = (_approach(f, Approach(x0, d)) for d in directions)
    return _both(left, right, x0)


def limit_of_sequence(f: Callable[..., Any]) -> Limit:
    r"""lim a(n) as n -> infinity through the integers n = 1, 2, ...

    Args:
      f: n -> a(n).  A function that JAX can trace is handed n as a floating number and evaluated up to n = 1e999;
        any other is called with Python's integers, up to 8192, or up to where it fails, as factorials do beyond 170.
    Returns:
      Limit; `left` is the limit, as for x -> inf.
    Example:
      >>> round(calculus.limit_of_sequence(lambda n: (1 + 1 / n) ** n).value, 6)
      2.718282
    """
    arguments.function("f", f)
    return _one(_approach(f, Approach(math.inf, 1, integers=True)), left=True)


def _point(x0) -> float:
    x = np.asarray(arguments.real("x0", x0))
    if x.shape != ():
        raise ValueError(f"x0: expected one number, got shape {x.shape}")
    x = float(x0) if isinstance(x0, int | float) else float(x)
    if math.isnan(x):
        raise ValueError("x0: expected a number, inf or -inf, got NaN")
    return x


def _words(approach: Approach) -> str:
    if approach.integers:
        return "as n grows"
    if approach.infinite:
        return "as x grows" if approach.direction > 0 else "as x falls to -infinity"
    side = "right" if approach.direction > 0 else "left"
    return f"to the {side} of x0 = {approach.x0:.12g}"


def _approach(f: Callable[..., Any], approach: Approach) -> verdict.Verdict:
    source = sampler(f, approach)
    try:
        return _decide(source, approach)
    except NotReadable:
        return _decide(FloatSampler(f, approach), approach)


def _decide(source: DeepSampler | FloatSampler, approach: Approach) -> verdict.Verdict:
    deadline, words = time.monotonic() + SECONDS, _words(approach)
    found, samples = _from_samples(source, approach, deadline, words)
    if found.kind not in (verdict.CONVERGES, verdict.INFINITE):
        return found
    found = verdict.without_failure(found, samples, words)
    if isinstance(source, FloatSampler):
        # as many equal values as there may be do not exclude other values between them
        if found.kind == verdict.CONVERGES and verdict.steps(samples) and not source.constant_near():
            return verdict.rare(found, words, len(samples.u))
        if found.kind == verdict.CONVERGES and approach.integers:
            departs = source.departs_between(samples, found.value, found.error, deadline + SECONDS)
            return verdict.rare(found, words, len(samples.u)) if departs else found
        return found
    return _with_rare_events(source, found, samples, words, deadline)


def _with_rare_events(source, found: verdict.Verdict, samples, words: str, deadline: float) -> verdict.Verdict:
    """What conditions of f that hold elsewhere near the point, at places between the samples, would do to its limit."""
    source.deadline = deadline + SECONDS
    deepest = samples.u[-FLIPS:]
    for site in source.undecided():
        try:
            moves = [source.flipped(site, float(u)) for u in deepest]
        except TooLate:
            return verdict.rare(found, words, len(samples.u))
        most = max(moves)
        if found.kind == verdict.INFINITE or not most <= verdict.WORTH * max(abs(found.value), 1e-30):
            # what it does to f may vanish towards the point
            shallow = [source.flipped(site, float(u)) for u in samples.u[len(samples.u) // 3 :][:FLIPS]]
            vanishes = found.kind == verdict.CONVERGES and most <= 1e-6 * max(shallow)
            if not vanishes:
                return verdict.rare(found, words, len(samples.u))
        found = found._replace(error=max(found.error, most))
    return found


def _from_samples(source: DeepSampler | FloatSampler, approach: Approach, deadline: float, words: str):
    """The verdict of the samples alone, and the samples."""
    u = grid(source.deepest, source.ratio)
    samples = source.sample(u[u <= DEEP], deadline)
    found = verdict.decide(samples, words)
    if found.kind in (verdict.INFINITE, verdict.UNDEFINED) or _sure(found):
        return found, samples
    if u[-1] > DEEP and not verdict.drowned(samples)[-4:].all():
        samples = source.sample(u[u > DEEP], deadline)
        found = verdict.decide(samples, words)
    if found.kind in (verdict.CONVERGES, verdict.INFINITE, verdict.UNDEFINED) or len(samples.u) < 8:
        return found, samples
    # more samples between, to tell oscillation from irregular movement
    last = float(samples.u[-1])
    between = last * 2.0 ** -(np.arange(48) * 0.0829 + 0.0213)
    samples = source.sample(between[::-1], deadline + SECONDS)
    return verdict.decide(samples, words), samples


def _sure(found: verdict.Verdict) -> bool:
    return found.kind == verdict.CONVERGES and found.error <= 1e-14 * abs(found.value) + 1e-30


def _exists(found: verdict.Verdict) -> bool | None:
    return {verdict.CONVERGES: True, verdict.UNKNOWN: None}.get(found.kind, False)


def _one(found: verdict.Verdict, left: bool) -> Limit:
    sides = (found.value, math.nan) if left else (math.nan, found.value)
    return Limit(found.value, found.error, _exists(found), *sides, f"{found.reason}.")


def _both(left: verdict.Verdict, right: verdict.Verdict, x0: float) -> Limit:
    sides = (left.value, right.value)
    nothing = (math.nan, math.inf)
    for here, there in ((left, right), (right, left)):
        if here.kind == verdict.UNDEFINED and there.kind != verdict.UNDEFINED:
            reason = f"{here.reason}; the limit is the one of the other side, where {there.reason}."
            return Limit(there.value, there.error, _exists(there), *sides, reason)
    if left.kind == right.kind == verdict.UNDEFINED:
        return Limit(*nothing, False, *sides, f"{left.reason}, and to its right as well.")
    reasons = f"{left.reason}; {right.reason}."
    if left.kind == right.kind == verdict.INFINITE:
        if left.value == right.value:
            return Limit(left.value, 0.0, False, *sides, reasons)
        return Limit(*nothing, False, *sides, f"The sides differ: {reasons}")
    if left.kind == right.kind == verdict.CONVERGES:
        gap = abs(left.value - right.value)
        if gap > left.error + right.error:
            reason = f"The limits of the two sides differ: {left.value:.12g} (left) and {right.value:.12g} (right)."
            return Limit(*nothing, False, *sides, reason)
        best, other = sorted((left, right), key=lambda v: v.error)
        if other.error > 100 * best.error + 1e-12 * abs(best.value):
            best = best._replace(error=max(best.error, gap))
        reason = f"f(x) settles at the same number on both sides of x0 = {x0:.12g}."
        return Limit(best.value, max(best.error, gap), True, *sides, reason)
    ends = [here.value if here.kind == verdict.CONVERGES else here.along for here in (left, right)]
    if abs(ends[0] - ends[1]) > 1e-6 * (abs(ends[0]) + abs(ends[1])):
        reason = (
            f"Along the points evaluated f tends to {ends[0]:.12g} (left) and {ends[1]:.12g} (right), which differ."
        )
        return Limit(*nothing, False, *sides, reason)
    if {left.kind, right.kind} <= {verdict.UNKNOWN, verdict.CONVERGES}:
        return Limit(*nothing, None, *sides, reasons)
    return Limit(*nothing, False, *sides, reasons)
