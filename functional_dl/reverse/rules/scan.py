"""Loops of a known number of steps: lax.scan, and what traces to it (fori_loop, map, associative operations)."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.core import AbstractValue, Tracer
from jax.extend.core.primitives import add_jaxvals_p, scan_p
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.aliases import Array
from functional_dl.jaxprs import function_of, interpret, scan_parts, scan_sizes
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import Latex, Terms
from functional_dl.reverse.rule import Probe
from functional_dl.reverse.rules.references import (
    Place,
    holds_references,
    run_on_contents,
    runs_on_contents,
    with_references,
)
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import active_of_loop, hoistable, record_call, writes_to
from functional_dl.reverse.values import instantiate, zeros_of
from functional_dl.sharding import on_mesh_of, row_type, type_of


def _recurrence(**options):
    def run(weight, start, xs):
        def step(state, x):
            state = lax.sin(lax.add(lax.mul(weight, state), x))
            return state, lax.mul(state, state)

        return lax.scan(step, start, xs, **options)

    return run


def _with_integers(start, xs):
    def step(state, x):
        i, total = state
        return (i + 1, lax.add(total, lax.mul(x, lax.convert_element_type(i, x.dtype)))), i

    return lax.scan(step, (np.int32(1), start), xs)


def _of_the_weight(weight):
    """The steps alone make the state depend on what is differentiated."""
    start = lax.full(weight.shape, 0.5, weight.dtype)
    return lax.scan(lambda state, _: (lax.sin(lax.mul(weight, state)), None), start, length=3)[0]


def _beside_an_invariant(start):
    """The first state makes the second depend on what is differentiated; exp(fixed) does not change, nor depend."""
    fixed = lax.floor(start)

    def step(states, _):
        first, _ = states
        return (lax.sin(first), lax.mul(first, lax.exp(fixed))), None

    return lax.scan(step, (start, lax.full(start.shape, 0, start.dtype)), length=3)[0][1]


def _without_inputs(start, xs):
    """The steps count, and read nothing."""
    return lax.scan(lambda state, _: (lax.sin(state), state), start, xs)


LAYOUT = ("jaxpr", "length", "reverse", "unroll")


def _sizes(terms: Terms) -> tuple[int, int]:
    layout = {k: v for k, v in terms.params.items() if k not in LAYOUT}
    return scan_sizes(layout, list(terms.xs))


def _scan_latex(terms: Terms) -> str:
    """(s_{t+1}, y_t) = f(c, s_t, x_t)."""
    consts, carry = _sizes(terms)
    states, items = terms.ys[:carry], terms.ys[carry:]
    start, xs = terms.xs[consts : consts + carry], terms.xs[consts + carry :]
    arguments = ["c"] if consts else []
    arguments += ["s_t"] * bool(carry) + ["x_t"] * bool(xs)
    left = ", ".join(["s_{t+1}"] * bool(carry) + ["y_t"] * bool(items))
    left = f"({left})" if carry and items else left
    length = terms.params["length"]
    steps = f"t = {length - 1}, \\dots, 0" if terms.params["reverse"] else f"t = 0, \\dots, {length - 1}"
    where = []
    if consts:
        where.append(f"c = ({', '.join(terms.xs[:consts])})")
    if carry:
        where.append(f"s_{{\\text{{start}}}} = ({', '.join(start)})")
        where.append(f"({', '.join(states)}) = s_{{\\text{{end}}}}")
    if xs:
        where.append(f"x = ({', '.join(xs)})")
    if items:
        where.append(f"({', '.join(items)}) = y")
    meaning = ", \\; ".join(where)
    return f"{left} = f({', '.join(arguments)}), \\quad {steps}; \\qquad {meaning}"


def _scan_bar_latex(terms: Terms) -> str:
    consts, carry = _sizes(terms)
    place = terms.place
    ct = r"\begin{pmatrix} \bar s_{t+1} \\ \bar y_t \end{pmatrix}"
    if not carry or carry == len(terms.ys):
        ct = r"\bar s_{t+1}" if carry else r"\bar y_t"
    if place < consts:
        return (
            f"\\textstyle\\sum_t \\left(\\frac{{\\partial f}}{{\\partial {terms.xs[place]}}}\\right)_t^{{\\top}} {ct}"
        )
    if place < consts + carry:
        return (
            r"\bar s_{\text{start}}, \qquad \bar s_t = \left(\frac{\partial f}{\partial s_t}\right)^{\top} "
            f"{ct} \\; \\text{{against the direction of }} t"
        )
    return f"\\Big[\\left(\\frac{{\\partial f}}{{\\partial x_t}}\\right)^{{\\top}} {ct}\\Big]_t"


@call_rule(
    scan_p,
    Probe(_recurrence(), shapes=((2,), (2,), (4, 2))),
    Probe(_recurrence(reverse=True), shapes=((2,), (2,), (4, 2))),
    Probe(_recurrence(unroll=3), shapes=((2,), (2,), (4, 2))),
    Probe(_recurrence(length=0), shapes=((2,), (2,), (0, 2))),
    Probe(_with_integers, shapes=((2,), (4, 2))),
    Probe(_of_the_weight, dtypes=("float64",)),
    Probe(_beside_an_invariant, low=0.1, high=0.9, dtypes=("float64",)),
    Probe(_without_inputs, shapes=((2,), (4, 2)), dtypes=("float64",)),
    latex=Latex(_scan_latex, (_scan_bar_latex,), whole=True),
    takes_references=True,
)
def scan_forward(tape: Any, values: list[Any], slots: list[Any], **params: Any) -> tuple[Any, ...]:
    """(s_{t+1}, y_t) = f(c, s_t, x_t) for t = 0, ..., T-1.  Backward, from s_T_bar and the y_t_bar:

    (c_bar_t, s_t_bar, x_t_bar) = (df/d(c, s, x) at step t)^T (s_{t+1}_bar, y_t_bar),   c_bar = sum_t c_bar_t,

    a scan in the opposite direction over what each step's pullback reads.  What does not change from step to step is
    computed and kept once, and what is an x_t itself is read from x again.
    """
    written = writes_to(params["jaxpr"]) if holds_references(values) else ()
    if runs_on_contents(tape, values, written):
        return _scan_on_contents(tape, values, slots, written, **params)
    if not sweep.is_traced(values):
        return sweep.compiled_call(tape, scan_p, staged_scan, values, slots, **params)
    return staged_scan(tape, values, slots, **params)


def _scan_on_contents(tape, values, slots, written, *, jaxpr, length, reverse, unroll, **layout):
    """References are constants of the step; what they hold is carried.  Of one that is scanned over, a step has a
    reference to a row."""
    body = function_of(jaxpr)

    def program(values, contents):
        consts, carry, xs = scan_parts(layout, values)
        places = [x if isinstance(x, Place) else None for x in xs]
        steps = np.arange(length, dtype=np.int32)
        xs = [x if place is None else steps if place.fixed is None else place.fixed for x, place in zip(xs, places)]

        def step(state, row):
            carry, contents = state
            filled, held = with_references(consts, contents)
            rows = {k: x for x, place in zip(row, places) if place is not None and (k := place.number) is not None}
            row = [
                x if place is None else jax.new_ref(x if place.fixed is not None else contents[place.number][x])
                for x, place in zip(row, places)
            ]
            outs = body(*filled, *carry, *row)
            contents = held()
            for x, place in zip(row, places):
                if place is not None and place.fixed is None:
                    k = place.number
                    contents[k] = lax.dynamic_update_index_in_dim(contents[k], jax.ref.freeze(x), rows[k], 0)
            return (outs[: len(carry)], contents), outs[len(carry) :]

        (carry, contents), ys = lax.scan(step, (carry, contents), xs, length=length, reverse=reverse, unroll=unroll)
        return [*carry, *ys], contents

    return run_on_contents(tape, values, slots, program, written)


def scan_keeping(
    operands: Sequence[Any],
    once: Callable[..., Any],
    step: Callable[..., Any],
    *,
    jaxpr: Any,
    length: int,
    reverse: bool,
    unroll: int,
    **layout: Any,
) -> tuple[list[Any], list[Any]]:
    """A scan's outputs and, stacked, what its steps keep.

    Args:
      once: `once(eqn, operands)` applies an equation that does not change from step to step.
      step: `step(kept)(eqn, operands)` applies one that does; what it keeps it appends to `kept`.
    """
    consts, init, xs = scan_parts(layout, operands)
    hoisted, others, variables = hoistable(jaxpr, len(consts))
    known = dict(zip(variables, interpret(jaxpr, consts, once, only=hoisted, outvars=variables)))

    def run(carry, x):
        kept: list = []
        outs = interpret(jaxpr, [*consts, *carry, *x], step(kept), known=known, only=others)
        return outs[: len(init)], (outs[len(init) :], kept)

    carry, (ys, rows) = lax.scan(run, init, xs, length=length, reverse=reverse, unroll=unroll)
    return [*carry, *ys], rows


class Again(NamedTuple):
    """How a scan is computed again.

    Attributes:
      once: `once(eqn, values, slots)` records an equation that does not change from step to step.
      step: `step(kept, tape, eqn, values, slots)` records one that does; what the step kept is in the iterator `kept`.
      kept: the next of it is what was kept, stacked.
      wanted: which outputs are computed; of the others the type stands in.
      types: of all outputs.
    """

    once: Callable[..., Any]
    step: Callable[..., Any]
    kept: Iterator[Any]
    wanted: Sequence[bool]
    types: Sequence[Any]


def staged_scan(
    tape: Any,
    values: list[Any],
    slots: list[Any],
    *,
    jaxpr: Any,
    length: int,
    reverse: bool,
    unroll: int,
    again: Again | None = None,
    **layout: Any,
) -> tuple[Any, ...]:
    """Records a scan as one program forward and one backward; `again` is how, where it is computed again."""
    num_consts, num_carry = scan_sizes(layout, values)
    values, slots, known, equations = _hoist(tape, jaxpr, num_consts, values, slots, again and again.once)
    kept, kept_tree = tree_flatten(next(again.kept) if again is not None else [])
    values, slots = [*values, *kept], [*slots, *[None] * len(kept)]  # the steps run over what was kept as well
    num_consts += len(known)
    parts = slice(0, num_consts), slice(num_consts, num_consts + num_carry), slice(num_consts + num_carry, None)
    consts, init, xs = (values[part] for part in parts)
    active = _active(jaxpr, slots, parts, known)
    step = _Step(jaxpr, known, equations, consts, active, again and again.step, kept_tree)
    carry, (ys, kept) = lax.scan(step.forward, list(init), list(xs), length=length, reverse=reverse, unroll=unroll)
    outs = [*carry, *ys]
    if again is not None:
        outs = [y if w else aval for y, w, aval in zip(outs, again.wanted, again.types)]
    avals = [type_of(v) for v in values]
    pull_back = functools.partial(_scan_pull_back, step, active, avals, parts, (length, reverse, unroll))
    stacks = [xs[i] if i in step.scanned else None for i in range(len(xs))]
    residuals = (step.fixed, stacks, [ys[i] for i in step.returned], [carry[i] for i in step.after], kept)
    out_slots = [tape.new_slot() if slot is not None else None for slot in step.program.outputs]
    return tape.call(scan_p, pull_back, residuals, slots, outs, out_slots)


def _hoist(tape, jaxpr, num_consts, values, slots, apply):
    """Runs the equations that do not change from step to step in the caller; their outputs join the constants.

    Returns values and slots, the variables that were joined, and the equations that are left to the steps.
    """
    hoisted, others, variables = hoistable(jaxpr, num_consts)
    consts = values[:num_consts], slots[:num_consts]
    found, found_slots = tape.replay(jaxpr, *consts, apply, only=hoisted, outvars=variables)
    # an invariant that is a number or a NumPy array stays one: a step may close over it
    values = [*values[:num_consts], *found, *values[num_consts:]]
    slots = [*slots[:num_consts], *found_slots, *slots[num_consts:]]
    return values, slots, variables, others


def active_carries(jaxpr: Any, active: Sequence[bool], num_consts: int, num_carry: int) -> list[bool]:
    """Which inputs of a scan's step can depend on the active operands, after any number of steps."""
    consts, carry, xs = (
        active[:num_consts],
        active[num_consts : num_consts + num_carry],
        active[num_consts + num_carry :],
    )
    return [*consts, *active_of_loop(jaxpr, consts, carry, xs)[0], *xs]


