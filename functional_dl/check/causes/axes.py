"""Causes by which the entries are right but elsewhere: axes permuted, lines in another order, a shift."""

import itertools
from collections.abc import Sequence

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def transpose(evidence: Evidence) -> Hypothesis | None:
    """actual = expected with its axes permuted, or with the entries read in the order of permuted axes; or the right
    cotangent for an incoming one with permuted axes; or the right entries in another order."""
    for tried in (_permuted, _incoming, _rows, _lines):
        found = tried(evidence)
        if found is not None:
            return found
    return None


def _orders(ndim: int) -> list[tuple[int, ...]]:
    """The permutations of axes, without the identity."""
    return list(itertools.permutations(range(ndim)))[1:]


def _permuted(evidence) -> Hypothesis | None:
    ndim = len(evidence.shape)
    if not 2 <= ndim <= 5 or max(evidence.shape) < 2:
        return None
    for order in _orders(ndim):
        permuted = [np.transpose(e, order) for e in evidence.expected]
        same = permuted[0].shape == evidence.shape
        if not evidence.explains(permuted if same else [t.reshape(evidence.shape) for t in permuted]):
            continue
        message = f"The cotangent is the right one with its axes permuted to {order}."
        if not same:
            message = (
                f"The cotangent is the right one with axes permuted to {order} and then reshaped back, which mixes its "
                "entries: a reshape stands where a transpose should."
            )
        return Hypothesis("transpose", "axes permuted", message)
    return None


def _incoming(evidence) -> Hypothesis | None:
    for o, out in enumerate(evidence.outs):
        for order in _orders(out.ndim) if 2 <= out.ndim <= 4 else ():
            turn = lambda c, order=order, out=out: np.transpose(c, order).reshape(out.shape)
            if evidence.fits(_with_output(evidence, o, turn)):
                message = (
                    f"The cotangent is the right one for an incoming cotangent whose axes are permuted to {order}."
                )
                return Hypothesis("transpose", "incoming axes", message)
    return None


def _with_output(evidence, o, change):
    """cts -> the right cotangent for them with that of output o changed."""
    return lambda cts: evidence.pull([change(c) if i == o else c for i, c in enumerate(cts)])


def _rows(evidence) -> Hypothesis | None:
    """The rows along an axis in another order, the same in every trial: each actual row is one of the expected ones."""
    for axis, n in enumerate(evidence.shape):
        if not 3 <= n <= 512 or evidence.x.size > 50_000:
            continue
        actual, expected, allowed = (np.moveaxis(v, axis + 1, 0).reshape(n, -1) for v in evidence.stacked)
        if not np.isfinite(actual).all():
            return None
        order = []
        for row in actual:
            off = np.max(np.abs(expected - row) / (3 * allowed), axis=1)
            order.append(int(np.argmin(off)) if off.min() <= 1 else -1)
        if -1 in order or order == list(range(n)) or len(set(order)) < n:
            continue
        turn = order[0]
        if order == [(i + turn) % n for i in range(n)]:
            message = f"The cotangent is the right one rolled by {-turn} along axis {axis}."
            return Hypothesis("shifted", "rows rolled", message)
        message = (
            f"The cotangent has the right entries in another order along axis {axis}: {order[:12]}"
            f"{'...' if n > 12 else ''} in place of 0, 1, 2, ...: a permutation stands where another should, or its "
            "inverse."
        )
        return Hypothesis("transpose", "rows in another order", message)
    return None


def _lines(evidence) -> Hypothesis | None:
    """Each line along an axis in another order of its own, as sorting leaves it: the same order in every trial."""
    for axis, n in enumerate(evidence.shape):
        if not 3 <= n <= 64 or evidence.x.size // n < 2 or evidence.x.size * n > 200_000:
            continue
        actual, expected, allowed = (
            np.moveaxis(v, axis + 1, -1).reshape(len(evidence.trials), -1, n) for v in evidence.stacked
        )
        if not np.isfinite(actual).all():
            return None

        def same(a, allowed=allowed, expected=expected):
            """[line, i, j]: whether entry i of a is the expected entry j, in all trials."""
            return np.all(np.abs(a[..., :, None] - expected[..., None, :]) <= 3 * allowed[..., None, :], axis=0)

        if np.any(same(expected).sum(-1) > 1):
            continue  # entries that are equal tell no order
        found = same(actual)
        if np.all(found.sum(-1) == 1) and np.all(found.sum(-2) == 1) and not np.all(found == found[:1]):
            message = (
                f"Each line along axis {axis} has the right entries in another order: a permutation (of a sort, say) "
                "stands where another should, or its inverse, or none."
            )
            return Hypothesis("transpose", "lines in another order", message)
    return None


def shifted(evidence: Evidence) -> Hypothesis | None:
    """actual[i + s] = expected[i] along one axis, or along the last ones together, away from the border; or the right
    cotangent for an incoming one that is shifted, rolled round or with zeros at the border."""
    return _shifted_result(evidence) or _shifted_incoming(evidence)


STEPS = (1, -1, 2, -2)


def _shifted_incoming(evidence) -> Hypothesis | None:
    for o, out in enumerate(evidence.outs):
        for axis, n in enumerate(out.shape):
            for step in STEPS:
                for name, move in (("rolled", np.roll), ("shifted", _filled)) if n > abs(step) + 1 else ():
                    if evidence.fits(_with_output(evidence, o, lambda c: move(c, step, axis))):
                        message = (
                            f"The cotangent is the right one for an incoming cotangent that is {name} by {step:+d} "
                            f"along axis {axis} of the output."
                        )
                        return Hypothesis("shifted", "incoming shifted", message)
    return None


def _filled(ct, step, axis):
    moved = np.roll(ct, step, axis)
    border = [slice(None)] * ct.ndim
    border[axis] = slice(0, step) if step > 0 else slice(step, None)
    moved[tuple(border)] = 0
    return moved


def _shifted_result(evidence) -> Hypothesis | None:
    ndim = len(evidence.shape)
    axes = [(axis,) for axis in range(ndim)] + [tuple(range(a, b)) for a in range(ndim) for b in range(a + 2, ndim + 1)]
    for group, step in itertools.product(axes, STEPS):
        if min(evidence.shape[a] for a in group) <= abs(step) + 1:
            continue
        moved = [np.roll(e, (step,) * len(group), group) for e in evidence.expected]
        for border in (0, 1):  # where a border is treated apart, its neighbours may be wrong otherwise
            inside = _inside(evidence.shape, group, step, border)
            varied = any(
                np.any(np.abs(m - e)[inside] > 3 * t[inside])
                for m, e, t in zip(moved, evidence.expected, evidence.tolerance)
            )
            if inside.sum() > 2 and varied and evidence.explains(moved, where=inside):
                along = f"along axis {', '.join(map(str, group))}{' away from the border' if border else ''}"
                message = f"The cotangent is the right one shifted by {step:+d} {along}."
                return Hypothesis("shifted", "shifted inside" if border else "shifted", message)
    return None


def _inside(shape: Sequence[int], group: Sequence[int], step: int, border: int) -> np.ndarray:
    """Entries that a shift along the axes reaches from within, but for a border on the side that it comes from."""
    inside = np.ones(shape, bool)
    for axis in group:
        keep = np.arange(shape[axis])
        keep = keep >= step + border if step > 0 else keep < shape[axis] + step - border
        inside &= keep.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return inside
