"""Recordings made into steps and values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.explain.explanation import FanIn, Step, Value
from functional_dl.explain.formulas import facts, groups
from functional_dl.explain.formulas.naming import Name, Namer, argument_name, latex_of, name_values
from functional_dl.explain.record import bodies, checks, sources
from functional_dl.explain.record import recording as recording_of
from functional_dl.explain.record.flops import Counter
from functional_dl.explain.record.recorder import Entry
from functional_dl.explain.record.recording import Recording
from functional_dl.jaxprs import argument_names
from functional_dl.reverse import latex


@dataclass
class Part:
    """A recorded program on its way to steps.

    Fields:
      recording, names: the program, and its values' names.
      first, offset: numbers of its first step and of its first value in the explanation.
      bars: entry -> slot -> what its pullback gave.
      kept, kept_bytes: numbers of the values that are kept; bytes that are kept for an entry.
      fan_ins: entry -> the sums of cotangents that are complete there.
      steps: what is made of it.
    """

    recording: Recording
    names: dict[int, Name]
    first: int
    offset: int
    bars: dict[int, dict[int, Any]]
    kept: set[int]
    kept_bytes: dict[int, int]
    fan_ins: dict[int, list[FanIn]]
    steps: list[Step] = field(default_factory=list)


class Builder:
    """Makes steps and values out of recordings; numbers of values and steps are unique over all of them."""

    def __init__(self, namer: Namer, check: bool, values: bool, seed: int, function: str) -> None:
        self.function = function
        self.namer, self.check, self.summaries, self.seed = namer, check, values, seed
        self.values: dict[int, Value] = {}
        self.next_step = 0
        self.flops = Counter()

    def part(self, recording: Recording, inputs: list[Name], top: bool = False) -> Part:
        """The steps of a recording, whose values are entered."""
        offset = 0 if top else max(self.values, default=-1) + 1
        first = 0 if top else self.next_step
        entries = recording.recorder.entries
        self.next_step = first + len(entries)
        names = name_values(recording, inputs, self.namer, self.function if top else "")
        fan_ins = facts.fan_ins_of(recording, names, first, offset)
        part = Part(recording, names, first, offset, recording.bars(), *facts.residuals(recording), fan_ins)
        self.enter_values(part)
        part.steps += [self.step(part, entry, path) for entry, path in zip(entries, groups.paths(entries))]
        return part

    def enter_values(self, part: Part) -> None:
        recording, recorder = part.recording, part.recording.recorder
        made = {number for entry in recorder.entries for number in entry.out_ids}
        for number in sorted(recording.used):
            value = recorder.values[number]
            if number in recording.inputs:
                role = "input"
            elif number in recording.outputs:
                role = "output"
            else:
                role = "intermediate" if number in made else "constant"
            ct = recording.cts.get(recorder.slot_of.get(number, -1))
            aval = jax.typeof(value)
            name = part.names[number]
            value, shown_ct = (value, ct) if self.summaries else (None, None)
            self.values[part.offset + number] = Value(
                id=part.offset + number,
                name=name.name,
                latex=name.latex,
                shape=tuple(getattr(aval, "shape", ())),
                dtype=str(getattr(aval, "dtype", "reference")),
                bytes=facts.bytes(aval),
                role=role,
                summary=None if value is None else facts.summarise(value),
                ct_summary=None if shown_ct is None else facts.summarise(shown_ct),
                kept=number in part.kept,
                differentiated=ct is not None,
                label=name.label,
                text="" if value is None else facts.text(value),
                ct_text="" if shown_ct is None else facts.text(shown_ct),
            )

    def step(self, part: Part, entry: Entry, path: tuple[str, ...]) -> Step:
        cts, names = part.recording.cts, part.names
        out_cts = [None if s is None else cts.get(s) for s in entry.out_slots]
        bars = part.bars.get(entry.index, {})
        active = tuple(i for i in entry.active if entry.slots[i] in bars or entry.slots[i] in cts)
        terms = latex.Terms(
            tuple(
                latex.number(x) if n is None else facts.operand(names[n], x, n, part.recording)
                for n, x in zip(entry.ins, entry.operands)
            ),
            tuple(names[n].latex for n in entry.out_ids),
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
        scale = trips if entry.primitive.name == "while" else 1
        return Step(
            index=part.first + entry.index,
            primitive=entry.primitive.name,
            source=tuple(frame.place for frame in entry.frames),
            line=sources.text(entry.frames[0]) if entry.frames else "",
            group=path,
            inputs=tuple(part.offset + n for n in entry.ins if n is not None),
            outputs=tuple(part.offset + n for n in entry.out_ids),
            forward_latex=forward,
            backward_latex=back,
            derivation=entry.rule.derivation if entry.rule is not None else "",
            linear=facts.is_linear(entry),
            flops=scale * self.flops.of(entry),
            backward_flops=scale * part.recording.back_flops.get(entry.index, 0),
            bytes_kept=part.kept_bytes.get(entry.index, 0),
            check=checks.check(entry, out_cts, bars, self.seed) if self.check else None,
            body=body,
            fan_ins=tuple(part.fan_ins.get(entry.index, ())),
            title=facts.title(entry, names),
            label=entry.label.strip("_"),
            trips=trips,
            arguments=arguments,
        )

    def body(self, entry: Entry, inner: bodies.Body, names: Any) -> tuple[tuple[Step, ...], tuple[int, ...]]:
        """The steps of the program inside of an equation, and the ids of its arguments."""
        recording = recording_of.run_jaxpr(inner.jaxpr, inner.values, inner.active, entry.where.scopes)
        recording_of.sweep(recording, inner.cts)
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
        part = self.part(recording, inputs)
        return tuple(part.steps), tuple(part.offset + number for number in recording.inputs)


def _argument_words(inner: bodies.Body) -> list[str]:
    """Names of a body's arguments, as its function calls them where JAX knows."""
    known = argument_names(inner.jaxpr)
    known = [""] * (len(inner.kinds) - len(known)) + known[-len(inner.kinds) :]
    return [argument_name(word) if word else kind for word, kind in zip(known, inner.kinds)]
