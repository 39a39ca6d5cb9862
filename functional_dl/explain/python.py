"""The forward and backward pass as a Python module.

The function is run again with the hand-written rules, forward and backward, while JAX writes down every operation.
What the results do not need is dropped; each equation left is printed as a line over jax.numpy and jax.lax, under a
comment that names its step.
"""

from __future__ import annotations

import base64
import difflib
import re
import textwrap
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.tree_util import (
    DictKey,
    GetAttrKey,
    SequenceKey,
    tree_flatten,
    tree_flatten_with_path,
    tree_leaves,
    tree_unflatten,
)

from functional_dl.explain import backward, program
from functional_dl.explain.naming import RESERVED, identifier
from functional_dl.explain.printer import Block, Hint, Names, Printer, dtype_text, plain, show
from functional_dl.explain.source_layout import lay_out
from functional_dl.reverse.trace import instantiate, is_differentiable, is_reference, open_jaxpr

FEW = 64  # numbers: a constant of no more is written out


class Plan:
    """What is differentiated: trees and leaves of a recipe."""

    def __init__(self, recipe):
        self.recipe = recipe
        self.paths, self.in_tree = tree_flatten_with_path(recipe.primals)
        leaves = [leaf for _, leaf in self.paths]
        self.leaves = [x if hasattr(x, "dtype") else jnp.asarray(x) for x in leaves]
        self.active = [
            path[0].idx in recipe.argnums and is_differentiable(jax.typeof(x))
            for (path, _), x in zip(self.paths, self.leaves)
        ]
        self.cts = tree_leaves(recipe.ct)

    def run(self, leaves: Sequence, cts: Sequence, scoped: bool = False, pulled=None):
        """Outputs' leaves, cotangents of the active leaves, and the recording."""
        store: dict = {}

        def flat(*xs):
            out_leaves, store["tree"] = tree_flatten(self.recipe.fun(*tree_unflatten(self.in_tree, xs)))
            return out_leaves

        outs, recording = program.run(flat, list(leaves), self.active, flat.__code__, scoped)
        given = iter(cts)
        per_out = [next(given) if is_differentiable(jax.typeof(y)) else None for y in outs]
        bars = backward.sweep(recording, per_out, pulled, scoped)
        bars = [instantiate(bar, jax.typeof(x)) for bar, x, a in zip(bars, leaves, self.active) if a]
        return outs, bars, recording, store["tree"]


def value_and_vjp_of(recipe) -> tuple[Callable, tuple]:
    """The function (leaves, cotangents) -> (outputs' leaves, cotangents), and its arguments."""
    plan = Plan(recipe)

    def value_and_vjp(leaves, cts):
        outs, bars, _, _ = plan.run(leaves, cts)
        return outs, bars

    return value_and_vjp, (plan.leaves, plan.cts)


def render(explanation, line_length: int = 120) -> str:
    """The module's text.

    Raises:
      NotImplementedError: an operation that no printer knows, by name.
      TypeError: the function takes Python decisions on values, which a text for all values cannot.
    """
    plan = Plan(explanation.recipe)
    try:
        traced = _Traced(plan)
    except jax.errors.ConcretizationTypeError as error:
        raise TypeError(
            "to_python: the function decides in Python on the value of an array; write the decision as lax.cond, "
            f"lax.while_loop or jnp.where to have it in the text ({error.args[0].splitlines()[0]})"
        ) from error
    return _Module(explanation, plan, traced, line_length).text()


