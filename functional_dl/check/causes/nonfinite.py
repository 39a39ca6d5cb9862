"""The cotangent is NaN or infinite where the right one is finite."""

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """Some actual entry is not finite where the expected one is."""
    count = max(int((~np.isfinite(a) & np.isfinite(e)).sum()) for a, e in zip(evidence.actual, evidence.expected))
    if not count:
        return None
    kinds = {("NaN" if np.isnan(v) else "inf") for a in evidence.actual for v in a[~np.isfinite(a)].reshape(-1)[:1000]}
    return Hypothesis(
        "nonfinite",
        "not finite",
        f"{count} of {evidence.x.size} entries are {' and '.join(sorted(kinds))}; the right ones are finite.",
    )