def _active(jaxpr, slots, parts, known):
    """Which inputs of the step are differentiated: a carry is, once any step makes it depend on one that is."""
    active = [s is not None for s in slots]
    consts, carry, xs = (active[part] for part in parts)
    own = len(consts) - len(known)
    live = [var for var, a in zip(known, consts[own:]) if a]
    carry, _ = active_of_loop(jaxpr, consts[:own], carry, xs, live)
    return [*consts, *carry, *xs]


class _Step:
    """One step, run forward, and where its residuals are.

    A residual is fixed, or in x_t; or it is a y_t, which the scan returns; or it is a state after the step, which is
    the state before the next one, where that is kept; all others are kept from step to step.
    """

    def __init__(
        self,
        jaxpr: Any,
        known: list[Any],
        equations: list[Any],
        consts: list[Any],
        active: list[bool],
        again: Any,
        kept_tree: Any,
    ) -> None:
        self.jaxpr, self.known, self.equations = jaxpr, known, equations
        self.consts, self.active = consts, active
        self.again, self.kept_tree = again, kept_tree  # the last of what is scanned over was kept by a checkpoint

    def forward(self, carry: list[Array], xs: list[Any]) -> tuple[list[Array], tuple[list[Any], list[Any]]]:
        num_known = len(self.known)
        num_own = len(self.consts) - num_known

        def run(tape, values, slots):
            known = dict(zip(self.known, zip(values[num_own:], slots[num_own:])))
            end = len(values) - self.kept_tree.num_leaves
            own = slice(0, num_own), slice(num_own + num_known, end)
            own_values = [v for part in own for v in values[part]]
            own_slots = [s for part in own for s in slots[part]]
            apply = self.again and functools.partial(
                self.again, iter(tree_unflatten(self.kept_tree, values[end:])), tape
            )
            return tape.replay(self.jaxpr, own_values, own_slots, apply, known=known, only=self.equations)

        num_carry = len(carry)

        def at_hand(outs, residuals):
            read = {id(r) for r in residuals}
            after = [y for x, y in zip(carry, outs) if id(x) in read]
            return [*self.consts, *xs, *after, *outs[num_carry:]]

        outs, self.program, residuals = record_call(run, [*self.consts, *carry, *xs], self.active, at_hand)
        fixed_ids = {id(c) for c in self.consts}
        x_positions = {id(x): i for i, x in enumerate(xs)}
        y_positions = {id(y): i for i, y in enumerate(outs[num_carry:])}
        read = {id(r) for r in residuals}
        after = {id(y): i for i, (x, y) in enumerate(zip(carry, outs)) if id(x) in read}
        before = {id(x) for x in carry}  # a state that the step passes on is one before it
        self.fixed, self.returned, self.after, self.places, kept = [], [], [], [], []
        for r in residuals:
            if id(r) in fixed_ids or not isinstance(r, Tracer):
                self.places.append(("fixed", len(self.fixed)))
                self.fixed.append(r)
            elif id(r) in x_positions:
                self.places.append(("scanned", x_positions[id(r)]))
            elif id(r) in y_positions:
                self.places.append(("returned", len(self.returned)))
                self.returned.append(y_positions[id(r)])
            elif id(r) in after and id(r) not in before:
                self.places.append(("after", len(self.after)))
                self.after.append(after[id(r)])
            else:
                self.places.append(("kept", len(kept)))
                kept.append(r)
        self.scanned = {i for kind, i in self.places if kind == "scanned"}
        place_of = {id(r): place for r, place in zip(residuals, self.places)}
        self.before = [place_of[id(carry[i])] for i in self.after]
        ys = [None if isinstance(y, AbstractValue) else y for y in outs[num_carry:]]  # nobody reads it
        return outs[:num_carry], (ys, kept)

    def pull(self, parts: dict[str, list[Any]], cts: list[Any]) -> tuple[list[Any], list[Array]]:
        """The cotangents, and the states before the step where these are the ones after the step before."""
        bars = sweep.backward(self.program, [parts[kind][i] for kind, i in self.places], cts)
        return bars, [parts[kind][i] for kind, i in self.before]


