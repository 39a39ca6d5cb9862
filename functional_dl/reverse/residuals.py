"""Which values a program keeps for its backward sweep, where keeping costs memory: those from which cheap equations
give the others back.

Within one compiled program XLA itself decides whether a value is kept or computed again.  From step to step of a loop,
between the branches of a cond, and out of a jit, it cannot: what is returned is written to memory.  There a residual is
dropped if equations of at most RATE operations for each of its entries compute it again from values that are at hand
(the program's inputs) or kept anyway; or of more, as long as all that is computed again for more takes at most SHARE of
the operations of the program itself.

The choice is greedy by bytes.  A residual v is replaced by the cut of its computation that has the fewest bytes: going
back from v through cheap equations, at each value u either u is kept, or u's own cut, whichever is smaller (nothing, if
u is kept or at hand already).  v is dropped if its cut is smaller than v: a mask of booleans instead of the numbers
that it selects, a row instead of the matrix that it was broadcast to.  Last, several values with the same cut are
dropped together if it is no larger than they are together.

What a rule compares alone, as that of a maximum does, it compares in the forward run: the booleans are its residuals.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal

from functional_dl.jaxprs import bind, equations, interpret
from functional_dl.reverse.costs import cost_of, total_cost
from functional_dl.reverse.program import Program, Recipe, Residual
from functional_dl.reverse.values import formed
from functional_dl.sharding import cotangent_type, type_of

SHARE = 0.05
RATE = 12.0  # operations for each entry dropped; writing a number to memory and reading it again costs about as many
DEPTH = 64  # equations between a residual and what it is computed from


class Origin(NamedTuple):
    """How a value was computed: the equation, and which of its outputs the value is."""

    primitive: Any
    params: Mapping[str, Any]
    operands: Sequence[Any]
    outs: Sequence[Any]
    index: int


def size_in_bytes(x: Any) -> int:
    return prod(x.shape) * x.dtype.itemsize


def _is_number(x) -> bool:
    """A Python or NumPy number: part of the program, as a residual it costs nothing."""
    return isinstance(x, (int, float, complex, bool, np.generic)) or (isinstance(x, np.ndarray) and x.ndim == 0)


class _Cut(NamedTuple):
    """The values to keep from which a value is computed, and the operations that this takes."""

    values: frozenset[int]
    cost: float


class _Choice:
    """The greedy choice: what is kept now, by the ids of values."""

    def __init__(self, residuals: Sequence[Any], origins: Mapping[int, Origin], at_hand: Iterable[Any]) -> None:
        self.origins = origins
        self.free = {id(x) for x in at_hand}
        self.kept = {id(r): r for r in residuals if not self.is_free(r)}
        self.seen: dict[int, Any] = dict(self.kept)
        self.spent = 0.0
        self.deeper = False  # of cuts of one size, the one that is further back
        for r in sorted(self.kept.values(), key=size_in_bytes, reverse=True):
            self.drop_or_keep(r)
        self.merge()

    def is_free(self, x: Any) -> bool:
        return id(x) in self.free or not isinstance(x, Tracer)

    def drop_or_keep(self, r: Any) -> None:
        cut = self.expanded(r, {}, 0)
        if cut is None or self.bytes_of(cut.values) >= size_in_bytes(r):
            return
        more = cut.cost if cut.cost > RATE * prod(r.shape) else 0.0
        if not more or self.spent + more <= self.room:
            self.spent += more
            del self.kept[id(r)]
            self.kept.update((i, self.seen[i]) for i in cut.values)

    def merge(self) -> None:
        """Drops several values that are computed from the same others, if these are no larger than they together."""
        self.deeper = True
        groups: dict[frozenset[int], list[Any]] = {}
        for r in self.kept.values():
            cut = self.expanded(r, {}, 0)
            if cut is not None and cut.values and cut.cost <= RATE * prod(r.shape):
                groups.setdefault(cut.values, []).append(r)
        for values, members in groups.items():
            if len(members) > 1 and self.bytes_of(values) <= sum(map(size_in_bytes, members)):
                for r in members:
                    self.kept.pop(id(r), None)
                self.kept.update((i, self.seen[i]) for i in values)

    @cached_property
    def room(self) -> float:
        """The operations that may be spent on what takes more than RATE."""
        return SHARE * sum(total_cost(*origin[:4]) for origin in self.origins.values())

    def bytes_of(self, values: Iterable[int]) -> int:
        return sum(size_in_bytes(self.seen[i]) for i in values)

    def cut(self, x: Any, memo: dict[int, _Cut], depth: int) -> _Cut:
        """What to keep besides the kept values so that x is there."""
        if self.is_free(x) or id(x) in self.kept:
            return _Cut(frozenset(), 0.0)
        if id(x) not in memo:
            self.seen[id(x)] = x
            itself, expanded = _Cut(frozenset([id(x)]), 0.0), self.expanded(x, memo, depth)
            smaller = expanded is not None and self.bytes_of(expanded.values) < size_in_bytes(x) + self.deeper
            memo[id(x)] = expanded if smaller and expanded is not None else itself
        return memo[id(x)]

    def expanded(self, x: Any, memo: dict[int, _Cut], depth: int) -> _Cut | None:
        """The cut before x; None where x is not computed by a cheap equation."""
        origin = self.origins.get(id(x))
        if origin is None or depth > DEPTH:
            return None
        cost = cost_of(origin.primitive, origin.outs)
        if cost is None:
            return None
        cuts = [self.cut(operand, memo, depth + 1) for operand in origin.operands]
        return _Cut(frozenset().union(*[c.values for c in cuts]), cost + sum(c.cost for c in cuts))


def thrifty(
    program: Program, residuals: Sequence[Any], origins: Mapping[int, Origin], at_hand: Iterable[Any]
) -> tuple[Program, list[Any]]:
    """The program with fewer residuals, and these: the others are computed again where the program is put to use.

    Args:
      origins: id of a value -> how it was computed, for the values on the tape.
      at_hand: values that exist anyway; as residuals they cost nothing.
    """
    choice = _Choice(residuals, origins, at_hand)
    if all(choice.is_free(r) or id(r) in choice.kept for r in residuals):
        return program, list(residuals)
    kept: list = []
    places: dict[int, Residual] = {}
    steps: list = []

    def place(x):
        """Where the recipe finds x: a kept value, an output of one of its steps, or the number itself."""
        todo = [x]
        while todo:
            y = todo[-1]
            if _is_number(y) or id(y) in places:
                todo.pop()
            elif choice.is_free(y) or id(y) in choice.kept:
                kept.append(y)
                places[id(y)] = Residual(len(kept) - 1)
            else:
                origin = origins[id(y)]
                missing = [v for v in origin.operands if not _is_number(v) and id(v) not in places]
                todo.extend(missing)
                if not missing:
                    operands = [places.get(id(v), v) for v in origin.operands]
                    steps.append((origin.primitive, origin.params, operands))
                    for i, out in enumerate(origin.outs):
                        places.setdefault(id(out), Residual((len(steps) - 1, i)))
        return places.get(id(x), x)

    wanted = [place(r) for r in residuals]
    return Program(program.equations, program.inputs, program.outputs, Recipe(steps, wanted)), kept


class Comparison(NamedTuple):
    """The formula of a rule that reads values to compare them alone, as a program of y_bar and of these values, whose
    equations before y_bar comes in run forward.

    Attributes:
      program: its jaxpr.
      bars: which operands' cotangents it computes.
      later: the numbers of the equations that depend on y_bar.
      kept: what these read of the others: numbers among the program's inputs and the equations' outputs.
    """

    program: Any
    bars: tuple[int, ...]
    later: tuple[int, ...]
    kept: tuple[int, ...]

    @classmethod
    def of(cls, rule: Any, params: Any, wanted: tuple[bool, ...], read: Sequence[bool], values: Any) -> "Comparison":
        """Of a rule applied to (out, *operands), of which some are `read`."""
        bars: list = []
        out = type_of(values[0])

        def formula(ct, *given):
            rest = iter(given)
            given = [next(rest) if r else type_of(x) for r, x in zip(read, values)]
            found = rule.formula(ct, *given, **params)
            bars[:] = [i for i, (bar, w) in enumerate(zip(found, wanted)) if w and bar is not None]
            return [formed(found[i]() if callable(found[i]) else found[i]) for i in bars]

        avals = [type_of(x) for r, x in zip(read, values) if r]
        program = jax.make_jaxpr(formula)(cotangent_type(out), *avals)
        jaxpr, later = program.jaxpr, []
        dependent = {jaxpr.invars[0]}
        reads: set = set()
        for i, eqn in enumerate(equations(jaxpr)):
            atoms = {atom for atom in eqn.invars if not isinstance(atom, Literal)}
            if not atoms.isdisjoint(dependent):
                later.append(i)
                dependent.update(eqn.outvars)
                reads |= atoms
        reads.update(atom for atom in jaxpr.outvars if not isinstance(atom, Literal))
        kept = [i for i, v in enumerate(_variables(jaxpr)) if v in reads and v not in dependent]
        return cls(program, tuple(bars), tuple(later), tuple(kept))

    def before(self) -> dict[str, Any]:
        """What runs forward: the parts of `interpret`."""
        jaxpr = self.program.jaxpr
        variables = _variables(jaxpr)
        return {
            "only": [eqn for i, eqn in enumerate(equations(jaxpr)) if i not in self.later],
            "outvars": [variables[i] for i in self.kept],
        }

    def pull(self, count: int, kept: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        """The cotangents of the operands, `count` of them."""
        jaxpr = self.program.jaxpr
        variables = _variables(jaxpr)
        known = {variables[i]: x for i, x in zip(self.kept, kept)}
        inputs = [cts[0], *[known.get(v) for v in jaxpr.invars[1:]]]
        every = equations(jaxpr)
        later = [every[i] for i in self.later]
        apply = lambda eqn, operands: bind(eqn.primitive, operands, eqn.params)
        found = dict(zip(self.bars, interpret(self.program, inputs, apply, known=known, only=later)))
        return [found.get(i) for i in range(count)]


def _variables(jaxpr):
    return [*jaxpr.invars, *[v for eqn in equations(jaxpr) for v in eqn.outvars]]


def pull_compared(comparison: tuple[Any, ...], count: int, kept: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
    return Comparison(*comparison).pull(count, kept, cts)
