"""The cotangent is the negative of the right one."""

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual = -expected."""
    if evidence.explains([-e for e in evidence.expected]):
        return Hypothesis("sign", "negative", "The cotangent is the negative of the right one (factor -1).")
    return None
