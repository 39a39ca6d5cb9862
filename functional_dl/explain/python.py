"""The forward and backward pass as a Python module.

The function is run again with the hand-written rules, forward and backward, while JAX writes down every operation.
What the results do not need is dropped; each equation left is printed as a line over jax.numpy and jax.lax, under a
comment that names its step.
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

from functional_dl.explain.containers import Text, access, display, nested
from functional_dl.explain.literals import dtype_text, show
from functional_dl.explain.naming import RESERVED, identifier
from functional_dl.explain.printer import Block, Hint, Names, Printer
from functional_dl.explain.source_layout import lay_out
from functional_dl.explain.tracing import Plan, Traced, matched
from functional_dl.jaxprs import equations

FEW = 64  # numbers: a constant of no more is written out


def render(explanation: Any, line_length: int = 120) -> str:
    """The module's text.

    Raises:
      NotImplementedError: an operation that no printer knows, by name.
      TypeError: the function takes Python decisions on values, which a text for all values cannot.
    """
    plan = Plan(explanation.recipe)
    try:
        traced = Traced(plan)
    except jax.errors.ConcretizationTypeError as error:
        raise TypeError(
            "to_python: the function decides in Python on the value of an array; write the decision as lax.cond, "
            f"lax.while_loop or jnp.where to have it in the text ({error.args[0].splitlines()[0]})"
        ) from error
    return _Module(explanation, plan, traced, line_length).text()


class _Module:
    """The text, piece by piece."""

    def __init__(self, explanation: Any, plan: Plan, traced: Traced, width: int) -> None:
        self.e, self.plan, self.traced, self.width = explanation, plan, traced, width
        self.values, self.steps = explanation.values, matched(explanation.steps, traced.marks["entries"])
        self.arguments = self.argument_names()
        self.names = Names([*RESERVED, "np", "zlib", "base64", *self.arguments])
        self.constants: list[str] = []
        self.held: dict[int, str] = {}
        self.scope = ""
        self.imports: set[str] = set()

    def argument_names(self) -> list[str]:
        labels: dict[int, str] = {}
        for number, (path, _) in zip(self.e.inputs, self.plan.paths):
            labels.setdefault(path[0].idx, identifier(self.values[number].label.split("/")[0]))
        names: list[str] = []
        for i in range(len(self.plan.recipe.primals)):
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
        consts = [self.constant(value) for value in self.traced.consts]
        wanted = [*self.traced.outs, *self.traced.bars]
        arguments = [*leaf_names, *ct_names]
        results = printer.program(self.traced.jaxpr, consts, arguments, body, outermost=True, outvars=wanted)
        self.scope = ""
        self.finish(body, results)
        self.imports = printer.imports
        lines = self.head(printer)
        lines += [f"def value_and_vjp({', '.join([*self.arguments, 'ct'])}):", *self.docstring()]
        lines += _lines(body, 4, self.width)
        text = "\n".join(lines) + "\n"
        return text

    def head(self, printer: Printer) -> list[str]:
        lines = [f'"""Value and cotangents of {self.e.name}: forward pass, then backward pass, step by step."""', ""]
        code = "\n".join(self.constants)
        if "zlib." in code:
            lines += ["import base64", "import zlib", ""]
        lines += ["import jax"] if self.uses_jax else []
        lines += ["import jax.numpy as jnp"]
        lines += ["import numpy as np"] if "np." in code.replace("jnp.", "") else []
        lines += ["from jax import lax", *sorted(printer.imports), ""]
        if self.constants:
            lines += [line for constant in self.constants for line in lay_out(constant, 0, self.width)]
            lines.append("")
        return [*lines, ""]

    uses_jax = True

    def docstring(self) -> list[str]:
        wanted = ", ".join(self.arguments[i] for i in self.plan.recipe.argnums)
        call = f"{self.e.name}({', '.join(self.arguments)})"
        text = f"Returns {call} and the cotangents of {wanted}, given ct, the result's."
        return textwrap.wrap(f'"""{text}"""', self.width, initial_indent="    ", subsequent_indent="    ")

    # --- names --------------------------------------------------------------------------------------------------

    def variable_names(self) -> dict[Any, Any]:
        """Variables of the jaxpr -> names."""
        known: dict = {}
        marks = self.traced.marks

        def name_of(key) -> str | None:
            if key[0] == "input":
                return self.values[self.e.inputs[key[1]]].name
            step = self.steps.get(key[0])
            return self.values[step.outputs[key[1]]].name if step is not None and key[1] < len(step.outputs) else None

        for keys, variables, suffix in (
            (marks["steps"], self.traced.made, ""),
            (marks["cts"], self.traced.found, "_bar"),
        ):
            for key, var in zip(keys, variables):
                name = name_of(key)
                if name and not isinstance(var, Literal):
                    known.setdefault(var, f"{name}{suffix}")
        active = [self.values[n].name for n, a in zip(self.e.inputs, self.plan.active) if a]
        for name, var in zip(active, self.traced.bars):
            if not isinstance(var, Literal):
                known.setdefault(var, f"{name}_bar")
        counts: dict = {}
        for key, var in zip(marks["terms"], self.traced.terms):
            name = name_of(key)
            counts[key] = counts.get(key, 0) + 1
            if name and not isinstance(var, Literal):
                known.setdefault(var, f"{name}_bar_{counts[key]}")
        for eqn in equations(self.traced.jaxpr):
            scope = str(eqn.source_info.name_stack).split("/")
            for part in scope:
                if part.startswith("meet_") and len(eqn.outvars) == 1:
                    key = marks["sums"].get(int(part.removeprefix("meet_")))
                    name = name_of(key) if key is not None else None
                    if name:
                        known.setdefault(eqn.outvars[0], f"{name}_bar_sum")
        return known

    def note(self, block: Block, eqn: Any) -> None:
        """A comment where another step begins."""
        scope = _scope(eqn)
        if scope is None or scope == self.scope:
            return
        kind, _, number = scope.partition("_")
        if not self.scope.startswith("back") and kind == "back" and not self.scope.startswith("meet"):
            block.items.append("")
            block.comment("The backward pass.")
        self.scope = scope
        if kind == "meet":
            return
        step = self.steps.get(int(number))
        if step is None:
            return
        place = f"  [{step.source[0]}]" if step.source else ""
        words = "step" if kind == "step" else "back through step"
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
        for number, (path, _) in zip(self.e.inputs, self.plan.paths):
            argument = self.arguments[path[0].idx]
            if len(path) == 1:
                names.append(argument)
                continue
            place = "".join(access(key) for key in path[1:])
            name = self.names.new(self.values[number].name)
            body.add(f"{name} = {argument}{place}")
            names.append(name)
        return names

    def cotangent_names(self, body: Block) -> list[str]:
        paths = tree_flatten_with_path(self.plan.recipe.ct)[0]
        if len(paths) == 1 and not paths[0][0]:
            return ["ct"]
        names = []
        for path, _ in paths:
            name = self.names.new("ct_out")
            body.add(f"{name} = ct{''.join(access(key) for key in path)}")
            names.append(name)
        return names

    def finish(self, body: Block, results: list[str]) -> None:
        count = len(self.traced.outs)
        outs, bars = results[:count], iter(results[count:])
        tree = self.traced.marks["tree"]
        body.items.append("")
        body.add(f"out = {display(tree_unflatten(tree, [Text(t) for t in outs]), 'out')}")
        per_leaf = [Text(next(bars)) if a else None for a in self.plan.active]
        chosen = tree_unflatten(self.plan.in_tree, [t if t is not None else Text("None") for t in per_leaf])
        parts = [display(chosen[i], self.arguments[i]) for i in self.plan.recipe.argnums]
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
        self.kept = [*getattr(self, "kept", []), value]
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
        if re.fullmatch(r"(step|back|meet)_\d+", part):
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
