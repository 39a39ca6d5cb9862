"""The forward and backward pass as a Python module.

Of the recorded program what the results do not need is dropped; each equation left is printed as a line over jax.numpy
and jax.lax, under a comment that names its step.
"""

from __future__ import annotations

import base64
import re
import textwrap
import zlib
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal
from jax.tree_util import (
    tree_flatten_with_path,
    tree_unflatten,
)

from functional_dl.explain.explanation import Explanation
from functional_dl.explain.formulas.naming import RESERVED, identifier
from functional_dl.explain.source.literals import Source, display, dtype_text, nested, reached, show
from functional_dl.explain.source.printer import Block, Hint, Names, Printer
from functional_dl.explain.source.source_layout import lay_out
from functional_dl.jaxprs import equations, open_jaxpr

FEW = 64  # numbers: a constant of no more is written out


def render(explanation: Explanation, line_length: int = 120) -> str:
    """The module's text.

    Raises:
      NotImplementedError: an operation that no printer knows, by name.
      TypeError: the function takes Python decisions on values, which a text for all values cannot.
    """
    if explanation.recipe.traced is None:
        raise TypeError(
            "to_python: the function decides in Python on the value of an array; write the decision as lax.cond, "
            "lax.while_loop or jnp.where to have it in the text"
        )
    return _Module(explanation, line_length).text()


