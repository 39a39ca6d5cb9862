"""Causes by which a part is left out: an additive coupling term, an elementwise factor."""

from collections.abc import Iterator

import numpy as np

from functional_dl.check.causes.uses import contributions
from functional_dl.check.evidence import Evidence, Hypothesis, mask_values

SPREAD = 0.05  # relative: a factor that varies less is a scale
RANK = 2  # a coupling through a mean, a variance, or an inner product
RELATIVE = 1e-3


def missing_term(evidence: Evidence) -> Hypothesis | None:
    """What is missing, expected - actual, is constant along an axis, or is a rank-one term p (p . ct), or has low
    rank as a function of ct where the derivative itself has full rank."""
    missing = [e - a for a, e in zip(evidence.actual, evidence.expected)]
    if not all(np.isfinite(m).all() for m in missing) or evidence.x.size < 2:
        return None
    for o in range(len(evidence.outs)) if len(evidence.outs) > 1 else ():
        without = lambda cts, o=o: evidence.pull([np.zeros_like(c) if i == o else c for i, c in enumerate(cts)])
        if evidence.fits(without):
            return Hypothesis("missing_term", "a lost output", f"The path through output {o} is left out.")
    if _diagonal(evidence):
        message = (
            "The cotangent holds the diagonal of the Jacobian alone: what other entries of the output contribute "
            "through their coupling is left out."
        )
        return Hypothesis("missing_term", "the diagonal", message)
    constant = _constant_axes(evidence, missing)
    if constant:
        axes = ", ".join(map(str, constant))
        message = (
            f"What is missing is constant along axis {axes}: the term of a sum or mean over that axis is left out."
        )
        return Hypothesis("missing_term", "constant along an axis", message)
    profile = _proportional(evidence, missing)
    if profile:
        message = (
            f"What is missing is proportional to {profile[0]} along axis {profile[1]}, with one factor for each row: a "
            "coupling term (an inner product with the cotangent) is left out."
        )
        return Hypothesis("missing_term", "proportional to a value", message)
    ranks = _ranks(evidence)
    if ranks is not None:
        message = (
            f"What is missing depends on the cotangent through {ranks[0]} number(s) only, where the derivative has "
            f"rank {ranks[1]}: a coupling term is left out."
        )
        return Hypothesis("missing_term", "low rank", message)
    return None


def _diagonal(evidence) -> bool:
    """Whether actual_i = J_ii ct_i, for entries of the one output of the leaf's shape, though J is not diagonal."""
    if [y.shape for y in evidence.outs] != [evidence.shape] or evidence.x.size > 50_000:
        return False
    entries = [tuple(i) for i in evidence.rng.permutation(np.argwhere(evidence.bad))[:10]]
    for index in entries:
        shares = contributions(evidence, index)
        own = int(np.ravel_multi_index(index, evidence.shape)) if evidence.shape else 0
        if shares is None or abs(shares[own] - evidence.actual[0][index]) > 5 * evidence.tolerance[0][index]:
            return False
    return bool(entries)


def _constant_axes(evidence, missing):
    """Axes (the most that go together) along which what is missing does not change, though the cotangent does."""
    found = []
    for axis, n in enumerate(evidence.shape):
        if n < 3:
            continue
        same = all(
            np.all(np.ptp(np.real(m), axis=axis) <= 6 * np.max(t, axis=axis) + RELATIVE * np.max(np.abs(m), axis=axis))
            for m, t in zip(missing, evidence.tolerance)
        )
        varies = any(
            np.any(np.ptp(np.real(e), axis=axis) > 0.05 * np.max(np.abs(e), initial=0.0)) for e in evidence.expected
        )
        if same and varies:
            found.append(axis)
    return found


def _proportional(evidence, missing):
    leaves = len(evidence.function.active)
    values = [*evidence.values[leaves:], *evidence.values[:leaves]]
    for axis, n in enumerate(evidence.shape):
        if n < 3:
            continue
        if _one_factor_a_row(evidence, axis):
            continue  # the derivative itself has one number a row: a row of another size is no missing term
        for name, value in values:
            if value.shape != evidence.shape or np.any(np.max(np.abs(value), axis=axis) == 0):
                continue
            for centred, label in ((value, name), (value - value.mean(axis, keepdims=True), f"{name} minus its mean")):
                energy = np.sum(np.abs(centred) ** 2, axis=axis, keepdims=True)
                if np.any(energy < 1e-20):
                    continue
                fits = True
                for m, t in zip(missing, evidence.tolerance):
                    factor = np.sum(np.conj(centred) * m, axis=axis, keepdims=True) / energy
                    rest = np.abs(m - factor * centred)
                    if np.any(rest > 6 * t + RELATIVE * np.max(np.abs(m), axis=axis, keepdims=True)):
                        fits = False
                        break
                if fits:
                    return label, axis
    return None


def _one_factor_a_row(evidence, axis) -> bool:
    """Whether actual and expected are multiples of each other, row by row along the axis, in every trial."""
    for a, e, t in zip(evidence.actual, evidence.expected, evidence.tolerance):
        energy = np.sum(np.abs(e) ** 2, axis=axis, keepdims=True)
        c = np.sum(np.conj(e) * a, axis=axis, keepdims=True) / np.maximum(energy, 1e-300)
        if np.any(np.abs(a - c * e) > 6 * t * np.maximum(1, np.abs(c))):
            return False
    return True


