"""The facts of a step: its operands, what is kept for it, its fan-in sums, its arrays in a few numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.explain.explanation import FanIn, Summary
from functional_dl.explain.formulas.naming import Name
from functional_dl.explain.record.recorder import Entry
from functional_dl.explain.record.recording import Recording
from functional_dl.reverse import latex
from functional_dl.reverse.latex import bar
from functional_dl.reverse.program import Residual
from functional_dl.reverse.values import is_reference


def operand(name: Name, value: Any, number: Any, recording: Any) -> str:
    """An operand's LaTeX: constants that are single numbers are written as such."""
    if number in recording.inputs or any(number in e.out_ids for e in recording.recorder.entries):
        return name.latex
    if isinstance(value, jax.core.Tracer):  # of the function around, whose number nobody knows
        return name.latex
    if jnp.shape(value) == () and hasattr(value, "dtype") and jax.dtypes.issubdtype(value.dtype, np.number):
        return latex.number(np.asarray(value))
    return name.latex


def residuals(recording: Recording) -> tuple[set[int], dict[int, int]]:
    """Numbers of the values that are kept, and for each entry the bytes that are kept for it and for none before."""
    recorder = recording.recorder
    given = set(recording.inputs)
    made = {number for entry in recorder.entries for number in entry.out_ids}
    kept: set[int] = set()
    costs: dict[int, int] = {}
    seen: set[int] = set()
    for equation in recording.program.equations:
        for place in positions(equation):
            value = recording.residuals[place]
            number = recorder.numbers.get(id(value))
            if id(value) in seen or (number is not None and (number in given or number not in made)):
                continue
            seen.add(id(value))
            if number is not None:
                kept.add(number)
            costs[equation.source] = costs.get(equation.source, 0) + bytes(jax.typeof(value))
    return kept, costs


def positions(equation: Any) -> list[int]:
    """Positions among the residuals that a flattened equation reads."""
    held = [*equation.operands, *equation.results] if hasattr(equation, "operands") else equation.residuals[1]
    return [x.position for x in held if type(x) is Residual]


def fan_ins_of(recording: Recording, names: Any, first: Any, offset: Any) -> dict[int, list[FanIn]]:
    """For each entry, the values whose cotangent is complete at its pullback and is a sum: its outputs, and the inputs
    of the program that it is the first to use."""
    number_of: dict[int, int] = {}
    for number, slot in recording.recorder.slot_of.items():
        number_of.setdefault(slot, number)
    made = {number: entry.index for entry in recording.recorder.entries for number in entry.out_ids}
    used: dict[int, int] = {}
    for entry in recording.recorder.entries:
        for number in entry.ins:
            if number is not None:
                used.setdefault(number, entry.index)
    found: dict[int, list[FanIn]] = {}
    for slot, terms in recording.terms.items():
        number, origins = number_of.get(slot), [origin for origin, _ in terms]
        if number is None or len(origins) < 2:
            continue
        place = made.get(number, used.get(number))
        if place is None:
            continue
        name = bar(names[number].latex)
        count = len(origins)
        plain = f"{{{name}}}" if "^" in name or "'" in name else name
        tex = f"{name} = \\sum_{{k=1}}^{{{count}}} {plain}^{{(k)}}"
        if count <= 4:
            tex = f"{name} = {' + '.join(f'{plain}^{{({k + 1})}}' for k in range(count))}"
        steps = tuple(None if o is None else first + o for o in origins)
        found.setdefault(place, []).append(FanIn(offset + number, steps, tex))
    return found


def is_linear(entry: Entry) -> bool:
    """Whether the rule reads neither the output nor an operand that is differentiated."""
    rule = entry.rule
    if rule is None or rule.formula is None or not entry.active:
        return False
    wanted = tuple(i in entry.active for i in range(len(entry.slots)))
    keep_out, *keep = rule.kept(wanted)
    return not keep_out and not any(keep[i] for i in entry.active)


def title(entry: Entry, names: Any) -> str:
    word = entry.label.strip("_") or entry.primitive.name
    shown = [names[n].name if n is not None else short(x) for n, x in zip(entry.ins, entry.operands)]
    outs = ", ".join(names[n].name for n in entry.out_ids)
    return f"{outs} = {word}({', '.join(shown)})"


def short(x: Array) -> str:
    try:
        return f"{np.asarray(x).item():g}"
    except (TypeError, ValueError):
        return type(x).__name__


def bytes(aval: Any) -> int:
    shape, dtype = getattr(aval, "shape", ()), getattr(aval, "dtype", None)
    size = int(np.prod([d for d in shape if isinstance(d, int)]))
    return size * int(getattr(dtype, "itemsize", 0))


# --- arrays in a few numbers

FEW = 8  # entries: of no more the numbers themselves are shown


def summarise(value: Any) -> Summary | None:
    """Norm, range, mean and the count of non-finite entries; None for what holds no numbers."""
    if is_reference(jax.typeof(value)):
        return None
    try:
        array = np.asarray(value)
    except TypeError:  # keys of random numbers
        return None
    if array.dtype.kind not in "fciub" and array.dtype.name not in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return None
    wide = np.abs(array) if array.dtype.kind == "c" else array
    wide = wide.astype(np.float64).ravel()
    finite, bad = wide[np.isfinite(wide)], wide[~np.isfinite(wide)]
    counts = {"-inf": bad == -np.inf, "inf": bad == np.inf, "nan": np.isnan(bad)}
    special = ", ".join(f"{int(found.sum())} of {name}" for name, found in counts.items() if found.any())
    if not finite.size:
        return Summary(0.0, 0.0, 0.0, int(bad.size), 0.0, special)
    return Summary(
        float(np.sqrt(np.square(finite).sum())),
        float(finite.min()),
        float(finite.max()),
        int(bad.size),
        float(finite.mean()),
        special,
    )


def text(value: Any) -> str:
    """The numbers of a small array, "" for a large one."""
    if is_reference(jax.typeof(value)):
        return ""
    try:
        array = np.asarray(value)
    except TypeError:
        return ""
    if array.size > FEW or array.dtype.kind not in "fciub":
        return ""
    return np.array2string(array, precision=6, separator=", ", threshold=FEW).replace("\n", "")