class _Module:
    """The text, piece by piece."""

    def __init__(self, explanation: Explanation, width: int) -> None:
        self.e, self.recipe, self.width = explanation, explanation.recipe, width
        self.values, self.steps = explanation.values, {step.index: step for step in explanation.steps}
        self.paths, self.in_tree = tree_flatten_with_path(self.recipe.primals)
        self.traced = self.recipe.traced
        self.jaxpr, self.consts = open_jaxpr(self.traced.program)
        self.arguments = self.argument_names()
        self.names = Names([*RESERVED, "np", "zlib", "base64", *self.arguments])
        self.constants: list[str] = []
        self.held: dict[int, str] = {}
        self.kept: list[Any] = []  # what `held` knows by identity
        self.scope = ""

    def argument_names(self) -> list[str]:
        labels: dict[int, str] = {}
        for number, (path, _) in zip(self.e.inputs, self.paths):
            labels.setdefault(path[0].idx, identifier(self.values[number].label.split("/")[0]))
        names: list[str] = []
        for i in range(len(self.recipe.primals)):
            name = labels.get(i, f"argument_{i}")
            while name in names or name in RESERVED:
                name += "_"
            names.append(name)
        return names

    def text(self) -> str:
        body = Block()
        printer = Printer(self.names, self.variable_names(), self.note)
        printer.constant = self.constant  # type: ignore[method-assign]
        printer.hint = self.hint
        leaf_names = self.unpack(body)
        ct_names = self.cotangent_names(body)
        consts = [self.constant(value) for value in self.consts]
        wanted = [*self.traced.outs, *self.traced.bars]
        arguments = [*leaf_names, *ct_names]
        results = printer.program(self.jaxpr, consts, arguments, body, outermost=True, outvars=wanted)
        self.scope = ""
        self.finish(body, results)
        lines = self.head(printer)
        lines += [f"def value_and_vjp({', '.join([*self.arguments, 'ct'])}):", *self.docstring()]
        lines += _lines(body, 4, self.width)
        return "\n".join(lines) + "\n"

    def head(self, printer: Printer) -> list[str]:
        lines = [f'"""Value and cotangents of {self.e.name}: forward pass, then backward pass, step by step."""', ""]
        code = "\n".join(self.constants)
        if "zlib." in code:
            lines += ["import base64", "import zlib", ""]
        lines += ["import jax", "import jax.numpy as jnp"]
        lines += ["import numpy as np"] if "np." in code.replace("jnp.", "") else []
        lines += ["from jax import lax", *sorted(printer.imports), ""]
        if self.constants:
            lines += [line for constant in self.constants for line in lay_out(constant, 0, self.width)]
            lines.append("")
        return [*lines, ""]

    def docstring(self) -> list[str]:
        wanted = ", ".join(self.arguments[i] for i in self.recipe.argnums)
        call = f"{self.e.name}({', '.join(self.arguments)})"
        text = f"Returns {call} and the cotangents of {wanted}, given ct, the result's."
        return textwrap.wrap(f'"""{text}"""', self.width, initial_indent="    ", subsequent_indent="    ")

    # --- names --------------------------------------------------------------------------------------------------

    def variable_names(self) -> dict[Any, Any]:
        """Variables of the jaxpr -> names."""
        known: dict = {}
        traced, names = self.traced, {n: name.name for n, name in self.recipe.names.items()}
        of_slot: dict[int, str] = {}
        for number, slot in self.recipe.slots.items():
            of_slot.setdefault(slot, names[number])

        def enter(var, name, ending=""):
            if name and var is not None and not isinstance(var, Literal):
                known.setdefault(var, f"{name}{ending}")

        for number, var in traced.values.items():
            enter(var, names[number])
        for slot, var in traced.cts.items():
            enter(var, of_slot.get(slot), "_bar")
        for number, var in zip([n for n, a in zip(self.e.inputs, self.recipe.active) if a], traced.bars):
            enter(var, names[number], "_bar")
        for slot, terms in traced.terms.items():
            for count, var in enumerate(terms):
                enter(var, of_slot.get(slot), f"_bar_{count + 1}")
        for eqn in equations(self.jaxpr):
            kind, _, slot = (_scope(eqn) or "").partition("_")
            if kind == "sum" and len(eqn.outvars) == 1:
                enter(eqn.outvars[0], of_slot.get(int(slot)), "_bar_sum")
        return known

    def note(self, block: Block, eqn: Any) -> None:
        """A comment where another step begins."""
        scope = _scope(eqn)
        if scope is None or scope == self.scope:
            return
        kind, _, number = scope.partition("_")
        if not self.scope.startswith("back") and kind == "back" and not self.scope.startswith("sum"):
            block.items.append("")
            block.comment("The backward pass.")
        self.scope = scope
        if kind == "sum":
            return
        step = self.steps.get(int(number))
        if step is None:
            return
        place = f"  [{step.source[0]}]" if step.source else ""
        words = "step" if kind == "step" else "pullback of step"
        block.comment(_fitting(f"{words} {step.index}: {step.title}{place}", self.width - 6))

    def hint(self) -> Hint | None:
        """What the loop of the present step calls its values, on the way forward."""
        if not self.scope.startswith("step_"):
            return None
        step = self.steps.get(int(self.scope.removeprefix("step_")))
        if step is None or not step.arguments:
            return None
        names = tuple(self.values[n].name for n in step.arguments)
        return Hint(names, tuple((s.primitive, tuple(self.values[n].name for n in s.outputs)) for s in step.body))

    # --- arguments and results ----------------------------------------------------------------------------------

    def unpack(self, body: Block) -> list[str]:
        """Lines that take the arguments' leaves out, and the leaves' names."""
        names = []
        taken: dict[int, int] = {}  # leaves of each argument so far
        for number, (path, _) in zip(self.e.inputs, self.paths):
            n = path[0].idx
            leaf = taken[n] = taken.get(n, -1) + 1
            if len(path) == 1:
                names.append(self.arguments[n])
                continue
            name = self.names.new(self.values[number].name)
            body.add(f"{name} = {reached(self.arguments[n], self.recipe.primals[n], path[1:], leaf)}")
            names.append(name)
        return names

    def cotangent_names(self, body: Block) -> list[str]:
        paths = tree_flatten_with_path(self.recipe.ct)[0]
        if len(paths) == 1 and not paths[0][0]:
            return ["ct"]
        names = []
        for number, (path, _) in enumerate(paths):
            name = self.names.new("ct_out")
            body.add(f"{name} = {reached('ct', self.recipe.ct, path, number)}")
            names.append(name)
        return names

    def finish(self, body: Block, results: list[str]) -> None:
        count = len(self.traced.outs)
        outs, bars = results[:count], iter(results[count:])
        tree = self.recipe.out_tree
        body.items.append("")
        body.add(f"out = {display(tree_unflatten(tree, [Source(t) for t in outs]), 'out')}")
        per_leaf = [Source(next(bars)) if a else None for a in self.recipe.active]
        chosen = tree_unflatten(self.in_tree, [t if t is not None else Source("None") for t in per_leaf])
        parts = [display(chosen[i], self.arguments[i]) for i in self.recipe.argnums]
        body.add(f"cts = ({', '.join(parts)},)" if len(parts) == 1 else f"cts = ({', '.join(parts)})")
        body.add("return out, cts")

    def constant(self, value: Any) -> str:
        """The name of an array that the function closes over, written at the head of the module."""
        known = self.held.get(id(value))
        if known is not None:
            return known
        array = np.asarray(value)
        if array.dtype == jax.float0:
            return f"np.zeros({show(array.shape)}, jax.float0)"
        name = self.names.new("CONSTANT")
        self.held[id(value)] = name
        self.kept.append(value)
        dtype = dtype_text(array.dtype)
        if array.size == 0:
            self.constants.append(f"{name} = jnp.zeros({show(array.shape)}, {dtype})")
        elif array.size <= FEW:
            self.constants.append(f"{name} = jnp.array({nested(array)}, {dtype})")
        else:
            packed = base64.b85encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
            data = f'zlib.decompress(base64.b85decode("{packed}"))'
            self.constants.append(f"{name} = jnp.asarray(np.frombuffer({data}, {dtype}).reshape({show(array.shape)}))")
        return name


def _scope(eqn) -> str | None:
    for part in str(eqn.source_info.name_stack).split("/"):
        if re.fullmatch(r"(step|back|sum)_\d+", part):
            return part
    return None


def _fitting(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _lines(block: Block, indent: int, width: int) -> list[str]:
    """The block's lines; an inner function has an empty line before and after it."""
    lines: list[str] = []
    previous = None
    for item in block.items:
        after_function = isinstance(previous, tuple)
        if isinstance(item, tuple):
            head, inner = item
            start = len(lines)
            while start and lines[start - 1].strip().startswith("#"):
                start -= 1
            if previous is not None and start and lines[start - 1] != "":
                lines.insert(start, "")
            lines += [" " * indent + head, *_lines(inner, indent + 4, width)]
        elif item == "":
            if lines and lines[-1] != "":
                lines.append("")
        else:
            if after_function and lines[-1] != "":
                lines.append("")
            lines += lay_out(item, indent, width) if not item.startswith("#") else [" " * indent + item]
        previous = item
    return lines