class _Traced:
    """The jaxpr of forward and backward pass, and what its variables are."""

    def __init__(self, plan: Plan):
        marks: dict = {}

        def both(leaves, cts):
            terms: list = []

            def pulled(index, equation, out_cts, bars):
                terms.extend((s, bar) for s, bar in zip(equation.inputs, bars) if s is not None and bar is not None)

            outs, bars, recording, marks["tree"] = plan.run(leaves, cts, True, pulled)
            marks["entries"] = [signature(e) for e in recording.notebook.entries]
            outputs = [
                ((e.index, j), y)
                for e in recording.notebook.entries
                for j, y in enumerate(e.outs)
                if not is_reference(jax.typeof(y))
            ]
            marks["steps"] = [key for key, _ in outputs]
            made = [y for _, y in outputs]
            slots = {n: s for n, s in recording.notebook.slot_of.items()}
            wanted = [(e.index, j) for e in recording.notebook.entries for j in range(len(e.out_ids))]
            found = [
                (key, recording.cts[slots[n]])
                for key, n in zip(wanted, [n for e in recording.notebook.entries for n in e.out_ids])
                if n in slots and slots[n] in recording.cts
            ]
            marks["cts"] = [key for key, _ in found]
            of_slot = {
                slots[n]: key
                for key, n in zip(wanted, [n for e in recording.notebook.entries for n in e.out_ids])
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


def signature(entry) -> tuple[str, str]:
    """What tells an entry in two runs of one program."""
    return entry.primitive.name, entry.frames[0].place if entry.frames else ""


def matched(steps: Sequence, entries: Sequence) -> dict[int, Any]:
    """Entry of the traced run -> step: the runs may differ in conversions that the one needs and the other not."""
    known = [(step.primitive, step.source[0] if step.source else "") for step in steps]
    matcher = difflib.SequenceMatcher(None, list(entries), known, autojunk=False)
    return {block.a + i: steps[block.b + i] for block in matcher.get_matching_blocks() for i in range(block.size)}


class _Module:
    """The text, piece by piece."""

    def __init__(self, explanation, plan: Plan, traced: _Traced, width: int):
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
            label = self.values[number].label
            base = identifier(re.match(r"\w*(\[\d+\](?=$|\[|\.))?", label).group(0) or label)  # type: ignore[union-attr]
            rest = len(path) - 1
            word = label if rest == 0 else re.match(r"\w+", label).group(0)  # type: ignore[union-attr]
            labels.setdefault(path[0].idx, identifier(word if rest else base))
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
        jaxpr = _Pruned(self.traced.jaxpr, [*self.traced.outs, *self.traced.bars])
        results = printer.program(jaxpr, consts, [*leaf_names, *ct_names], body, outermost=True)
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

    def variable_names(self) -> dict:
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
        for eqn in self.traced.jaxpr.eqns:
            scope = str(eqn.source_info.name_stack).split("/")
            for part in scope:
                if part.startswith("meet_") and len(eqn.outvars) == 1:
                    key = marks["sums"].get(int(part.removeprefix("meet_")))
                    name = name_of(key) if key is not None else None
                    if name:
                        known.setdefault(eqn.outvars[0], f"{name}_bar_sum")
        return known

    def note(self, block: Block, eqn) -> None:
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
            access = "".join(_access(key) for key in path[1:])
            name = self.names.new(self.values[number].name)
            body.add(f"{name} = {argument}{access}")
            names.append(name)
        return names

    def cotangent_names(self, body: Block) -> list[str]:
        paths = tree_flatten_with_path(self.plan.recipe.ct)[0]
        if len(paths) == 1 and not paths[0][0]:
            return ["ct"]
        names = []
        for path, _ in paths:
            name = self.names.new("ct_out")
            body.add(f"{name} = ct{''.join(_access(key) for key in path)}")
            names.append(name)
        return names

    def finish(self, body: Block, results: list[str]) -> None:
        count = len(self.traced.outs)
        outs, bars = results[:count], iter(results[count:])
        tree = self.traced.marks["tree"]
        body.items.append("")
        body.add(f"out = {_display(tree_unflatten(tree, [_Text(t) for t in outs]), 'out')}")
        per_leaf = [_Text(next(bars)) if a else None for a in self.plan.active]
        chosen = tree_unflatten(self.plan.in_tree, [t if t is not None else _Text("None") for t in per_leaf])
        parts = [_display(chosen[i], self.arguments[i]) for i in self.plan.recipe.argnums]
        body.add(f"cts = ({', '.join(parts)},)" if len(parts) == 1 else f"cts = ({', '.join(parts)})")
        body.add("return out, cts")

    def constant(self, value) -> str:
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
            self.constants.append(f"{name} = jnp.array({_nested(array)}, {dtype})")
        else:
            packed = base64.b85encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
            data = f'zlib.decompress(base64.b85decode("{packed}"))'
            self.constants.append(f"{name} = jnp.asarray(np.frombuffer({data}, {dtype}).reshape({show(array.shape)}))")
        return name


class _Pruned:
    """A jaxpr with fewer results."""

    def __init__(self, jaxpr, outvars):
        self.constvars, self.invars, self.eqns, self.outvars = jaxpr.constvars, jaxpr.invars, jaxpr.eqns, outvars


class _Text:
    """A leaf that prints as it is."""

    def __init__(self, text: str):
        self.text = text


def _scope(eqn) -> str | None:
    for part in str(eqn.source_info.name_stack).split("/"):
        if re.fullmatch(r"(step|back|meet)_\d+", part):
            return part
    return None


def _fitting(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _access(key) -> str:
    if isinstance(key, DictKey):
        return f"[{show(key.key) if isinstance(key.key, str) else repr(key.key)}]"
    if isinstance(key, SequenceKey):
        return f"[{key.idx}]"
    if isinstance(key, GetAttrKey):
        return f".{key.name}"
    raise NotImplementedError(f"to_python: a leaf at {key!r}, in a container that is no dict, list, tuple or dataclass")


def _display(tree: Any, source: str) -> str:
    """A container as source; `source` is an expression of the same structure, for those that have no display."""
    if isinstance(tree, _Text):
        return tree.text
    if tree is None:
        return "None"
    if type(tree) is dict:
        inside = [
            f"{show(k) if isinstance(k, str) else repr(k)}: {_display(v, f'{source}[{k!r}]')}" for k, v in tree.items()
        ]
        return f"{{{', '.join(inside)}}}"
    if type(tree) is list:
        return f"[{', '.join(_display(v, f'{source}[{i}]') for i, v in enumerate(tree))}]"
    if type(tree) is tuple:
        inside = [_display(v, f"{source}[{i}]") for i, v in enumerate(tree)]
        return f"({inside[0]},)" if len(inside) == 1 else f"({', '.join(inside)})"
    leaves = ", ".join(leaf.text for leaf in tree_leaves(tree))
    if source == "out":
        return f"[{leaves}]"
    return f"jax.tree.unflatten(jax.tree.structure({source}), [{leaves}])"


def _nested(array: np.ndarray) -> str:
    if array.ndim == 0:
        return plain(array)
    return f"[{', '.join(_nested(part) for part in array)}]"


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
