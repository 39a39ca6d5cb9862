"""The backward sweep over a recording, term by term: which entry gives which cotangent how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax
from jax.extend.core.primitives import add_jaxvals_p

from functional_dl.explain.recording import Recording
from functional_dl.reverse.values import formed


def sweep(
    recording: Recording, cts: Sequence[Any], pulled: Callable[..., Any] | None = None, scoped: bool = False
) -> list[Any]:
    """Cotangents of the inputs (None for zero); `recording` then holds each value's cotangent and where it came from.

    Args:
      cts: cotangents of the outputs, None for zero.
      pulled: called as pulled(entry index, equation, out_cts, bars) after each equation's pullback.
      scoped: names the scope "back_i" around the pullback of entry i, so that a trace shows it.
    """
    program, totals = recording.program, {}
    terms: dict[int, list[int | None]] = {}

    def add(slot, ct, origin):
        if slot is None or ct is None:
            return
        before = totals.get(slot)
        terms.setdefault(slot, []).append(origin)
        if before is None:
            totals[slot] = ct
        else:
            with jax.named_scope(f"meet_{slot}") if scoped else nullcontext():
                totals[slot] = add_jaxvals_p.bind(before, ct)

    for slot, ct in zip(program.outputs, cts):
        add(slot, ct, None)
    complete: dict[int, object] = {}
    for equation in reversed(program.at(recording.residuals)):
        out_cts = [None if slot is None else totals.pop(slot, None) for slot in equation.outputs]
        complete |= {slot: ct for slot, ct in zip(equation.outputs, out_cts) if ct is not None}
        if all(ct is None for ct in out_cts):
            continue
        with jax.named_scope(f"back_{equation.source}") if scoped else nullcontext():
            bars = [
                formed(bar() if callable(bar) else bar) if slot is not None and bar is not None else None
                for slot, bar in zip(equation.inputs, equation.pull(out_cts))
            ]
        if pulled is not None:
            pulled(equation.source, equation, out_cts, bars)
        for slot, bar in zip(equation.inputs, bars):
            add(slot, bar, equation.source)
    complete |= totals
    recording.terms, recording.cts = terms, complete
    return [None if slot is None else complete.get(slot) for slot in program.inputs]
