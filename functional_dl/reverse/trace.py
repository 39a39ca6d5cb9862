"""Function -> tape of equations -> Program.  The one place that touches JAX's tracing.

A `Tape` runs a program forward under the surrounding trace (so operations execute, are staged into a jit, are batched:
whatever was going on before) and writes down each equation that depends on a differentiated input.  Values carry a
*slot*, the number under which their cotangent accumulates; a value without a slot (None) is a constant.  Two fronts
write to the same tape:

- `record(fun, values, slots)` calls a Python function on `RecordTracer`s; Python control flow on concrete values works,
  as the value is there.
- `Tape.replay(jaxpr, ...)` walks a jaxpr's equations; calls, loops and branches hold their programs as jaxprs.

`Tape.close` prunes what the outputs do not depend on and splits the rest into a static `Program` and its residuals, the
values that the backward sweep will read.

Why public names alone are enough: `jax.core.Trace` and `Tracer` are subclassed, `jax.extend.core.set_current_trace` and
`take_current_trace` switch traces, and `Primitive.bind` evaluates under the current one.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Trace, Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Literal, Primitive, set_current_trace, take_current_trace
from jax.extend.core.primitives import cond_p, scan_p, while_p
from jax.extend.source_info_util import (
    NameStack,
    current_name_stack,
    register_exclusion,
    summarize,
    transform_name_stack,
    user_context,
)
from jax.extend.source_info_util import current as current_source

from functional_dl.aliases import Array, PyTree
from functional_dl.jaxprs import (
    MARKED,
    bind,
    called,
    equations,
    held_constants,
    interpret,
    open_jaxpr,
    scan_parts,
    while_parts,
)
from functional_dl.reverse.layout import (
    PLAIN,
    Setting,
    is_wide,
    is_wide_type,
    layout_of,
    note_types,
    setting_of,
    with_context,
)
from functional_dl.reverse.program import Call, Equation, Program, Residual
from functional_dl.reverse.residuals import Comparison, Origin, pull_compared, thrifty
from functional_dl.reverse.rule import PRIMITIVES, RULES, Rule, Unsupported, is_constant, own_entry, rule_of
from functional_dl.reverse.values import as_array, is_differentiable, is_number, is_reference, weakened
from functional_dl.sharding import type_of

AtHand: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], Iterable[Any]]

# A source line is the user's: frames of this folder are passed over, as JAX passes over its own.
register_exclusion(str(Path(__file__).parent))


def is_zero_marker(ct: Array) -> bool:
    """Whether ct is one of JAX's symbolic zeros: the public one, or the internal one (which has no public name)."""
    return isinstance(ct, SymbolicZero) or (type(ct).__name__ == "Zero" and hasattr(ct, "aval"))


@functools.cache
def _running_trace():
    """The type of the trace under which operations run at once."""
    with jax.ensure_compile_time_eval(), take_current_trace() as trace:
        return type(trace)


def is_running() -> bool:
    """Whether operations on arrays run at once; under a transformation they may be staged."""
    with take_current_trace() as trace:
        return type(trace) is _running_trace()


def implementation(primitive: Primitive) -> Callable[..., Any]:
    """The program of other primitives by which JAX defines this one."""
    return primitive.impl


def saves(policy: Callable[..., Any] | None, eqn: Any, operands: Sequence[Any]) -> bool:
    """Whether a checkpoint's policy saves what an equation computes; without a policy anything may be saved."""
    return policy is None or is_saved(policy(eqn.primitive, *[type_of(x) for x in operands], **eqn.params))


def is_saved(answer: Any) -> bool:
    """A policy answers True or False, or with an object that says where to keep the value: here, on the device."""
    return answer if isinstance(answer, bool) else type(answer).__name__ != "RecomputeType"


def writes_to(jaxpr: Any) -> set[int]:
    """The positions of the inputs that are references and that the jaxpr does more with than read."""
    inner = open_jaxpr(jaxpr)[0]
    kinds: dict = {}
    for effect in inner.effects:
        kinds.setdefault(getattr(effect, "input", None), set()).add(type(effect).__name__)
    return {i for i, v in enumerate(inner.invars) if is_reference(v.aval) and kinds.get(v, set()) - {"ReadEffect"}}


