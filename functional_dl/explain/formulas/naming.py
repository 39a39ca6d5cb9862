"""Names of values: the arguments' paths, the user's own variables, else the primitive and a number."""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from functional_dl.explain.record import sources
from functional_dl.explain.record.recorder import Entry
from functional_dl.explain.record.recording import Recording

GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
}  # fmt: skip
SHORT = {"weight": "W", "weights": "W", "kernel": "K", "bias": "b", "params": "p"}
RESERVED = {"jax", "jnp", "np", "lax", "ct", "value_and_vjp", "out", "primitives", *keyword.kwlist, *dir(builtins)}
BY_PRIMITIVE = {
    "dot_general": "product", "broadcast_in_dim": "broadcast", "reduce_sum": "total", "reduce_max": "max",
    "reduce_min": "min", "convert_element_type": "cast", "select_n": "select", "integer_pow": "power",
    "conv_general_dilated": "convolved", "custom_jvp_call": "called", "custom_vjp_call": "called",
    "transpose": "transposed", "reshape": "reshaped", "add_any": "sum", "exp": "e", "neg": "negated",
}  # fmt: skip


@dataclass(frozen=True)
class Name:
    """An identifier, its LaTeX, and what the user calls the value ("" where he gave it no name)."""

    name: str
    latex: str
    label: str = ""


class Namer:
    """Gives names out, no two alike."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.latexes: dict[str, int] = {}

    def give(self, wanted: str, latex: str | None = None, label: str = "", ndim: int = 0) -> Name:
        return Name(self.identifier_for(wanted), self.distinct(latex or latex_of(identifier(wanted), ndim)), label)

    def identifier_for(self, wanted: str) -> str:
        base = identifier(wanted)
        base = f"{base}_" if base in RESERVED else base
        name, version = base, 1
        while not self.free(name):
            version += 1
            name = f"{base}_{version}"
        self.taken.add(name)
        return name

    def share(self, wanted: str, latex: str) -> Name:
        """A new identifier for what is, in formulas, a value that has a name already."""
        return Name(self.identifier_for(wanted), latex)

    def free(self, name: str) -> bool:
        return name not in self.taken and name not in RESERVED and not name.endswith("_bar")

    def distinct(self, latex: str) -> str:
        """The formula with a version in brackets, where it was given out before."""
        count = self.latexes[latex] = self.latexes.get(latex, 0) + 1
        if count == 1:
            return latex
        again = f"{{{latex}}}^{{[{count}]}}" if "^" in latex or "'" in latex else f"{latex}^{{[{count}]}}"
        return self.distinct(again) if again in self.latexes else self._note(again)

    def _note(self, latex: str) -> str:
        self.latexes[latex] = 1
        return latex


def identifier(text: str) -> str:
    """A Python identifier that reads like the text."""
    name = re.sub(r"\W+", "_", text).strip("_") or "value"
    return f"v{name}" if name[0].isdigit() else name


def latex_of(name: str, ndim: int = 0) -> str:
    r"""The LaTeX of an identifier: w1 -> w_{1}, a matrix's W_{1}; hidden -> \mathrm{hidden}; theta_0 -> \theta_{0}."""
    parts: list[str] = re.findall(r"[A-Za-z]+|\d+", name) or ["v"]
    head, rest = parts[0], parts[1:]
    head = SHORT.get(head) or head
    if len(head) == 1:
        base = head.upper() if ndim >= 2 and not head.isupper() and head in "abcdefghjkmnpqrsuvw" else head
    elif head in GREEK:
        base = f"\\{head}"
    else:
        base = f"\\mathrm{{{head}}}"
    if not rest:
        return base
    subscript = ",".join(part if part.isdigit() or len(part) == 1 else f"\\mathrm{{{part}}}" for part in rest)
    return f"{base}_{{{subscript}}}"


def argument_names(labels: Sequence[str]) -> list[str]:
    """Names of arguments' leaves, each of as many parts of its path as it takes to tell it from the others."""
    longest = max((len(label.split("/")) for label in labels), default=0)
    names = [argument_name(label) for label in labels]
    for words in range(2, longest + 1):
        counts = Counter(names)
        names = [argument_name(label, words) if counts[name] > 1 else name for label, name in zip(labels, names)]
    return names


