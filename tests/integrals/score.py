"""How honest the integrals are, over all tables: `python -m tests.integrals.score [dimensions] [seeds]`.

Prints cases, how many claim convergence, how many of these understate their error (which must be none), and the worst
true error among the smooth, relative to the larger of 1 and the value.
"""

import sys

import mpmath

import tests.conftest  # noqa: F401  (float64 and strict promotion, as the tests)
from functional_dl import integrals
from tests.integrals import genz
from tests.integrals.one_dimension import CASES
from tests.integrals.regions import CASES as REGIONS


def main(dimensions=(2, 3), seeds=1):
    cases = converged = 0
    understated, worst = [], 0.0
    for name, smooth, exact, call in _all(dimensions, seeds):
        found = call()
        error = float("inf") if exact is None else abs(float(found.value) - exact)
        cases, converged = cases + 1, converged + bool(found.converged)
        if found.converged and not error <= float(found.error):
            understated.append(name)
        if smooth:
            worst = max(worst, error / max(1.0, abs(exact)))
    print(f"cases {cases}, converged {converged}, understated {len(understated)} {understated or ''}")
    print(f"worst true error of the smooth: {worst:.2e}")


def _all(dimensions, seeds):
    for case in CASES:
        with mpmath.workdps(40):
            exact = None if case.exact is None else float(case.exact(mpmath))
        call = lambda case=case: integrals.integrate(case.f, case.a, case.b, points=case.points)
        yield case.name, case.kind == "smooth", exact, call
    for case in REGIONS:
        call = lambda case=case: integrals.integrate_region(case.f, case.bounds)
        yield f"{case.name} (region)", False, case.exact, call
    for d in dimensions:
        for family in genz.DIFFICULTY:
            for seed in range(seeds):
                problem = genz.problem(family, d, seed)
                call = lambda p=problem, d=d: integrals.integrate_region(p.f, [(0, 1)] * d)
                yield f"{family}, {d} dimensions, seed {seed}", family in genz.SMOOTH, problem.exact, call


if __name__ == "__main__":
    given = sys.argv[1:]
    main(tuple(int(d) for d in given[0].split(",")) if given else (2, 3), int(given[1]) if len(given) > 1 else 1)
