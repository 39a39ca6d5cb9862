"""Scores of the tables: cases, answers whose error is understated or that are wrong, needless refusals.

python -m tests.calculus.score
"""

import math
import sys
import time
from pathlib import Path

import mpmath

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calculus import limit_cases

from functional_dl import calculus

TABLES = ("LIMITS", "SEQUENCES", "PLAIN")
RIGHT, WRONG, REFUSED = "right", "wrong", "refused"


def grade_limit(case, sequence: bool = False) -> tuple[str, object]:
    """RIGHT, WRONG (an error that is understated, a limit that is none) or REFUSED, and what was found."""
    found = calculus.limit_of_sequence(case.f) if sequence else calculus.limit(case.f, case.x0, case.side)
    with mpmath.workdps(40):
        exact = case.exact(mpmath)
    if exact == "slow":  # the limit of 1/loglog is 0, sin(loglog) has none: neither can be told from values
        return (RIGHT if found.exists is None else WRONG), found
    if found.exists is None:
        return REFUSED, found
    if exact == limit_cases.NONE:
        return (RIGHT if found.exists is False and math.isnan(found.value) else WRONG), found
    if math.isinf(exact):
        return (RIGHT if found.value == exact and found.exists is False else WRONG), found
    return (RIGHT if found.exists and abs(found.value - exact) <= found.error else WRONG), found


def limits(tables=TABLES):
    for table in tables:
        for case in getattr(limit_cases, table):
            began = time.monotonic()
            grade, found = grade_limit(case, table == "SEQUENCES")
            yield table, case, grade, found, time.monotonic() - began


if __name__ == "__main__":
    grades: dict = {}
    for table, case, grade, found, seconds in limits(tuple(sys.argv[1:]) or TABLES):
        grades.setdefault(grade, []).append(case.name)
        note = "" if grade == RIGHT else f"  <<< {grade}: {case.answer}"
        print(f"{table} {case.name}: {found.value:.15g} +- {found.error:.2g} {seconds:.2f}s{note}", flush=True)
        if note:
            print("    ", found.reason)
    print({grade: len(names) for grade, names in grades.items()})
