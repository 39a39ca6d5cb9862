"""A scan that keeps few states and runs the steps between them again: binomial checkpointing.

With s slots (the initial state's among them) and each step run forward at most r times in the backward pass,
beta(s, r) = (s + r over s) steps can be reversed; so l steps take the least r with beta(s, r) >= l, and the steps run
forward again number

    extra(l, s) = (r - 1) l - beta(s + 1, r - 1) + 1.

Source: Griewank, Achieving logarithmic growth of temporal and spatial complexity in reverse automatic differentiation,
Optim. Methods Softw. 1 (1992) 35; Griewank and Walther, Algorithm 799: revolve, ACM TOMS 26 (2000) 19.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import tree_flatten, tree_leaves, tree_map, tree_unflatten

from functional_dl import arguments
from functional_dl.aliases import PyTree
from functional_dl.reverse.api import vjp
from functional_dl.reverse.values import is_differentiable, reused, zeros_of
from functional_dl.sharding import full, row_type

Carry = TypeVar("Carry")


class CheckpointedScan:
    r"""`jax.lax.scan`, differentiated with `slots` states kept instead of one for each step.

    (c_{t+1}, y_t) = f(c_t, x_t);  value and gradient are lax.scan's.  Backward, the states are recomputed from those
    kept, on the binomial schedule, which is optimal for that number of slots: `checkpointed_scan.extra_steps(length,
    slots)` counts the steps that are run forward again (besides the one that each step's pullback does itself).

    Args:
      f: (carry, x) -> (carry, y), on pytrees; may close over what is differentiated.
      init: carry at the start.
      xs: pytree of arrays whose first axis is scanned over, or None.
      length: number of steps, needed where xs is None.
      slots: states kept at a time, at least 1.
    Returns:
      (carry, ys), as lax.scan.
    Raises:
      ValueError: slots or length is too small, or lengths differ.
    Numerics: a step that is run again gives the same bits only if XLA compiles it the same way.
    """

    def __call__(
        self,
        f: Callable[[Carry, Any], tuple[Carry, Any]],
        init: Carry,
        xs: PyTree = None,
        length: int | None = None,
        *,
        slots: int,
    ) -> tuple[Carry, PyTree]:
        arguments.function("f", f)
        slots = arguments.integer("slots", slots, 1)
        leaves = tree_leaves(xs)
        lengths = {leaf.shape[0] for leaf in leaves} | ({length} if length is not None else set())
        if len(lengths) != 1:
            raise ValueError(
                f"checkpointed_scan: expected one length of xs and `length`, got {sorted(lengths) or 'none'}."
            )
        length = arguments.integer("length", lengths.pop(), 0)
        first = tree_map(lambda x: full(row_type(jax.typeof(x)), 0), xs)
        step, consts = jax.closure_convert(f, init, first)
        if length == 0:
            return lax.scan(lambda c, x: step(c, x, *consts), init, xs, length)
        flat, tree = tree_flatten((tuple(consts), init, xs))
        return _scan(_Scan(step, tree, length, slots), [jnp.asarray(x) for x in flat])

    @staticmethod
    def extra_steps(length: int, slots: int) -> int:
        """How many steps the backward sweep over `length` steps runs forward again: the least possible with `slots`.

        Raises:
          ValueError: length is less than 1, or slots is.
        """
        length, slots = arguments.integer("length", length, 1), arguments.integer("slots", slots, 1)
        r = _repeats(length, slots)
        return (r - 1) * length - beta(slots + 1, r - 1) + 1 if r else 0


checkpointed_scan = CheckpointedScan()


def beta(slots: int, repeats: int) -> int:
    """Steps that can be reversed with so many slots, no step being run forward more than so often."""
    return math.comb(slots + repeats, slots) if repeats >= 0 else 0


def _repeats(length: int, slots: int) -> int:
    r = 0
    while beta(slots, r) < length:
        r += 1
    return r


def schedule(length: int, slots: int) -> list[tuple[int, int, int, int]]:
    """The backward pass as moves (source, place, steps, target): `steps` steps from the state in slot `source`,
    which is that before step `place`, to slot `target`; or, with 0 steps, the pullback of step `place` from `source`.

    The forward pass (length - 1 steps to the first pullback) is the head of the list.  Slot `slots` is a spare one.
    """
    moves: list[tuple[int, int, int, int]] = []
    todo = [(0, length, 0)]  # (start, end, slot that holds the state before start), the last one first
    while todo:
        start, end, held = todo.pop()
        free = slots - held  # slots from `held` on, itself included
        if end - start == 1:
            moves.append((held, start, 0, held))
        elif free == 1:
            for t in reversed(range(start, end)):
                if t > start:
                    moves.append((held, start, t - start, slots))
                moves.append((slots if t > start else held, t, 0, held))
        else:
            middle = start + _split(end - start, free)
            moves.append((held, start, middle - start, held + 1))
            todo += [(start, middle, held), (middle, end, held + 1)]
    return moves


def _split(length: int, slots: int) -> int:
    """How many steps to run before the next state is kept: both parts then need no step run more than r times."""
    r = _repeats(length, slots)
    least = max(1, length - beta(slots - 1, r), beta(slots, r - 2))
    most = min(length - 1, beta(slots, r - 1), length - beta(slots - 1, r - 1))
    return max(least, min(most, least))


class _Scan:
    """The static part of a scan; compared by identity."""

    def __init__(self, step: Any, tree: Any, length: Any, slots: Any) -> None:
        self.step, self.tree, self.length, self.slots = step, tree, length, slots
        moves = schedule(length, slots)
        forward = list(itertools.takewhile(lambda move: move[2] > 0, moves))
        self.moves = np.array(moves[len(forward) :], np.int32)  # of the backward pass
        self.targets = np.full(length, slots, np.int32)  # the row for the state before each step, on the way forward
        self.targets[0] = 0
        for _, start, steps, target in forward:
            self.targets[start + steps] = target

    def advance(self, consts: Any, carry: Any, xs: Any, t: Any) -> Any:
        x = tree_map(lambda x: _row(x, t), xs)
        return self.step(carry, x, *consts)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(scan, flat):
    consts, init, xs = tree_unflatten(scan.tree, flat)
    return lax.scan(lambda c, x: scan.step(c, x, *consts), init, xs, scan.length)


def _scan_forward(scan, flat):
    """The scan, as one loop in which each step writes the state before it: to its place on the schedule, or to the last
    row, which is free.  (Stretches of steps, each a loop, would hold their last states beside the stack.)"""
    consts, init, xs = tree_unflatten(scan.tree, flat)
    stack = tree_map(lambda x: lax.broadcast(x, (scan.slots + 1,)), init)

    def step(state, x):
        carry, stack = state
        target, x = x
        stack = tree_map(lambda rows, x: _with_row(rows, x, target), stack, carry)
        carry, y = scan.step(carry, x, *consts)
        return (carry, stack), y

    (carry, stack), ys = lax.scan(step, (init, stack), (scan.targets, xs), scan.length)
    return (carry, ys), (flat, stack)


def _scan_backward(scan, residuals, ct):
    """The moves of the schedule, one after the other, by one compiled loop over their table."""
    flat, stack = residuals
    carry_bar, ys_bar = ct
    consts, _, xs = tree_unflatten(scan.tree, flat)
    consts_bar, xs_bar = _zeros(consts), _zeros(xs)
    carry_bar = _floating(carry_bar)

    def pull(state, consts_bar, carry_bar, place):
        x = tree_map(lambda x: _row(x, place), xs)

        def of(consts_f, state_f, x_f):
            after, y = scan.step(_whole(state_f, state), _whole(x_f, x), *_whole(consts_f, consts))
            return _floating(after), _floating(y)

        pullback = vjp(of, _floating(consts), _floating(state), _floating(x))[1]
        y_bar = [_row(b, place) for b in _floating(ys_bar)]
        more, carry_bar, x_bar = pullback((carry_bar, y_bar))
        return [total + bar for total, bar in zip(consts_bar, more)], carry_bar, x_bar

    def turn(machine, move):
        """One move.  What a branch returns is copied: a branch sees one state and one row of xs_bar, and the loop
        writes both back; a pullback's state and a run's row are what they were."""
        stack, consts_bar, carry_bar, xs_bar = machine
        source, place, steps, target = move
        is_pull = steps == 0
        target = jnp.where(is_pull, source, target)
        state = tree_map(lambda rows: _row(rows, source), stack)
        state = lax.fori_loop(0, steps, lambda i, c: scan.advance(consts, c, xs, place + i)[0], state)
        consts_bar, carry_bar, x_bar = lax.cond(
            is_pull,
            lambda state, consts_bar, carry_bar, _: pull(state, consts_bar, carry_bar, place),
            lambda _, *bars: bars,
            state,
            consts_bar,
            carry_bar,
            [_row(rows, place) for rows in xs_bar],
        )
        stack = tree_map(lambda rows, x: _with_row(rows, x, target), stack, state)
        xs_bar = [_with_row(rows, bar, place) for rows, bar in zip(xs_bar, x_bar)]
        return (stack, consts_bar, carry_bar, xs_bar), None

    (_, consts_bar, carry_bar, xs_bar), _ = lax.scan(turn, (stack, consts_bar, carry_bar, xs_bar), scan.moves)
    rest = iter([*consts_bar, *carry_bar, *xs_bar])
    return ([next(rest) if is_differentiable(jax.typeof(x)) else None for x in flat],)


def _row(rows, i):
    return reused(lax.dynamic_index_in_dim(rows, i, 0, keepdims=False))


def _with_row(rows, row, i):
    return lax.dynamic_update_index_in_dim(rows, row, i, 0)


def _floating(tree) -> list[Any]:
    """The floating leaves: those with a cotangent."""
    return [x for x in tree_leaves(tree) if x.dtype != jax.float0 and is_differentiable(jax.typeof(x))]


def _zeros(tree) -> list[Any]:
    return [zeros_of(jax.typeof(x)) for x in _floating(tree)]


def _whole(floating, like):
    """The tree with its floating leaves replaced."""
    leaves, tree = tree_flatten(like)
    rest = iter(floating)
    return tree_unflatten(tree, [next(rest) if is_differentiable(jax.typeof(x)) else x for x in leaves])


_scan.defvjp(_scan_forward, _scan_backward)
