r"""The formulas of an equation, forward and backward, from the table of its primitive's family.

A formula is written with placeholders: <0>, <1>, ... are the operands, <x> is <0>, <s> the operand whose cotangent is
wanted, <y> (or <y0>, <y1>, ...) the outputs, <c> (<c0>, ...) the outputs' cotangents.  An entry of the table gives the
right-hand side of y = ..., and for each operand that of \bar x \mathrel{+}= ...; either may be a function of the
`Terms` instead of a text.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from functional_dl.explain.naming import bar


@dataclass(frozen=True)
class Formula:
    """Right-hand sides.

    Fields:
      forward: of y = ...
      backward: of each operand's cotangent; the last one stands for all further operands.
      named: the forward formula is the whole equation, its left-hand side included.
    """

    forward: str | Callable[[Terms], str]
    backward: tuple[str | Callable[[Terms], str], ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Terms:
    """What a formula may speak of.

    Fields:
      xs, ys: LaTeX of operands and outputs.
      params: the equation's parameters.
      shapes, out_shapes: of operands and outputs.
      place: of the operand whose cotangent is wanted.
      active: positions of the differentiated operands.
      label: the called function's name.
    """

    xs: tuple[str, ...]
    ys: tuple[str, ...]
    params: dict
    shapes: tuple[tuple[int, ...], ...]
    out_shapes: tuple[tuple[int, ...], ...]
    place: int = 0
    active: tuple[int, ...] = ()
    label: str = ""

    def bar(self, i: int) -> str:
        return bar(self.xs[i])


TABLE: dict[str, Formula] = {}


def entries(**formulas: Formula | tuple) -> None:
    """Enters formulas: name=Formula(...) or name=(forward, backward, ...); a _ in a name stands for itself."""
    for name, formula in formulas.items():
        TABLE[name] = formula if isinstance(formula, Formula) else Formula(formula[0], tuple(formula[1:]))


def _load() -> None:
    """Imports every file of formulas: latex_*.py in this folder."""
    package = __package__ or ""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name.startswith("latex_"):
            importlib.import_module(f"{package}.{module.name}")


def equations(primitive: str, terms: Terms) -> tuple[str, tuple[str, ...]]:
    """The forward equation, and one backward equation for each active operand."""
    if not TABLE:
        _load()
    formula = TABLE.get(primitive, GENERAL)
    forward = fill(formula.forward, terms)
    if not formula.whole:
        forward = f"{_left(terms)} = {forward}"
    backward = []
    for i in terms.active:
        here = Terms(**{**vars(terms), "place": i})
        if not formula.backward:
            right = fill(GENERAL.backward[0], here)
        else:
            right = fill(formula.backward[min(i, len(formula.backward) - 1)], here)
        backward.append(f"{bar(terms.xs[i])} \\mathrel{{+}}= {right}")
    return forward, tuple(backward)


def _left(terms: Terms) -> str:
    return terms.ys[0] if len(terms.ys) == 1 else f"({', '.join(terms.ys)})"


def fill(formula: str | Callable[[Terms], str], terms: Terms) -> str:
    """The formula with the names in the place of its placeholders."""
    text = formula(terms) if callable(formula) else formula
    if all(not shape for shape in (*terms.out_shapes, *[terms.shapes[i] for i in terms.active])):
        text = text.replace("\\odot", "\\cdot")

    def name(match: re.Match) -> str:
        kind, number = match.group(1) or "", match.group(2)
        if kind == "x":
            return _braced(terms.xs[0], match)
        if kind in ("y", "c"):
            out = terms.ys[min(int(number or 0), len(terms.ys) - 1)]
            return _braced(out if kind == "y" else bar(out), match)
        if kind == "s":
            return _braced(terms.xs[terms.place], match)
        return _braced(terms.xs[min(int(number), len(terms.xs) - 1)] if terms.xs else "", match)

    return re.sub(r"\(\((-[^()]*)\)\)", r"(\1)", re.sub(r"<(x|y|c|s)?(\d*)>", name, text))


def _braced(text: str, match: re.Match) -> str:
    """In front of an exponent or an index, a name with its own stands in braces."""
    following = match.string[match.end() : match.end() + 1]
    return f"{{{text}}}" if following in ("^", "_") and re.search(r"[\^'_]|^-", text) else text


def operator(name: str) -> str:
    """A function's name in a formula."""
    return f"\\operatorname{{{escape(name)}}}"


def escape(text: str) -> str:
    """Text for LaTeX."""
    table = {
        "\\": r"\textbackslash{}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
        "^": r"\^{}", "~": r"\~{}",
    }  # fmt: skip
    return "".join(table.get(c, c) for c in text)


def _general(terms: Terms) -> str:
    return f"{operator(terms.label or 'f')}({', '.join(terms.xs)})"


def _general_back(terms: Terms) -> str:
    x = terms.xs[terms.place]
    return " + ".join(f"\\left(\\frac{{\\partial {y}}}{{\\partial {x}}}\\right)^{{\\top}} {bar(y)}" for y in terms.ys)


GENERAL = Formula(_general, (_general_back,))


def number(value: Any) -> str:
    """A number written in the program."""
    try:
        given = complex(value)
    except (TypeError, ValueError):
        return f"\\mathtt{{{escape(type(value).__name__)}}}"
    if given.imag:
        return f"({given.real:g} {given.imag:+g} i)"
    real = given.real
    if real != real:
        return "\\mathrm{NaN}"
    if real in (float("inf"), float("-inf")):
        return "\\infty" if real > 0 else "(-\\infty)"
    digits = f"{real:.6g}"
    if "e" in digits:
        mantissa, exponent = digits.split("e")
        factor = "" if mantissa == "1" else f"{mantissa} \\cdot "
        digits = f"{factor}10^{{{int(exponent)}}}"
    return f"({digits})" if real < 0 else digits