def _ranks(evidence):
    """Ranks of ct -> missing and of ct -> expected, for cotangents in one block of the output; None unless the first is
    low."""
    outs = evidence.outs
    if len(outs) != 1 or not outs[0].shape or evidence.x.size > 50_000 or evidence.elementwise:
        return None
    if evidence.bad.mean() < 0.5:
        return None  # a coupling reaches most entries
    out = outs[0]
    trials = 4 * (RANK + 1)
    if out.shape[-1] < 4:
        return None
    place = (0,) * (out.ndim - 1)
    wrong, right, noise = [], [], []
    for _ in range(trials):
        ct = np.zeros(out.shape, out.dtype)
        ct[place] = evidence.rng.normal(size=out.shape[-1])
        actual = evidence.call([ct])
        ct = actual.cts[0]
        expected = evidence.pull([ct])
        wrong.append((expected - actual.bars[evidence.k]).reshape(-1))
        right.append(expected.reshape(-1))
    noise = 6 * max(float(np.max(t, initial=0.0)) for t in evidence.tolerance)
    if not np.isfinite(wrong).all():
        return None
    first, second = (np.linalg.svd(np.array(m), compute_uv=False) for m in (wrong, right))
    floor = max(noise * np.sqrt(evidence.x.size), RELATIVE * first[0])
    low = int((first > floor).sum())
    full = int((second > 1e-6 * second[0]).sum()) if second[0] > 0 else 0
    if 0 < low <= RANK and full >= min(trials, out.shape[-1]) - 2 and full >= low + 2:
        return low, full
    return None


def missing_factor(evidence: Evidence) -> Hypothesis | None:
    """expected = q actual with q made of a primal or an output, or one factor for each row that all trials share."""
    if evidence.x.size < 2 or not all(np.isfinite(a).all() for a in evidence.actual):
        return None
    for what, q in _quantities(evidence):
        factor = np.broadcast_to(q, evidence.shape)
        if not np.isfinite(factor).all() or np.ptp(np.abs(factor)) <= SPREAD * np.max(np.abs(factor)):
            continue
        if not evidence.explains([np.where(factor != 0, e / np.where(factor != 0, factor, 1), a)
                                  for e, a in zip(evidence.expected, evidence.actual)]):  # fmt: skip
            continue
        if mask_values(factor):
            return Hypothesis("mask_missing", "a mask at hand", f"The cotangent is not multiplied by the mask {what}.")
        if what.startswith("1 /"):
            held = what.removeprefix("1 / ")
            message = f"The cotangent holds the factor {held} once too often."
            return Hypothesis("wrong_point", "a power at hand", message)
        # a power of x alone may be the slope of another function
        power = evidence.elementwise and not what.startswith("args")
        ground = "a power at hand" if power else "a factor at hand"
        return Hypothesis("missing_factor", ground, f"The cotangent lacks the factor {what}.")
    found = _row_factor(evidence)
    if found is None:
        return None
    axis, factor = found
    if np.all(np.minimum(np.abs(factor), np.abs(factor - 1)) < SPREAD):
        message = f"The cotangent is not multiplied by a mask, which does not change along axis {axis}."
        return Hypothesis("mask_missing", "a factor a row", message)
    message = (
        f"The cotangent is the right one but for a factor that differs from row to row (it does not change along axis "
        f"{axis}) and is the same for every incoming cotangent."
    )
    return Hypothesis("missing_factor", "a factor a row", message)


def _quantities(evidence) -> Iterator[tuple[str, np.ndarray]]:
    """Quantities at hand that broadcast to the argument's shape."""
    for name, value in evidence.values:
        if value.size < 2 or value.size > evidence.x.size:
            continue
        for shaped in _shaped(value, evidence.shape):
            yield name, shaped
            yield f"1 / {name}", 1 / shaped
            yield f"exp({name})", np.exp(shaped)
            yield f"{name}^2", shaped**2
            yield f"1 / {name}^2", 1 / shaped**2
            yield f"1 - {name}^2", 1 - shaped**2
            yield f"1 - {name}", 1 - shaped
            yield f"{name} (1 - {name})", shaped * (1 - shaped)


def _shaped(value, shape) -> Iterator[np.ndarray]:
    """The value with axes of length 1 put in, so that it broadcasts: as its last axes, or as its first."""
    if value.shape == shape or value.shape == shape[len(shape) - value.ndim :]:
        yield value
    elif value.ndim < len(shape) and value.shape == shape[: value.ndim]:
        yield value.reshape(value.shape + (1,) * (len(shape) - value.ndim))


def _row_factor(evidence) -> tuple[int, np.ndarray] | None:
    """An axis along which expected / actual does not change, if it does along others, alike in all trials; and that."""
    actual, expected, allowed = evidence.stacked
    if evidence.x.ndim < 2 or evidence.elementwise:
        return None
    for axis in range(evidence.x.ndim):
        over = (0, axis + 1)
        if evidence.shape[axis] < 3:
            continue
        energy = np.sum(np.abs(actual) ** 2, axis=over, keepdims=True)
        if np.any(energy == 0):
            continue
        factor = np.sum(np.conj(actual) * expected, axis=over, keepdims=True) / energy
        grown = 3 * allowed * np.maximum(1.0, np.abs(factor))
        varies = np.ptp(np.abs(factor)) > SPREAD * np.max(np.abs(factor))
        if varies and np.all(np.abs(factor * actual - expected) <= grown):
            return axis, factor
    return None
