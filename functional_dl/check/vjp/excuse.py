"""The stages after comparison: which differences a kink or rounding excuses, and which small ones it does not."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from functional_dl.check import kinks, reference
from functional_dl.check.evidence import Evidence
from functional_dl.check.reference import random_like
from functional_dl.check.vjp import digits, narrow
from functional_dl.check.vjp.form import ROUNDED
from functional_dl.check.vjp.subject import BackwardPass, lost

AS_JAX = 4.0  # times what JAX's own pullback loses in the caller's dtypes
UNDERFLOW = 2e-19  # more than underflow takes of any entry (see digits)
NEARBY = 0.1  # of the size of x: where else the size of a cotangent is looked at
Losses = Callable[[], Sequence[list[digits.Lost] | None]]


def losses_of(subject: BackwardPass, cts: Sequence[Any]) -> Losses:
    """What each leaf's cotangents must lose by the way in which the pass is written, computed when it is asked for."""

    @functools.cache
    def losses():
        found = digits.losses(subject, cts)
        subject.forward()  # a pass that saves its primals somewhere has saved tracers
        return found

    return losses


def at_kinks(evidence: Evidence) -> Evidence:
    """Wrong entries at kinks are excused where they are generalised derivatives."""
    found = kinks.at_kink(evidence) if evidence.bad.any() else None
    if found is None:
        return evidence
    ratio = np.where(found.mask, 0.0, evidence.ratio)
    return replace(evidence, excused=found.mask, ratio=ratio, kinked=found.message if found.all_bad_are_kinks else "")


def of_rounding(subject: BackwardPass, evidence: Evidence, losses: Losses) -> Evidence:
    """Wrong entries are excused where the terms that they sum cancel, and rounding is all that is left."""
    wrong = evidence.bad
    if not wrong.any():
        return evidence
    more = [subject.unit(evidence.k) * terms for terms in cancellation(evidence)]
    if evidence.excused is None:
        more = [m + change for m, change in zip(more, moved(evidence))]
    if evidence.with_ratio(more).bad[wrong].any():  # seen again with what this way of writing the pass must lose
        limits = most_lost(evidence)
        if evidence.with_ratio([m + limit + UNDERFLOW for m, limit in zip(more, limits)]).bad[wrong].any():
            return evidence  # it is compiled only where it may tell
        more = [m + loss for m, loss in zip(more, lost_by_itself(evidence, losses, limits))]
        if evidence.with_ratio(more).bad[wrong].any():
            return evidence
    return replace(evidence, ratio=np.minimum(evidence.ratio, 1.0))


def as_a_whole(subject: BackwardPass, evidence: Evidence) -> Evidence:
    """A leaf whose entries are all within their tolerances may depart from the right one as a whole."""
    if not evidence.bad.any():
        departed = _departure(subject, evidence)
        if departed is not None:
            k = evidence.k
            trials = [
                replace(t, tolerance=(*t.tolerance[:k], limit, *t.tolerance[k + 1 :]))
                for t, limit in zip(evidence.trials, departed.tolerance)
            ]
            evidence = replace(evidence, trials=tuple(trials)).with_ratio()
    if narrow.relative(evidence) <= subject.least:
        return replace(evidence, ratio=np.minimum(evidence.ratio, 1.0))
    return evidence


def _departure(subject: BackwardPass, evidence: Evidence) -> narrow.Whole | None:
    nothing = [np.zeros(evidence.shape)] * len(evidence.trials)
    if narrow.departure(evidence, nothing) is None:
        return None
    unit = subject.unit(evidence.k) / 8
    extra = [unit * s + m / ROUNDED for s, m in zip(cancellation(evidence), moved(evidence))]
    return narrow.departure(evidence, extra)


def noise(subject: BackwardPass, evidence: Evidence, losses: Losses) -> np.ndarray:
    """What rounding may do to the cotangents of the first two trials, twice the first and once the second."""
    terms, changes, own = cancellation(evidence), moved(evidence), lost_by_itself(evidence, losses, most_lost(evidence))
    first, second = terms[:2]
    return 8 * subject.unit(evidence.k) * (first + second) + 2 * (changes[0] + own[0]) + changes[1] + own[1]


def cancellation(evidence: Evidence) -> list[np.ndarray]:
    """sqrt(sum over edges |term|^2) for each trial: the size of the terms whose sum each entry is.

    Where the terms cancel (softmax far from 1/2), their rounding is all that an entry holds, however a right pullback
    is written; zeros where fun cannot be taken apart.
    """
    simulated = evidence.simulate()
    responses = None if simulated is None else simulated.of_edges
    if responses is None:
        return [np.zeros(evidence.shape) for _ in evidence.trials]
    terms = np.where(np.isfinite(responses[evidence.k]), np.abs(responses[evidence.k]), 0.0)
    return list(np.sqrt(np.sum(terms**2, axis=0)))


def moved(evidence: Evidence) -> list[np.ndarray]:
    """What the right cotangents change by when the primals are rounded another way, by eight last places.

    The changes of steps as long as a rounding are multiplied; where fun is exponential that is too little, and
    steps eight times as long are taken.
    """
    found = [np.zeros(evidence.shape) for _ in evidence.trials]
    for steps in (1, 1, 1, *[ROUNDED] * 6) if evidence.reference.source == "autodiff" else ():
        point = reference.rounded_point(evidence.function, steps, evidence.rng)
        off = [np.abs(evidence.pull_at(point, t.cts) - t.expected[evidence.k]) for t in evidence.trials]
        off = [np.where(np.isfinite(o), o, 0.0) for o in off]  # a place may have no derivative
        found = [np.maximum(f, ROUNDED / steps * o) for f, o in zip(found, off)]
    return found


def lost_by_itself(evidence: Evidence, losses: Losses, limits: Sequence[float]) -> list[np.ndarray]:
    """What each entry may lose by the way the pass is written, no more than the limits; and what underflows."""
    own = losses()[evidence.k]
    if own is None or evidence.reference.source != "autodiff":
        return [np.zeros(evidence.shape)] * len(evidence.trials)
    return [np.minimum(one.rounded, limit) + one.flushed for one, limit in zip(own, limits)]


def most_lost(evidence: Evidence) -> list[float]:
    """For each trial how much a way of writing the pass may lose where the right cotangent is far smaller than usual (a
    constant or a saturated point): no more than rounding would do to what it is nearby, or to |ct| |out| / |x|, or some
    times what JAX's own pullback loses."""
    function = evidence.function
    if evidence.reference.source != "autodiff":
        return [0.0] * len(evidence.trials)
    unit = lost(max([function.point[evidence.k], *function.own_outs], key=reference.eps))
    rms = float(np.sqrt(np.mean(np.abs(evidence.x) ** 2))) if evidence.x.size else 0.0
    out = max(map(_largest, evidence.outs)) / (rms or 1.0)
    sizes = [out * max(map(_largest, t.cts)) for t in evidence.trials]
    for _ in range(4):
        point = [x + NEARBY * s * random_like(x, evidence.rng) for x, s in zip(function.wide_point, function.scales)]
        sizes = [max(size, _largest(evidence.pull_at(point, t.cts))) for t, size in zip(evidence.trials, sizes)]
    natural = [t.rounding[evidence.k].lost for t in evidence.trials]
    return [max(unit * size, AS_JAX * _largest(n)) for size, n in zip(sizes, natural)]


def _largest(x: np.ndarray | None) -> float:
    """The largest finite |x|; 0 where there is none."""
    return 0.0 if x is None else float(np.max(np.abs(x[np.isfinite(x)]), initial=0.0))
