"""Prints how a method does: `python -m tests.optimality.score [--method M] [--degenerate] [--starts N] [names]`."""

import argparse
import time

import jax.numpy as jnp

import tests.conftest  # noqa: F401  (the flags with which XLA compiles faster, before JAX is imported)
from functional_dl import optimality
from tests.optimality.degenerate import DEGENERATE
from tests.optimality.problems import KNOWN


def judge(known, method="interior_point", tolerance=1e-8, **options):
    """(solved, certified at another minimum, the Solution)."""
    solution = optimality.solve(known.problem, jnp.asarray(known.start), method, tolerance, **options)
    close = abs(float(solution.objective) - known.value) <= 1e-6 * (1 + abs(known.value))
    residuals = max(float(r) for r in solution.certificate.residuals)
    return close and residuals <= 1e-6, solution.converged and not close, solution


def judge_degenerate(case, method="interior_point", **options):
    """(named rightly, a false certificate, the Solution)."""
    solution = optimality.solve(case.problem, jnp.asarray(case.start), method, **options)
    named = solution.reason.split(":")[0]
    close = any(abs(float(solution.objective) - v) <= 1e-5 * (1 + abs(v)) for v in case.values)
    right = named in case.words and (close if named == "converged" else True)
    return right, solution.converged and not (close and "converged" in case.words), solution


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="interior_point")
    parser.add_argument("--degenerate", action="store_true")
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    table = DEGENERATE if options.degenerate else KNOWN
    solved = false = iterations = 0
    chosen = [case for case in table if not options.names or case.name in options.names]
    for case in chosen:
        begin = time.perf_counter()
        one = judge_degenerate if options.degenerate else judge
        good, elsewhere, solution = one(case, options.method, starts=options.starts)
        solved, false, iterations = solved + good, false + elsewhere, iterations + solution.iterations
        mark = "solved" if good else "ELSEWHERE" if elsewhere else "UNSOLVED"
        expected = " or ".join(case.words) if options.degenerate else f"{case.value:.10g}"
        print(
            f"{case.name:6} {mark:9} f {float(solution.objective):18.10g}  expected {expected:>18}  "
            f"{solution.iterations:4d} iterations {time.perf_counter() - begin:5.1f} s  {solution.reason}",
            flush=True,
        )
    print(f"{solved} of {len(chosen)} solved, {false} certified elsewhere, {iterations} iterations, {options.method}")


if __name__ == "__main__":
    main()
