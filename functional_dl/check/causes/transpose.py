"""The cotangent is right up to a permutation of axes."""

import itertools

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual = expected with its axes permuted, or with the entries read in the order of permuted axes; or the right
    cotangent for an incoming one with permuted axes; or the right entries in another order."""
    for tried in (_axes, _incoming, _entries, _lines):
        found = tried(evidence)
        if found is not None:
            return found
    return None


def _incoming(evidence) -> Hypothesis | None:
    for o, out in enumerate(evidence.outs):
        if not 2 <= out.ndim <= 4:
            continue
        for order in itertools.permutations(range(out.ndim)):
            if order == tuple(range(out.ndim)):
                continue

            def guess(cts, o=o, order=order, shape=out.shape):
                return evidence.pull(
                    [np.transpose(c, order).reshape(shape) if i == o else c for i, c in enumerate(cts)]
                )

            if not evidence.explains([guess(t.cts) for t in evidence.trials[:1]]):
                continue
            if evidence.explains([guess(t.cts) for t in evidence.trials]):
                return Hypothesis(
                    "transpose",
                    "incoming axes",
                    f"The cotangent is the right one for an incoming cotangent whose axes are permuted to {order}.",
                )
    return None


def _entries(evidence) -> Hypothesis | None:
    """The rows along an axis in another order, the same in every trial: each actual row is one of the expected ones."""
    for axis, n in enumerate(evidence.shape):
        if not 3 <= n <= 512 or evidence.x.size > 50_000:
            continue
        rows = [np.moveaxis(np.stack(v), axis + 1, 0).reshape(n, -1) for v in (evidence.actual, evidence.expected)]
        allowed = np.moveaxis(np.stack(evidence.tolerance), axis + 1, 0).reshape(n, -1)
        if not np.isfinite(rows[0]).all():
            return None
        order = []
        for row in rows[0]:
            off = np.max(np.abs(rows[1] - row) / (3 * allowed), axis=1)
            order.append(int(np.argmin(off)) if off.min() <= 1 else -1)
        if -1 in order or order == list(range(n)) or len(set(order)) < n:
            continue
        turn = order[0]
        if order == [(i + turn) % n for i in range(n)]:
            return Hypothesis(
                "shifted", "rows rolled", f"The cotangent is the right one rolled by {-turn} along axis {axis}."
            )
        return Hypothesis(
            "transpose",
            "rows in another order",
            f"The cotangent has the right entries in another order along axis {axis}: {order[:12]}"
            f"{'...' if n > 12 else ''} in place of 0, 1, 2, ...: a permutation stands where another should, or its "
            "inverse.",
        )
    return None


def _lines(evidence) -> Hypothesis | None:
    """Each line along an axis in another order of its own, as sorting leaves it: the same order in every trial."""
    for axis, n in enumerate(evidence.shape):
        if not 3 <= n <= 64 or evidence.x.size // n < 2 or evidence.x.size * n > 200_000:
            continue
        actual, expected, allowed = (
            np.moveaxis(np.stack(v), axis + 1, -1).reshape(len(evidence.trials), -1, n)
            for v in (evidence.actual, evidence.expected, evidence.tolerance)
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
            return Hypothesis(
                "transpose",
                "lines in another order",
                f"Each line along axis {axis} has the right entries in another order: a permutation (of a sort, say) "
                "stands where another should, or its inverse, or none.",
            )
    return None


def _axes(evidence) -> Hypothesis | None:
    ndim = len(evidence.shape)
    if not 2 <= ndim <= 5 or max(evidence.shape) < 2:
        return None
    for order in itertools.permutations(range(ndim)):
        if order == tuple(range(ndim)):
            continue
        turned = [np.transpose(e, order) for e in evidence.expected]
        if turned[0].shape == evidence.shape and evidence.explains(turned):
            return Hypothesis(
                "transpose", "axes permuted", f"The cotangent is the right one with its axes permuted to {order}."
            )
        if turned[0].shape != evidence.shape:
            reread = [t.reshape(evidence.shape) for t in turned]
            if evidence.explains(reread):
                return Hypothesis(
                    "transpose",
                    "axes permuted",
                    f"The cotangent is the right one with axes permuted to {order} and then reshaped back, which "
                    "mixes its entries: a reshape stands where a transpose should.",
                )
    return None
