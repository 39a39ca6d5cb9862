"""Where an element is used more than once, only one use counts."""

import itertools
from typing import Any

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis

LOOKED_AT = 12  # entries, at most


def test(evidence: Evidence) -> Hypothesis | None:
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
        return Hypothesis(
            "missing_term",
            "only one output",
            f"The cotangent holds only what output {leaves.pop()} contributes: the path through the other output is "
            "left out.",
        )
    for index in evidence.rng.permutation(good)[:LOOKED_AT]:
        shares = contributions(evidence, tuple(index))
        if shares is not None and (np.abs(shares) > 0).sum() > 1:
            return Hypothesis(
                "overwrite",
                "one use, perhaps",
                f"{len(bad)} entries hold the contribution of only one use of the argument.",
            )
    return Hypothesis(
        "overwrite",
        "one use",
        f"The cotangent is wrong at exactly those {len(bad)} entries that are used more than once, and holds the "
        "contribution of one use there: uses must be added, not written over each other.",
    )


def _one_window(evidence, bad) -> Hypothesis | None:
    """Every wrong entry holds what one position of the output contributes, other axes (channels) summed over."""
    if len(evidence.outs) != 1 or evidence.outs[0].ndim < 2 or evidence.elementwise:
        return None
    shape = evidence.outs[0].shape
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    summed = [s for size in range(1, len(axes)) for s in itertools.combinations(axes, size)]
    several = 0
    for index in evidence.rng.permutation(bad)[:LOOKED_AT]:
        shares = contributions(evidence, tuple(index))
        if shares is None or shares.size != evidence.outs[0].size:
            return None
        place = tuple(index)
        actual, tolerance = evidence.actual[0][place], evidence.tolerance[0][place]
        kept = []
        for s in summed:
            parts = shares.reshape(shape).sum(s)
            used = np.abs(parts) > 0
            if used.sum() > 1 and np.any(np.abs(parts - actual)[used] <= 5 * tolerance):
                kept.append(s)
        several += len(kept) > 0
        summed = kept
    if not summed or several < 3:
        return None
    over = ", ".join(str(axis) for axis in axes if axis not in summed[-1])
    return Hypothesis(
        "overwrite",
        "one window",
        f"Wrong entries hold what one position along the output's axes {over} contributes: where windows overlap their "
        "contributions must be added, not written over each other.",
    )


def contributions(evidence: Evidence, index: Any) -> np.ndarray | None:
    """J_ji ct_j for one entry i of the argument: what each entry j of the outputs contributes to its cotangent."""
    function, reference = evidence.function, evidence.reference
    if reference.source == "numeric" and not np.iscomplexobj(evidence.x):
        start = sum(x.size * (2 if np.iscomplexobj(x) else 1) for x in function.wide_point[: evidence.k])
        row = (
            reference.jacobian[0][start + int(np.ravel_multi_index(index, evidence.shape))]
            if index
            else (reference.jacobian[0][start])
        )
        cts = np.concatenate([np.asarray(c).reshape(-1) for c in evidence.trials[0].cts])
        return row * cts if row.shape == cts.shape else None
    if not function.traceable:
        return None
    column = reference.column(evidence.k, index)
    return np.concatenate([(np.asarray(c) * d).reshape(-1) for c, d in zip(evidence.trials[0].cts, column)])
