"""A complex conjugate is missing, or one too many."""

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis
from functional_dl.check.function import is_complex


def test(evidence: Evidence) -> Hypothesis | None:
    """actual = the right cotangent with conjugate primals, conjugate ct, or conjugate result, in any combination."""
    point = evidence.function.wide_point
    if not any(is_complex(x) for x in [*point, *evidence.outs]):
        return None
    choices = [
        ("the result", lambda cts: np.conj(evidence.pull(cts))),
        ("the incoming cotangent", lambda cts: evidence.pull([np.conj(c) for c in cts])),
        ("the incoming cotangent and the result", lambda cts: np.conj(evidence.pull([np.conj(c) for c in cts]))),
    ]
    if evidence.function.traceable and evidence.reference.source == "autodiff":
        subsets = [[j] for j in range(len(point))] + ([list(range(len(point)))] if len(point) > 1 else [])
        for chosen in subsets:
            moved = [np.conj(x) if j in chosen else x for j, x in enumerate(point)]
            names = ", ".join(evidence.function.paths[evidence.function.active[j]] for j in chosen)
            choices.append((f"the saved {names}", lambda cts, moved=moved: evidence.pull_at(moved, cts)))
    for what, guess in choices:
        if evidence.explains([guess(t.cts) for t in evidence.trials]):
            return Hypothesis(
                "missing_conjugate", "a conjugate", f"The cotangent is right except for a conjugate of {what}."
            )
    if not is_complex(evidence.x) or evidence.x.size == 0:
        return None
    real = all(
        np.all(np.abs(a.real - e.real) <= t) for a, e, t in zip(evidence.actual, evidence.expected, evidence.tolerance)
    )
    if real and all(np.allclose(a.imag, -e.imag, rtol=1e-3) for a, e in zip(evidence.actual, evidence.expected)):
        return Hypothesis("missing_conjugate", "sign of the imaginary part", "The imaginary part has the wrong sign.")
    return None
