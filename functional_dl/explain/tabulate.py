"""A network as a table of its layers: parameters, operations and what is kept, by the paths of its parameters."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import tree_flatten, tree_flatten_with_path, tree_leaves, tree_unflatten

from functional_dl import tree
from functional_dl.aliases import PyTree
from functional_dl.arguments import described
from functional_dl.explain.formulas.facts import residuals
from functional_dl.explain.formulas.ledger import quantity
from functional_dl.explain.record import bodies, sources
from functional_dl.explain.record import recording as recording_of
from functional_dl.explain.record.flops import Counter
from functional_dl.explain.record.recorder import Entry
from functional_dl.explain.record.recording import Recording
from functional_dl.reverse.values import is_differentiable

MODEL = "(model)"  # the row of what stands in no layer
STATEFUL = ("init", "apply", "initial")
COLUMNS = ("layer", "output", "parameters", "forward", "backward", "kept")


@dataclass(frozen=True)
class LayerRow:
    """A layer in the table, without the layers in it, which have rows of their own.

    Fields:
      path: of its parameters, names joined by "/"; "" is the network itself.
      shape: of the last array that it computes, of one step where it stands in a loop; None if it is not applied.
      parameters: how many numbers.
      flops, backward_flops: floating-point operations, as the ledger counts them.
      bytes_kept: residuals kept for the backward pass.
    """

    path: str
    shape: tuple[int, ...] | None
    parameters: int
    flops: int
    backward_flops: int
    bytes_kept: int


@dataclass(frozen=True, repr=False)
class Table:
    """A network's layers, in the order in which they are applied.  Printed, it is a table of plain text.

    Fields:
      rows: the layers.
    """

    rows: tuple[LayerRow, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the parameters are."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Operations of the forward pass."""
        return sum(row.flops for row in self.rows)

    @property
    def backward_flops(self) -> int:
        """Operations of the backward pass, to the parameters."""
        return sum(row.backward_flops for row in self.rows)

    @property
    def bytes_kept(self) -> int:
        """Bytes kept from the forward for the backward pass."""
        return sum(row.bytes_kept for row in self.rows)

    def _cells(self) -> list[tuple[str, ...]]:
        lines = [
            (
                row.path or MODEL,
                "" if row.shape is None else str(row.shape),
                f"{row.parameters:,}",
                quantity(row.flops),
                quantity(row.backward_flops),
                quantity(row.bytes_kept, "B"),
            )
            for row in self.rows
        ]
        total = quantity(self.flops), quantity(self.backward_flops), quantity(self.bytes_kept, "B")
        return [COLUMNS, *lines, ("total", "", f"{self.parameters:,}", *total)]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]

        def aligned(line):
            padded = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))]
            return "  ".join(padded)

        head, *rows, total = map(aligned, cells)
        rule = "-" * len(head)
        return "\n".join(line.rstrip() for line in (head, rule, *rows, rule, total))

    def __repr__(self) -> str:
        return (
            f"Table({len(self.rows)} layers, {self.parameters:,} parameters, {quantity(self.flops)} flops forward, "
            f"{quantity(self.backward_flops)} backward, {quantity(self.bytes_kept, 'B')} kept; print it)"
        )

    def _repr_html_(self) -> str:
        """The table for notebooks."""
        align = ["left", "left", *["right"] * 4]

        def line(cells, tag):
            shown = (f'<{tag} style="text-align: {a}">{html.escape(c)}</{tag}>' for c, a in zip(cells, align))
            return f"<tr>{''.join(shown)}</tr>"

        head, *rows, total = self._cells()
        body = "".join(line(cells, "td") for cells in rows)
        ends = f"<thead>{line(head, 'th')}</thead>", f"<tfoot>{line(total, 'th')}</tfoot>"
        return f"<table>{ends[0]}<tbody>{body}</tbody>{ends[1]}</table>"


def tabulate(
    model: Sequence[Callable[..., Any]],
    *inputs: PyTree,
    params: PyTree | None = None,
    carry: PyTree | None = None,
    **call: Any,
) -> Table:
    """The layers of a network, with their parameters and what value and gradient cost.

    Nothing is computed: init and apply are traced with shapes.  Equations belong to the layer whose scope they stand
    in (jax.named_scope, which the library's networks enter under the paths of their parameters), parameters to the
    layer of the longest path that begins theirs.  Backward is the pass from the output to the parameters.  A loop's
    layers are counted once for each step; what the loop itself costs (cotangents that add up from step to step) and
    keeps stands in the row of the layer that it is in, and so do the layers of a branch.

        print(explain.tabulate(models.mlp((784, 100, 10)), jnp.ones((32, 784))))

    Args:
      model: (init, apply) with init(key) -> params and apply(params, *inputs, ...) -> output, further fields aside; of
        exactly the fields init, apply, initial, it carries something from call to call:
        apply(params, carry, *inputs, ...) -> (carry, output).
      *inputs: arrays, or their shapes (jax.ShapeDtypeStruct).
      params: whose shapes count; those of init if not given.
      carry: of a model that has one; initial() if not given.
      **call: what else apply takes by name, as key=, deterministic=.
    Returns:
      Table; its rows sum to the number of parameters and to the totals of the ledger of apply by its params.
    Raises:
      TypeError: model is no (init, apply).  Whatever init and apply raise.
    Numerics: counts are exact, by the rules of the ledger: functions that XLA books as transcendental are none; the
      body of a while_loop counts once, a cond as its most expensive branch.  Kept is what a compiled program keeps.
    Example:
      >>> table = explain.tabulate(models.mlp((784, 100, 10)), jnp.ones((32, 784)))
      >>> [row.parameters for row in table.rows], table.parameters
      ([78500, 1010], 79510)
    """
    if not isinstance(model, tuple | list) or len(model) < 2 or not all(callable(f) for f in model[:2]):
        raise TypeError(f"model: expected a pair (init, apply) of functions, got {described(model)}")
    init, apply = model[0], model[1]
    stateful = carry is not None or getattr(model, "_fields", ()) == STATEFUL
    params = jax.eval_shape(init, jax.random.key(0)) if params is None else params
    if stateful and carry is None:
        carry = jax.eval_shape(model[2])
    count = _Count()

    def run(params, carry, inputs):
        def output(params):
            return apply(params, carry, *inputs, **call)[1] if stateful else apply(params, *inputs, **call)

        count.program(output, params)

    jax.eval_shape(run, params, carry, inputs)
    return Table(count.rows(params))


