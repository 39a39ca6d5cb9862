"""What value and cotangents cost: operations, residuals, the most memory alive at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from functional_dl.explain.explanation import Ledger, Row, Step
from functional_dl.explain.record.recording import Recording


def build(steps: Sequence[Step], recording: Recording, xla: float | None = None) -> Ledger:
    """The ledger of a program's steps."""
    rows = tuple(Row(s.index, s.title, s.flops, s.backward_flops, s.bytes_kept) for s in steps)
    forward, backward = sum(r.flops for r in rows), sum(r.backward_flops for r in rows)
    return Ledger(
        forward,
        backward,
        (forward + backward) / forward if forward else float("nan"),
        sum(r.bytes_kept for r in rows),
        peak(recording),
        xla,
        rows,
    )


def peak(recording: Recording) -> int:
    """The most bytes alive at once, equations run in order, each value dropped after its last use.

    Forward a value lives from its making to its last use, or on to its use in the backward sweep where it is kept;
    backward a cotangent lives from its first term until the step that made its value has gone back.  Arguments,
    results and the arguments' cotangents stay.
    """
    entries, recorder = recording.recorder.entries, recording.recorder
    size = {number: bytes_of(value) for number, value in enumerate(recorder.values)}
    always = set(recording.inputs) | set(recording.outputs)
    made = {number for entry in entries for number in entry.out_ids}
    always |= {n for entry in entries for n in entry.ins if n is not None and n not in made}
    last: dict[int, int] = {}
    for entry in entries:
        for number in (*entry.ins, *entry.out_ids):
            if number is not None:
                last[number] = entry.index
    first_back, extra = _kept(recording)
    alive = sum(size[n] for n in always)
    most = alive
    held: set[int] = set()
    for entry in entries:
        for number in entry.out_ids:
            if number not in always and number not in held:
                held.add(number)
                alive += size[number]
        alive += extra.get(entry.index, 0)
        most = max(most, alive)
        for number in [n for n in held if last[n] == entry.index and n not in first_back]:
            held.discard(number)
            alive -= size[number]
    cts: dict[int, int] = {}
    given = {recorder.slot_of.get(n) for n in recording.inputs}
    for equation in reversed(recording.program.equations):
        for slot in (*equation.inputs, *equation.outputs):
            if slot is not None and slot not in cts and slot in recording.cts:
                cts[slot] = bytes_of(recording.cts[slot])
                alive += cts[slot]
        most = max(most, alive)
        for slot in equation.outputs:
            if slot in cts and slot not in given:
                alive -= cts[slot]
                cts[slot] = 0
        for number in [n for n in held if first_back.get(n) == equation.source]:
            held.discard(number)
            alive -= size[number]
        alive -= extra.pop(equation.source, 0)
    return int(most)


def _kept(recording: Recording) -> tuple[dict[int, int], dict[int, int]]:
    """For each kept value the entry whose pullback reads it last, and the bytes kept that are no values of entries."""
    from functional_dl.reverse.program import Residual

    numbers = recording.recorder.numbers
    first: dict[int, int] = {}
    extra: dict[int, int] = {}
    seen: set[int] = set()
    for equation in recording.program.equations:
        held = [*equation.operands, *equation.results] if hasattr(equation, "operands") else equation.residuals[1]
        for x in held:
            if type(x) is not Residual:
                continue
            value = recording.residuals[x.position]
            number = numbers.get(id(value))
            if number is not None:
                first.setdefault(number, equation.source)
            elif id(value) not in seen:
                seen.add(id(value))
                extra[equation.source] = extra.get(equation.source, 0) + bytes_of(value)
    return first, extra


def bytes_of(value: Any) -> int:
    """Bytes of an array; 0 for what has no size (keys, references)."""
    aval = jax.typeof(value)
    shape, dtype = getattr(aval, "shape", ()), getattr(aval, "dtype", None)
    return int(np.prod([d for d in shape if isinstance(d, int)])) * int(getattr(dtype, "itemsize", 0))


def to_markdown(ledger: Ledger) -> str:
    """The steps as a table, the most expensive marked with their share, and the totals."""
    total = ledger.forward_flops + ledger.backward_flops
    lines = [
        "| step | | forward | backward | share | kept |",
        "|---:|---|---:|---:|---:|---:|",
        *[
            f"| {row.step} | `{row.title}` | {quantity(row.flops)} | {quantity(row.backward_flops)} | "
            f"{share(row.flops + row.backward_flops, total)} | {quantity(row.bytes_kept, 'B')} |"
            for row in ledger.rows
        ],
        f"| | **total** | {quantity(ledger.forward_flops)} | {quantity(ledger.backward_flops)} | "
        f"ratio {ledger.ratio:.2f} | {quantity(ledger.residual_bytes, 'B')} |",
        "",
        f"Value and cotangents: {quantity(total, 'FLOP')}, {ledger.ratio:.2f} times the value alone. "
        f"Kept for the backward sweep: {quantity(ledger.residual_bytes, 'B')}. "
        f"Most alive at once: {quantity(ledger.peak_bytes, 'B')}.",
    ]
    if ledger.xla_flops is not None:
        lines.append(f"XLA counts {quantity(ledger.xla_flops, 'FLOP')} in the compiled program.")
    return "\n".join(lines)


def quantity(n: float, unit: str = "") -> str:
    """12345 -> 12.3 k."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= factor:
            return f"{n / factor:.3g} {prefix}{unit}"
    return f"{n:.0f} {unit}".strip()


def share(part: float, total: float) -> str:
    """A percentage, "" for nothing."""
    return f"{100 * part / total:.1f} %" if part and total else ""
