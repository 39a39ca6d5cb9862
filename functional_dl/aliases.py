"""Names for types that recur in signatures.  Aliases, nothing else."""

from typing import Any, TypeAlias

import jax
from jaxtyping import Array as Array  # the array type of every signature: Float[Array, "batch d"]
from jaxtyping import Float, PRNGKeyArray

__all__ = ["Array", "Key", "Params", "PyTree", "Scalar"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


Scalar: TypeAlias = Float[Array, ""]
PyTree: TypeAlias = Any
Params: TypeAlias = PyTree
Key: TypeAlias = PRNGKeyArray | jax.Array
