"""The third stage: is the pullback a linear function of the cotangent, the same at every call?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from functional_dl.check.evidence import Trial
from functional_dl.check.report import Finding, without_index
from functional_dl.check.vjp.subject import Answer, BackwardPass, lost


@dataclass(frozen=True)
class Calls:
    """Answers that tell whether a pullback is linear.

    Fields:
      first, second: to two cotangents.
      again, fresh: to the first one, by the same pullback and by that of another forward pass.
      doubled, summed: to twice the first one, and to the sum of both.
    """

    first: Answer
    second: Answer
    again: Answer
    fresh: Answer
    doubled: Answer
    summed: Answer


def calls_of(
    subject: BackwardPass, call: Callable[..., Answer], cts: Sequence[Any], answers: Sequence[Answer]
) -> Calls:
    """Makes the calls; those to the first two cotangents are made already."""
    first, second, *_ = answers
    return Calls(
        first,
        second,
        again=call(cts[0]),
        fresh=subject.answer(subject.forward()[1], cts[0]),
        doubled=call([2 * np.asarray(c) for c in first.cts]),
        summed=call([a + b for a, b in zip(first.cts, second.cts)]),
    )


def faults(
    subject: BackwardPass,
    places: Sequence[int],
    calls: Calls,
    noise: Sequence[Any] | None = None,
    trials: Sequence[Trial] = (),
) -> dict[int, Finding]:
    """Determinism and linearity: the findings, by the position of the leaf among the differentiable ones.

    Args:
      places: the leaves that are looked at.
      noise: what rounding may do to each entry of each leaf (a cotangent that cancels to nothing is all rounding).
      trials: where what an earlier call left behind is looked for.
    """
    found = {k: _leaf(subject, k, calls, None if noise is None else noise[k], trials) for k in places}
    return {k: finding for k, finding in found.items() if finding is not None}


def _leaf(subject: BackwardPass, k: int, calls: Calls, noise: Any, trials: Sequence[Trial]) -> Finding | None:
    function = subject.function
    path, unit = function.paths[function.active[k]], lost(function.point[k])
    a, b = calls.first.bars[k], calls.second.bars[k]
    compared = np.isfinite(a) & np.isfinite(b)  # other entries do not blind these
    a, b, again, fresh, doubled, summed = (
        np.where(compared, one.bars[k], 0.0)
        for one in (calls.first, calls.second, calls.again, calls.fresh, calls.doubled, calls.summed)
    )
    size = max(float(np.sqrt(np.mean(np.abs(a) ** 2 + np.abs(b) ** 2))) if a.size else 0.0, 1e-300)
    floor = 0.0 if noise is None else noise

    def far(u, v):
        return float(np.max(np.abs(u - v), initial=0.0))

    def same(u, v):
        return far(u, v) <= min(8 * unit, 0.05) * np.max(np.abs(v), initial=0.0)

    def departs(u, v):
        return float(np.max(np.abs(u - v) - floor, initial=0.0)) > unit * 8 * size

    def left() -> str:
        return "" if noise is None else _left_behind(trials, k, function.wide_point[k], noise)

    if departs(again, a) or departs(fresh, a):
        message = f"Two calls with the same cotangent differ by up to {max(far(again, a), far(fresh, a)):.3g}."
        kept = left()
        return without_index("accumulated" if kept else "nondeterministic", path, kept or message)
    if not np.any(a) and not np.any(doubled):
        return None
    if same(doubled, a) and same(summed, a) and same(b, a):
        message = (
            "The cotangent is the same for ct, for 2 ct and for another ct: it does not depend on ct, as if ct were "
            "one of ones."
        )
        return without_index("ignored_cotangent", path, message)
    if not (departs(doubled, 2 * a) or departs(summed, a + b)):
        return None
    # rounding of summed ct in low precision is not a fault: look at how large the departure is
    given = zip(calls.first.cts, calls.second.cts, calls.summed.cts)
    rounded = max(far(np.asarray(u) + np.asarray(v), w) for u, v, w in given)
    homogeneous, additive = far(doubled, 2 * a), far(summed, a + b)
    # what departs by less than a rounding to 8 bits is judged by its numbers, as a loss of digits
    if max(homogeneous, additive) <= 1e-2 * size:
        return None
    if homogeneous <= 8 * unit * size and additive <= 8 * (unit + rounded) * size:
        return None
    message = (
        f"The pullback is not linear in ct: pullback(2 ct) - 2 pullback(ct) is up to {homogeneous:.3g}, "
        f"pullback(ct + ct') - pullback(ct) - pullback(ct') up to {additive:.3g}, where cotangents are about "
        f"{size:.3g}."
    )
    kept = left()
    return without_index("accumulated" if kept else "nonlinear", path, kept or message)


def _left_behind(trials: Sequence[Trial], k: int, x: np.ndarray, noise: Any) -> str:
    """A sentence where a leaf's cotangents hold what an earlier call left behind, else "".

    The trials' pullbacks were called one after the other: every call may add to the sum of all before it, or to the
    last one; or all find the same array that is not theirs.
    """
    if not trials:
        return ""
    actual, expected = np.stack([t.actual[k] for t in trials]), np.stack([t.expected[k] for t in trials])
    allowed = 8 * np.stack([t.tolerance[k] for t in trials]) + noise
    allowed = allowed + 4 * max([r.eps for t in trials for r in t.rounding], default=0.0) * np.abs(actual)
    more = actual - expected
    if not np.isfinite(actual).all() or not actual.size or not np.any(np.abs(more) > allowed):
        return ""
    within = tuple(range(1, actual.ndim))

    def same(a, b):
        """Whether a is b, which is more than rounding."""
        limit = allowed[1:] + allowed[:-1]
        return bool(np.all(np.abs(a - b) <= limit) and np.all(np.any(np.abs(b) > 3 * limit, axis=within)))

    if same(more[1:], actual[:-1]):
        return "Every call adds its cotangent to the sum of those of all calls before it: a buffer is never cleared."
    if same(more[1:], expected[:-1]):
        return "Every call adds the cotangent of the call before it: a buffer is not cleared."
    mean, own = np.mean(more, axis=0), x - np.mean(x)
    along = [np.vdot(v, mean) / max(np.vdot(v, v).real, 1e-300) * v for v in (x, own)]
    if any(np.all(np.abs(mean - v) <= np.max(allowed, axis=0)) for v in along):
        return ""  # a multiple of the argument (a penalty's gradient, say) is nothing that a call left
    if same(more[1:], more[:-1]):
        return (
            f"The same array, up to {float(np.max(np.abs(more))):.3g} in size, is added whatever the incoming "
            "cotangent: a buffer that was not empty."
        )
    return ""
