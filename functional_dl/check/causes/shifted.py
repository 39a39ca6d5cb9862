"""The cotangent is shifted along an axis."""

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual[i + s] = expected[i] along one axis, or along the last ones together, away from the border; or the right
    cotangent for an incoming one that is shifted, rolled round or with zeros at the border."""
    found = _result(evidence)
    return found if found is not None else _incoming(evidence)


def _incoming(evidence) -> Hypothesis | None:
    for o, out in enumerate(evidence.outs):
        for axis, n in enumerate(out.shape):
            for step in (1, -1, 2, -2):
                if n <= abs(step) + 1:
                    continue
                for name, move in (("rolled", _rolled), ("shifted", _filled)):

                    def guess(cts, o=o, step=step, axis=axis, move=move):
                        return evidence.pull([move(c, step, axis) if i == o else c for i, c in enumerate(cts)])

                    # one trial rules most guesses out
                    if not evidence.explains([guess(t.cts) for t in evidence.trials[:1]]):
                        continue
                    if evidence.explains([guess(t.cts) for t in evidence.trials]):
                        return Hypothesis(
                            "shifted",
                            "incoming shifted",
                            f"The cotangent is the right one for an incoming cotangent that is {name} by {step:+d} "
                            f"along axis {axis} of the output.",
                        )
    return None


def _rolled(ct, step, axis):
    return np.roll(ct, step, axis)


def _filled(ct, step, axis):
    moved = np.roll(ct, step, axis)
    border = [slice(None)] * ct.ndim
    border[axis] = slice(0, step) if step > 0 else slice(step, None)
    moved[tuple(border)] = 0
    return moved


def _result(evidence) -> Hypothesis | None:
    ndim = len(evidence.shape)
    steps = (1, -1, 2, -2)
    axes = [(axis,) for axis in range(ndim)] + [tuple(range(a, b)) for a in range(ndim) for b in range(a + 2, ndim + 1)]
    for group in axes:
        for step in steps:
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
                    away = " away from the border" if border else ""
                    return Hypothesis(
                        "shifted",
                        "shifted" if not border else "shifted inside",
                        f"The cotangent is the right one shifted by {step:+d} along axis "
                        f"{', '.join(map(str, group))}{away}.",
                    )
    return None


def _inside(shape, group, step, border):
    """Entries that a shift along the axes reaches from within, but for a border on the side that it comes from."""
    inside = np.ones(shape, bool)
    for axis in group:
        keep = np.arange(shape[axis])
        keep = keep >= step + border if step > 0 else keep < shape[axis] + step - border
        inside &= keep.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return inside
