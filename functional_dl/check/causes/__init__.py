"""The causes of a wrong cotangent, one file each: `test(evidence)` -> Hypothesis or None.

A file's test is a statistic of the evidence and a threshold; its message says what was found, with the numbers.
"""

import importlib
import pkgutil

from functional_dl.check.evidence import Evidence, Hypothesis

__all__ = ["hypotheses"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def hypotheses(evidence: Evidence) -> list[Hypothesis]:
    """Every cause that fits the evidence, the best first."""
    found = []
    for info in pkgutil.iter_modules(__path__):
        test = getattr(importlib.import_module(f"{__name__}.{info.name}"), "test", None)
        if test is not None and not evidence.late:
            fits = test(evidence)
            found += fits if isinstance(fits, list) else [fits] if fits is not None else []
    best: dict[str, Hypothesis] = {}
    for h in sorted(found, key=lambda h: h.rank):
        best.setdefault(h.cause, h)
    return list(best.values())
