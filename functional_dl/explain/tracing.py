"""The jaxpr of forward and backward pass together, and what its variables are."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import (
    tree_flatten,
    tree_flatten_with_path,
    tree_leaves,
    tree_unflatten,
)

from functional_dl.explain import backward
from functional_dl.explain import recording as recording_of
from functional_dl.jaxprs import open_jaxpr
from functional_dl.reverse.values import instantiate, is_differentiable, is_reference


class Plan:
    """What is differentiated: trees and leaves of a recipe."""

    paths: Any
    in_tree: Any
    leaves: Any
    active: list[bool]
    cts: Any

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe
        self.paths, self.in_tree = tree_flatten_with_path(recipe.primals)
        leaves = [leaf for _, leaf in self.paths]
        self.leaves = [x if hasattr(x, "dtype") else jnp.asarray(x) for x in leaves]
        self.active = [
            path[0].idx in recipe.argnums and is_differentiable(jax.typeof(x))
            for (path, _), x in zip(self.paths, self.leaves)
        ]
        self.cts = tree_leaves(recipe.ct)

    def run(self, leaves: Sequence[Any], cts: Sequence[Any], scoped: bool = False, pulled: Any = None) -> Any:
        """Outputs' leaves, cotangents of the active leaves, and the recording."""
        store: dict = {}

        def flat(*xs):
            out_leaves, store["tree"] = tree_flatten(self.recipe.fun(*tree_unflatten(self.in_tree, xs)))
            return out_leaves

        outs, recording = recording_of.run(flat, list(leaves), self.active, flat.__code__, scoped)
        given = iter(cts)
        per_out = [next(given) if is_differentiable(jax.typeof(y)) else None for y in outs]
        bars = backward.sweep(recording, per_out, pulled, scoped)
        bars = [instantiate(bar, jax.typeof(x)) for bar, x, a in zip(bars, leaves, self.active) if a]
        return outs, bars, recording, store["tree"]


def value_and_vjp_of(recipe: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function (leaves, cotangents) -> (outputs' leaves, cotangents), and its arguments."""
    plan = Plan(recipe)

    def value_and_vjp(leaves, cts):
        outs, bars, _, _ = plan.run(leaves, cts)
        return outs, bars

    return value_and_vjp, (plan.leaves, plan.cts)


class Traced:
    """The jaxpr of forward and backward pass, and what its variables are."""

    closed: Any
    marks: Any
    consts: Sequence[Any]
    outs: Any
    bars: Any
    made: Any
    found: Any
    terms: Any

    def __init__(self, plan: Plan) -> None:
        marks: dict = {}

        def both(leaves, cts):
            terms: list = []

            def pulled(index, equation, out_cts, bars):
                terms.extend((s, bar) for s, bar in zip(equation.inputs, bars) if s is not None and bar is not None)

            outs, bars, recording, marks["tree"] = plan.run(leaves, cts, True, pulled)
            marks["entries"] = [signature(e) for e in recording.recorder.entries]
            outputs = [
                ((e.index, j), y)
                for e in recording.recorder.entries
                for j, y in enumerate(e.outs)
                if not is_reference(jax.typeof(y))
            ]
            marks["steps"] = [key for key, _ in outputs]
            made = [y for _, y in outputs]
            slots = {n: s for n, s in recording.recorder.slot_of.items()}
            wanted = [(e.index, j) for e in recording.recorder.entries for j in range(len(e.out_ids))]
            found = [
                (key, recording.cts[slots[n]])
                for key, n in zip(wanted, [n for e in recording.recorder.entries for n in e.out_ids])
                if n in slots and slots[n] in recording.cts
            ]
            marks["cts"] = [key for key, _ in found]
            of_slot = {
                slots[n]: key
                for key, n in zip(wanted, [n for e in recording.recorder.entries for n in e.out_ids])
                if n in slots
            }
            of_slot |= {s: ("input", i) for i, n in enumerate(recording.inputs) if (s := slots.get(n)) is not None}
            named = [(of_slot[s], bar) for s, bar in terms if s in of_slot]
            marks["terms"] = [key for key, _ in named]
            marks["sums"] = {s: key for s, key in of_slot.items()}
            extra = [made, [ct for _, ct in found], [bar for _, bar in named]]
            marks["counts"] = [len(outs), len(bars), *[len(part) for part in extra]]
            return outs, bars, extra

        self.closed = jax.make_jaxpr(both)(plan.leaves, plan.cts)
        self.marks = marks
        jaxpr, self.consts = open_jaxpr(self.closed)
        self.jaxpr = jaxpr
        parts, start = [], 0
        for count in marks["counts"]:
            parts.append(list(jaxpr.outvars[start : start + count]))
            start += count
        self.outs, self.bars, self.made, self.found, self.terms = parts


def signature(entry: Any) -> tuple[str, str]:
    """What tells an entry in two runs of one program."""
    return entry.primitive.name, entry.frames[0].place if entry.frames else ""


def matched(steps: Sequence[Any], entries: Sequence[Any]) -> dict[int, Any]:
    """Entry of the traced run -> step: the runs may differ in conversions that the one needs and the other not."""
    known = [(step.primitive, step.source[0] if step.source else "") for step in steps]
    matcher = difflib.SequenceMatcher(None, list(entries), known, autojunk=False)
    return {block.a + i: steps[block.b + i] for block in matcher.get_matching_blocks() for i in range(block.size)}
