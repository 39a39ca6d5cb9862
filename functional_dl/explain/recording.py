"""Running a function on a recorder, which leaves a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import take_current_trace

from functional_dl.explain import sources
from functional_dl.explain.program import Place, Recorder, Where
from functional_dl.jaxprs import traced_function
from functional_dl.reverse.trace import record


@dataclass
class Recording:
    """What a run of a function left: recorder, program and residuals, and the numbers of inputs and outputs."""

    recorder: Recorder
    program: Any
    residuals: list[Any]
    inputs: list[int]
    outputs: list[int]
    out_slots: list[int | None]
    terms: dict[int, list[Any]] = field(default_factory=dict)
    cts: dict[int, Any] = field(default_factory=dict)


def run(fun: Callable[..., Any], values: Sequence[Any], active: Sequence[bool], stop: Any, scoped: bool = False) -> Any:
    """Runs fun, of flat arrays, returning a flat list; returns the outputs and a Recording."""
    made: list[Recorder] = []

    def tape_type(parent, wanted):
        made.append(Recorder(parent, wanted, stop, scoped))
        return made[0]

    def noted(*tracers):
        recorder = made[0]
        for value in values:
            recorder.number(value)
        return fun(*tracers), []

    outs, _, program, residuals = record(noted, values, active, tape_type=tape_type)
    recorder = made[0]
    outs = list(outs)
    numbers = [_output_number(recorder, y) for y in outs]
    inputs = [recorder.numbers[id(v)] for v in values]
    return outs, Recording(recorder, program, residuals, inputs, numbers, list(program.outputs))


def run_jaxpr(jaxpr: Any, values: Sequence[Any], active: Sequence[bool], scopes: tuple[str, ...] = ()) -> Any:
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
    outs = [y if hasattr(y, "shape") else jnp.asarray(y) for y in outs]
    program, residuals = recorder.close(slots, out_slots)
    numbers = [_output_number(recorder, y) for y in outs]
    return outs, Recording(recorder, program, residuals, inputs, numbers, list(out_slots))


def _output_number(recorder, y) -> int:
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
