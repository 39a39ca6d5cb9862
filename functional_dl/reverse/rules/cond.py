"""Branches: lax.cond and lax.switch."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.core import AbstractValue
from jax.extend.core.primitives import cond_p
from jax.tree_util import register_pytree_node_class, register_static, tree_structure, tree_unflatten

from functional_dl.aliases import Array
from functional_dl.jaxprs import function_of, open_jaxpr, taken
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import Terms, bar
from functional_dl.reverse.rule import PRIMITIVES, Probe
from functional_dl.reverse.rules.references import (
    holds_references,
    run_on_contents,
    runs_on_contents,
    with_references,
)
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import is_recording_tangents, record_jaxpr, writes_to
from functional_dl.reverse.values import instantiate
from functional_dl.sharding import full, type_of


def _branches(i):
    def product(x, y):
        return lax.mul(x, y)

    def sine(x, y):
        return lax.sin(x)

    def sum_of_both(x, y):
        return lax.add(lax.exp(y), lax.square(x))

    return lambda x, y: lax.switch(lax.add(np.int32(i), _zero(x)), [product, sine, sum_of_both], x, y)


def _zero(x):
    """0, which only the run knows."""
    return lax.convert_element_type(lax.mul(lax.floor(lax.reduce_sum(x, (0,))), x.dtype.type(0)), np.int32)


def _cond_latex(terms: Terms) -> str:
    index, *operands = terms.xs
    count = len(terms.params["branches"])
    cases = r" \\ ".join(f"f_{{{i}}}({', '.join(operands)}) & {index} = {i}" for i in range(count))
    return f"\\begin{{cases}} {cases} \\end{{cases}}"


def _cond_bar_latex(terms: Terms) -> str:
    index, count = terms.xs[0], len(terms.params["branches"])
    ct = bar(terms.ys[0]) if len(terms.ys) == 1 else r"\bar y"
    cases = r" \\ ".join(f"(\\partial f_{{{i}}} / \\partial <s>)^{{\\top}} {ct} & {index} = {i}" for i in range(count))
    return f"\\begin{{cases}} {cases} \\end{{cases}}"


@call_rule(
    cond_p,
    Probe(_branches(0), shapes=((3,), (3,))),
    Probe(_branches(1), shapes=((3,), (3,))),
    Probe(_branches(2), shapes=((3,), (3,))),
    Probe(lambda x: lax.cond(lax.reduce_sum(x, (0,)) > 0, lambda y: lax.sin(y), lambda y: lax.square(y), x)),
    latex=(_cond_latex, _cond_bar_latex),
    takes_references=True,
)
def cond_forward(
    tape: Any,
    values: list[Array],
    slots: list[Any],
    *,
    branches: tuple[Any, ...],
    branches_platforms: Any = None,
    **_: Any,
) -> tuple[list[Array], list[int]]:
    """y = f_i(x)  =>  x_bar = (df_i/dx)^T y_bar for the branch i that was taken; the index has no cotangent."""
    index = values[0]
    if sweep.is_traced([index]):
        held = holds_references(values)
        written = {i + 1 for branch in branches for i in writes_to(branch)} if held else ()
        if runs_on_contents(tape, values, written):
            return _cond_on_contents(tape, values, slots, written, branches)
        return staged_cond(tape, values, slots, branches=branches, platforms=branches_platforms)
    return sweep.call_jaxpr(tape, cond_p, taken(branches, index), values[1:], slots[1:])


def _cond_on_contents(tape, values, slots, written, branches):
    """Each branch leaves the references' contents as it makes them."""

    def program(values, contents):
        index, *operands = values

        def run(branch, contents):
            filled, held = with_references(operands, contents)
            return function_of(branch)(*filled), held()

        return lax.switch(index, [functools.partial(run, branch) for branch in branches], contents)

    return run_on_contents(tape, values, slots, program, written)


