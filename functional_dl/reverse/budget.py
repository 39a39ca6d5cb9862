"""`reverse.checkpoint(fun, bytes=)`: which values of fun to keep, so that they fit in so many bytes.

The values that the backward sweep of fun reads are all kept at first.  Then one after the other is given up, that one
next which costs the fewest operations for each byte that it frees (nothing, where it is computed again anyway), until
the rest fits.  What is given up is computed again from fun's arguments and what is kept.

fun is traced twice: to choose, and as `jax.checkpoint` of a function that names the chosen values, with the policy that
saves these names.  So JAX's own transformations keep the same values.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.core import Tracer
from jax.tree_util import tree_flatten, tree_unflatten

from functional_dl.jaxprs import PLAIN, bind, called, interpret
from functional_dl.reverse.costs import total_cost
from functional_dl.reverse.residuals import Origin, size_in_bytes
from functional_dl.reverse.rule import rule_of
from functional_dl.reverse.trace import record_jaxpr, saves
from functional_dl.reverse.values import is_differentiable

NAME = "kept by reverse.checkpoint"


def fitted(fun: Callable[..., Any], limit: int, policy: Callable[..., Any] | None, prevent_cse: bool, args: Any) -> Any:
    """fun(*args), of which values of at most `limit` bytes in all are kept for the backward sweep.

    Args:
      policy: of JAX's kind; only what it would save may be kept.
    """
    flat, tree = tree_flatten(args)

    def flat_fun(*flat):
        out, found["tree"] = tree_flatten(fun(*tree_unflatten(tree, flat)))
        return out

    found: dict[str, Any] = {}
    jaxpr = jax.make_jaxpr(flat_fun)(*flat)
    chosen = _choose(jaxpr, flat, limit, policy)

    def named(*flat):
        count = 0

        def apply(eqn, operands):
            nonlocal count
            inner = called(eqn.primitive, eqn.params, PLAIN)
            if inner is not None:
                return interpret(inner, operands, apply)
            outs, first = bind(eqn.primitive, operands, eqn.params), count
            count += len(outs)
            return [checkpoint_name(y, NAME) if first + i in chosen else y for i, y in enumerate(outs)]

        return interpret(jaxpr, flat, apply)

    keep = jax.checkpoint_policies.save_only_these_names(NAME)
    outs = jax.checkpoint(named, prevent_cse=prevent_cse, policy=keep)(*flat)
    return tree_unflatten(found["tree"], outs)


def _choose(jaxpr: Any, flat: Sequence[Any], limit: int, policy: Callable[..., Any] | None) -> set[int]:
    """The numbers of the values to keep: values are numbered in the order in which they are computed."""
    numbers: dict[int, int] = {}
    origins: dict[int, Origin] = {}
    needed: list[Any] = []
    refused: set[int] = set()  # what may not be kept: the policy forbids it, or it is computed again anyway

    def apply(tape, eqn, operands, slots):
        inner = called(eqn.primitive, eqn.params, PLAIN)
        if inner is not None:
            return tape.replay(inner, operands, slots, lambda *args: apply(tape, *args))
        outs, out_slots = tape.apply(eqn.primitive, operands, slots, eqn.params)
        rule = rule_of(eqn.primitive) if any(slot is not None for slot in slots) else None
        again = rule is not None and rule.forward is not None  # it is recorded by running it
        if again:
            needed.extend(operands)
        for i, y in enumerate(outs):
            numbers.setdefault(id(y), len(numbers_of_all))
            numbers_of_all.append(y)
            if any(y is operand for operand in operands):  # handed on: nothing is computed
                continue
            origins.setdefault(id(y), Origin(eqn.primitive, eqn.params, operands, outs, i))
            if again or not saves(policy, eqn, operands):
                refused.add(id(y))
        return outs, out_slots

    numbers_of_all: list[Any] = []  # keeps the values alive, so that no two have one id
    kept: set[int] = set()

    def forward(*flat):
        active = [is_differentiable(jax.typeof(x)) for x in flat]
        _, _, residuals = record_jaxpr(jaxpr, flat, active, apply)
        needed.extend(residuals)
        kept.update(numbers[i] for i in _fit(needed, origins, refused, limit))
        return []

    jax.make_jaxpr(forward)(*flat)
    return kept


def _cost(origin: Origin) -> float:
    """Operations of an equation; of one that the table does not know, as of a series for each entry."""
    known = total_cost(*origin[:4])
    return known or 20.0 * sum(size_in_bytes(y) for y in origin.outs)


def _fit(needed: Iterable[Any], origins: Mapping[int, Origin], refused: set[int], limit: int) -> set[int]:
    """The ids of the values to keep."""
    kept: dict[int, Any] = {}
    again: set[int] = set()  # what is computed again

    def cone(x):
        """The equations by which x is computed from what is kept and what is computed again anyway; its ancestors
        that are computed by them."""
        todo, ids, cost = [x], [], 0.0
        while todo:
            y = todo.pop()
            if id(y) not in origins or id(y) in again or (y is not x and id(y) in kept) or id(y) in seen:
                continue
            seen.add(id(y))
            ids.append(id(y))
            cost += _cost(origins[id(y)])
            todo.extend(v for v in origins[id(y)].operands if isinstance(v, Tracer))
        return ids, cost

    def price(x):
        seen.clear()
        return cone(x)[1] / max(1, size_in_bytes(x))

    seen: set[int] = set()
    todo = list(needed)
    while todo:
        x = todo.pop()
        if id(x) not in origins or id(x) in kept or id(x) in again:
            continue
        if id(x) in refused:
            again.add(id(x))
            todo.extend(origins[id(x)].operands)
        else:
            kept[id(x)] = x
    total = sum(map(size_in_bytes, kept.values()))
    queue = [(price(x), -i, x) for i, x in enumerate(kept.values())]
    heapq.heapify(queue)
    while total > limit:
        _, i, x = heapq.heappop(queue)
        now = price(x)
        if queue and now > queue[0][0]:
            heapq.heappush(queue, (now, i, x))
            continue
        seen.clear()
        again.update(cone(x)[0])
        del kept[id(x)]
        total -= size_in_bytes(x)
    return set(kept)
