"""The causes of a wrong cotangent: functions of the evidence that return hypotheses.

Each is a statistic of the evidence and a threshold; its message says what was found, with the numbers.
"""

from collections.abc import Callable
from typing import Any

from functional_dl.check.causes import axes, points, relations, terms, uses
from functional_dl.check.evidence import Evidence, Hypothesis

__all__ = ["hypotheses"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


TESTS: tuple[Callable[[Evidence], Any], ...] = (
    relations.kink, relations.missing_conjugate, terms.missing_factor, uses.missing_reduction, terms.missing_term,
    relations.nonfinite, relations.not_transposed, uses.overwrite, relations.precision, relations.scale, axes.shifted,
    relations.sign, relations.swapped, axes.transpose, points.wrong_branch, points.wrong_point, relations.zero,
)  # fmt: skip

# arithmetic with what is known already: tried however late it is
QUICK = (relations.kink, relations.nonfinite, relations.zero, relations.sign, relations.scale, relations.swapped)


def hypotheses(evidence: Evidence) -> list[Hypothesis]:
    """Every cause that fits the evidence, the best first."""
    found: list[Hypothesis] = []
    for test in TESTS:
        if test in QUICK or not evidence.late:
            fits = test(evidence)
            found += fits if isinstance(fits, list) else [fits] if fits is not None else []
    best: dict[str, Hypothesis] = {}
    for h in sorted(found, key=lambda h: h.rank):
        best.setdefault(h.cause, h)
    return list(best.values())