class _Staged:
    """One branch, traced: a function of the operands that returns outputs, and a list of what it keeps besides, which
    goes to places in a pool."""

    def __init__(self, fun: Callable[..., Any], operands: Any) -> None:
        self.staged, (outs, own, *notes) = jax.make_jaxpr(fun, return_shape=True)(*operands)
        self.note: Any = notes[0] if notes else None
        self.own_tree = tree_structure(own)
        self.out_count = len(outs)
        self.own_types = [aval.update(weak_type=False) for aval in self.staged.out_avals[self.out_count :]]
        self.places: list[int] = []

    def take_places(self, pool: list[Any]) -> None:
        """Gives each value of its own a place in the pool, of its type; branches share places, a branch does not."""
        for kind in self.own_types:
            free = [i for i, other in enumerate(pool) if other == kind and i not in self.places]
            if not free:
                free = [len(pool)]
                pool.append(kind)
            self.places.append(free[0])

    def run(self, pool: list[Any], *operands: Any) -> Any:
        results = function_of(self.staged)(*operands)
        kept = dict(zip(self.places, results[self.out_count :]))
        return results[: self.out_count], [kept[i] if i in kept else full(kind, 0) for i, kind in enumerate(pool)]


def _switch(index, branches, platforms, *operands):
    """lax.switch; where the platform chooses, each branch is lowered for its own platforms alone."""
    if platforms is None:
        return lax.switch(index, branches, *operands)
    named = {name: branch for names, branch in zip(platforms, branches) for name in names or ()}
    default = [branch for names, branch in zip(platforms, branches) if names is None]
    return lax.platform_dependent(*operands, default=default[0] if default else None, **named)


def _switch_pooled(
    index: Any, staged: Sequence[_Staged], operands: Sequence[Any], platforms: Any = None
) -> tuple[list[Any], list[Any]]:
    """The outputs of the branch that is taken, and the pool."""
    pool: list = []
    for branch in staged:
        branch.take_places(pool)
    outs, pooled = _switch(index, [functools.partial(branch.run, pool) for branch in staged], platforms, *operands)
    return outs, pooled


@register_pytree_node_class
class Kept:
    """What the branches of a cond keep: the pool, and for each branch at which places of it its own leaves are, and
    their tree."""

    def __init__(self, pool: list[Any], places: tuple[tuple[tuple[int, ...], Any], ...]) -> None:
        self.pool, self.places = pool, places

    def tree_flatten(self) -> tuple[tuple[list[Any]], Any]:
        return (self.pool,), self.places

    @classmethod
    def tree_unflatten(cls, places: Any, children: Any) -> "Kept":
        return cls(children[0], places)


def switch_keeping(
    index: Any, branches: Sequence[Callable[..., Any]], operands: Sequence[Any], platforms: Any = None
) -> tuple[Any, Kept]:
    """The outputs of the branch that is taken, and what it keeps.

    Args:
      branches: `branch(kept, operands)` -> outputs; what is to be kept is appended to `kept`.
    """

    def function(branch):
        def run(*operands):
            kept: list = []
            return branch(kept, operands), kept

        return run

    staged = [_Staged(function(branch), operands) for branch in branches]
    outs, pool = _switch_pooled(index, staged, operands, platforms)
    return outs, Kept(pool, tuple((tuple(branch.places), branch.own_tree) for branch in staged))


NOTHING = tree_structure([])


@register_static
@dataclass(frozen=True, eq=False)
class _Note:
    """What is noted of a branch while it is traced: it stands among the results, so that it goes with the trace."""

    program: Any
    operands: list[int | None]  # for each residual, which operand it is; None: a value of the branch's own


def _forward(jaxpr, active, types, again, own_kept, wanted, *args):
    given = iter(args)
    values = [next(given) if t is None else t for t in types]
    places, tree = own_kept
    apply = again and functools.partial(again, iter(tree_unflatten(tree, [values[i] for i in places])))
    outs, program, residuals = record_jaxpr(jaxpr, values, active, apply, at_hand=lambda *_: args)
    positions = {id(x): i for i, (x, t) in enumerate(zip(values, types)) if t is None}
    operands = [positions.get(id(r)) for r in residuals]
    outs = outs if wanted is None else [y for y, w in zip(outs, wanted) if w]
    return outs, [r for r, i in zip(residuals, operands) if i is None], _Note(program, operands)


