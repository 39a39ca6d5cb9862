"""Where an equation was applied: a mesh, and how its operands lie on it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType

from functional_dl.reverse.values import formed
from functional_dl.sharding import is_on_mesh, laid_as, mesh_of, under_mesh, without_explicit_axes


class Layout:
    """The mesh that an equation was applied on, and the types of its operands.  Off a mesh there is none."""

    __slots__ = ("explicit", "mesh", "types")
    explicit: bool
    mesh: Any
    types: list[Any]

    def __init__(self, mesh: Any, types: list[Any]) -> None:
        self.mesh = mesh
        self.types = types
        self.explicit = AxisType.Explicit in mesh.axis_types

    def run(self, pull: Callable[..., Any], values: Any, inputs: Sequence[Any], explicit: bool) -> list[Any]:
        """The cotangents pull(values) of the inputs that have a slot: on this mesh, each laid out as its primal is.

        Args:
          pull: what gives them, or thunks of them.
          values: a pytree of values and types.
          explicit: pull says how what it computes is laid out; if not, the compiler chooses that.
        """

        def wanted(values):
            bars = zip(inputs, pull(values))
            return [None if slot is None else formed(bar() if callable(bar) else bar) for slot, bar in bars]

        with under_mesh(self.mesh):
            bars = wanted(values) if explicit or not self.explicit else without_explicit_axes(wanted, values)
            return [
                bar if bar is None or aval is None or bar.dtype == jax.float0 else laid_as(bar, aval)
                for bar, aval in zip(bars, self.types)
            ]


def layout_of(values: Sequence[Any], inputs: Sequence[Any], types: dict[int, Any]) -> Layout | None:
    """Where an equation stands, one of whose inputs or outputs is on a mesh; None off a mesh.

    Args:
      values: its outputs.
      inputs: the slots of its inputs.
      types: of the slots of values that are on a mesh, the values' types.
    """
    if not types:
        return None
    own = [None if slot is None else types.get(slot) for slot in inputs]
    mesh = mesh_of([*values, *[aval for aval in own if aval is not None]])
    return None if mesh is None else Layout(mesh, own)


def note_types(types: dict[int, Any], avals: Iterable[Any], slots: Sequence[Any]) -> None:
    """Adds the types of values on a mesh, of those among avals, to those of their slots."""
    for aval, slot in zip(avals, slots):
        if slot is not None and is_on_mesh(aval):
            types[slot] = aval
