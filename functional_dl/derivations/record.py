"""A derivation as data: what it derives, line by line, and what checks it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from functional_dl.aliases import Key
from functional_dl.derivations.step import Oracle, Step


@dataclass(frozen=True)
class Record:
    """A textbook result and the way to it, as data.

    Fields:
      name, title: as `derivations.get` finds it, and as a heading.
      statement: the result, in LaTeX.
      steps: the lines; those of one chain stand together.
      source: where the result can be read.
      draw: draw(key) gives a point, the arguments of every line: fun's primals and, unless `slope`, the cotangent of
        its output.  Other derivations say what their point is in `point`.
      fun: the function whose derivative is derived; None where the result is no derivative of a function.
      arguments: names of fun's primals; a chain of that name derives the primal's cotangent.  An argument without a
        chain is not floating and has none.
      slope: the lines are fun's derivative entry by entry; the cotangent is a factor.
      exact: exact(mp, *numbers) is fun in multiple precision, for functions of numbers with `slope`.
      oracles: further ones for a function's derivative, and all there are for other results.
      kinks: the points without a derivative and what is taken there, in words.
      kink_points: kink_points(key) gives points on kinks, where the last line is held to the subdifferential.
      extra_points: extra_points(key) gives further points at which every line holds: other depths, sizes, labels.
      point: what the entries of a point are, in words.
      notes: remarks for a reader: conventions, traps.
    """

    name: str
    title: str
    statement: str
    steps: tuple[Step, ...]
    source: str
    draw: Callable[[Key], tuple[Any, ...]]
    fun: Callable[..., Any] | None = None
    arguments: tuple[str, ...] = ()
    slope: bool = False
    exact: Callable[..., Any] | None = None
    oracles: tuple[Oracle, ...] = ()
    kinks: tuple[str, ...] = ()
    kink_points: Callable[[Key], tuple[tuple[Any, ...], ...]] | None = None
    extra_points: Callable[[Key], tuple[tuple[Any, ...], ...]] | None = None
    point: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"{self.name}: steps: expected at least one line, got none")
        if self.fun is not None and not self.arguments:
            raise ValueError(f"{self.name}: arguments: expected the names of fun's primals, got none")
        names = [self.chain_of(step) for step in self.steps]
        starts = [name for i, name in enumerate(names) if not i or names[i - 1] != name]
        if len(starts) != len(set(starts)):
            raise ValueError(f"{self.name}: chain: expected the lines of a chain together, got {starts}")
        for oracle in self.oracles:
            if oracle.chain not in starts:
                raise ValueError(
                    f"{self.name}: oracle {oracle.name!r} checks chain {oracle.chain!r}; there are {starts}"
                )
        judged = {oracle.chain for oracle in self.oracles} | set(self.arguments if self.fun is not None else ())
        for name in starts:
            if name not in judged:
                raise ValueError(f"{self.name}: no oracle checks chain {name!r}")

    def chain_of(self, step: Step) -> str:
        """The name of a line's chain; in a derivative, "" is its first argument."""
        return step.chain or (self.arguments[0] if self.fun is not None else "")

    @property
    def chains(self) -> dict[str, list[int]]:
        """Chain -> the places of its lines in `steps`, in order."""
        found: dict[str, list[int]] = {}
        for i, step in enumerate(self.steps):
            found.setdefault(self.chain_of(step), []).append(i)
        return found

    @property
    def vjp(self) -> Callable[..., Any] | None:
        """The last lines as fun_vjp(*primals) -> (out, pullback), for check.check_vjp; None where fun is None."""
        fun = self.fun
        if fun is None:
            return None
        last = {name: self.steps[places[-1]].evaluate for name, places in self.chains.items()}

        def fun_vjp(*primals):
            def pullback(ct):
                def bar(name):
                    if name not in last:
                        return None
                    return ct * last[name](*primals) if self.slope else last[name](*primals, ct)

                return tuple(bar(name) for name in self.arguments)

            return fun(*primals), pullback

        fun_vjp.__name__ = f"{self.name}_vjp"
        return fun_vjp
