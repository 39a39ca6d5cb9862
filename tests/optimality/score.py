"""Prints how the solver does on the problems with known optima: `python -m tests.optimality.score [names]`."""

import sys
import time

import jax
import jax.numpy as jnp

from functional_dl import optimality
from tests.optimality.problems import KNOWN


def judge(known, tolerance=1e-8):
    """(solved, false certificate of a worse or infeasible point, the Solution)."""
    solution = optimality.solve(known.problem, jnp.asarray(known.start), tolerance=tolerance)
    close = abs(float(solution.objective) - known.value) <= 1e-6 * (1 + abs(known.value))
    residuals = max(float(r) for r in solution.certificate.residuals)
    return close and residuals <= 1e-6, solution.converged and not close, solution


def main():
    jax.config.update("jax_enable_x64", True)
    solved = 0
    chosen = [known for known in KNOWN if len(sys.argv) == 1 or known.name in sys.argv[1:]]
    for known in chosen:
        begin = time.perf_counter()
        good, elsewhere, solution = judge(known)
        solved += good
        mark = "solved" if good else "ELSEWHERE" if elsewhere else "UNSOLVED"
        print(
            f"{known.name:6} {mark:9} f {float(solution.objective):18.10g}  f* {known.value:18.10g}  "
            f"{solution.iterations:4d} iterations {time.perf_counter() - begin:5.1f} s  {solution.reason}",
            flush=True,
        )
    print(f"{solved} of {len(chosen)} solved")


if __name__ == "__main__":
    main()
