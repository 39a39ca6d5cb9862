"""Only points without a derivative are wrong, and the value there is no generalised derivative.

Whether a value is one is settled before a fault is diagnosed; what arrives here at kinks alone is outside the
subdifferential.
"""

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """Every wrong entry lies at a kink: gradients at points close by differ there."""
    return Hypothesis("kink", "outside the subdifferential", evidence.kinked) if evidence.kinked else None