@functools.lru_cache(maxsize=1024)
def _branch_forward(jaxpr: Any, active: Any, types: Any, tangents: bool, rules: int) -> Callable[..., Any]:
    """The same function for a branch that is met again, whose trace JAX finds again."""
    del tangents, rules  # the trace depends on them
    return functools.partial(_forward, jaxpr, active, types, None, ((), NOTHING), None)


class _Branch(_Staged):
    """One branch, run forward: its program, and where its residuals are: among the operands, or in the pool."""

    def __init__(
        self,
        jaxpr: Any,
        active: Any,
        operands: Sequence[Any],
        again: Any = None,
        own_kept: tuple[Sequence[int], Any] = ((), NOTHING),
        wanted: Sequence[bool] | None = None,
    ) -> None:
        types = tuple(x if isinstance(x, AbstractValue) else None for x in operands)
        parts = (jaxpr, tuple(active), types)
        if again is None and wanted is None and not open_jaxpr(jaxpr)[1]:
            forward = _branch_forward(*parts, is_recording_tangents(), PRIMITIVES.version)
        else:
            forward = functools.partial(_forward, *parts, again, own_kept, wanted)
        super().__init__(forward, [x for x, t in zip(operands, types) if t is None])
        self.program, self.operands = self.note.program, self.note.operands

    def pull(self, avals: Any, wanted: Any, operands: Any, pooled: Any, cts: Any) -> Any:
        own = iter(self.places)
        residuals = [pooled[next(own)] if i is None else operands[i] for i in self.operands]
        bars = sweep.backward(self.program, residuals, cts)
        return [instantiate(bars[i], avals[i]) for i in wanted]


def staged_cond(
    tape: Any,
    values: list[Any],
    slots: list[Any],
    *,
    branches: Sequence[Any],
    again: Sequence[Any] | None = None,
    wanted: Sequence[bool] | None = None,
    kept: Kept | None = None,
    platforms: Any = None,
) -> tuple[list[Any], list[Any]]:
    """Records a cond as one switch forward and one backward.

    Args:
      platforms: for each branch the platforms that it is for, where the platform chooses.
      again, wanted, kept: of a cond that is computed again, for each branch
        `again(kept, tape, eqn, values, slots)`, which records an equation and finds what the branch kept in the
        iterator `kept`; which outputs are computed; and what the branches kept.  Of the other outputs the type stands
        in.
    """
    index, *operands = values
    own: list[tuple[Sequence[int], Any]] = [((), NOTHING)] * len(branches)
    if kept is not None:
        own = [([len(operands) + i for i in places], tree) for places, tree in kept.places]
        operands, slots = [*operands, *kept.pool], [*slots, *[None] * len(kept.pool)]
    active = [s is not None for s in slots[1:]]
    staged = [
        _Branch(branch, active, operands, step, places, wanted)
        for branch, step, places in zip(branches, again or [None] * len(branches), own)
    ]
    present = [x for x in operands if not isinstance(x, AbstractValue)]
    outs, pooled = _switch_pooled(index, staged, present, platforms)
    read = {i for branch in staged for i in branch.operands if i is not None}
    residuals = (index, [x if i in read else None for i, x in enumerate(operands)], pooled)
    avals = [type_of(x) for x in operands]
    pull_back = functools.partial(_cond_pull_back, staged, avals, active, platforms)
    out_slots = [
        tape.new_slot() if any(slot is not None for slot in places) else None
        for places in zip(*[branch.program.outputs for branch in staged])
    ]
    if wanted is not None:
        rest = iter(outs)
        types = open_jaxpr(branches[0])[0].outvars
        outs = [next(rest) if w else var.aval for w, var in zip(wanted, types)]
    return tape.call(cond_p, pull_back, residuals, slots, outs, out_slots)


def _cond_pull_back(branches, avals, active, platforms, residuals, cts):
    index, operands, pooled = residuals
    wanted = [i for i, a in enumerate(active) if a]
    pulls = [functools.partial(branch.pull, avals, wanted) for branch in branches]
    bars = dict(zip(wanted, _switch(index, pulls, platforms, operands, pooled, cts)))
    return [None, *[bars.get(i) for i in range(len(active))]]
