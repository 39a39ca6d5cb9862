"""A function as a list of entries, one a primitive applied, each with its own way back.  The room's reader of jaxprs.

A `Notebook` is the tape of the hand-written reverse mode, which notes besides its equations what they belong to: which
primitive the user's program applied, to which values, where.  Calls of compiled functions are entered (what they call
is noted in their place), and so are functions of `jax.custom_jvp`, of which the notebook keeps what is needed to apply
them again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal, Primitive, take_current_trace
from jax.extend.core.primitives import (
    closed_call_p,
    convert_element_type_p,
    custom_jvp_call_p,
    custom_vjp_call_p,
    jit_p,
)

from functional_dl.explain import sources
from functional_dl.reverse.rule import Rule, rule_of
from functional_dl.reverse.trace import (
    Tape,
    as_array,
    bind_params,
    function_of,
    instantiate,
    open_jaxpr,
    record,
)

ENTERED = {jit_p: "jaxpr", closed_call_p: "call_jaxpr"}
NAMED = {"eval_jaxpr": "call_jaxpr"}  # by name: JAX 0.12's
CUSTOM = {custom_jvp_call_p, custom_vjp_call_p}


@dataclass(eq=False)
class Entry:
    """One primitive applied: outs = primitive(*operands, **params).

    Fields:
      operands, outs: values; an operand that is a number written in the program is no value of the notebook's.
      ins, out_ids: the operands' and outputs' numbers in the notebook, None for a number written in the program.
      slots, out_slots: under which their cotangents add up, None for constants.
      path: scopes and functions around it, outermost first, each with what tells it from others of its name.
      frames: the user's frames, innermost first.
      label: the name of the called function, where the equation is a call.
      alone: how the equation is applied again, where its parameters do not tell.
    """

    index: int
    primitive: Primitive
    params: dict
    operands: list
    outs: list
    ins: list[int | None]
    out_ids: list[int]
    slots: list[int | None]
    out_slots: list[int | None]
    path: list[tuple[str, Any]]
    frames: tuple[sources.Frame, ...]
    label: str = ""
    alone: Callable | None = None

    @property
    def rule(self) -> Rule | None:
        return rule_of(self.primitive)

    @property
    def active(self) -> list[int]:
        """Positions of the operands that are differentiated, where an output is."""
        if all(s is None for s in self.out_slots):
            return []
        return [i for i, s in enumerate(self.slots) if s is not None]

    @property
    def body_is_in_params(self) -> bool:
        """Whether the equation holds a program."""
        return self.alone is not None or any(hasattr(open_jaxpr(v)[0], "eqns") for v in self.params.values())

    def apply(self, *operands) -> list:
        """The equation at other operands."""
        if self.alone is not None:
            return list(self.alone(*operands))
        outs = self.primitive.bind(*operands, **bind_params(self.primitive, self.params))
        return list(outs) if self.primitive.multiple_results else [outs]


@dataclass
class _Place:
    """A compiled function that is being entered: where it is called, and which function it is."""

    frames: tuple[sources.Frame, ...]
    path: list[tuple[str, Any]]
    function: str
    file: str
    source_info: Any = None


def called_name(primitive: Primitive, params: dict) -> str:
    """The name of the function that an equation calls, "" for other equations."""
    if primitive not in CUSTOM and primitive.name not in ("checkpoint", "remat", "remat2", "composite"):
        return ""
    if params.get("name"):
        return str(params["name"])
    inner = params.get("call_jaxpr", params.get("fun_jaxpr", params.get("jaxpr")))
    return traced_function(inner)[0] if inner is not None else ""


def function_name(fun) -> str:
    """The name of a function in a parameter of JAX's."""
    where = str(getattr(getattr(fun, "debug_info", None), "func_src_info", "") or "")
    return where.partition(" at ")[0].rsplit(".", 1)[-1]


def traced_function(jaxpr) -> tuple[str, str]:
    """Name and file of the Python function that a jaxpr was traced from; ("", "") where it is not known."""
    info = getattr(open_jaxpr(jaxpr)[0], "debug_info", None)
    where = str(getattr(info, "func_src_info", "") or "")
    name, _, place = where.partition(" at ")
    return name.rsplit(".", 1)[-1], place.rsplit(":", 1)[0]


