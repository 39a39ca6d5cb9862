"""A function as a list of entries, one a primitive applied, each with its own pullback.

A `Recorder` is the tape of the hand-written reverse mode, which also notes what its equations belong to: which
primitive the user's program applied, to which values, where.  Calls of compiled functions are entered (what they call
is noted in their place), and so are functions of `jax.custom_jvp`, of which the recorder keeps what is needed to apply
them again.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.extend.core.primitives import convert_element_type_p
from jax.tree_util import tree_leaves

from functional_dl.check.function import jit
from functional_dl.explain.record import sources
from functional_dl.explain.record.calls import CUSTOM, Alone, applicable_again, called_name, function_name
from functional_dl.jaxprs import PLAIN, Unstructured, bind, called, frozen, programs, traced_function
from functional_dl.reverse.latex import Latex
from functional_dl.reverse.rule import Rule, Unsupported, entry_of, rule_of
from functional_dl.reverse.trace import Tape
from functional_dl.reverse.values import as_array, is_reference


class Where(NamedTuple):
    """A place in the user's program.

    Fields:
      frames: the user's frames, innermost first.
      path: scopes and functions around it, outermost first, each with what tells it from others of its name.
      scopes: the names of jax.named_scope alone, outermost first.
    """

    frames: tuple[sources.Frame, ...] = ()
    path: Sequence[tuple[str, Any]] = ()
    scopes: tuple[str, ...] = ()


LOOPS = {"scan", "while", "cond"}


class Loop:
    """A loop or a branch, equal to those of the same program; XLA would compile it anew each time that it is traced.

    Attributes:
      functions: what was compiled of it, by what it is for.
    """

    primitive: Primitive
    params: dict[Any, Any]
    functions: dict[Any, Any]

    def __init__(self, primitive: Primitive, params: dict[Any, Any]) -> None:
        self.primitive, self.params, self.functions = primitive, params, {}
        try:
            self._key: Any = (primitive, frozen(params))
            hash(self._key)
        except (Unstructured, TypeError):  # it equals none but itself
            self._key = object()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loop) and self._key == other._key

    def call(self, what: Any, fun: Callable[..., Any], *args: Any) -> Any:
        """fun(*args), of a function of the loop and its arguments alone: compiled once and in haste, as it runs a few
        times; within a trace it is a part of that."""
        leaves = tree_leaves(args)
        if any(isinstance(x, Tracer) or is_reference(jax.typeof(x)) for x in leaves):
            return fun(*args)
        if what not in self.functions:
            self.functions[what] = jit(fun, sum(map(np.size, leaves)))
        return self.functions[what](*args)


@functools.lru_cache(maxsize=128)
def _known(loop: Loop) -> Loop:
    return loop


def loop_of(primitive: Primitive, params: dict[Any, Any]) -> Loop | None:
    """The loop that an equation is, None where it is none."""
    return _known(Loop(primitive, params)) if primitive.name in LOOPS else None


def applied(primitive: Primitive, operands: Sequence[Any], params: dict[Any, Any]) -> list[Any]:
    """An equation applied to operands."""
    loop = loop_of(primitive, params)
    if loop is None:
        return bind(primitive, operands, params)
    return loop.call("run", lambda *xs: bind(loop.primitive, xs, loop.params), *operands)


@dataclass(eq=False)
class Entry:
    """One primitive applied: outs = primitive(*operands, **params).

    Fields:
      operands, outs: values; an operand that is a number written in the program is no value of the recorder's.
      ins, out_ids: the operands' and outputs' numbers in the recorder, None for a number written in the program.
      slots, out_slots: under which their cotangents add up, None for constants.
      where: its place in the user's program.
      label: the name of the called function, where the equation is a call.
      alone: how the equation is applied again, where its parameters do not tell.
    """

    index: int
    primitive: Primitive
    params: dict[Any, Any]
    operands: list[Any]
    outs: list[Any]
    ins: list[int | None]
    out_ids: list[int]
    slots: list[int | None]
    out_slots: list[int | None]
    where: Where
    label: str = ""
    alone: Alone | None = None

    @property
    def frames(self) -> tuple[sources.Frame, ...]:
        return self.where.frames

    @property
    def path(self) -> Sequence[tuple[str, Any]]:
        return self.where.path

    @property
    def rule(self) -> Rule | None:
        return rule_of(self.primitive)

    @property
    def latex(self) -> Latex | None:
        """The primitive's formulas, as its rule states them."""
        known = entry_of(self.primitive)
        return None if known is None or isinstance(known, Unsupported) else known.latex

    @property
    def active(self) -> list[int]:
        """Positions of the operands that are differentiated, where an output is."""
        if all(s is None for s in self.out_slots):
            return []
        return [i for i, s in enumerate(self.slots) if s is not None]

    @property
    def body_is_in_params(self) -> bool:
        """Whether the equation holds a program."""
        return self.alone is not None or bool(programs(self.params))

    @property
    def loop(self) -> Loop | None:
        """The loop or branch that the equation is."""
        return None if self.alone is not None else loop_of(self.primitive, self.params)

    def apply(self, *operands: Any) -> list[Any]:
        """The equation at other operands."""
        return list(self.alone(*operands)) if self.alone else applied(self.primitive, operands, self.params)