def active_outputs(jaxpr: Any, active: Sequence[bool], known: Iterable[Any] = ()) -> list[bool]:
    """Which outputs of a jaxpr can depend differentiably on the active inputs, or on the variables `known`."""
    jaxpr, _ = open_jaxpr(jaxpr)
    live = {var for var, a in zip(jaxpr.invars, active) if a}
    live.update(known)
    for eqn in equations(jaxpr):
        if is_constant(eqn.primitive):
            continue
        operands = [not isinstance(atom, Literal) and atom in live for atom in eqn.invars]
        if not any(operands):
            continue
        live.update(atom for atom in eqn.invars if is_reference(atom.aval))  # it may be written to
        outvars = [var for var, out in zip(eqn.outvars, _active_results(eqn, operands)) if out]
        live.update(var for var in outvars if is_differentiable(var.aval) or is_reference(var.aval))
    return [not isinstance(atom, Literal) and atom in live for atom in jaxpr.outvars]


def _active_results(eqn, active) -> list[bool]:
    """Which results of an equation can depend on its active operands.

    To tell them apart matters where a program computes values and their tangents together, as the derivative of a loop
    does: the values do not depend on the tangents.
    """
    inner = called(eqn.primitive, eqn.params, MARKED)
    if inner is not None:
        return active_outputs(inner, active)
    if any(is_reference(atom.aval) for atom in eqn.invars):
        return [True] * len(eqn.outvars)
    if eqn.primitive is cond_p:
        outs = [active_outputs(branch, active[1:]) for branch in eqn.params["branches"]]
        return [any(some) for some in zip(*outs)]
    if eqn.primitive is scan_p:
        consts, carry, xs = scan_parts(eqn.params, active)
        return active_of_loop(eqn.params["jaxpr"], consts, carry, xs)[1]
    if eqn.primitive is while_p:
        _, consts, state = while_parts(eqn.params, active)
        return active_of_loop(eqn.params["body_jaxpr"], consts, state)[1]
    return [True] * len(eqn.outvars)


def active_of_loop(
    body: Any, consts: Sequence[bool], carry: Sequence[bool], xs: Sequence[bool] = (), known: Iterable[Any] = ()
) -> tuple[list[bool], list[bool]]:
    """Which parts of a loop's carry are active, once any step makes them depend on what is, and which outputs."""
    carry, known = list(carry), list(known)
    while True:
        outs = active_outputs(body, [*consts, *carry, *xs], known)
        merged = [a or b for a, b in zip(carry, outs)]  # the carries come first
        if merged == carry:
            return carry, [*carry, *outs[len(carry) :]]
        carry = merged


