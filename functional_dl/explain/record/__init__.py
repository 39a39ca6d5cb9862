"""A function recorded: its equations forward and backward, where they stand, what they cost."""

from functional_dl.explain.record.recording import Recording, both, run, run_jaxpr, sweep

__all__ = ["Recording", "both", "run", "run_jaxpr", "sweep"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
