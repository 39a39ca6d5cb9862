"""A number with a bound of its error."""

from typing import Any, NamedTuple

__all__ = ["Estimate"]
__dir__ = __all__.copy  # what dir() and completion show


class Estimate(NamedTuple):
    """A value (array or pytree) and a bound of its error, of the same form."""

    value: Any
    error: Any
