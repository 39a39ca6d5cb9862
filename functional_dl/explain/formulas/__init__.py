"""Steps, values and outline of a recording; formulas as text."""

from functional_dl.explain.formulas.steps import Builder, Part

__all__ = ["Builder", "Part"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
