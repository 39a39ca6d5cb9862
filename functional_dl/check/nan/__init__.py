"""Finding where a NaN is born."""

from functional_dl.check.nan.find import NanReport, find_nan

__all__ = ["NanReport", "find_nan"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
