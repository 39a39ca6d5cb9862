"""The cotangent is that of another argument."""

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual of this argument = expected of another of the same shape."""
    function = evidence.function
    for j, other in enumerate(function.active):
        if j == evidence.k or function.wide_point[j].shape != evidence.shape:
            continue
        if evidence.explains([t.expected[j] for t in evidence.trials]):
            back = all(
                abs(t.actual[j] - t.expected[evidence.k]).max(initial=0.0)
                <= 3 * max(t.tolerance[j].max(initial=0.0), t.tolerance[evidence.k].max(initial=0.0))
                for t in evidence.trials
            )
            both = ", and the other way round" if back else ""
            return Hypothesis(
                "swapped", "another argument's", f"The cotangent is that of {function.paths[other]}{both}."
            )
    return None
