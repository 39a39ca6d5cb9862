"""The cotangent is not summed over an axis along which the argument was broadcast."""

import itertools

import numpy as np

from functional_dl.check.causes.overwrite import contributions
from functional_dl.check.causes.scale import factor
from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> list[Hypothesis]:
    """actual = the contribution of one index (the first, the last) of an axis of the output, or the mean over it."""
    repeated = _mean_of_uses(evidence)
    if repeated is not None:
        return [repeated]
    for o, out in enumerate(evidence.outs):
        axes = [axis for axis, n in enumerate(out.shape) if n > 1][:5]
        groups = [g for size in range(1, len(axes) + 1) for g in itertools.combinations(axes, size)]
        for group in groups:
            fits = _fits(evidence, o, group)
            if fits is not None:
                where = " and ".join(str(axis) for axis in group)
                found = Hypothesis("missing_reduction", fits[0], fits[1].format(axis=where))
                # one index alone is what writing in place of adding leaves too, and what a lost coupling leaves
                alike = ("scale",) if "mean" in fits[1] else ("overwrite", "missing_term")
                return [found, *(Hypothesis(cause, "looks alike", found.message) for cause in alike)]
    return []


def _mean_of_uses(evidence) -> Hypothesis | None:
    """Every entry is used m times, each time alike (a broadcast, a repetition), and the cotangent is 1/m of the sum."""
    c = factor(evidence)
    if not isinstance(c, float) or not 0 < c < 0.6 or len(evidence.outs) != 1 or not evidence.x.size:
        return None
    m = round(1 / c)
    if evidence.x.size * m != evidence.outs[0].size or not evidence.explains([e / m for e in evidence.expected]):
        return None
    if _everything_is_scaled(evidence, 1 / m):
        return None
    places = [tuple(i) for i in evidence.rng.permutation(np.argwhere(np.ones(evidence.shape)))[:4]]
    for index in places:
        shares = contributions(evidence, index)
        if shares is None or int((np.abs(shares) > 0).sum()) != m:
            return None
    return Hypothesis(
        "missing_reduction",
        "mean of uses",
        f"The cotangent is the mean over the {m} uses of each entry in the output: it should be their sum.",
    )


def _everything_is_scaled(evidence, c) -> bool:
    """Whether the other arguments' cotangents are c times the right ones too."""
    others = [j for j in range(len(evidence.function.active)) if j != evidence.k]
    return bool(others) and all(
        np.all(np.abs(t.actual[j] - c * t.expected[j]) <= 3 * t.tolerance[j]) for j in others for t in evidence.trials
    )


def _fits(evidence, o, group):
    shape = evidence.outs[o].shape
    for name, index in (("first", 0), ("last", -1)):
        if evidence.explains([evidence.pull(_only(t.cts, o, group, index)) for t in evidence.trials]):
            return "one index of an axis", (
                f"The cotangent is what the {name} index of the output's axis {{axis}} contributes: it should be the "
                "sum over that axis."
            )
    count = int(np.prod([shape[axis] for axis in group]))
    if not evidence.explains([e / count for e in evidence.expected]):
        return None
    shares = [evidence.pull(_only(evidence.trials[0].cts, o, group, i)) for i in (0, -1)]
    dense = [float(np.mean(np.abs(s) > 0.01 * np.max(np.abs(s), initial=0.0))) for s in shares]
    if min(dense) < 0.5 or _everything_is_scaled(evidence, 1 / count):
        return None  # the axis is not one along which the argument is repeated, or a factor is lost for all arguments
    # a mean over a broadcast axis, or a factor of 1/n: the argument is smaller than what it is broadcast to
    broadcast = evidence.x.size * count <= evidence.outs[o].size
    return ("mean of uses" if broadcast else "a mean, perhaps"), (
        f"The cotangent is the mean over the output's axis {{axis}} of length {count}: it should be the sum."
    )


def _only(cts, o, group, index):
    """The cotangents with all but one index along the axes set to zero."""
    kept = np.zeros_like(cts[o])
    place = [slice(None)] * kept.ndim
    for axis in group:
        place[axis] = index
    kept[tuple(place)] = cts[o][tuple(place)]
    return [kept if i == o else c for i, c in enumerate(cts)]