class Notebook(Tape):
    """A tape that also notes every primitive that the user's program applies.

    Fields:
      entries: in order.
      values: number -> value, for all values that entries read or made.
      stop: code of the function outside of which no frame is the user's.
      scoped: names the scope "step_i" around what an entry does, for a trace of it all to show.
    """

    def __init__(self, parent_trace, sources_wanted=True, stop=None, scoped=False):
        super().__init__(parent_trace, True)
        self.entries: list[Entry] = []
        self.values: list = []
        self.numbers: dict[int, int] = {}
        self.slot_of: dict[int, int] = {}
        self.stop = stop
        self.scoped = scoped
        self.entered: list[_Place] = []
        self.open: int | None = None
        self.frames_alive: list = []

    def place(self):
        return self.open

    def number(self, value) -> int:
        """The number of a value, a new one if it has none."""
        known = self.numbers.get(id(value))
        if known is None:
            known = self.numbers[id(value)] = len(self.values)
            self.values.append(value)
        return known

    def read(self, value) -> int | None:
        """The number of an operand; None for a number written in the program."""
        if id(value) in self.numbers:
            return self.numbers[id(value)]
        if isinstance(value, bool | int | float | complex | np.generic) or not hasattr(value, "shape"):
            return None
        if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, Tracer) and is_number(value):
            return None
        return self.number(value)

    def apply(self, primitive: Primitive, values: list, slots: list, params: dict) -> tuple[list, list]:
        if self.open is not None:
            return super().apply(primitive, values, slots, params)
        frames, path = self.here(None)
        return self.enter_or_note(primitive, values, slots, params, frames, path)

    def here(self, source_info) -> tuple[tuple[sources.Frame, ...], list]:
        """The user's frames and the path of what is applied now."""
        if not self.entered:
            frames = sources.live_frames(self.stop, self.frames_alive) if self.stop is not None else ()
            path = sources.path(frames, sources.scopes())
            return tuple(frame for frame in frames if not frame.library), path
        place = self.entered[-1]
        own = sources.staged_frames(source_info, place.function, place.file)
        inner = (
            sources.path(own, sources.scopes(source_info))
            if own
            else [(name, None) for name in sources.scopes(source_info)]
        )
        return (*own, *place.frames), [*place.path, *inner]

    def enter_or_note(self, primitive, values, slots, params, frames, path) -> tuple[list, list]:
        inner = ENTERED.get(primitive) or NAMED.get(primitive.name)
        if inner is not None and not self.works_on_references(values):
            return self.enter(params[inner], params.get("name", ""), values, slots, frames, path)
        before, alone, label = len(self.entries), None, ""
        if primitive in CUSTOM and "subfuns" in params:
            label = function_name(params["subfuns"][0])
            params, alone = applicable_again(primitive, params, values, slots)
        outs = self.note_entry(primitive, values, slots, params, frames, path)
        if len(self.entries) > before:
            self.entries[-1].alone, self.entries[-1].label = alone, label or self.entries[-1].label
        return outs

    def is_written(self, value) -> bool:
        """Whether a value is a single number of the program's own."""
        return self.read(value) is None if id(value) not in self.numbers else False

    def works_on_references(self, values) -> bool:
        return any(id(v) in self.contents for v in values)

    def enter(self, jaxpr, name, values, slots, frames, path) -> tuple[list, list]:
        """Notes the equations of a called program one by one."""
        function, file = traced_function(jaxpr)
        tag = (frames[0].file, frames[0].line, frames[0].call) if frames else None
        users = bool(file) and sources.is_users(file)
        place = _Place(
            frames,
            [*path, (name or function, ("" if users else sources.LIBRARY, tag, next(_calls)))],
            function if users else "",
            file if users else "",
        )
        self.entered.append(place)
        try:
            return self.replay_noting(*open_jaxpr(jaxpr), values, slots)
        finally:
            self.entered.pop()

    def replay_noting(self, jaxpr, consts, values: Sequence, slots: Sequence) -> tuple[list, list]:
        """As `replay`, with each equation's own place in the source."""
        env: dict = {var: (const, None) for var, const in zip(jaxpr.constvars, consts)}
        env |= dict(zip(jaxpr.invars, zip(values, slots)))

        def read(atom):
            return (atom.val, None) if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            frames, path = self.here(eqn.source_info)
            with eqn.ctx.manager:
                outs, out_slots = self.enter_or_note(
                    eqn.primitive, [v for v, _ in operands], [s for _, s in operands], eqn.params, frames, path
                )
            env |= dict(zip(eqn.outvars, zip(outs, out_slots)))
        results = [read(atom) for atom in jaxpr.outvars]
        return [value for value, _ in results], [slot for _, slot in results]

    def note_entry(self, primitive, values, slots, params, frames, path) -> tuple[list, list]:
        if primitive is convert_element_type_p and self.is_written(values[0]):
            return super().apply(primitive, values, slots, params)  # a number of another type is that number
        if primitive is convert_element_type_p and changes_nothing(values[0], params, bool(self.entered)):
            return list(values), list(slots)
        index = len(self.entries)
        ins = [self.read(v) for v in values]
        self.slot_of |= {i: s for i, s in zip(ins, slots) if i is not None and s is not None}
        self.open = index
        try:
            with jax.named_scope(f"step_{index}") if self.scoped else _nothing():
                outs, out_slots = super().apply(primitive, values, slots, params)
        finally:
            self.open = None
        outs = [as_array(y) if not isinstance(y, Tracer) else y for y in outs]
        outs = [self.fresh(y) for y in outs]
        out_ids = [self.number(y) for y in outs]
        self.slot_of |= {i: s for i, s in zip(out_ids, out_slots) if s is not None}
        self.entries.append(
            Entry(
                index,
                primitive,
                params,
                list(values),
                list(outs),
                ins,
                out_ids,
                list(slots),
                list(out_slots),
                path,
                frames,
                called_name(primitive, params),
            )
        )
        return outs, out_slots

    def fresh(self, value):
        """The value, or where the notebook knows it already a copy of it: no two numbers share a value."""
        if id(value) not in self.numbers or not is_array(value):
            return value
        return jnp.array(value, copy=True)


