"""Programs inside of equations: a loop's last pass (the first of the backward sweep), the branch taken, a checkpoint.

What goes in is known: the state before the last pass is found by running the loop that far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax import lax
from jax.extend.core.primitives import cond_p, remat_p, scan_p, while_p

from functional_dl.explain.record.recorder import Entry
from functional_dl.jaxprs import function_of, open_jaxpr, scan_parts, taken, while_parts


@dataclass(frozen=True)
class Body:
    """A program that an equation runs, with one pass's arguments and the cotangents of its results.

    Fields:
      jaxpr: the program.
      values: its arguments.
      active: which of them are differentiated.
      cts: of its results, None for zero.
      outer: for each argument the operand's position that it is (or comes from).
      kinds: for each argument "const", "state" or "item".
      trips: how many passes there are.
    """

    jaxpr: Any
    values: list[Any]
    active: list[bool]
    cts: list[Any]
    outer: list[int]
    kinds: list[str]
    trips: int


def body_of(entry: Entry, out_cts: Sequence[Any]) -> Body | None:
    """The program inside an equation, None where there is none (or it did not run)."""
    reader = READERS.get(entry.primitive)
    return reader(entry, list(out_cts)) if reader is not None else None


def _scan(entry: Entry, cts: list[Any]) -> Body | None:
    params = entry.params
    length, jaxpr, reverse = params["length"], params["jaxpr"], params["reverse"]
    if length == 0:
        return None
    consts, carry, xs = scan_parts(params, entry.operands)
    num_consts, num_carry = len(consts), len(carry)
    last = 0 if reverse else length - 1
    if length > 1:
        step = function_of(jaxpr)
        before = [x[1:] if reverse else x[:-1] for x in xs]

        def all_but_last(consts, carry, before):
            one = lambda state, x: (step(*consts, *state, *x)[:num_carry], None)
            return lax.scan(one, carry, before, length=length - 1, reverse=reverse)[0]

        loop, parts = entry.loop, (consts, carry, before)
        carry = all_but_last(*parts) if loop is None else loop.call("all but the last step", all_but_last, *parts)
    active = [s is not None for s in entry.slots]
    for i in range(num_carry):
        active[num_consts + i] = active[num_consts + i] or entry.out_slots[i] is not None
    out_cts = [*cts[:num_carry], *[None if ct is None else ct[last] for ct in cts[num_carry:]]]
    kinds = ["const"] * num_consts + ["state"] * num_carry + ["item"] * len(xs)
    values = [*consts, *carry, *[x[last] for x in xs]]
    return Body(jaxpr, values, active, out_cts, list(range(len(values))), kinds, length)


def _while(entry: Entry, cts: list[Any]) -> Body | None:
    p = entry.params
    cond_consts, consts, init = while_parts(p, entry.operands)
    goes_on, step = function_of(p["cond_jaxpr"]), function_of(p["body_jaxpr"])
    if open_jaxpr(p["cond_jaxpr"])[0].outvars[0].aval.shape:
        return None
    count, _ = lax.while_loop(
        lambda loop: goes_on(*cond_consts, *loop[1])[0],
        lambda loop: (loop[0] + 1, step(*consts, *loop[1])),
        (0, init),
    )
    trips = int(count)
    if trips == 0:
        return None
    state = lax.fori_loop(0, trips - 1, lambda _, state: step(*consts, *state), init)
    active = [s is not None for s in entry.slots[p["cond_nconsts"] :]]
    for i, slot in enumerate(entry.out_slots):
        active[len(consts) + i] = active[len(consts) + i] or slot is not None
    kinds = ["const"] * len(consts) + ["state"] * len(init)
    outer = list(range(p["cond_nconsts"], len(entry.operands)))
    return Body(p["body_jaxpr"], [*consts, *state], active, cts, outer, kinds, trips)


def _cond(entry: Entry, cts: list[Any]) -> Body | None:
    branches = entry.params["branches"]
    if isinstance(entry.operands[0], jax.core.Tracer):
        return None
    values = entry.operands[1:]
    active = [s is not None for s in entry.slots[1:]]
    outer = list(range(1, len(entry.operands)))
    return Body(taken(branches, entry.operands[0]), values, active, cts, outer, ["const"] * len(values), 1)


def _checkpoint(entry: Entry, cts: list[Any]) -> Body | None:
    active = [s is not None for s in entry.slots]
    kinds = ["const"] * len(active)
    return Body(entry.params["jaxpr"], list(entry.operands), active, cts, list(range(len(active))), kinds, 1)


READERS = {scan_p: _scan, while_p: _while, cond_p: _cond, remat_p: _checkpoint}