class _Count:
    """Adds up what a network's equations cost, by layer path."""

    def __init__(self) -> None:
        self.flops = Counter()
        self.shapes: dict[str, tuple[int, ...]] = {}
        # flops, backward flops and bytes kept by path, in the order of the equations
        self.spent: dict[str, list[int]] = {}

    def program(self, fun: Callable[..., Any], params: PyTree) -> None:
        """Counts fun and its cotangents of params."""
        outer = len(sources.scopes())
        leaves, structure = tree_flatten(params)
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        active = [is_differentiable(jax.typeof(leaf)) for leaf in leaves]

        def flat(*leaves):
            return [jnp.asarray(y) for y in tree_leaves(fun(tree_unflatten(structure, leaves)))]

        outs, recording = recording_of.run(flat, leaves, active, flat.__code__)
        cts = [jnp.ones_like(y) if is_differentiable(jax.typeof(y)) else None for y in outs]
        self.recording(recording, cts, (), outer, 1)
        for index, kept in residuals(recording)[1].items():
            self.spend(_layer(recording.recorder.entries[index], (), outer), 0, 0, kept)
        if outs:
            self.shapes[""] = tuple(outs[-1].shape)

    def recording(
        self, recording: Recording, cts: Sequence[Any], outside: tuple[str, ...], outer: int, trips: int
    ) -> tuple[int, int]:
        """Counts a program that runs so many times; gives its operations of all runs, forward and backward.

        Args:
          cts: cotangents of its outputs.
          outside: the layer that it is in, as names from the outermost to this.
          outer: how many scopes its equations name that are around the network.
        """
        recording_of.sweep(recording, cts)
        total = (0, 0)
        for entry in recording.recorder.entries:
            layer = _layer(entry, outside, outer)
            spent = trips * self.flops.of(entry), trips * recording.back_flops.get(entry.index, 0)
            total = total[0] + spent[0], total[1] + spent[1]
            self.spend(layer, *spent)
            out_cts = [None if slot is None else recording.cts.get(slot) for slot in entry.out_slots]
            inner = None if entry.primitive.name == "while" else bodies.body_of(entry, out_cts)
            if inner is not None:
                body = recording_of.run_jaxpr(inner.jaxpr, inner.values, inner.active)
                of_body = self.recording(body, inner.cts, layer, 0, trips * inner.trips)
                self.spend(layer, -of_body[0], -of_body[1])  # what is left is the loop's own
            for depth in range(len(layer) + 1):
                self.shapes["/".join(layer[:depth])] = tuple(getattr(entry.outs[-1], "shape", ())) if entry.outs else ()
        return total

    def spend(self, layer: Sequence[str], forward: int, backward: int, kept: int = 0) -> None:
        path = "/".join(layer)
        before = self.spent.setdefault(path, [0, 0, 0])
        self.spent[path] = [a + b for a, b in zip(before, (forward, backward, kept))]

    def rows(self, params: PyTree) -> tuple[LayerRow, ...]:
        """The layers that have parameters or cost anything; what stands in no layer is the last row."""
        numbers: dict[str, int] = {}
        for path, leaf in tree_flatten_with_path(params)[0]:
            *layer, _ = tree.path_name(path).split("/")
            begun = ["/".join(layer[:depth]) for depth in range(len(layer), 0, -1)]
            home = next((path for path in begun if path in self.spent), "/".join(layer))
            numbers[home] = numbers.get(home, 0) + tree.size(leaf)
        paths = sorted(dict.fromkeys([*self.spent, *numbers]), key=lambda path: path == "")
        found = [
            LayerRow(path, self.shapes.get(path), numbers.get(path, 0), *self.spent.get(path, (0, 0, 0)))
            for path in paths
        ]
        return tuple(row for row in found if row.parameters or row.flops or row.backward_flops or row.bytes_kept)


def _layer(entry: Entry, outside: tuple[str, ...], outer: int) -> tuple[str, ...]:
    """The scopes around an equation, from the outermost in the network."""
    return (*outside, *entry.where.scopes[outer:])
