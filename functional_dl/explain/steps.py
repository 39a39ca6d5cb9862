"""Recordings made into steps and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.explain import bodies, checks, groups, sources, summaries
from functional_dl.explain import recording as recording_of
from functional_dl.explain.costs import Costs
from functional_dl.explain.explanation import Check, Step, Value
from functional_dl.explain.facts import (
    bytes,
    fan_ins_of,
    is_linear,
    operand,
    residuals,
    title,
)
from functional_dl.explain.naming import Name, Namer, argument_name, latex_of, name_values
from functional_dl.explain.program import Entry
from functional_dl.explain.recording import Recording
from functional_dl.jaxprs import argument_names
from functional_dl.reverse import latex


@dataclass
class Part:
    """A recorded program, made into steps."""

    steps: list[Step]
    names: dict[int, Name]
    recording: Recording
    offset: int


class Builder:
    """Makes steps and values out of recordings; numbers of values and steps are unique over all of them."""

    namer: Namer
    check: bool
    summaries: bool
    seed: int
    next_step: int

    def __init__(self, namer: Namer, check: bool, values: bool, seed: int, function: str) -> None:
        self.function = function
        self.namer, self.check, self.summaries, self.seed = namer, check, values, seed
        self.values: dict[int, Value] = {}
        self.next_step = 0
        self.costs = Costs()

    def part(self, recording: Recording, cts: Sequence[Any], inputs: list[Name], top: bool = False) -> Part:
        offset = 0 if top else max(self.values, default=-1) + 1
        first = 0 if top else self.next_step
        entries = recording.recorder.entries
        self.next_step = first + len(entries)
        pulled: dict[int, dict] = {}

        def note(index, equation, out_cts, bars):
            here = pulled.setdefault(index, {})
            for slot, b in zip(equation.inputs, bars):
                if slot is not None and b is not None:
                    here[slot] = b if slot not in here else here[slot] + b

        costs = self.costs.backward(recording, cts, note)
        names = name_values(recording, inputs, self.namer, self.function if top else "")
        kept, kept_bytes = residuals(recording)
        self.enter_values(recording, names, kept, offset)
        paths = groups.paths(entries)
        found_fan_ins = fan_ins_of(recording, names, first, offset)
        steps = [
            self.step(recording, entry, path, names, first, offset, pulled, costs, kept_bytes, found_fan_ins)
            for entry, path in zip(entries, paths)
        ]
        return Part(steps, names, recording, offset)

    def enter_values(self, recording: Any, names: Any, kept: Any, offset: Any) -> None:
        recorder = recording.recorder
        made = {number for entry in recorder.entries for number in entry.out_ids}
        used = {number for entry in recorder.entries for number in (*entry.ins, *entry.out_ids)}
        for number, value in enumerate(recorder.values):
            if number not in used and number not in recording.inputs and number not in recording.outputs:
                continue
            if number in recording.inputs:
                role = "input"
            elif number in recording.outputs:
                role = "output"
            else:
                role = "intermediate" if number in made else "constant"
            slot = recorder.slot_of.get(number)
            ct = recording.cts.get(slot) if slot is not None else None
            aval = jax.typeof(value)
            name = names[number]
            shape = tuple(getattr(aval, "shape", ()))
            dtype = getattr(aval, "dtype", "reference")
            self.values[offset + number] = Value(
                offset + number,
                name.name,
                name.latex,
                shape,
                str(dtype),
                bytes(aval),
                role,
                summaries.summarise(value) if self.summaries else None,
                summaries.summarise(ct) if self.summaries and ct is not None else None,
                number in kept,
                ct is not None,
                name.label,
                summaries.text(value) if self.summaries else "",
                summaries.text(ct) if self.summaries and ct is not None else "",
            )

    def step(
        self,
        recording: Any,
        entry: Entry,
        path: Any,
        names: Any,
        first: Any,
        offset: Any,
        pulled: Any,
        costs: Any,
        kept_bytes: Any,
        fan_ins: Any,
    ) -> Step:
        out_cts = [None if s is None else recording.cts.get(s) for s in entry.out_slots]
        bars = pulled.get(entry.index, {})
        active = tuple(i for i in entry.active if entry.slots[i] in bars or entry.slots[i] in recording.cts)
        xs = tuple(
            latex.number(x) if n is None else operand(names[n], x, n, recording)
            for n, x in zip(entry.ins, entry.operands)
        )
        ys = tuple(names[n].latex for n in entry.out_ids)
        terms = latex.Terms(
            xs,
            ys,
            entry.params,
            tuple(np.shape(x) if n is None else tuple(jnp.shape(x)) for n, x in zip(entry.ins, entry.operands)),
            tuple(tuple(jnp.shape(y)) for y in entry.outs),
            0,
            active if any(ct is not None for ct in out_cts) else (),
            entry.label,
        )
        forward, back = latex.equations(entry.latex, terms)
        inner = bodies.body_of(entry, out_cts)
        body, arguments = self.body(entry, inner, names) if inner is not None else ((), ())
        trips = inner.trips if inner is not None else 1
        rule = entry.rule
        frames = entry.frames
        scale = trips if entry.primitive.name == "while" else 1
        return Step(
            first + entry.index,
            entry.primitive.name,
            tuple(frame.place for frame in frames),
            sources.text(frames[0]) if frames else "",
            path,
            tuple(offset + n for n in entry.ins if n is not None),
            tuple(offset + n for n in entry.out_ids),
            forward,
            back,
            rule.derivation if rule is not None else "",
            is_linear(entry),
            scale * self.costs.forward(entry),
            scale * costs.get(entry.index, 0),
            kept_bytes.get(entry.index, 0),
            self.checked(entry, out_cts, bars),
            body,
            tuple(fan_ins.get(entry.index, ())),
            title(entry, names),
            entry.label.strip("_"),
            trips,
            arguments,
        )

    def checked(self, entry: Any, out_cts: Any, bars: Any) -> Check | None:
        if not self.check or not bars:
            return None
        return checks.check(entry, out_cts, bars, self.seed)

    def body(self, entry: Entry, inner: bodies.Body, names: Any) -> tuple[tuple[Step, ...], tuple[int, ...]]:
        """The steps of the program inside of an equation, and the ids of its arguments."""
        _, recording = recording_of.run_jaxpr(inner.jaxpr, inner.values, inner.active, entry.where.scopes)
        inputs = []
        words = _argument_words(inner)
        for i, kind in enumerate(inner.kinds):
            number = entry.ins[inner.outer[i]]
            outer = names.get(number) if number is not None else None
            ndim = len(jnp.shape(inner.values[i]))
            if kind == "const" and outer is not None:
                inputs.append(self.namer.share(outer.name, outer.latex))  # one value, and one sum of cotangents
            elif kind == "const":
                inputs.append(self.namer.give(words[i], None, "", ndim))
            else:
                base = latex_of(words[i], ndim)
                tex = f"{{{base}}}_{{t}}" if "_" in base else f"{base}_{{t}}"
                inputs.append(self.namer.give(words[i], tex, words[i], ndim))
        part = self.part(recording, inner.cts, inputs)
        return tuple(part.steps), tuple(part.offset + number for number in recording.inputs)


def _argument_words(inner: bodies.Body) -> list[str]:
    """Names of a body's arguments, as its function calls them where JAX knows."""
    known = argument_names(inner.jaxpr)
    known = [""] * (len(inner.kinds) - len(known)) + known[-len(inner.kinds) :]
    return [argument_name(word) if word else kind for word, kind in zip(known, inner.kinds)]
