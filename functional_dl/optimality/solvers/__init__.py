"""Searches: three methods for constrained problems, and Levenberg and Marquardt's for least squares."""

from functional_dl.optimality.solvers import augmented_lagrangian, interior_point, sqp

__all__ = ["METHODS"]

METHODS = {
    "interior_point": interior_point.minimise,
    "sqp": sqp.minimise,
    "augmented_lagrangian": augmented_lagrangian.minimise,
}
"""name -> (problem, start, tolerance, limit of iterations) -> an end: point, multipliers, error, iterations."""


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
