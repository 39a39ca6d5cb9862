"""Causes where an element is used more than once: uses that are not added, axes that are not summed over."""

import itertools
from typing import Any

import numpy as np

from functional_dl.check import numeric
from functional_dl.check.causes.relations import factor
from functional_dl.check.evidence import Evidence, Hypothesis

LOOKED_AT = 12  # entries, at most
MOST_INDICES = 32  # of an axis, each of which is tried


def overwrite(evidence: Evidence) -> Hypothesis | None:
    """The wrong entries are those that more than one entry (or row) of the output uses, and hold the contribution of
    one of them, or of a part of them."""
    bad = np.argwhere(evidence.bad)
    if not len(bad) or evidence.x.size > 200_000:
        return None
    windows = _one_window(evidence, bad)
    if windows is not None:
        return windows
    good = np.argwhere(~evidence.bad)
    chosen = [tuple(i) for i in evidence.rng.permutation(bad)[:LOOKED_AT]]
    single = diagonal = 0
    leaves, others = set(), set()  # outputs whose share is held, and those with a share that is not
    owner = np.concatenate([np.full(y.size, o) for o, y in enumerate(evidence.outs)])
    for index in chosen:
        shares = contributions(evidence, index)
        if shares is None or (np.abs(shares) > 0).sum() < 2:
            return None
        actual, tolerance = evidence.actual[0][index], evidence.tolerance[0][index]
        if np.any(np.abs(shares - actual) <= 5 * tolerance):
            single += 1
            held = np.abs(shares - actual) <= 5 * tolerance
            leaves.update(owner[held & (shares != 0)] if len(owner) == len(shares) else ())
            others.update(owner[~held & (shares != 0)] if len(owner) == len(shares) else ())
            own = np.ravel_multi_index(index, evidence.shape) if evidence.shape else 0
            diagonal += bool(len(shares) == evidence.x.size and abs(shares[own] - actual) <= 5 * tolerance)
    if single < len(chosen) or diagonal == len(chosen):
        return None  # of each entry its own use: a coupling term is missing, not a sum over uses
    if len(leaves) == 1 and others and not leaves & others:
        only = f"The cotangent holds only what output {leaves.pop()} contributes"
        return Hypothesis("missing_term", "only one output", f"{only}: the path through the other output is left out.")
    for index in evidence.rng.permutation(good)[:LOOKED_AT]:
        shares = contributions(evidence, tuple(index))
        if shares is not None and (np.abs(shares) > 0).sum() > 1:
            message = f"{len(bad)} entries hold the contribution of only one use of the argument."
            return Hypothesis("overwrite", "one use, perhaps", message)
    message = (
        f"The cotangent is wrong at exactly those {len(bad)} entries that are used more than once, and holds the "
        "contribution of one use there: uses must be added, not written over each other."
    )
    return Hypothesis("overwrite", "one use", message)


def _one_window(evidence, bad) -> Hypothesis | None:
    """Every wrong entry holds what one position of the output contributes, other axes (channels) summed over."""
    if len(evidence.outs) != 1 or evidence.outs[0].ndim < 2 or evidence.elementwise:
        return None
    shape = evidence.outs[0].shape
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    summed = [s for size in range(1, len(axes)) for s in itertools.combinations(axes, size)]
    several = 0
    own: set[tuple[int, int]] = set(itertools.product(axes, range(len(evidence.shape))))  # axes of the same index
    for index in evidence.rng.permutation(bad)[:LOOKED_AT]:
        shares = contributions(evidence, tuple(index))
        if shares is None or shares.size != evidence.outs[0].size:
            return None
        place = tuple(index)
        actual, tolerance = evidence.actual[0][place], evidence.tolerance[0][place]
        kept = []
        for s in summed:
            parts = shares.reshape(shape).sum(s, keepdims=True)
            used = np.abs(parts) > 0
            held = np.argwhere(used & (np.abs(parts - actual) <= 5 * tolerance))
            if used.sum() > 1 and len(held):
                kept.append(s)
                own = {(a, b) for a, b in own if a in s or np.any(held[:, a] == place[b])}
        several += len(kept) > 0
        summed = kept
    if not summed or several < 3:
        return None
    left = [axis for axis in axes if axis not in summed[-1]]
    over = ", ".join(map(str, left))
    if all(any(a == axis for a, _ in own) for axis in left):
        message = (
            f"Each entry holds what its own index along the output's axis {over} contributes: what the other indices "
            "contribute, which depend on it too, is left out."
        )
        return Hypothesis("missing_term", "the diagonal", message)
    message = (
        f"Wrong entries hold what one position along the output's axes {over} contributes: where windows overlap their "
        "contributions must be added, not written over each other."
    )
    return Hypothesis("overwrite", "one window", message)


def contributions(evidence: Evidence, index: Any) -> np.ndarray | None:
    """J_ji ct_j for one entry i of the argument: what each entry j of the outputs contributes to its cotangent."""
    function, reference = evidence.function, evidence.reference
    if reference.source == "numeric" and not np.iscomplexobj(evidence.x):
        start = numeric.parts(function.wide_point)[evidence.k].start
        row = reference.jacobian[0][start + (int(np.ravel_multi_index(index, evidence.shape)) if index else 0)]
        cts = np.concatenate([np.asarray(c).reshape(-1) for c in evidence.trials[0].cts])
        return row * cts if row.shape == cts.shape else None
    if not function.traceable:
        return None
    column = reference.column(evidence.k, index)
    return np.concatenate([(np.asarray(c) * d).reshape(-1) for c, d in zip(evidence.trials[0].cts, column)])


def missing_reduction(evidence: Evidence) -> list[Hypothesis]:
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
    message = f"The cotangent is the mean over the {m} uses of each entry in the output: it should be their sum."
    return Hypothesis("missing_reduction", "mean of uses", message)


def _everything_is_scaled(evidence, c) -> bool:
    """Whether the other arguments' cotangents are c times the right ones too."""
    others = [j for j in range(len(evidence.function.active)) if j != evidence.k]
    return bool(others) and all(
        np.all(np.abs(t.actual[j] - c * t.expected[j]) <= 3 * t.tolerance[j]) for j in others for t in evidence.trials
    )


def _fits(evidence, o, group):
    shape = evidence.outs[o].shape
    count = int(np.prod([shape[axis] for axis in group]))
    inner = range(1, shape[group[0]] - 1) if len(group) == 1 and count <= MOST_INDICES else ()
    for name, index in (("first index", 0), ("last index", -1), *((f"index {i}", i) for i in inner)):
        if evidence.fits(lambda cts, index=index: evidence.pull(_only(cts, o, group, index))):
            return "one index of an axis", (
                f"The cotangent is what the {name} of the output's axis {{axis}} contributes: it should be the "
                "sum over that axis."
            )
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