def _scan_pull_back(step, active, avals, parts, options, residuals, cts):
    fixed, xs, returned, after, kept = residuals
    length, reverse, unroll = options
    consts, carry, scanned = parts
    positions = range(len(avals))
    want_consts = [i for i in positions[consts] if active[i]]
    want_carry = [i for i in positions[carry] if active[i]]
    want_xs = [i for i in positions[scanned] if active[i]]
    num_carry = carry.stop - carry.start
    carry_bar = [instantiate(cts[i - carry.start], avals[i]) for i in want_carry]
    consts_bar = [zeros_of(avals[i]) for i in want_consts]

    def backward_step(state, step_inputs):
        consts_bar, carry_bar, after = state
        xs_t, returned_t, kept_t, ys_bar = step_inputs
        by_position = dict(zip(want_carry, carry_bar))
        step_cts = [by_position.get(i) for i in positions[carry]]
        parts = {"fixed": fixed, "scanned": xs_t, "returned": returned_t, "after": after, "kept": kept_t}
        bars, before = step.pull(parts, [*step_cts, *ys_bar])
        consts_bar = [
            total if bars[i] is None else add_jaxvals_p.bind(total, bars[i])
            for total, i in zip(consts_bar, want_consts)
        ]
        carry_bar = [on_mesh_of(instantiate(bars[i], avals[i]), bar) for i, bar in zip(want_carry, carry_bar)]
        # avals of x are of all steps: drop the leading axis
        xs_bar = [zeros_of(row_type(avals[i])) if bars[i] is None else bars[i] for i in want_xs]
        return (consts_bar, carry_bar, before), xs_bar

    (consts_bar, carry_bar, _), xs_bar = lax.scan(
        backward_step,
        (consts_bar, carry_bar, after),
        (xs, returned, kept, cts[num_carry:]),
        length=length,
        reverse=not reverse,
        unroll=unroll,
    )
    bars = dict(zip([*want_consts, *want_carry, *want_xs], [*consts_bar, *carry_bar, *xs_bar]))
    return [bars.get(i) for i in positions]
