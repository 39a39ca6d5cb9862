"""The cotangent is shifted along an axis."""

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual[i + s] = expected[i] along one axis, or along the last ones together, away from the border."""
    ndim = len(evidence.shape)
    steps = (1, -1, 2, -2)
    axes = [(axis,) for axis in range(ndim)] + [tuple(range(a, b)) for a in range(ndim) for b in range(a + 2, ndim + 1)]
    for group in axes:
        for step in steps:
            if min(evidence.shape[a] for a in group) <= abs(step) + 1:
                continue
            inside = np.ones(evidence.shape, bool)
            for axis in group:
                keep = np.arange(evidence.shape[axis])
                keep = keep >= step if step > 0 else keep < evidence.shape[axis] + step
                inside &= keep.reshape([-1 if a == axis else 1 for a in range(ndim)])
            moved = [np.roll(e, (step,) * len(group), group) for e in evidence.expected]
            varied = any(
                np.any(np.abs(m - e)[inside] > 3 * t[inside])
                for m, e, t in zip(moved, evidence.expected, evidence.tolerance)
            )
            if varied and evidence.explains(moved, where=inside):
                return Hypothesis(
                    "shifted",
                    0.96,
                    f"The cotangent is the right one shifted by {step:+d} along axis {', '.join(map(str, group))}.",
                )
    return None
