"""Loops whose number of steps only the run tells: lax.while_loop, and fori_loop with traced bounds.

jax.grad refuses them, as it would have to keep a state for each step.  Here a fixed number of states is kept.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import add_jaxvals_p, select_n_p, while_p

from functional_dl.aliases import Array
from functional_dl.jaxprs import function_of, open_jaxpr
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import Terms
from functional_dl.reverse.rule import Probe
from functional_dl.reverse.rules.references import (
    holds_references,
    run_on_contents,
    runs_on_contents,
    with_references,
)
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import active_of_loop, record_call, writes_to
from functional_dl.reverse.values import instantiate, zeros_of

CHECKPOINTS = 32  # states kept on the way forward (even)
DEPTH = (
    24  # more states in the backward pass: stretches of up to 2^DEPTH steps between checkpoints are halved this often
)


def newton(a: Array) -> Any:
    """Square roots by Newton's iteration x <- (x + a/x) / 2, until all are near."""

    def step(x):
        return lax.mul(lax.add(x, lax.div(a, x)), x.dtype.type(0.5))

    def far(x):
        return lax.gt(lax.reduce_max(lax.abs(lax.sub(lax.mul(x, x), a)), (0,)), x.dtype.type(1e-2))

    return lax.while_loop(far, step, a)


def counted_sines(weight: Any, x: Array) -> Any:
    """y <- sin(weight y), five times, beside an integer that counts."""

    def step(state):
        i, y = state
        return i + 1, lax.sin(lax.mul(y, weight))

    return lax.while_loop(lambda state: state[0] < 5, step, (np.int32(0), x))[1]


def _while_latex(terms: Terms) -> str:
    start = ", ".join(terms.xs[terms.params["cond_nconsts"] + terms.params["body_nconsts"] :])
    return f"s_T, \\quad s_{{t+1}} = f(c, s_t) \\text{{ while }} g(s_t), \\quad s_0 = ({start})"


def _while_bar_latex(terms: Terms) -> str:
    if terms.place < terms.params["cond_nconsts"] + terms.params["body_nconsts"]:
        jacobian = r"\left(\frac{\partial f}{\partial <s>}\right)_t^{\top}"
        return rf"\textstyle\sum_{{t < T}} {jacobian} \bar s_{{t+1}}"
    step = r"\bar s_t = \left(\frac{\partial f}{\partial s_t}\right)^{\top} \bar s_{t+1}"
    return rf"\bar s_0, \qquad {step}, \quad t = T-1, \dots, 0"


@call_rule(
    while_p,
    Probe(functools.partial(newton), low=1.0, high=3.0, dtypes=("float64", "float32")),
    Probe(functools.partial(counted_sines), shapes=((3,), (3,))),
    latex=(_while_latex, _while_bar_latex),
    takes_references=True,
)
def while_forward(tape: Any, values: list[Array], slots: list[int], **params: Any) -> tuple[list[Array], list[int]]:
    """s_{t+1} = f(c, s_t) while g(s_t), T steps.  Backward, from s_T_bar:

    (c_bar_t, s_t_bar) = (df/d(c, s) at s_t)^T s_{t+1}_bar   for t = T-1, ..., 0,   c_bar = sum_t c_bar_t.

    The states s_t are wanted in the order opposite to that in which they come.  Forward, the state at every 2^k-th step
    is kept, and when there is no room every other one is dropped and k grows.  Backward, the last kept state at or
    before the wanted step starts a run to the middle of the stretch, whose state is kept too, and so on: memory for
    CHECKPOINTS + DEPTH states whatever T is, and about log2(T / CHECKPOINTS) / 2 further runs of the loop.
    """
    written = {i + params["cond_nconsts"] for i in writes_to(params["body_jaxpr"])} if holds_references(values) else ()
    if runs_on_contents(tape, values, written):
        return _while_on_contents(tape, values, slots, written, **params)
    if not sweep.is_traced(values):
        return sweep.compiled_call(tape, while_p, _staged_while, values, slots, **params)
    return _staged_while(tape, values, slots, **params)


