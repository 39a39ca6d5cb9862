"""The reference: every public name of every room, from its docstring, signature and source.

An example in a docstring stands under `Example:` in the form of doctest, and runs with EXAMPLE_NAMES.
"""

import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOMS = (
    "calculus", "integrals", "optimality", "reverse", "derivations", "check", "explain", "activations", "losses",
    "penalties", "initializers", "layers", "models", "backprop", "training", "tree", "kinks",
)  # fmt: skip
SECTIONS = "Args|Returns|Raises|Fields|Attributes|Kinks|Numerics|Units|Source|Example|Examples|Derivation"
HEADING = re.compile(rf"^({SECTIONS}):[ \t]*", re.MULTILINE)
INLINE = re.compile(rf"(?<=\S)(\s{{2,}})(?=(?:{SECTIONS}): )")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Entry:
    """A public name.

    Fields:
      name: within its room, `regression.lasso` for one of a room within.
      kind: function, class, room or value.
      signature: Python.  summary, about: the docstring before its sections.
      sections: (title, text), as the docstring has them.
      example: doctest, "" without one.
      source: the text of a function.  file, line: where it stands.
    """

    name: str
    kind: str
    signature: str
    summary: str
    about: str
    sections: tuple[tuple[str, str], ...]
    example: str
    source: str
    file: str
    line: int

    @property
    def text(self) -> str:
        """For the search."""
        return " ".join([self.summary, self.about, *(text for _, text in self.sections)])


@dataclass(frozen=True)
class Room:
    """A room of the library and its public names."""

    name: str
    summary: str
    about: str
    entries: tuple[Entry, ...]


@functools.cache
def rooms(names: tuple[str, ...] = ROOMS) -> tuple[Room, ...]:
    return tuple(_room(name) for name in names)


def addresses(rooms: Iterable[Room]) -> dict[str, str]:
    """room.name -> the address of its entry in the site."""
    return {
        f"{room.name}.{entry.name}": f"reference/{room.name}.html#{entry.name}"
        for room in rooms
        for entry in room.entries
    }


def example_names() -> dict[str, Any]:
    """What examples may name: jax, jnp, np, optax, and the rooms."""
    found = {name: importlib.import_module(f"functional_dl.{name}") for name in ROOMS}
    short = {"jax": "jax", "jnp": "jax.numpy", "np": "numpy", "optax": "optax"}
    return found | {name: importlib.import_module(module) for name, module in short.items()}


def _room(name: str) -> Room:
    module = importlib.import_module(f"functional_dl.{name}")
    summary, _, about = (inspect.getdoc(module) or "").partition("\n\n")
    return Room(name, " ".join(summary.split()), about, tuple(_entries(module)))


def _entries(module: types.ModuleType, prefix: str = "") -> Iterator[Entry]:
    for name in _public(module):
        value = getattr(module, name)
        if inspect.ismodule(value):
            if not prefix and hasattr(value, "__all__"):
                yield from _entries(value, f"{name}.")
            continue
        yield _entry(prefix + name, value)


def _public(module: types.ModuleType) -> list[str]:
    """Functions first, then what they take and return."""
    named = getattr(module, "__all__", None)
    if named is None:
        named = [
            name for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]  # fmt: skip
    return sorted(named, key=lambda name: (not inspect.isfunction(getattr(module, name)), name.lower()))


def _entry(name: str, value: Any) -> Entry:
    kind = "function" if inspect.isfunction(value) else "class" if inspect.isclass(value) else "value"
    doc = inspect.getdoc(value) if kind != "value" else None
    summary, about, sections, example = parsed(doc or "")
    if kind == "value":
        summary = _described(value)
    file, line, source = _place(value) if kind != "value" else ("", 0, "")
    signature = _signature(name.rpartition(".")[2], value) if kind != "value" else ""
    shown = source if kind == "function" else ""
    return Entry(name, kind, signature, summary, about, sections, example, shown, file, line)


def _described(value: Any) -> str:
    if typing.get_origin(value) is typing.Literal:
        return "One of " + ", ".join(repr(option) for option in typing.get_args(value)) + "."
    if isinstance(value, dict):
        names = ", ".join(map(str, list(value)[:40]))
        return f"A table of {len(value)}: {names}" + ("." if len(value) <= 40 else ", ...")
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) + "."
    text = " ".join(str(value).split())
    return text if len(text) < 200 else text[:200] + "..."


def parsed(doc: str) -> tuple[str, str, tuple[tuple[str, str], ...], str]:
    """A docstring's summary, the text after it, its sections and its example."""
    doc = INLINE.sub("\n", doc)
    parts = HEADING.split(doc)
    head, rest = parts[0].strip("\n"), parts[1:]
    summary, _, about = head.partition("\n\n")
    sections = [(title, inspect.cleandoc(text).strip()) for title, text in zip(rest[::2], rest[1::2])]
    example = "\n".join(text for title, text in sections if title.startswith("Example"))
    kept = tuple((title, text) for title, text in sections if not title.startswith("Example"))
    return " ".join(summary.split()), about.rstrip(), kept, example


def _signature(name: str, value: Any) -> str:
    """name(x: Array, *, steps: int = 96) -> Integral, one argument a line where that is long; names without modules."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return name
    shown = [_parameter(parameter) for parameter in _with_marks(signature)]
    result = "" if signature.return_annotation is signature.empty or inspect.isclass(value) else (
        f" -> {_annotation(signature.return_annotation)}"
    )  # fmt: skip
    line = f"{name}({', '.join(shown)}){result}"
    return line if len(line) <= 88 else f"{name}(\n" + "".join(f"    {part},\n" for part in shown) + f"){result}"


def _with_marks(signature: inspect.Signature) -> Iterator[inspect.Parameter | str]:
    starred = False
    for parameter in signature.parameters.values():
        starred = starred or parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        yield parameter


def _parameter(parameter: inspect.Parameter | str) -> str:
    if isinstance(parameter, str):
        return parameter
    star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = star + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = getattr(parameter.default, "__qualname__", None) or repr(parameter.default)
        text += f" = {default}" if ":" in text else f"={default}"
    return text


SHORT = (
    (r"(?:jaxtyping|typing|collections\.abc|(?:functional_dl|jaxlib|jax|optax)(?:\.\w+)*)\.(?=\w)", ""),
    (r"\b_Array\b", "Array"),
    (r"Union\[Array, numpy\.ndarray, numpy\.bool, numpy\.number, bool, int, float, complex\]", "ArrayLike"),
    (r"Union\[Key\[Array, ''\], UInt32\[Array, '2'\], UInt32\[Array, '4'\], Array\]", "Key"),
)  # fmt: skip


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for pattern, short in SHORT:
        text = re.sub(pattern, short, text)
    return text if len(text) <= 110 else text[:107] + "..."


def _place(value: Any) -> tuple[str, int, str]:
    try:
        lines, first = inspect.getsourcelines(inspect.unwrap(value))
        file = inspect.getsourcefile(inspect.unwrap(value))
    except (OSError, TypeError):
        return "", 0, ""
    try:
        return Path(file or "").resolve().relative_to(ROOT).as_posix(), first, inspect.cleandoc("\n" + "".join(lines))
    except ValueError:  # of another package
        return "", 0, ""
