"""A program of equations as Python source: one line an equation, from the table of its primitive's family."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.tree_util import tree_leaves, tree_unflatten

from functional_dl.explain.source.literals import plain, show, typed
from functional_dl.jaxprs import called, interpret, needed, open_jaxpr, solver_of

PRINTERS: dict[str, Callable[..., Any]] = {}


LONG = 50  # characters: more names than fit into them are unpacked on a line of their own


def printers(**table: Callable[..., Any]) -> None:
    """Enters printers: primitive=function of a Line that returns an expression's text."""
    PRINTERS.update(table)


def load() -> None:
    """Imports every file of printers: printer_*.py in this folder."""
    package = __package__ or ""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name.startswith("printer_"):
            importlib.import_module(f"{package}.{module.name}")


@dataclass
class Block:
    """Lines of one indentation: statements, comments, and inner functions."""

    items: list[Any] = field(default_factory=list)

    def add(self, statement: str) -> None:
        self.items.append(statement)

    def comment(self, text: str) -> None:
        self.items.append(f"# {text}")

    def function(self, head: str) -> Block:
        inner = Block()
        self.items.append((head, inner))
        return inner


class Names:
    """Identifiers in use, and new ones."""

    taken: set[str]

    def __init__(self, taken: Sequence[str]) -> None:
        self.taken = set(taken)
        self.counts: dict[str, int] = {}

    def new(self, wanted: str) -> str:
        if wanted not in self.taken:
            self.taken.add(wanted)
            return wanted
        while True:
            self.counts[wanted] = self.counts.get(wanted, 1) + 1
            name = f"{wanted}_{self.counts[wanted]}" if wanted != "t" else f"t{self.counts[wanted] - 1}"
            if name not in self.taken:
                self.taken.add(name)
                return name

    def temporary(self) -> str:
        self.taken.add("t")
        return self.new("t")


@dataclass
class Line:
    """An equation to be printed.

    Fields:
      atoms: its operands; texts: their names, None for numbers written in the program.
      printer: what prints the programs inside of it.
      block: where statements go that come before it.
    """

    eqn: Any
    atoms: list[Any]
    texts: list[str]
    printer: Printer
    block: Block
    outs: list[str] = field(default_factory=list)

    @property
    def params(self) -> dict[Any, Any]:
        return self.eqn.params

    def aval(self, i: int) -> Any:
        return self.atoms[i].aval

    @property
    def out(self) -> Any:
        return self.eqn.outvars[0].aval

    def is_number(self, i: int) -> bool:
        return isinstance(self.atoms[i], Literal) and np.ndim(self.atoms[i].val) == 0

    def bare(self, i: int) -> str:
        """The operand, a number as it is: beside an array, whose dtype it takes."""
        if not self.is_number(i):
            return self.texts[i]
        others = [j for j in range(len(self.atoms)) if j != i and not self.is_number(j)]
        same = any(self.aval(j).dtype == self.aval(i).dtype for j in others) and self.aval(i).dtype.kind != "u"
        return plain(self.atoms[i].val) if same else self.arg(i)

    def arg(self, i: int) -> str:
        """The operand, a number with its dtype."""
        if not self.is_number(i):
            return self.texts[i]
        return typed(self.atoms[i].val, self.aval(i).dtype)

    @property
    def args(self) -> list[str]:
        return [self.arg(i) for i in range(len(self.atoms))]

    def call(self, function: str, *more: str, **options: Any) -> str:
        """function(operands, *more, option=value, ...), options that are None left out."""
        given = [f"{name}={show(value)}" for name, value in options.items() if value is not None]
        return f"{function}({', '.join([*self.args, *more, *given])})"


@dataclass(frozen=True)
class Hint:
    """What a body's program calls its values.

    Fields:
      arguments: names of its arguments.
      steps: for each of its equations the primitive and the names of the outputs.
    """

    arguments: tuple[str, ...]
    steps: tuple[tuple[str, tuple[str, ...]], ...]

    def names_for(self, equations: Sequence[Any]) -> dict[Any, Any]:
        """Names for the equations' outputs, found by the order of primitives."""
        found: dict = {}
        matcher = difflib.SequenceMatcher(
            None, [e.primitive.name for e in equations], [name for name, _ in self.steps], autojunk=False
        )
        for match in matcher.get_matching_blocks():
            for i in range(match.size):
                found |= dict(zip(equations[match.a + i].outvars, self.steps[match.b + i][1]))
        return found