@dataclass
class Place:
    """A compiled function that is being entered: where it is called, and which function it is."""

    where: Where
    function: str
    file: str


class Recorder(Tape):
    """A tape that also notes every primitive that the user's program applies.

    Fields:
      entries: in order.
      values: number -> value, for all values that entries read or made.
      stop: code of the function outside of which no frame is the user's.
      scoped: names the scope "step_i" around what an entry does, for a trace of it all to show.
    """

    def __init__(self, parent_trace: Any, sources_wanted: bool = True, stop: Any = None, scoped: bool = False) -> None:
        super().__init__(parent_trace, True)
        self.entries: list[Entry] = []
        self.values: list = []
        self.numbers: dict[int, int] = {}
        self.slot_of: dict[int, int] = {}
        self.stop = stop
        self.scoped = scoped
        self.entered: list[Place] = []
        self.open: int | None = None
        self.frames_alive: list = []

    def place(self) -> Any:
        return self.open

    def number(self, value: Any) -> int:
        """The number of a value, a new one if it has none."""
        known = self.numbers.get(id(value))
        if known is None:
            known = self.numbers[id(value)] = len(self.values)
            self.values.append(value)
        return known

    def read(self, value: Any) -> int | None:
        """The number of an operand; None for a number written in the program."""
        if id(value) in self.numbers:
            return self.numbers[id(value)]
        if isinstance(value, bool | int | float | complex | np.generic) or not hasattr(value, "shape"):
            return None
        if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, Tracer) and is_number(value):
            return None
        return self.number(value)

    def apply(
        self, primitive: Primitive, values: list[Any], slots: list[Any], params: dict[Any, Any]
    ) -> tuple[list[Any], list[Any]]:
        if self.open is not None:
            return super().apply(primitive, values, slots, params)
        return self.enter_or_note(primitive, values, slots, params, self.here(None))

    def here(self, source_info: Any) -> Where:
        """The place of what is applied now."""
        names = sources.scopes(source_info if self.entered else None)
        if not self.entered:
            frames = sources.live_frames(self.stop, self.frames_alive) if self.stop is not None else ()
            path = sources.path(frames, names)
            return Where(tuple(frame for frame in frames if not (frame.library or frame.hidden)), path, names)
        place = self.entered[-1]
        outer = place.where
        own = sources.staged_frames(source_info, place.function, place.file)
        inner = sources.path(own, names, bool(outer.scopes)) if own else [(name, None) for name in names]
        shown = tuple(frame for frame in own if not frame.hidden)
        return Where((*shown, *outer.frames), [*outer.path, *inner], (*outer.scopes, *names))

    def enter_or_note(
        self, primitive: Any, values: Any, slots: Any, params: Any, where: Where
    ) -> tuple[list[Any], list[Any]]:
        inner = called(primitive, params, PLAIN)
        if inner is not None and not self.works_on_references(values):
            return self.enter(inner, params.get("name", ""), values, slots, where)
        alone, label = None, ""
        if primitive in CUSTOM and "subfuns" in params:
            label = function_name(params["subfuns"][0])
            params, alone = applicable_again(primitive, params, values, slots)
        return self.note_entry(primitive, values, slots, params, where, alone, label)

    def is_written(self, value: Any) -> bool:
        """Whether a value is a single number of the program's own."""
        return self.read(value) is None if id(value) not in self.numbers else False

    def works_on_references(self, values: Any) -> bool:
        return any(id(v) in self.contents for v in values)

    def enter(self, jaxpr: Any, name: str, values: Any, slots: Any, where: Where) -> tuple[list[Any], list[Any]]:
        """Notes the equations of a called program one by one."""
        function, file = traced_function(jaxpr)
        frames = where.frames
        tag = (frames[0].file, frames[0].line, frames[0].call) if frames else None
        users = bool(file) and sources.is_users(file)
        path = list(where.path)
        if not (sources.is_networks(file, bool(where.scopes)) or sources.is_frameworks(file)):
            path.append((name or function, ("" if users else sources.LIBRARY, tag, next(_calls))))
        self.entered.append(Place(where._replace(path=path), function if users else "", file if users else ""))
        try:
            return self.replay(jaxpr, values, slots, self.noted)
        finally:
            self.entered.pop()

    def noted(self, eqn: Any, values: Any, slots: Any) -> tuple[list[Any], list[Any]]:
        """As `apply`, for an equation of a called program, with its own place in the source."""
        return self.enter_or_note(eqn.primitive, values, slots, eqn.params, self.here(eqn.source_info))

    def note_entry(
        self,
        primitive: Any,
        values: Any,
        slots: Any,
        params: Any,
        where: Where,
        alone: Alone | None,
        label: str,
    ) -> tuple[list[Any], list[Any]]:
        if primitive is convert_element_type_p and self.is_written(values[0]):
            return super().apply(primitive, values, slots, params)  # a number of another type is that number
        if primitive is convert_element_type_p and changes_nothing(values[0], params, bool(self.entered)):
            return list(values), list(slots)
        index = len(self.entries)
        ins = [self.read(v) for v in values]
        self.slot_of |= {i: s for i, s in zip(ins, slots) if i is not None and s is not None}
        self.open = index
        try:
            with jax.named_scope(f"step_{index}") if self.scoped else nullcontext():
                if alone is not None and all(slot is None for slot in slots):
                    # nothing is differentiated: JAX applies it, whichever transformation is going on
                    outs, out_slots = self.note(primitive, None, params, values, slots, list(alone(*values)))
                else:
                    outs, out_slots = super().apply(primitive, values, slots, params)
        finally:
            self.open = None
        outs = [as_array(y) if not isinstance(y, Tracer) else y for y in outs]
        outs = [self.fresh(y) for y in outs]
        out_ids = [self.number(y) for y in outs]
        self.slot_of |= {i: s for i, s in zip(out_ids, out_slots) if s is not None}
        self.entries.append(
            Entry(
                index=index,
                primitive=primitive,
                params=params,
                operands=list(values),
                outs=list(outs),
                ins=ins,
                out_ids=out_ids,
                slots=list(slots),
                out_slots=list(out_slots),
                where=where,
                label=label or called_name(primitive, params),
                alone=alone,
            )
        )
        return outs, out_slots

    def fresh(self, value: Any) -> Any:
        """The value, or where the recorder knows it already a copy of it: no two numbers share a value."""
        if id(value) not in self.numbers or not is_array(value):
            return value
        return jnp.array(value, copy=True)


_calls = itertools.count()


def is_number(value: Any) -> bool:
    """Whether an array is a single number (and no key of random numbers)."""
    return value.ndim == 0 and jax.dtypes.issubdtype(value.dtype, np.generic)


def changes_nothing(value: Any, params: dict[Any, Any], staged: bool) -> bool:
    """Whether a conversion is to the type that the value has.

    Args:
      staged: the equation is a compiled program's, where nobody asks any more whether a type is weak.
    """
    aval = jax.typeof(value)
    weak = staged or bool(getattr(aval, "weak_type", False)) == bool(params["weak_type"])
    return aval.dtype == params["new_dtype"] and weak and params.get("sharding") is None


def is_array(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic)
