"""A derivation in a chapter: each line with its reason, its code and what it was held to.

`derivation NAME` shows one of the library's.  Without a name the block writes one out in TOML:

    title, statement (LaTeX), source
    variables = "x y"            what the code of a line is a function of
    draw = ["uniform(3, low=0.5, high=2.0)", ...]    where the lines are compared, of derivations.notation
    fun = "x**2"                 the function whose derivative the last line is; or [[oracles]] with name, code, line
    [[lines]] with latex, reason and code, and where they are wanted: `quotient = true` under a limit sign, whose code
      may name h; `kind` of KINDS; `chain`, the variable with respect to which it is derived, where there are several;
      `tight`, of an upper bound, the point at which it is attained

The code sees the names of the cells above.  Both are verified in the same way, by `Derivation.verify`.
"""

import inspect
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.book.code_of import called, code_of
from functional_dl import derivations
from functional_dl.derivations import Derivation, Limit, Oracle, Step, Verification, notation
from functional_dl.derivations.show import chain_title

POINTS = 3


@dataclass(frozen=True)
class Shown:
    """A derivation, its verification, the code of each line, and the functions that the lines call."""

    derivation: Derivation
    report: Verification
    codes: tuple[str, ...]
    called: dict[str, str]

    @property
    def wrong(self) -> str:
        """The first line that fails, and how; "" where all hold."""
        bad = next((c for c in self.report.comparisons if not c.passed), None)
        if bad is None:
            return ""
        step = self.derivation.steps[bad.line - 1]
        return f"line {bad.line} is wrong ({step.latex}): against {bad.against}: {bad.note or f'{bad.error:.3g} off'}"

    def chains(self) -> list[dict[str, Any]]:
        """For the page: each chain's title and lines."""
        d = self.derivation
        several = len(d.chains) > 1
        return [
            {
                "title": chain_title(d, chain).replace("`", "") if several else "",
                "lines": [self._line(i) for i in places],
            }
            for chain, places in d.chains.items()
        ]

    def _line(self, place: int) -> dict[str, Any]:
        step, held = self.derivation.steps[place], self.report.of_line(place + 1)
        worst = max(held, key=lambda c: (not c.passed, c.error), default=None)
        return {
            "number": place + 1,
            "latex": step.latex,
            "reason": step.reason,
            "code": self.codes[place],
            "quotient": isinstance(step.evaluate, Limit),
            "worst": "" if worst is None else _short(worst.error),
            "held": [{"against": c.against, "error": _short(c.error), "tolerance": _short(c.tolerance)} for c in held],
        }


def of_library(name: str) -> Shown:
    """Raises ValueError for an unknown name."""
    d = derivations.get(name)
    codes = tuple(code_of(step.evaluate) for step in d.steps)
    return Shown(d, d.verify(points=POINTS), codes, called(d))


def of_chapter(text: str, names: dict[str, Any], where: str) -> Shown:
    """Raises ValueError where the block does not say what it must, and what the code raises."""
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(str(error)) from None
    for field in ("title", "statement", "variables", "draw", "lines"):
        if field not in said:
            raise ValueError(f"expected {field}")
    variables = said["variables"].split()
    scope = {**vars(notation), **names}

    def function(code: str, *first: str) -> Callable[..., Any]:
        made = eval(f"lambda {', '.join([*first, *variables])}: (\n{code.strip()}\n)", scope)
        made.__name__ = "line"
        return made

    steps, codes = [], []
    for line in said["lines"]:
        code = inspect.cleandoc(line["code"])
        evaluate = Limit(function(code, "h")) if line.get("quotient") else function(code)
        tight = (lambda points: lambda _: tuple(points))(eval(line["tight"], scope)) if "tight" in line else None
        kind, chain = line.get("kind", "equal"), line.get("chain", "")
        steps.append(Step(line["latex"], line["reason"], evaluate, kind, chain, tight))
        codes.append(code)
    oracles = tuple(
        Oracle(o["name"], function(o["code"]), line=o.get("line", "both"), tolerance=o.get("tolerance", 2.0**-36))
        for o in said.get("oracles", ())
    )
    fun = function(said["fun"]) if "fun" in said else None
    derivation = Derivation(
        where, said["title"], said["statement"], tuple(steps), said.get("source", ""),
        notation.drawing(*(eval(d, scope) for d in said["draw"])), fun=fun,
        arguments=tuple(variables) if fun is not None else (), slope=fun is not None, oracles=oracles,
        notes=tuple(said.get("notes", ())),
    )  # fmt: skip
    return Shown(derivation, derivation.verify(points=POINTS), tuple(codes), {})


def _short(error: float) -> str:
    return f"{error:.1e}" if error else "0"
