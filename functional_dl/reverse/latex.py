r"""The LaTeX of a rule: the formula of its equation forward, and of each operand's cotangent.

A formula is written with placeholders: <0>, <1>, ... are the operands, <x> is <0>, <s> the operand whose cotangent is
wanted, <y> (or <y0>, <y1>, ...) the outputs, <c> (<c0>, ...) the outputs' cotangents.  A rule gives the right-hand side
of y = ..., and for each operand that of \bar x \mathrel{+}= ...; each is a text, or a function of `Terms` where it
depends on shapes or parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


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
    params: dict[Any, Any]
    shapes: tuple[tuple[int, ...], ...]
    out_shapes: tuple[tuple[int, ...], ...]
    place: int = 0
    active: tuple[int, ...] = ()
    label: str = ""


Text = str | Callable[[Terms], str]


@dataclass(frozen=True)
class Latex:
    """Right-hand sides.

    Fields:
      forward: of y = ...
      backward: of each operand's cotangent; the last one stands for all further operands.
      whole: the forward formula is the whole equation, its left-hand side included.
    """

    forward: Text
    backward: tuple[Text, ...] = ()
    whole: bool = False


def as_latex(given: Latex | tuple[Text, ...] | Text | None) -> Latex | None:
    """(forward, backward, ...) or a forward text alone as a `Latex`."""
    if given is None or isinstance(given, Latex):
        return given
    forward, *backward = given if isinstance(given, tuple) else (given,)
    return Latex(forward, tuple(backward))


def equations(latex: Latex | None, terms: Terms) -> tuple[str, tuple[str, ...]]:
    """The forward equation, and one backward equation for each active operand; general ones for `latex` None."""
    latex = latex or GENERAL
    forward = fill(latex.forward, terms)
    if not latex.whole:
        left = terms.ys[0] if len(terms.ys) == 1 else f"({', '.join(terms.ys)})"
        forward = f"{left} = {forward}"
    texts = latex.backward or GENERAL.backward
    backward = []
    for i in terms.active:
        right = fill(texts[min(i, len(texts) - 1)], replace(terms, place=i))
        backward.append(f"{bar(terms.xs[i])} \\mathrel{{+}}= {right}")
    return forward, tuple(backward)


def fill(formula: Text, terms: Terms) -> str:
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


def bar(latex: str) -> str:
    r"""The cotangent's LaTeX: \bar over the name, its indices beside it."""
    match = re.match(r"(\\mathrm\{[^{}]*\}|\\[a-z]+|[A-Za-z])(.*)$", latex)
    if match is None:
        return f"\\overline{{{latex}}}"
    base, indices = match.groups()
    if len(base) == 1:
        return f"\\bar {base}{indices}" if indices else f"\\bar {base}"
    over = "\\overline" if base.startswith("\\mathrm") else "\\bar"
    return f"{over}{{{base}}}{indices}"


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


def call(terms: Terms) -> str:
    """f(x_1, ..., x_n), under the called function's own name where it has one; its constants may have no names."""
    return f"{operator(terms.label.strip('_').replace('_', ' ') or 'f')}({', '.join(x for x in terms.xs if x)})"


def jacobian(terms: Terms) -> str:
    r"""\sum_k (\partial y_k / \partial x)^{\top} \bar y_k."""
    return " + ".join(f"\\left(\\frac{{\\partial {y}}}{{\\partial <s>}}\\right)^{{\\top}} {bar(y)}" for y in terms.ys)


GENERAL = Latex(call, (jacobian,))

# What the formulas of several families share.

CALL_BAR = r"\left(\frac{\partial f}{\partial <s>}\right)^{\top} <c>"


def listed(terms: Terms) -> str:
    """The operands, one after another."""
    return ", ".join(terms.xs)


def own_bar(terms: Terms) -> str:
    """The cotangent of the output that has the operand's place."""
    return bar(terms.ys[min(terms.place, len(terms.ys) - 1)])


def bars(terms: Terms) -> str:
    """The outputs' cotangents, one after another."""
    return ", ".join(bar(y) for y in terms.ys)


def dims(shape: tuple[int, ...]) -> str:
    r"""A shape: 2 \times 3."""
    return " \\times ".join(map(str, shape)) or "1"


def along_axes(symbol: str) -> Callable[[Terms], str]:
    """A reduction written as a symbol with the axes as its index: none where all axes are reduced."""

    def text(terms: Terms) -> str:
        axes = tuple(terms.params.get("axes", ()))
        index = "" if len(axes) == len(terms.shapes[0]) else f"_{{\\text{{axis }}{', '.join(map(str, axes))}}}"
        return f"\\textstyle{symbol}{index} <x>"

    return text