_calls = itertools.count()


def is_number(value) -> bool:
    """Whether an array is a single number (and no key of random numbers)."""
    return value.ndim == 0 and jax.dtypes.issubdtype(value.dtype, np.generic)


def changes_nothing(value, params: dict, staged: bool) -> bool:
    """Whether a conversion is to the type that the value has.

    Args:
      staged: the equation is a compiled program's, where nobody asks any more whether a type is weak.
    """
    aval = jax.typeof(value)
    weak = staged or bool(getattr(aval, "weak_type", False)) == bool(params["weak_type"])
    return aval.dtype == params["new_dtype"] and weak and params.get("sharding") is None


class _nothing:
    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def is_array(value) -> bool:
    return isinstance(value, jax.Array | np.ndarray | np.generic)


class Again:
    """A function that may be called any number of times, where JAX's own may be called once."""

    def __init__(self, fun: Callable):
        self.call_wrapped = fun


def applicable_again(
    primitive: Primitive, params: dict, values: Sequence, slots: Sequence
) -> tuple[dict, Callable | None]:
    """Parameters of a call that was met with Python functions in them, such that the rule may be run more than once.

    The function with the derivative is staged once (the other one is then left alone: JAX wants one of the two called).
    Returns the parameters and the function alone, None where it cannot be had.
    """
    if params["symbolic_zeros"]:
        return params, None
    if primitive is custom_jvp_call_p:
        jvp = params["subfuns"][1]
        tangents = [instantiate(None, jax.typeof(v)) for v in values]
        program = jax.make_jaxpr(lambda *xs: jvp.call_wrapped(*xs))(*values, *tangents)
        both = function_of(program)
        half = len(open_jaxpr(program)[0].outvars) // 2
        alone = lambda *xs: both(*xs, *[instantiate(None, jax.typeof(x)) for x in xs])[:half]
        alone = _with_jvp(alone, both, half)
        return {**params, "subfuns": (Again(alone), Again(both))}, alone
    _, fwd, bwd = params["subfuns"]
    flags = [s is not None for s in slots]
    program = jax.make_jaxpr(lambda *xs: fwd.call_wrapped(*[a for pair in zip(xs, flags) for a in pair]))(*values)
    forward = function_of(program)
    _, residual_tree, forwarded = params["out_trees"]()
    count = residual_tree.num_leaves - sum(f is not None for f in forwarded)
    again = Again(lambda *args: forward(*args[::2]))
    return {**params, "subfuns": (None, again, bwd)}, lambda *xs: forward(*xs)[count:]


