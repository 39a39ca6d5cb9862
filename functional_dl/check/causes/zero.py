"""The cotangent is zero although the argument matters."""

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """max |actual| = 0 while some |expected| is not."""
    if any(np.any(a != 0) for a in evidence.actual):
        return None
    largest = max(float(np.max(np.abs(e), initial=0.0)) for e in evidence.expected)
    return Hypothesis(
        "zero",
        "all zero",
        f"The cotangent is zero everywhere; it should be as large as {largest:.6g}: the argument matters.",
    )
