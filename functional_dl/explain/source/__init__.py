"""The recorded program as Python source."""

from functional_dl.explain.source.python import render

__all__ = ["render"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
