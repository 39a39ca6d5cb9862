"""Where a value lives, as its type says it.

On a mesh with Explicit axes (jax.make_mesh's default) types carry shardings, and a product that sums over a split axis
must be told how its result is laid out.
"""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

__all__ = ["sharding_like", "sharding_of"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def sharding_of(x) -> NamedSharding | None:
    """The sharding in the type of x; None where types carry none, without a mesh of Explicit axes."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    if sharding is None or sharding.mesh.empty or AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return sharding


def sharding_like(x, *operands) -> NamedSharding | None:
    """How a result that stands for x (its cotangent, its update) is laid out: as x, or where x is on no mesh and an
    operand is, whole on each of that mesh's devices."""
    found = sharding_of(x)
    for operand in operands:
        elsewhere = sharding_of(operand)
        if found is None and elsewhere is not None:
            found = NamedSharding(elsewhere.mesh, PartitionSpec())
    return found
