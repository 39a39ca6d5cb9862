"""Only points without a derivative are wrong, and the value there is no generalised derivative.

Whether a value is one is settled before a fault is diagnosed (functional_dl.check.kinks); what arrives here at kinks
alone is outside the subdifferential.
"""

from functional_dl.check import kinks
from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """Every wrong entry lies at a kink: gradients at points close by differ there."""
    found = kinks.at_kink(evidence)
    if found is None or not found.all_bad_are_kinks:
        return None
    return Hypothesis("kink", "outside the subdifferential", found.message)