class Printer:
    """Prints programs into blocks.

    Args:
      names: identifiers in use.
      known: names wanted for variables.
      note: called as note(block, eqn) before each equation of the outermost program, for comments.
    """

    names: Names
    known: dict[Any, Any]
    note: Any

    def __init__(
        self, names: Names, known: dict[Any, Any] | None = None, note: Callable[..., Any] | None = None
    ) -> None:
        self.names, self.known, self.note = names, dict(known or {}), note
        self.hint: Callable[[], Hint | None] = lambda: None
        self.imports: set[str] = set()
        if not PRINTERS:
            load()

    def program(
        self,
        jaxpr: Any,
        consts: Sequence[str],
        args: Sequence[str],
        block: Block,
        outermost: bool = False,
        hint: Hint | None = None,
        outvars: Sequence[Any] | None = None,
    ) -> list[str]:
        """Prints a program's equations with these names for constants and arguments; returns its results' names.

        outvars: the variables that are its results; those of the jaxpr, by default.
        """
        inner = open_jaxpr(jaxpr)[0]
        lines = needed(inner, outvars, lambda eqn: eqn.effects and eqn.primitive.name not in SAYS)
        if hint is not None:
            self.known |= hint.names_for(lines)

        def printed(eqn, texts):
            if outermost and self.note is not None:
                self.note(block, eqn)
            return self.equation(eqn, texts, block)

        known = dict(zip(inner.constvars, consts))
        return interpret(inner, args, printed, self.literal, consts=(), known=known, only=lines, outvars=outvars)

    def literal(self, value: Any, aval: Any) -> str:
        return typed(value, aval.dtype) if np.ndim(value) == 0 else self.constant(value)

    def constant(self, value: Any) -> str:
        raise NotImplementedError(f"to_python: an array {jnp.shape(value)} stands inside of a program")

    def equation(self, eqn: Any, texts: list[str], block: Block) -> Sequence[str]:
        """Prints an equation; returns its outputs' names."""
        name = eqn.primitive.name
        program, chosen = INLINED[name](eqn, texts) if name in INLINED else (called(eqn.primitive, eqn.params), texts)
        if program is not None:
            consts = [self.hold(c, block) for c in open_jaxpr(program)[1]]
            return self.program(program, consts, chosen, block)
        if name in ALIASES:
            return texts
        printer = PRINTERS.get(name)
        if printer is None:
            raise NotImplementedError(f"to_python: no printer for the primitive '{name}'")
        line = Line(eqn, list(eqn.invars), texts, self, block)
        text = printer(line)
        outs = line.outs or [self.name_of(var) for var in eqn.outvars]
        if text is None:
            return outs
        if not outs:
            block.add(text)
        elif eqn.primitive.multiple_results:
            targets = f"({outs[0]},)" if len(outs) == 1 else ", ".join(outs)
            if len(targets) > LONG and not text.isidentifier():
                parts = self.names.new("parts")
                block.add(f"{parts} = {text}")
                text = parts
            block.add(f"{targets} = {text}")
        else:
            block.add(f"{outs[0]} = {text}")
        return outs

    def hold(self, value: Any, block: Block) -> str:
        """The name of a constant of an inner program."""
        return self.constant(value)

    def name_of(self, var: Any) -> str:
        wanted = self.known.get(var)
        return self.names.new(wanted) if wanted else self.names.temporary()


SAYS = {"debug_print", "debug_callback"}  # effects that no result depends on


def _object(eqn, texts) -> tuple[Any, list[str]]:
    """A primitive that is an object (from JAX 0.12 on), as the operations that it stands for."""
    prim = eqn.params["_prim"]
    expanded = jax.make_jaxpr(lambda *xs: tree_leaves(prim.expand(*tree_unflatten(prim.in_tree, xs))))
    return expanded(*[jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype) for atom in eqn.invars]), texts


# What stands for other programs than those it calls.
INLINED: dict[str, Callable[..., Any]] = {
    "custom_linear_solve": lambda eqn, texts: solver_of(eqn.params, texts),
    "call_hi_primitive": _object,
}


ALIASES = {"stop_gradient", "name", "sharding_constraint", "reshard", "copy", "copy_p", "device_put"}
