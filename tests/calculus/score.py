"""Scores of the tables: cases, answers whose error is understated or that are wrong, needless refusals.

python -m tests.calculus.score
"""

import math
import sys
import time
from pathlib import Path

import mpmath

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calculus import derivative_cases, limit_cases

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


def derivatives():
    """(case, x, found, exact) for the tables of derivatives."""
    for case in derivative_cases.SMOOTH + derivative_cases.ROUGH:
        for x in case.points:
            with mpmath.workdps(40):
                exact = float(case.exact(mpmath, mpmath.mpf(x)))
            yield case, x, calculus.derivative(case.f, x), exact


def print_derivatives():
    cases, understated, refused, worst = 0, [], [], 0.0
    for case, x, found, exact in derivatives():
        cases += 1
        if math.isnan(found.value):
            refused.append((case.name, x))
        elif abs(found.value - exact) > found.error:
            understated.append((case.name, x))
        elif case in derivative_cases.SMOOTH and exact:
            worst = max(worst, abs(found.value / exact - 1))
    print(f"derivatives: {cases} cases, {len(understated)} understated {understated}, {len(refused)} refused {refused}")
    print(f"derivatives of smooth functions: relative error {worst:.2g} at most")


if __name__ == "__main__":
    grades: dict = {}
    for table, case, grade, found, seconds in limits(tuple(sys.argv[1:]) or TABLES):
        grades.setdefault(grade, []).append(case.name)
        note = "" if grade == RIGHT else f"  <<< {grade}: {case.answer}"
        print(f"{table} {case.name}: {found.value:.15g} +- {found.error:.2g} {seconds:.2f}s{note}", flush=True)
        if note:
            print("    ", found.reason)
    counts = {grade: len(names) for grade, names in grades.items()}
    print(f"limits: {sum(counts.values())} cases, {counts}")
    print_derivatives()