def _while_on_contents(tape, values, slots, written, *, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    """References are constants of the condition and of the step; what they hold is part of the state."""
    unfinished, body = function_of(cond_jaxpr), function_of(body_jaxpr)
    first = cond_nconsts + body_nconsts

    def program(values, contents):
        def goes_on(state):
            filled, _ = with_references(values[:cond_nconsts], state[1])
            return unfinished(*filled, *state[0])[0]

        def step(state):
            filled, held = with_references(values[cond_nconsts:first], state[1])
            return body(*filled, *state[0]), held()

        return lax.while_loop(goes_on, step, (list(values[first:]), contents))

    return run_on_contents(tape, values, slots, program, written)


def _staged_while(tape, values, slots, *, cond_jaxpr, cond_nconsts, body_jaxpr, body_nconsts):
    cond_consts = values[:cond_nconsts]
    consts = values[cond_nconsts : cond_nconsts + body_nconsts]
    init = values[cond_nconsts + body_nconsts :]
    active = _active(body_jaxpr, slots[cond_nconsts:], body_nconsts)

    step = _Step(cond_jaxpr, body_jaxpr, cond_nconsts, body_nconsts, active)

    def unfinished(loop):
        return jnp.any(step.unfinished(cond_consts, loop[-1]))

    def forward_step(loop):
        count, stride, filled, store, state = loop
        due = count % stride == 0
        full = due & (filled == CHECKPOINTS)
        store = lax.cond(full, _drop_every_other, lambda x: x, store)
        filled = jnp.where(full, CHECKPOINTS // 2, filled)
        stride = jnp.where(full, 2 * stride, stride)
        place = jnp.where(due, filled, CHECKPOINTS)  # the last row takes what is not to be kept
        store = _write(store, place, state)
        return count + 1, stride, filled + due.astype(jnp.int32), store, step.run(cond_consts, consts, state)

    store = [lax.broadcast(x, (CHECKPOINTS + 1,)) for x in init]
    zero = jnp.zeros((), jnp.int32)
    count, stride, filled, store, outs = lax.while_loop(
        unfinished, forward_step, (zero, zero + 1, zero, store, list(init))
    )
    avals = [jax.typeof(v) for v in [*consts, *init]]
    pull_back = functools.partial(_while_pull_back, step, avals)
    out_slots = [tape.new_slot() if a else None for a in active[body_nconsts:]]
    return tape.call(while_p, pull_back, (cond_consts, consts, store, count, stride, filled), slots, outs, out_slots)


class _Step:
    """One step of the loop: run forward, and recorded for its pullback.

    Under vmap the condition may be an array: then the loop goes on while any entry holds, and a step changes only the
    states for which it holds.
    """

    def __init__(
        self, cond_jaxpr: Any, body_jaxpr: Any, cond_nconsts: int, num_consts: int, active: list[bool]
    ) -> None:
        self.cond, self.body = cond_jaxpr, body_jaxpr
        self.cond_nconsts, self.num_consts, self.active = cond_nconsts, num_consts, active
        self.masked = bool(open_jaxpr(cond_jaxpr)[0].outvars[0].aval.shape)

    def unfinished(self, cond_consts: list[Array], state: list[Array]) -> Array:
        return function_of(self.cond)(*cond_consts, *state)[0]

    def run(self, cond_consts: list[Array], consts: list[Array], state: list[Array]) -> list[Array]:
        after = function_of(self.body)(*consts, *state)
        if not self.masked:
            return after
        mask = self.unfinished(cond_consts, state)
        return [lax.select(_spread(mask, new), new, old) for new, old in zip(after, state)]

    def pull(
        self, cond_consts: list[Array], consts: list[Array], state: list[Array], state_bar: list[Array]
    ) -> list[Array]:
        """Cotangents of consts and state, given those of the state after the step."""

        def body(tape, values, slots):
            before = slice(self.num_consts, None)
            after, after_slots = tape.replay(self.body, values, slots)
            if not self.masked:
                return after, after_slots
            mask = self.unfinished(cond_consts, values[before])
            chosen = [
                tape.apply(select_n_p, [_spread(mask, new), old, new], [None, old_slot, new_slot], {})
                for new, old, new_slot, old_slot in zip(after, values[before], after_slots, slots[before])
            ]
            return [outs[0] for outs, _ in chosen], [slot[0] for _, slot in chosen]

        _, program, residuals = record_call(body, [*consts, *state], self.active)
        return sweep.backward(program, residuals, state_bar)


def _spread(mask, x):
    return lax.broadcast_in_dim(mask, x.shape, tuple(range(mask.ndim)))


def _active(body, slots, num_consts):
    """Which inputs of the step are differentiated: a state is, once any step makes it depend on one that is."""
    active = [s is not None for s in slots]
    consts = active[:num_consts]
    return consts + active_of_loop(body, consts, active[num_consts:])[0]


def _drop_every_other(store):
    kept = np.concatenate([np.arange(0, CHECKPOINTS, 2), np.arange(CHECKPOINTS // 2, CHECKPOINTS + 1)])
    return [jnp.take(rows, kept, axis=0, mode="clip") for rows in store]


def _write(store, place, state):
    return [lax.dynamic_update_index_in_dim(rows, x, place, 0) for rows, x in zip(store, state)]


def _read(store, place):
    return [lax.dynamic_index_in_dim(rows, place, 0, keepdims=False) for rows in store]


def _while_pull_back(step, avals, residuals, cts):
    cond_consts, consts, store, count, stride, filled = residuals
    active, num_consts = step.active, step.num_consts
    want_consts = [i for i in range(num_consts) if active[i]]
    want_state = [i for i in range(num_consts, len(active)) if active[i]]
    rows = CHECKPOINTS + DEPTH
    stack = [lax.concatenate([s, lax.broadcast(s[0], (rows - s.shape[0],))], 0) for s in store]
    positions = jnp.arange(rows, dtype=jnp.int32) * stride

    def advance(state, steps):
        return lax.fori_loop(0, steps, lambda _, state: step.run(cond_consts, consts, state), state)

    def pull_step(machine):
        left, top, positions, stack, consts_bar, state_bar = machine
        state = _read(stack, top)
        by_position = dict(zip(want_state, state_bar))
        after_bar = [by_position.get(i) for i in range(num_consts, len(active))]
        bars = step.pull(cond_consts, consts, state, after_bar)
        consts_bar = [
            total if bars[i] is None else add_jaxvals_p.bind(total, bars[i])
            for total, i in zip(consts_bar, want_consts)
        ]
        state_bar = [instantiate(bars[i], avals[i]) for i in want_state]
        return left - 1, top - 1, positions, stack, consts_bar, state_bar

    def push_middle(machine):
        left, top, positions, stack, consts_bar, state_bar = machine
        here = positions[top]
        gap = left - 1 - here
        ahead = jnp.where(top + 2 == rows, gap, (gap + 1) // 2)  # the last row is for the wanted step itself
        state = advance(_read(stack, top), ahead)
        return (
            left,
            top + 1,
            positions.at[top + 1].set(here + ahead),
            _write(stack, top + 1, state),
            consts_bar,
            state_bar,
        )

    def turn(machine):
        left, top, positions, *_ = machine
        return lax.cond(positions[top] == left - 1, pull_step, push_middle, machine)

    state_bar = [instantiate(cts[i - num_consts], avals[i]) for i in want_state]
    consts_bar = [zeros_of(avals[i]) for i in want_consts]
    machine = (count, filled - 1, positions, stack, consts_bar, state_bar)
    *_, consts_bar, state_bar = lax.while_loop(lambda machine: machine[0] > 0, turn, machine)
    bars = dict(zip([*want_consts, *want_state], [*consts_bar, *state_bar]))
    return [None] * step.cond_nconsts + [bars.get(i) for i in range(len(active))]
