"""Where an equation was applied: the mesh and how its operands lie on it, and what else was set around it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.extend.source_info_util import NameStack, new_name_stack, set_name_stack
from jax.sharding import AxisType

from functional_dl.reverse.values import formed
from functional_dl.sharding import equation_context, is_on_mesh, laid_as, mesh_of, under_mesh, without_explicit_axes


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


_WIDE = frozenset(map(np.dtype, ("float64", "complex128")))


class Setting:
    """The named scopes that the user opened, whether there are 64-bit types, and what else the user's program says of
    how it is compiled (`set_xla_metadata`, `compute_on`).  Compared by identity: see `setting_of`.

    Attributes:
      contexts: of the equations that hold it, the outermost first; those that say something.
    """

    __slots__ = ("contexts", "scopes", "x64")
    contexts: tuple[Any, ...]
    scopes: NameStack
    x64: bool

    def __init__(self, scopes: NameStack, x64: bool, contexts: tuple[Any, ...]) -> None:
        self.scopes = scopes
        self.x64 = x64
        self.contexts = contexts

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What the equation computes depends on."""
        return self.x64, *self.contexts

    def again(self, around: NameStack) -> AbstractContextManager[object]:
        """With this set, and the scopes inside of those that are around the backward pass."""
        if not self.scopes and not self.contexts and self.x64 == jax.config.jax_enable_x64:
            return nullcontext()
        stack = ExitStack()
        if self.scopes:
            stack.enter_context(set_name_stack(around + self.scopes))
        if self.x64 != jax.config.jax_enable_x64:
            stack.enter_context(jax.enable_x64(self.x64))
        for context in self.contexts:
            stack.enter_context(equation_context(context.manager))
        return stack


@lru_cache(maxsize=256)
def setting_of(scopes: NameStack, x64: bool, contexts: tuple[Any, ...]) -> Setting:
    return Setting(scopes, x64, contexts)


PLAIN = setting_of(new_name_stack(), False, ())


def with_context(contexts: tuple[Any, ...], eqn: Any) -> tuple[Any, ...]:
    """The contexts around what an equation applies, given those around its program."""
    context = eqn.ctx
    if getattr(context, "xla_metadata", None) or getattr(context, "compute_type", None):
        return (*contexts, context)
    return contexts


def is_wide_type(aval: Any) -> bool:
    return getattr(aval, "dtype", None) in _WIDE


def is_wide(slots: Sequence[Any], values: Sequence[Any]) -> bool:
    """Whether some of the differentiated values are 64-bit floats.  NumPy's are, where JAX has none, 32-bit ones."""
    return any(
        slot is not None and getattr(x, "dtype", None) in _WIDE and isinstance(x, jax.Array)
        for slot, x in zip(slots, values)
    )
