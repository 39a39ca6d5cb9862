"""Branches: lax.cond and lax.switch."""

import functools
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core.primitives import cond_p

from functional_dl.aliases import Array
from functional_dl.jaxprs import function_of, taken
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import Terms, bar
from functional_dl.reverse.rule import Probe
from functional_dl.reverse.rules.references import holds_references, run_on_contents, with_references
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import record_jaxpr, writes_to
from functional_dl.reverse.values import instantiate
from functional_dl.sharding import full


def _switch(i):
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
    Probe(_switch(0), shapes=((3,), (3,))),
    Probe(_switch(1), shapes=((3,), (3,))),
    Probe(_switch(2), shapes=((3,), (3,))),
    Probe(lambda x: lax.cond(lax.reduce_sum(x, (0,)) > 0, lambda y: lax.sin(y), lambda y: lax.square(y), x)),
    latex=(_cond_latex, _cond_bar_latex),
    takes_references=True,
)
def cond_forward(
    tape: Any, values: list[Array], slots: list[Any], *, branches: tuple[Any, Any], **_: Any
) -> tuple[list[Array], list[int]]:
    """y = f_i(x)  =>  x_bar = (df_i/dx)^T y_bar for the branch i that was taken; the index has no cotangent."""
    index = values[0]
    if sweep.is_traced([index]):
        if holds_references(values):
            return _cond_on_contents(tape, values, slots, branches)
        return _staged_cond(tape, values, slots, branches=branches)
    return sweep.call_jaxpr(tape, cond_p, taken(branches, index), values[1:], slots[1:])


def _cond_on_contents(tape, values, slots, branches):
    """Each branch leaves the references' contents as it makes them."""

    def program(values, contents):
        index, *operands = values

        def run(branch, contents):
            filled, held = with_references(operands, contents)
            return function_of(branch)(*filled), held()

        return lax.switch(index, [functools.partial(run, branch) for branch in branches], contents)

    written = {i + 1 for branch in branches for i in writes_to(branch)}
    return run_on_contents(tape, values, slots, program, written)


class _Branch:
    """One branch, run forward: its program, and where its residuals are: among the operands, or in the pool."""

    def __init__(self, jaxpr: Any, active: Any, operands: Any) -> None:
        def forward(*args):
            outs, self.program, residuals = record_jaxpr(jaxpr, args, active, at_hand=lambda *_: args)
            positions = {id(arg): i for i, arg in enumerate(args)}
            self.operands = [positions.get(id(r)) for r in residuals]  # None: a value of the branch's own
            return outs, [r for r, i in zip(residuals, self.operands) if i is None]

        self.staged, (outs, _) = jax.make_jaxpr(forward, return_shape=True)(*operands)
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

    def pull(self, avals: Any, wanted: Any, operands: Any, pooled: Any, cts: Any) -> Any:
        own = iter(self.places)
        residuals = [pooled[next(own)] if i is None else operands[i] for i in self.operands]
        bars = sweep.backward(self.program, residuals, cts)
        return [instantiate(bars[i], avals[i]) for i in wanted]


def _staged_cond(tape, values, slots, *, branches):
    index, *operands = values
    active = [s is not None for s in slots[1:]]
    staged = [_Branch(branch, active, operands) for branch in branches]
    pool: list = []
    for branch in staged:
        branch.take_places(pool)
    outs, pooled = lax.switch(index, [functools.partial(branch.run, pool) for branch in staged], *operands)
    read = {i for branch in staged for i in branch.operands if i is not None}
    residuals = (index, [x if i in read else None for i, x in enumerate(operands)], pooled)
    avals = [jax.typeof(x) for x in operands]
    pull_back = functools.partial(_cond_pull_back, staged, avals, active)
    out_slots = [
        tape.new_slot() if any(slot is not None for slot in places) else None
        for places in zip(*[branch.program.outputs for branch in staged])
    ]
    return tape.call(cond_p, pull_back, residuals, slots, outs, out_slots)


def _cond_pull_back(branches, avals, active, residuals, cts):
    index, operands, pooled = residuals
    wanted = [i for i, a in enumerate(active) if a]
    pulls = [functools.partial(branch.pull, avals, wanted) for branch in branches]
    bars = dict(zip(wanted, lax.switch(index, pulls, operands, pooled, cts)))
    return [None, *[bars.get(i) for i in range(len(active))]]
