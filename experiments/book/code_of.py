"""The code of a derivation's line, as it stands in the file: what was evaluated is what is shown."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from functional_dl.derivations import Derivation, Limit

ROOM = "functional_dl.derivations"


def code_of(evaluate: Callable[..., Any]) -> str:
    """An expression for a lambda, a definition for a function; a limit's is that of its quotient in h."""
    function = evaluate.quotient if isinstance(evaluate, Limit) else evaluate
    if not isinstance(function, FunctionType):
        return repr(function)
    maker = _maker(function)
    if maker is not None:
        return _call(maker, _closure(function))
    node, text = _node(function)
    if isinstance(node, ast.Lambda):
        return _expression(node.body, text) + _given(function)
    if isinstance(node, ast.FunctionDef):
        return _definition(node, text) + _given(function)
    return repr(function)


def _maker(function: FunctionType) -> FunctionType | None:
    """slope_of or pulled_back, where it made the function: a definition that many derivations begin with."""
    if function.__module__ != f"{ROOM}.notation" or "<locals>" not in function.__qualname__:
        return None
    return function.__globals__.get(function.__qualname__.partition(".")[0])


def _call(maker: FunctionType, given: dict[str, Any]) -> str:
    """slope_of(f), with the arguments that differ from their defaults."""
    parameters = inspect.signature(maker).parameters.values()
    return f"{maker.__name__}({', '.join(_said(given[p.name]) for p in parameters if given[p.name] != p.default)})"


def _said(value: Any) -> str:
    if isinstance(value, FunctionType) and value.__name__ == "<lambda>":
        node, text = _node(value)
        return "..." if node is None else " ".join((ast.get_source_segment(text, node) or "").split())
    return getattr(value, "__name__", None) or repr(value)


def _expression(node: ast.expr, text: str) -> str:
    """Between parentheses where it has several lines, as in its file."""
    code = ast.get_source_segment(text, node) or ""
    if "\n" not in code:
        return code
    first, *rest = code.split("\n")
    column = node.col_offset
    lines = [first, *(line[column:] if not line[:column].strip() else line.lstrip() for line in rest)]
    return "(\n" + textwrap.indent("\n".join(lines), "    ") + "\n)"


def called(derivation: Derivation) -> dict[str, str]:
    """The functions of the same room that the lines call, name -> definition, in the order of first use."""
    found: dict[str, str] = {}
    waiting = [step.evaluate for step in derivation.steps]
    if derivation.fun is not None:
        waiting.insert(0, derivation.fun)
        _add(found, derivation.fun)
    seen: set[int] = set()
    while waiting:
        function = waiting.pop(0)
        function = function.quotient if isinstance(function, Limit) else function
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        maker = _maker(function)
        for other in [*([maker] if maker else []), *_reached(function)]:
            _add(found, other)
            waiting.append(other)
    return found


def _add(found: dict[str, str], function: Any) -> None:
    if isinstance(function, FunctionType) and function.__module__.startswith(ROOM):
        node, text = _node(function)
        if isinstance(node, ast.FunctionDef):
            found.setdefault(function.__name__, _definition(node, text) + _given(function))


def _reached(function: FunctionType) -> Iterator[FunctionType]:
    for name in _names(function.__code__):
        other = function.__globals__.get(name)
        if isinstance(other, FunctionType) and other.__module__.startswith(ROOM):
            yield other
    for value in _closure(function).values():
        if isinstance(value, FunctionType) and value.__module__.startswith(ROOM):
            yield value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _closure(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a name that is bound later
            continue
    return found


def _given(function: FunctionType) -> str:
    """What a function within a function takes from around it, where that is a number or has a name."""
    said = []
    for name, value in _closure(function).items():
        if isinstance(value, FunctionType) and value.__name__ not in (name, "<lambda>"):
            said.append(f"{name} = {value.__name__}")
        elif isinstance(value, bool | int | float | str):
            said.append(f"{name} = {value!r}")
    return f"\n# here {', '.join(said)}" if said else ""


def _definition(node: ast.FunctionDef, text: str) -> str:
    """Without its docstring."""
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    first = node.body[0]
    if len(node.body) > 1 and isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        assert first.end_lineno is not None
        del lines[first.lineno - node.lineno : first.end_lineno - node.lineno + 1]
    return textwrap.dedent("\n".join(lines))


def _node(function: FunctionType) -> tuple[ast.AST | None, str]:
    """The syntax of a function, found by the place that its code remembers."""
    file = inspect.getsourcefile(function)
    if file is None or not Path(file).exists():
        return None, ""
    text, nodes = _parsed(file)
    code = function.__code__
    here = [node for node in nodes if _first_line(node) == code.co_firstlineno]
    here = [node for node in here if isinstance(node, ast.Lambda) == (function.__name__ == "<lambda>")]
    if len(here) > 1:
        places = {(line, column) for line, _, column, _ in code.co_positions() if line and column}
        inside = [node for node in here if places <= {place for place in places if _holds(node.body, place)}]
        here = sorted(inside, key=_extent)[:1] or here
    return (here[0] if here else None), text


def _first_line(node: ast.AST) -> int:
    decorators = getattr(node, "decorator_list", [])
    return decorators[0].lineno if decorators else node.lineno  # type: ignore[attr-defined]


def _holds(body: Any, place: tuple[int, int]) -> bool:
    if isinstance(body, list):
        return body[0].lineno <= place[0] <= body[-1].end_lineno
    return (body.lineno, body.col_offset) <= place < (body.end_lineno, body.end_col_offset)


def _extent(node: Any) -> tuple[int, int]:
    return node.end_lineno - node.lineno, node.end_col_offset - node.col_offset


@functools.cache
def _parsed(file: str) -> tuple[str, list[ast.AST]]:
    text = Path(file).read_text(encoding="utf-8")
    return text, [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.Lambda)]
