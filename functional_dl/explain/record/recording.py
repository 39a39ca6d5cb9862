"""A function run on a recorder, forward and backward: the one record that formulas, page and source are made of.

Where fun can be traced, both passes are traced once, with the recorder at work, and the program that JAX wrote down is
run for the numbers.  A function that decides in Python on the values of arrays is run on them as it is; then there is
no program that would hold for other values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import take_current_trace
from jax.extend.core.primitives import add_jaxvals_p

from functional_dl.explain.record import flops, sources
from functional_dl.explain.record.recorder import Place, Recorder, Where, applied, is_number
from functional_dl.jaxprs import interpret, open_jaxpr, traced_function
from functional_dl.reverse.trace import record
from functional_dl.reverse.values import formed, instantiate, is_reference


@dataclass
class Recording:
    """What a run of a function left.

    Fields:
      recorder, program, residuals: of the forward pass.
      inputs, outputs: numbers of the values that go in and come out.
      cts: slot -> the cotangent that was added up under it.
      terms: slot -> (entry, what its pullback gave) in their order; None for the cotangent that was given.
      back_flops: entry -> operations of its pullback, the sums where paths meet among them.
      traced: both passes as a program; None where fun was run as it is.
    """

    recorder: Recorder
    program: Any
    residuals: list[Any]
    inputs: list[int]
    outputs: list[int]
    cts: dict[int, Any] = field(default_factory=dict)
    terms: dict[int, list[tuple[int | None, Any]]] = field(default_factory=dict)
    back_flops: dict[int, int] = field(default_factory=dict)
    traced: Traced | None = None

    @property
    def used(self) -> set[int]:
        """Numbers of the values that go in, come out, or are read or made on the way."""
        entries = self.recorder.entries
        read = {n for entry in entries for n in (*entry.ins, *entry.out_ids) if n is not None}
        return {*self.inputs, *self.outputs, *read}

    def bars(self) -> dict[int, dict[int, Any]]:
        """entry -> slot -> what its pullback gave in all."""
        found: dict[int, dict[int, Any]] = {}
        for slot, terms in self.terms.items():
            for entry, bar in terms:
                if entry is not None:
                    own = found.setdefault(entry, {})
                    own[slot] = own[slot] + bar if slot in own else bar
        return found


@dataclass(frozen=True)
class Traced:
    """Forward and backward pass as one program.

    Fields:
      program: (arguments' leaves, cotangents of the results) -> results, cotangents of the arguments, and more.
      values: number -> the variable that holds the value.
      cts: slot -> the variable that holds the cotangent.
      terms: slot -> the variables that hold its terms.
      outs, bars: the variables of results, and of the cotangents of the active arguments.
    """

    program: Any
    values: dict[int, Any]
    cts: dict[int, Any]
    terms: dict[int, list[Any]]
    outs: list[Any]
    bars: list[Any]


def run(fun: Callable[..., Any], values: Sequence[Any], active: Sequence[bool], stop: Any, scoped: bool = False) -> Any:
    """Runs fun, of flat arrays, returning a flat list; returns the outputs and a Recording.

    Args:
      stop: code of the function outside of which no frame is the user's.
      scoped: names the scope "step_i" around what entry i does.
    """
    made: list[Recorder] = []

    def tape_type(parent, wanted):
        made.append(Recorder(parent, wanted, stop, scoped))
        return made[0]

    def noted(*tracers):
        for value in values:
            made[0].number(value)
        return fun(*tracers), []

    outs, _, program, residuals = record(noted, values, active, tape_type=tape_type)
    recorder, outs = made[0], list(outs)
    outputs = [_output_number(recorder, y) for y in outs]
    return outs, Recording(recorder, program, residuals, [recorder.numbers[id(v)] for v in values], outputs)


def run_jaxpr(jaxpr: Any, values: Sequence[Any], active: Sequence[bool], scopes: tuple[str, ...] = ()) -> Recording:
    """As `run`, for a jaxpr: the program inside a loop or branch, around which there are these scopes."""
    with take_current_trace() as parent:
        recorder = Recorder(parent)
    values = distinct(values)
    slots: list = [recorder.new_slot() if a else None for a in active]
    inputs = [recorder.number(v) for v in values]
    recorder.slot_of |= {i: s for i, s in zip(inputs, slots) if s is not None}
    function, file = traced_function(jaxpr)
    users = bool(file) and sources.is_users(file)
    recorder.entered.append(Place(Where(scopes=scopes), function if users else "", file if users else ""))
    outs, out_slots = recorder.replay(jaxpr, values, slots, recorder.noted)
    program, residuals = recorder.close(slots, out_slots)
    return Recording(recorder, program, residuals, inputs, [_output_number(recorder, y) for y in outs])


def _output_number(recorder: Recorder, y: Any) -> int:
    return recorder.number(y if hasattr(y, "shape") else jnp.asarray(y))


def distinct(values: Sequence[Any]) -> list[Any]:
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


# --- the backward pass ------------------------------------------------------------------------------------------------


def sweep(recording: Recording, cts: Sequence[Any], scoped: bool = False) -> list[Any]:
    """Cotangents of the inputs (None for zero), given those of the outputs; the recording then holds the backward pass.

    Args:
      cts: cotangents of the outputs, None for zero.
      scoped: names the scope "back_i" around the pullback of entry i, and "sum_s" around the sums of slot s.
    """
    program, totals, terms = recording.program, {}, recording.terms
    costs = recording.back_flops

    def add(slot, ct, origin):
        if slot is None or ct is None:
            return
        terms.setdefault(slot, []).append((origin, ct))
        if slot not in totals:
            totals[slot] = ct
            return
        with jax.named_scope(f"sum_{slot}") if scoped else nullcontext():
            totals[slot] = add_jaxvals_p.bind(totals[slot], ct)
        if origin is not None:
            costs[origin] = costs.get(origin, 0) + flops.size(jax.typeof(ct))

    for slot, ct in zip(program.outputs, cts):
        add(slot, ct, None)
    for equation in reversed(program.at(recording.residuals)):
        out_cts = [None if slot is None else totals.pop(slot, None) for slot in equation.outputs]
        recording.cts |= {slot: ct for slot, ct in zip(equation.outputs, out_cts) if ct is not None}
        if all(ct is None for ct in out_cts):
            continue
        index = equation.source
        pull = lambda cts, equation=equation: _formed(equation, cts)
        with jax.named_scope(f"back_{index}") if scoped else nullcontext():
            bars = pull(out_cts)
        costs[index] = costs.get(index, 0) + flops.count(jax.make_jaxpr(pull)(out_cts))
        for slot, bar in bars:
            add(slot, bar, index)
    recording.cts |= totals
    return [None if slot is None else recording.cts.get(slot) for slot in program.inputs]


def _formed(equation: Any, out_cts: Sequence[Any]) -> list[tuple[int, Any]]:
    """(slot, cotangent) of the inputs that get one."""
    pulled = zip(equation.inputs, equation.pull(out_cts))
    return [
        (slot, formed(bar() if callable(bar) else bar)) for slot, bar in pulled if slot is not None and bar is not None
    ]


# --- both passes, traced once -----------------------------------------------------------------------------------------


DECIDES = jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError


def both(
    fun: Callable[..., Any], leaves: Sequence[Any], active: Sequence[bool], cts_of: Callable[[Sequence[Any]], list[Any]]
) -> tuple[Recording, list[Any]]:
    """The record of fun's value and its cotangents, and the cotangents of the results.

    Args:
      fun: of flat arrays, returning a flat list.
      cts_of: cotangents of results of these types, None for zero.
    """
    try:
        types = jax.eval_shape(fun, *leaves)
    except DECIDES:
        outs, recording = run(fun, leaves, active, fun.__code__)
        cts = cts_of(outs)
        sweep(recording, cts)
        return recording, cts
    cts = cts_of(types)
    given = [ct for ct in cts if ct is not None]
    kept: dict[str, Any] = {}

    def passes(leaves, given):
        outs, recording = run(fun, leaves, active, fun.__code__, scoped=True)
        rest = iter(given)
        bars = sweep(recording, [None if ct is None else next(rest) for ct in cts], scoped=True)
        bars = [instantiate(bar, jax.typeof(x)) for bar, x, a in zip(bars, leaves, active) if a]
        kept.update(recording=recording, tracers=_tracers(recording), results=len(outs), bars=len(bars))
        return outs, bars, kept["tracers"]

    closed = jax.make_jaxpr(passes)(list(leaves), given)
    recording, tracers, results = kept["recording"], kept["tracers"], kept["results"]
    first = results + kept["bars"]
    variables = open_jaxpr(closed)[0].outvars
    of = dict(zip(map(id, tracers), variables[first:]))
    values = {n: of[id(v)] for n, v in enumerate(recording.recorder.values) if id(v) in of}
    sums = {slot: of[id(ct)] for slot, ct in recording.cts.items() if id(ct) in of}
    terms = {slot: [of.get(id(bar)) for n, bar in own if n is not None] for slot, own in recording.terms.items()}
    found = interpret(closed, [*leaves, *given], lambda eqn, xs: applied(eqn.primitive, xs, eqn.params))[first:]
    _with_numbers(recording, dict(zip(map(id, tracers), distinct(found))))
    used = recording.used
    values = {n: var for n, var in values.items() if n in used}
    outs, bars = list(variables[:results]), list(variables[results:first])
    recording.traced = Traced(closed, values, sums, terms, outs, bars)
    return recording, cts


def _tracers(recording: Recording) -> list[Any]:
    """All that the trace of a recording computed, each once."""
    recorder = recording.recorder
    bars = [bar for own in recording.terms.values() for _, bar in own]
    entries = [x for entry in recorder.entries for x in (*entry.operands, *entry.outs)]
    held = [x for entry in recorder.entries if entry.alone is not None for x in entry.alone.consts]
    every = [*recorder.values, *entries, *held, *recording.residuals, *recording.cts.values(), *bars]
    found = {id(x): x for x in every if isinstance(x, Tracer) and not is_reference(jax.typeof(x))}
    return list(found.values())


def _with_numbers(recording: Recording, known: dict[int, Any]) -> None:
    """Puts the numbers in place of what was traced, known by identity."""
    recorder = recording.recorder
    of = lambda values: [known.get(id(v), v) for v in values]
    recorder.values[:] = of(recorder.values)
    recorder.numbers = {id(v): n for n, v in enumerate(recorder.values)}
    made = {*recording.inputs, *(n for entry in recorder.entries for n in entry.out_ids)}
    for entry in recorder.entries:
        entry.operands[:], entry.outs[:] = of(entry.operands), of(entry.outs)
        if entry.alone is not None:
            entry.alone = replace(entry.alone, consts=of(entry.alone.consts))
        # a number of the program's own may be staged too
        numbers = [n is None or (n not in made and is_number(x)) for n, x in zip(entry.ins, entry.operands)]
        entry.ins[:] = [None if number else n for n, number in zip(entry.ins, numbers)]
    recording.residuals[:] = of(recording.residuals)
    recording.cts = dict(zip(recording.cts, of(recording.cts.values())))
    recording.terms = {slot: [(n, known.get(id(bar), bar)) for n, bar in own] for slot, own in recording.terms.items()}
