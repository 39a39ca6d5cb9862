"""A number with a bound of its error."""

from typing import Any, NamedTuple


class Estimate(NamedTuple):
    """A value (array or pytree) and a bound of its error, of the same form."""

    value: Any
    error: Any