def hoistable(jaxpr: Any, invariant: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Of a loop's body: the equations that depend on its first `invariant` inputs alone, the others, and which outputs
    of the first the others use.  An equation with effects stays where it is, and so does one that makes a
    reference."""
    jaxpr, _ = open_jaxpr(jaxpr)
    fixed = set(jaxpr.constvars) | set(jaxpr.invars[:invariant])
    hoisted, others, used = [], [], set()
    for eqn in equations(jaxpr):
        atoms = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
        stays = eqn.effects or any(is_reference(var.aval) for var in eqn.outvars)
        if not stays and all(atom in fixed for atom in atoms):
            hoisted.append(eqn)
            fixed.update(eqn.outvars)
        else:
            others.append(eqn)
            used.update(atoms)
    used.update(atom for atom in jaxpr.outvars if not isinstance(atom, Literal))
    return hoisted, others, [var for eqn in hoisted for var in eqn.outvars if var in used]


class RecordTracer(Tracer):
    """A value of the program that is being recorded, and the slot of its cotangent."""

    __slots__ = ("slot", "value")
    slot: int
    value: Array

    def __init__(self, trace: Any, value: Array, slot: int) -> None:
        super().__init__(trace, jax.typeof(value))
        self.value = value
        self.slot = slot

    def to_concrete_value(self) -> Array | None:
        value = self.value
        return value.to_concrete_value() if isinstance(value, Tracer) else value

    def full_lower(self) -> Any:
        return self

    def __repr__(self) -> str:
        """The value that is known, as JAX shows it in a function that is differentiated."""
        return f"GradTracer(primal={self.value}, typeof(tangent)={self.aval.to_tangent_aval().str_short(True)})"

    def _contents(self):
        """What the tracer holds.  JAX asks whether some of it may carry a derivative (jax.closure_convert passes such a
        value as an argument, and closes over the others): of this one, a tangent to be staged."""
        contents = [("value", self.value)]
        return contents if self.slot is None else [*contents, ("tangent", _staged_number())]


@functools.cache
def _staged_number():
    """A tracer of a floating number, as jit has them."""
    found: list = []
    with jax.check_tracer_leaks(False):
        jax.make_jaxpr(found.append)(0.0)
    return found[0]


def _of_its_time(tracer):
    """A tracer's value.  A Python number has the type that it had where it was recorded, which another setting of
    64-bit types would give it anew."""
    value = tracer.value
    if isinstance(value, (float, complex)) and not isinstance(value, np.generic):
        dtype = tracer.aval.dtype
        if jax.typeof(value).dtype != dtype:
            return weakened(jnp.asarray(dtype.type(value)))
    return value


class RecordTrace(Trace):
    """Sends every primitive applied to a RecordTracer to the tape, and every other to the surrounding trace."""

    __slots__ = ("parent_trace", "tape")
    parent_trace: Any
    tape: Any

    def __init__(self, parent_trace: Any, tape: Any) -> None:
        super().__init__()
        self.requires_low = False
        self.parent_trace = parent_trace
        self.tape = tape

    def lower(self, tracers: list[Any]) -> tuple[list[Any], list[Any]]:
        """Values and slots of tracers; whatever does not belong to this trace is a constant."""
        values, slots = [], []
        for tracer in tracers:
            if type(tracer) is RecordTracer and tracer._trace is self:
                values.append(_of_its_time(tracer))
                slots.append(tracer.slot)
            else:
                values.append(tracer)
                slots.append(None)
        return values, slots

    def lift(self, values: Any, slots: Any) -> list[Any]:
        return [v if s is None else RecordTracer(self, v, s) for v, s in zip(values, slots)]

    def stage_value(self, val: Any) -> Array:
        [value], [slot] = self.lower([val])
        return self.lift([self.parent_trace.stage_value(value)], [slot])[0]

    def process_primitive(self, primitive: Any, tracers: list[Any], params: dict[Any, Any], /) -> PyTree:
        values, slots = self.lower(tracers)
        with set_current_trace(self.parent_trace):
            outs, out_slots = self.tape.apply(primitive, values, slots, params)
        outs = self.lift(outs, out_slots)
        return outs if primitive.multiple_results else outs[0]

    def process_call(self, call_primitive: Any, f: Callable[..., Any], tracers: Any, params: Any, /) -> Any:
        with set_current_trace(self):
            return f.call_wrapped(*tracers)

    def process_custom_jvp_call(
        self, primitive: Any, fun: Callable[..., Any], jvp: Any, tracers: Any, /, *, symbolic_zeros: Any
    ) -> Any:
        params = {"subfuns": (fun, jvp), "symbolic_zeros": symbolic_zeros}
        return self.process_primitive(primitive, tracers, params)

    def process_custom_vjp_call(
        self,
        primitive: Any,
        fun: Any,
        fwd: Any,
        bwd: Any,
        tracers: list[Array],
        /,
        *,
        out_trees: Callable[..., Any],
        symbolic_zeros: bool,
    ) -> list[Array]:
        params = {"subfuns": (fun, fwd, bwd), "out_trees": out_trees, "symbolic_zeros": symbolic_zeros}
        return self.process_primitive(primitive, tracers, params)

    def process_shard_map(self, primitive: Any, fun: Callable[..., Any], tracers: Any, /, **params: Any) -> Any:
        """JAX hands shard_map its own kind of flat tree and wants it back: it has `update`."""
        values, slots = self.lower(tracers)
        params = {"subfuns": (fun,), **params}
        with set_current_trace(self.parent_trace):
            outs, out_slots = RULES[primitive].forward(self.tape, values, slots, **params)
        return outs.update(self.lift(outs, out_slots))

    def cur_qdd(self, x: Array) -> Any:
        [value], _ = self.lower([x])
        return self.parent_trace.cur_qdd(value)


# Whether what is recorded is the program of a tangent, in a user's rule (x, x_dot) -> (y, y_dot).
_tangents: ContextVar[bool] = ContextVar("tangents", default=False)


def is_recording_tangents() -> bool:
    return _tangents.get()


@contextmanager
def recording_tangents(yes: bool) -> Iterator[Any]:
    token = _tangents.set(yes)
    try:
        yield
    finally:
        _tangents.reset(token)


class Tape:
    """The equations recorded so far.  Every method runs with the surrounding trace as the current one."""

    slots: int
    tangents: bool
    trace: RecordTrace

    def __init__(self, parent_trace: Any, sources: bool = False, origins: bool = False) -> None:
        self.equations: list = []
        self.around = current_name_stack()
        self.contexts: tuple = ()  # of the equations of programs that are replayed
        self.last: tuple = (None, PLAIN)  # the name stack and the setting that were last met
        self.wide = False  # whether 64-bit values were met
        self.constants: list | None = [] if origins else None  # (primitive, params, values, outs) of the others
        self.slots = 0
        self.sources = sources
        self.tangents = _tangents.get()
        self.types: dict[int, Any] = {}  # slots of values on a mesh -> the values' types
        self.recording = True
        self.contents: dict[int, tuple] = {}  # id of a reference -> the reference, the slot of what it holds now
        self.trace = RecordTrace(parent_trace, self)

    def new_slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def slots_of(self, values: Sequence[Any], active: Sequence[bool]) -> list[Any]:
        """The slots of a program's inputs, of the active ones."""
        slots = [self.new_slot() if a else None for a in active]
        avals = [type_of(v) for v in values]
        self.wide = self.wide or any(map(is_wide_type, avals))
        note_types(self.types, avals, slots)
        return slots

    def new_slots(self, values: list[Array]) -> list[Any]:
        """A slot for each value that has a tangent space, None for the others."""
        avals = [type_of(v) for v in values]
        self.wide = self.wide or any(map(is_wide_type, avals))
        slots = [self.new_slot() if is_differentiable(aval) else None for aval in avals]
        note_types(self.types, avals, slots)
        return slots

    def apply(
        self, primitive: Primitive, values: list[Any], slots: list[Any], params: dict[Any, Any]
    ) -> tuple[list[Any], list[Any]]:
        """Evaluates primitive(*values); records it where an operand has a slot.  Returns values and slots."""
        holds = bool(self.contents) and self.recording and self.holds_differentiated([*values, *held_constants(params)])
        entry = own_entry(primitive)
        active = any(s is not None for s in slots) or holds or (isinstance(entry, Rule) and entry.stateful)
        rule = rule_of(primitive) if active else None
        if rule is not None and rule.forward is not None and (not holds or rule.stateful or rule.takes_references):
            return rule.forward(self, values, slots, **params)
        if holds:
            raise NotImplementedError(
                f"reverse: a reference that holds what is differentiated is passed to '{primitive}' "
                f"({summarize(current_source())}); read it before, and pass its value."
            )
        try:
            if rule is not None and rule.value is not None:
                outs = [rule.value(*values, **params)]
            else:
                outs = bind(primitive, values, params)
        except NotImplementedError as error:
            if not active or rule is not None or is_constant(primitive):
                raise
            raise NotImplementedError(no_rule_message(primitive)) from error
        return self.note(primitive, rule, params, values, slots, outs)

    def place(self) -> Any:
        """What an equation notes as its `source`: its place in the user's program, where that is wanted."""
        return current_source() if self.sources else None

    def setting(self, values: Sequence[Any], slots: Sequence[Any], outs: Sequence[Any], out_slots: Any) -> Setting:
        """What is set around an equation.  Of the named scopes those that are open since the tape was begun."""
        # types that were made where there are 64-bit ones may be met where there are none
        x64 = jax.config.jax_enable_x64 or (self.wide and (is_wide(slots, values) or is_wide(out_slots, outs)))
        stack, (last, setting) = current_name_stack(), self.last
        if stack is not last or x64 != setting.x64 or self.contexts is not setting.contexts:
            setting = setting_of(stack[len(self.around) :], x64, self.contexts)
            self.last = stack, setting
        return setting

    def holds_differentiated(self, values: list[Any]) -> bool:
        """Whether one of the values is a reference to what is differentiated."""
        return any(self.contents.get(id(v), (None, None))[1] is not None for v in values)

    def note(
        self,
        primitive: Primitive,
        rule: Rule | None,
        params: dict[Any, Any],
        values: list[Any],
        slots: list[Any],
        outs: list[Array],
    ) -> tuple[list[Any], list[Any]]:
        """Records outs = primitive(*values) if an operand has a slot and an output a tangent space."""
        if is_constant(primitive) or all(s is None for s in slots):
            if self.constants is not None:
                self.constants.append((primitive, params, values, outs))
            return outs, [None] * len(outs)
        out_slots = self.new_slots(outs)
        if all(s is None for s in out_slots):
            if self.constants is not None:
                self.constants.append((primitive, params, values, outs))
            return outs, out_slots
        if rule is None:
            entry = PRIMITIVES.get(primitive)
            error = entry.error if isinstance(entry, Unsupported) else NotImplementedError
            raise error(no_rule_message(primitive))
        if self.constants is not None and rule.compares:
            self.constants.append((primitive, params, values, outs))
            if not self.types:
                return self.note_compared(rule, params, values, slots, outs, out_slots)
        source = self.place()
        values, outs = [as_array(v) for v in values], [as_array(y) for y in outs]
        layout = layout_of(outs, slots, self.types)
        setting = self.setting(values, slots, outs, out_slots)
        self.equations.append(Equation(rule, params, values, outs, slots, out_slots, source, layout, setting))
        return outs, out_slots

    def note_compared(
        self, rule: Rule, params: Any, values: list[Any], slots: list[Any], outs: list[Any], out_slots: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """As `note`, of a rule that compares: what it compares is compared now."""
        every = [as_array(outs[0]), *[as_array(v) for v in values]]
        wanted = tuple(s is not None for s in slots)
        read = rule.kept(wanted)
        comparison = Comparison.of(rule, params, wanted, read, every)
        given = [None, *[x for r, x in zip(read, every) if r]]
        kept, _ = self.replay(comparison.program, given, [None] * len(given), **comparison.before())
        pull_back = functools.partial(pull_compared, tuple(comparison), len(values))
        return self.call(rule.primitive, pull_back, kept, slots, outs, out_slots, params, explicit=rule.explicit)

    def call(
        self,
        primitive: Any,
        pull_back: Callable[..., Any],
        residuals: Any,
        slots: list[Any],
        outs: list[Array],
        out_slots: list[Any],
        params: Any = None,
        explicit: bool = True,
        numbers: bool = False,
    ) -> tuple[list[Any], list[Any]]:
        """Records outs = primitive(...) with its own pullback; see Call."""
        source = self.place()
        if self.tangents:
            pull_back = functools.partial(_pull_tangents, pull_back)
        avals = [type_of(y) for y in outs]
        self.wide = self.wide or any(map(is_wide_type, avals))
        note_types(self.types, avals, out_slots)
        layout = layout_of(outs, slots, self.types)
        setting = self.setting((), (), outs, out_slots)
        parts = (slots, out_slots, params, source, layout, explicit, numbers, setting)
        self.equations.append(Call(primitive, pull_back, residuals, *parts))
        return outs, out_slots

    def replay(
        self,
        jaxpr: Any,
        values: Sequence[Any],
        slots: Sequence[Any],
        apply: Callable[..., Any] | None = None,
        inline: bool = False,
        **parts: Any,
    ) -> tuple[list[Any], list[Any]]:
        """Runs a jaxpr's equations through the tape: the caller's program continues inside the callee's.

        Args:
          apply: what to do with an equation, `apply(eqn, values, slots)`; `Tape.apply` by default.
          inline: the equations' places in the source and scopes are the caller's, not their own.
          **parts: as for `interpret`; what is `known` has pairs of value and slot.
        """

        around = current_name_stack()
        inside: dict[Any, NameStack] = {}

        def equation(eqn, operands):
            values, slots = [value for value, _ in operands], [slot for _, slot in operands]
            if inline and not with_context((), eqn):
                return zip(*self.apply(eqn.primitive, values, slots, eqn.params))
            source = eqn.source_info
            scopes = inside.get(source.name_stack)
            if scopes is None:
                scopes = inside[source.name_stack] = around + source.name_stack
            contexts, self.contexts = self.contexts, with_context(self.contexts, eqn)
            try:
                with user_context(source.traceback, name_stack=scopes):
                    if apply is None:
                        return zip(*self.apply(eqn.primitive, values, slots, eqn.params))
                    return zip(*apply(eqn, values, slots))
            finally:
                self.contexts = contexts

        results = interpret(jaxpr, list(zip(values, slots)), equation, lambda value, _: (value, None), **parts)
        # a program may return a number that is written in it: an array, as from every program that runs
        values = [jnp.asarray(v) if isinstance(v, int | float | complex) else v for v, _ in results]
        return values, [slot for _, slot in results]

    def run(self, fun: Callable[..., Any], values: Sequence[Any], slots: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Calls a Python function of tracers that returns a flat list; returns the outputs' values and slots."""
        with set_current_trace(self.trace):
            outs = fun(*self.trace.lift(values, slots))
        return self.trace.lower(outs)

    def run_unrecorded(self, fun: Callable[..., Any], values: Sequence[Any]) -> list[Any]:
        """As `run`, for a user's forward pass, whose derivative is its own: it may read references, and not write."""
        self.recording = False
        try:
            return self.run(fun, values, [None] * len(values))[0]
        finally:
            self.recording = True

    def run_tangents(
        self, fun: Callable[..., Any], values: Sequence[Any], slots: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """As `run`, where the values are tangents, in which fun is linear."""
        before, self.tangents = self.tangents, True
        try:
            with recording_tangents(True):
                return self.run(fun, values, slots)
        finally:
            self.tangents = before

    def origins(self) -> dict[int, Origin]:
        """How the values on the tape were computed, by their ids.  An equation that hands on an operand, as a broadcast
        to its own shape does, computes nothing."""
        recorded = [(e.primitive, e.params, e.operands, e.results) for e in self.equations if type(e) is Equation]
        every = [*recorded, *(self.constants or [])]
        return {
            id(out): Origin(primitive, params, operands, outs, i)
            for primitive, params, operands, outs in every
            for i, out in enumerate(outs)
            if not any(out is operand for operand in operands)
        }

    def close(self, inputs: Sequence[Any], outputs: Sequence[Any], numbers: bool = False) -> tuple[Program, list[Any]]:
        """Prunes what the outputs do not depend on; returns the static Program and its residuals.

        Args:
          inputs, outputs: slots; None for a constant.
          numbers: a number is part of the program, not a residual.
        """
        needed = {slot for slot in outputs if slot is not None}
        residuals: list = []
        positions: dict[int, Residual] = {}

        def keep(value):
            if isinstance(value, (int, float, complex, bool)):
                return value
            if numbers and is_number(value):
                return np.asarray(value)[()]
            reference = positions.get(id(value))
            if reference is None:
                reference = positions[id(value)] = Residual(len(residuals))
                residuals.append(value)
            return reference

        kept = []
        for equation in reversed(self.equations):
            if not needed.isdisjoint(equation.outputs):
                needed.update(equation.inputs)
                kept.append(equation.flatten(keep))
                needed.discard(None)
        kept.reverse()
        return Program(kept, list(inputs), list(outputs)), residuals

    def end(self) -> None:
        """Nothing is recorded any more.  Tape and trace no longer hold each other: what they hold goes with the last
        name for them, not with the next collection of garbage, as JAX's check of leaks expects."""
        self.trace.invalidate()
        self.trace.parent_trace = self.trace.tape = None
        del self.trace


def _pull_tangents(pull_back, residuals, cts):
    with recording_tangents(True):
        return pull_back(residuals, cts)


def record(
    fun: Callable[..., Any],
    values: Sequence[Any],
    active: Sequence[bool],
    sources: bool = False,
    tape_type: Callable[..., Any] = Tape,
) -> tuple[Any, ...]:
    """Runs fun on the values and records what depends on the active ones.

    Args:
      fun: function of len(values) arrays that returns two flat lists: the outputs to differentiate, and others.
      values: the arguments.
      active: for each argument, whether it is differentiated.
      sources: note each equation's place in the user's source.
      tape_type: what makes the tape, `tape_type(parent_trace, sources)`.
    Returns:
      values of the outputs, values of the others, Program, residuals.
    """
    with take_current_trace() as parent, set_current_trace(parent), recording_tangents(False):
        tape = tape_type(parent, sources or jax.config.jax_debug_nans or jax.config.jax_debug_infs)
        slots = tape.slots_of(values, active)
        with set_current_trace(tape.trace, check_leaks=True):
            with transform_name_stack("jvp"):  # so JAX names what runs forward under differentiation
                outs, aux = fun(*tape.trace.lift(values, slots))
            (outs, out_slots), (aux, _) = tape.trace.lower(outs), tape.trace.lower(aux)  # no tracer is left of these
        program, residuals = tape.close(slots, out_slots)
        tape.end()
    return outs, aux, program, residuals


def record_jaxpr(
    jaxpr: Any,
    values: Sequence[Any],
    active: Sequence[bool],
    apply: Any = None,
    consts: Sequence[Any] | None = None,
    at_hand: AtHand | None = None,
    numbers: bool = False,
) -> tuple[list[Array], Program, list[Array]]:
    """As `record`, for a jaxpr, whose outputs are all differentiated: outputs' values, Program, residuals.

    Args:
      apply: what to do with an equation, `apply(tape, eqn, values, slots)`; Tape.apply by default.
      consts: the jaxpr's constants, where they are not its own.
      at_hand, numbers: see `record_call`.
    """

    def body(tape, values, slots):
        return tape.replay(jaxpr, values, slots, apply and functools.partial(apply, tape), consts=consts)

    return record_call(body, values, active, at_hand, numbers)


def record_call(
    body: Callable[..., Any],
    values: Sequence[Any],
    active: Sequence[bool],
    at_hand: AtHand | None = None,
    numbers: bool = False,
) -> tuple[Any, ...]:
    """As `record`, for a function that writes to the tape itself: body(tape, values, slots) -> (values, slots).

    Args:
      at_hand: where residuals are written to memory, (outs, residuals) -> those values that exist anyway.  Then of
        the others no more are kept than needed: see reverse.residuals.
      numbers: a number is part of the program, not a residual; so it is, too, where residuals are written to memory.
    """
    with take_current_trace() as parent, set_current_trace(parent):
        tape = Tape(parent, sources=is_traced(values), origins=at_hand is not None)
        slots = tape.slots_of(values, active)
        outs, out_slots = body(tape, list(values), slots)
        program, residuals = tape.close(slots, out_slots, numbers or at_hand is not None)
        if at_hand is not None:
            program, residuals = thrifty(program, residuals, tape.origins(), at_hand(outs, residuals))
        tape.end()
    return outs, program, residuals


def is_traced(values: Sequence[Any]) -> bool:
    """Whether some of the values are tracers of a surrounding transformation (then operations cost nothing yet)."""
    return any(isinstance(v, Tracer) for v in values)


def place_of_user() -> str:
    """The place in the user's program that is being recorded: "file:line:column (function)"."""
    return summarize(current_source())


def no_rule_message(primitive: Primitive) -> str:
    """What a user is told who differentiates through a primitive without a rule."""
    entry = PRIMITIVES.get(primitive)
    where = place_of_user()
    if isinstance(entry, Unsupported):
        return f"Differentiation rule for '{primitive}' not implemented ({where}): {entry.reason}"
    name = str(primitive).removesuffix("_p")
    return (
        f"Differentiation rule for '{primitive}' not implemented ({where}). State one with "
        f"@functional_dl.reverse.vjp_rule({name}_p, Probe(...)), register one with jax.interpreters.ad.defjvp, or "
        "wrap the function in jax.custom_vjp."
    )