def _with_jvp(alone: Callable, both: Callable, half: int) -> Callable:
    """The function with its own rule, as JAX knows it."""
    again = jax.custom_jvp(alone)

    def rule(primals, tangents):
        dense = [np.zeros(np.shape(t), jax.float0) if jax.typeof(t).dtype == jax.float0 else t for t in tangents]
        outs = both(*primals, *dense)
        return outs[:half], outs[half:]

    again.defjvp(rule)
    return again


@dataclass
class Recording:
    """What a run of a function left: notebook, program and residuals, and the numbers of inputs and outputs."""

    notebook: Notebook
    program: Any
    residuals: list
    inputs: list[int]
    outputs: list[int]
    out_slots: list[int | None]
    terms: dict[int, list] = field(default_factory=dict)
    cts: dict[int, Any] = field(default_factory=dict)


def run(fun: Callable, values: Sequence, active: Sequence[bool], stop, scoped: bool = False):
    """Runs fun, of flat arrays, returning a flat list; returns the outputs and a Recording."""
    made: list[Notebook] = []

    def tape_type(parent, wanted):
        made.append(Notebook(parent, wanted, stop, scoped))
        return made[0]

    def noted(*tracers):
        notebook = made[0]
        for value in values:
            notebook.number(value)
        return fun(*tracers), []

    outs, _, program, residuals = record(noted, values, active, tape_type=tape_type)
    notebook = made[0]
    outs = list(outs)
    numbers = [_output_number(notebook, y) for y in outs]
    inputs = [notebook.numbers[id(v)] for v in values]
    return outs, Recording(notebook, program, residuals, inputs, numbers, list(program.outputs))


def run_jaxpr(jaxpr, consts, values: Sequence, active: Sequence[bool]):
    """As `run`, for a jaxpr: the program inside a loop or branch."""
    with take_current_trace() as parent:
        notebook = Notebook(parent)
    values = distinct(values)
    slots: list = [notebook.new_slot() if a else None for a in active]
    inputs = [notebook.number(v) for v in values]
    notebook.slot_of |= {i: s for i, s in zip(inputs, slots) if s is not None}
    function, file = traced_function(jaxpr)
    users = bool(file) and sources.is_users(file)
    notebook.entered.append(_Place((), [], function if users else "", file if users else ""))
    outs, out_slots = notebook.replay_noting(open_jaxpr(jaxpr)[0], consts, values, slots)
    outs = [y if hasattr(y, "shape") else jnp.asarray(y) for y in outs]
    program, residuals = notebook.close(slots, out_slots)
    numbers = [_output_number(notebook, y) for y in outs]
    return outs, Recording(notebook, program, residuals, inputs, numbers, list(out_slots))


def _output_number(notebook, y) -> int:
    return notebook.number(y if hasattr(y, "shape") else jnp.asarray(y))


def distinct(values: Sequence) -> list:
    """The values as arrays of JAX's, no two of which are one object."""
    seen: set[int] = set()
    found = []
    for value in values:
        array = value if isinstance(value, jax.Array) else jnp.asarray(value)
        if id(array) in seen:
            array = jnp.array(array, copy=True)
        seen.add(id(array))
        found.append(array)
    return found