def argument_name(label: str, words: int = 1) -> str:
    """The name of an argument's leaf: what it is called last, with the numbers on the way to it.

    Args:
      label: its path, as "params/0/w".
      words: how many of the path's last words are said.
    """
    parts = re.findall(r"[A-Za-z_]\w*|\d+", label)
    if len(parts) > 2 and parts[-1] == "value":  # the box that a framework keeps an array in
        parts = parts[:-1]
    places = [place for place, part in enumerate(parts) if not part.isdigit()]
    if not places:
        return "_".join(["x", *parts])
    first = places[-min(words, len(places))]
    before = [part for part in parts[:first] if part.isdigit()]
    inner = [part for part in parts[first : places[-1]]]
    return "_".join([*inner, parts[places[-1]], *before, *parts[places[-1] + 1 :]])


def name_values(recording: Recording, inputs: list[Name], namer: Namer, function: str = "") -> dict[int, Name]:
    """Names of all values of a recording, by number; those of the inputs are given.

    A result without a name of its own has the function's.
    """
    names = dict(zip(recording.inputs, inputs))
    own, bases = assigned(recording.recorder.entries)
    for entry in recording.recorder.entries:
        for number in entry.ins:
            if number is not None and number not in names:
                names[number] = namer.give("const")
        for place, number in enumerate(entry.out_ids):
            if number in names:
                continue
            variable = own.get((entry.index, place))
            if variable is not None:
                names[number] = namer.give(variable, None, variable)
            elif function and number in recording.outputs:
                names[number] = namer.give(function)
            elif entry.index in bases:
                names[number] = _inner(bases[entry.index], namer)
            else:
                word = entry.label or BY_PRIMITIVE.get(entry.primitive.name, entry.primitive.name)
                names[number] = namer.give(word.strip("_"))
    for number in sorted(recording.used - names.keys()):
        names[number] = namer.give("const")
    return names


def _inner(variable: str, namer: Namer) -> Name:
    """A name for a value on the way to a variable: its name with a letter, and with primes."""
    base = identifier(variable)
    letters = [chr(ord("a") + i) for i in range(26)]
    free = next((c for c in letters if namer.free(f"{base}_{c}")), None)
    name = f"{base}_{free}" if free else f"{base}_inner"
    given = namer.give(name)
    count = letters.index(free) + 1 if free else 27
    latex = latex_of(base) + ("'" * count if count <= 3 else f"^{{({count})}}")
    return Name(given.name, namer.distinct(latex), "")


def assigned(entries: list[Entry]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Which outputs are a variable of the user's, and towards which variable the other entries work.

    The last equation of a statement h = ... makes h; the others of it lead to it.  What a called function returns
    without a name of its own has the function's name.
    """
    own: dict[tuple[int, int], str] = {}
    bases: dict[int, str] = {}
    for entry in entries:
        names = sources.targets(entry.frames[0]) if entry.frames else ()
        if len(names) == 1 and names[0]:
            bases[entry.index] = names[0]
    depth = max((len(entry.frames) for entry in entries), default=0)
    for level in reversed(range(depth)):  # the innermost call first: its variable is the nearest
        for last in _last_of_runs(entries, level):
            frame = last.frames[-1 - level]
            names = sources.targets(frame)
            if level and sources.returns(frame) and frame.function.isidentifier():
                names = (frame.function.strip("_"),)
            if len(names) >= len(last.outs) and (len(names) > 1) == (len(last.outs) > 1):
                for place, name in enumerate(names[: len(last.outs)]):
                    if name:
                        own.setdefault((last.index, place), name)
    return own, bases


def _last_of_runs(entries: list[Entry], level: int) -> list[Entry]:
    """The last of each run of neighbouring entries that belong to one execution of one statement.

    Args:
      level: of the frame whose statement it is, 0 being the outermost.
    """
    found: list[Entry] = []
    before = None
    for entry in entries:
        if len(entry.frames) <= level:
            before = None
            continue
        frame = entry.frames[-1 - level]
        node = sources.statement(frame.file, frame.line)
        outer = tuple((f.file, f.line, f.call) for f in entry.frames[len(entry.frames) - level :])
        key = (frame.file, frame.call, node.lineno if node is not None else frame.line, outer)
        if key == before:
            found[-1] = entry
        else:
            found.append(entry)
        before = key
    return found
