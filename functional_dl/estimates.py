"""A number with a bound of its error."""

from typing import Any, NamedTuple

__all__ = ["Estimate"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


class Estimate(NamedTuple):
    """A value (array or pytree) and a bound of its error, of the same form."""

    value: Any
    error: Any
