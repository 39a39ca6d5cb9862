"""Faults simulated in a function's own equations."""

from functional_dl.check.simulation.program import Simulation

__all__ = ["Simulation"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
