"""The cotangent is right but has lost digits."""

import numpy as np

from functional_dl.check import reference
from functional_dl.check.evidence import Evidence, Hypothesis

# relative errors, of the leaf's typical size, below which a fault is one of digits
# (a value of 8 bits, as bfloat16 has them, somewhere on the way)
LOST = {"float64": 1e-2, "float32": 1e-2, "float16": 0.15, "bfloat16": 0.25}


def test(evidence: Evidence) -> Hypothesis | None:
    """The error is far above rounding, far below the cotangent, and not proportional to it."""
    dtype = reference.dtype_name(evidence.function.point[evidence.k])
    ratios, errors = [], []
    for a, e in zip(evidence.actual, evidence.expected):
        if not np.isfinite(a).all():
            return None
        typical = float(np.sqrt(np.mean(np.abs(e) ** 2))) or 1.0
        ratios.append(float(np.sqrt(np.mean(np.abs(a - e) ** 2))) / typical)
        errors.append((a - e).reshape(-1))
    worst = max(ratios)
    if worst > LOST.get(dtype, 0.1):
        return None
    return Hypothesis(
        "precision",
        "digits",
        f"The cotangent is right only to {worst:.1g} of its size; {dtype} and this function allow "
        f"{max(float(np.median(t)) for t in evidence.tolerance):.1g} per entry.",
    )
