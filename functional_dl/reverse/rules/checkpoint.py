"""Programs that are computed again in the backward sweep: jax.checkpoint, and its policies."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend.core import Literal
from jax.extend.core.primitives import cond_p, remat_p, scan_p
from jax.extend.source_info_util import extend_name_stack

from functional_dl.jaxprs import PLAIN, bind, called, equations, interpret, open_jaxpr, scan_sizes, taken
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import CALL_BAR, call
from functional_dl.reverse.rule import Probe, Rule, entry_of, is_constant, rule_of
from functional_dl.reverse.rules.cond import staged_cond, switch_keeping
from functional_dl.reverse.rules.parallel import Again as ShardsAgain
from functional_dl.reverse.rules.parallel import Kept, shard_map_p, shards_again, shards_keeping
from functional_dl.reverse.rules.references import holds_references
from functional_dl.reverse.rules.scan import Again, active_carries, scan_keeping, staged_scan
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import active_outputs, is_saved, saves
from functional_dl.reverse.values import is_differentiable, is_reference, reused


class _Part(NamedTuple):
    """What the backward sweep does with one equation of a checkpointed program.

    Attributes:
      reads: which operands have to be there.
      runs: whether it computes the equation again; if not, nobody reads the outputs, or they are kept.
      saved: whether the outputs are kept.
      inner: the plans of the programs that the equation holds and that are entered.
      live: of a loop or branches, which outputs are read.
    """

    reads: list[bool]
    runs: bool = False
    saved: bool = False
    inner: tuple["_Plan", ...] = ()
    live: Sequence[bool] = ()

    @property
    def saves(self) -> bool:
        return self.saved or any(plan.saves for plan in self.inner)


class _Plan:
    """What the backward sweep of a checkpointed program computes again, what it finds kept, and what it leaves out.

    Found by going back from the values that are read: an equation's rule says which of its operands and outputs it
    reads; an equation is computed again if an output is read and not kept, and then reads its operands.  So the
    last equations, whose outputs only the caller wanted, are not computed again.

    Attributes:
      parts: id of an equation -> what is done with it.
      reads: which inputs of the program are read.
      kept: of a program with effects, the values that the policy saves.
    """

    def __init__(
        self, jaxpr: Any, active: Sequence[bool], wanted: Sequence[bool], policy: Any, kept: Sequence[bool] = ()
    ) -> None:
        self.policy = policy
        inner, _ = open_jaxpr(jaxpr)
        operands = _active_operands(inner, active)
        live = {atom for atom, w in zip(inner.outvars, wanted) if w and not isinstance(atom, Literal)}
        self.kept = {var for var, k in zip(inner.invars, kept) if k}
        if inner.effects:
            self.kept.update(_kept_by(policy, inner))
        self.parts: dict[int, _Part] = {}
        for eqn in reversed(equations(inner)):
            part = self.parts[id(eqn)] = self._part(eqn, operands[id(eqn)], [var in live for var in eqn.outvars])
            live.update(atom for atom, r in zip(eqn.invars, part.reads) if r and not isinstance(atom, Literal))
        self.reads = [var in live for var in inner.invars]
        self.saves = any(part.saves for part in self.parts.values())

    def saves_in_loops(self) -> bool:
        """Whether something is kept within a loop or a branch."""
        entered = [part for part in self.parts.values() if part.inner]
        return any((part.live and part.saves) or any(p.saves_in_loops() for p in part.inner) for part in entered)

    def _part(self, eqn: Any, active: list[bool], live: list[bool]) -> _Part:
        everything, nothing = [True] * len(eqn.invars), [False] * len(eqn.invars)
        if any(is_reference(v.aval) for v in [*eqn.invars, *eqn.outvars]):
            return _Part(everything, runs=True)
        if eqn.effects:  # a print runs again, unless it is saved; even so where nothing that it prints is
            kept = any(self._are_kept(eqn.invars)) and saves(self.policy, eqn, [v.aval for v in eqn.invars])
            return _Part(nothing, saved=any(live)) if kept else _Part(everything, runs=True)
        if not any(active) and not any(live):
            return _Part(nothing)
        program = called(eqn.primitive, eqn.params, PLAIN)
        if program is not None:
            plan = _Plan(program, active, live, self.policy, self._are_kept(eqn.invars))
            return _Part(plan.reads, inner=(plan,))
        if eqn.primitive is cond_p:
            plans = tuple(_Plan(branch, active[1:], live, self.policy) for branch in eqn.params["branches"])
            return _Part([True, *map(any, zip(*[plan.reads for plan in plans]))], True, inner=plans, live=live)
        if eqn.primitive is scan_p:
            carries = active_carries(eqn.params["jaxpr"], active, *scan_sizes(eqn.params, eqn.invars))
            rows = live[scan_sizes(eqn.params, eqn.invars)[1] :]  # the states are read by the next step
            states = [True] * (len(live) - len(rows))
            plan = _Plan(eqn.params["jaxpr"], carries, [*states, *rows], self.policy)
            return _Part(everything, True, inner=(plan,), live=[*states, *rows])
        if eqn.primitive is shard_map_p and self.policy is not None:
            plan = _Plan(eqn.params["jaxpr"], active, live, self.policy)
            return _Part(plan.reads, True, inner=(plan,), live=live)
        if eqn.primitive is remat_p and self.policy is not None:
            plan = _Plan(eqn.params["jaxpr"], active, [True] * len(live), self.policy)
            if plan.saves and not plan.saves_in_loops():
                return _Part(everything, True, inner=(plan,))
        saved = self.policy is not None and saves(self.policy, eqn, [v.aval for v in eqn.invars])
        rule = rule_of(eqn.primitive) if any(active) and not is_constant(eqn.primitive) else None
        if rule is not None and rule.forward is None:
            out, *reads = rule.kept(tuple(active))
            needed = out or any(live)
            return _Part(everything if needed and not saved else reads, needed and not saved, needed and saved)
        recorded = any(active) and isinstance(entry_of(eqn.primitive), Rule | None)  # by running it, or it has no rule
        if saved and not recorded:
            return _Part(nothing, saved=any(live))
        needed = recorded or any(live)
        return _Part(everything if needed else nothing, runs=needed)

    def _are_kept(self, atoms: Sequence[Any]) -> list[bool]:
        """Of a program with effects, which of these values the policy saves."""
        return [not isinstance(v, Literal) and v in self.kept for v in atoms]


def _active_operands(jaxpr: Any, active: Sequence[bool]) -> dict[int, list[bool]]:
    """For each equation, which operands can depend on the active inputs."""
    live = {var for var, a in zip(jaxpr.invars, active) if a}
    found = {}
    for eqn in equations(jaxpr):
        found[id(eqn)] = flags = [not isinstance(atom, Literal) and atom in live for atom in eqn.invars]
        if any(flags) and not is_constant(eqn.primitive):
            live.update(var for var in eqn.outvars if is_differentiable(var.aval) or is_reference(var.aval))
            live.update(atom for atom in eqn.invars if is_reference(atom.aval))  # it may be written to
    return found


def _kept_by(policy, jaxpr) -> set[Any]:
    """The values that a policy saves."""
    eqns = equations(jaxpr) if policy is not None else []
    return {var for eqn in eqns if saves(policy, eqn, [v.aval for v in eqn.invars]) for var in eqn.outvars}


def _keeping(plan: _Plan, saved: list[Any], run: Callable[..., Any], eqn: Any, operands: Sequence[Any]) -> Any:
    """The forward run of an equation: its outputs; what the backward sweep finds kept is appended to `saved`."""
    part = plan.parts[id(eqn)]
    program = called(eqn.primitive, eqn.params, PLAIN)
    if program is not None and part.inner:
        return interpret(program, operands, functools.partial(_keeping, part.inner[0], saved, run))
    if not part.saves:
        return run(eqn, operands)
    if eqn.primitive is remat_p:
        return interpret(eqn.params["jaxpr"], operands, functools.partial(_keeping, part.inner[0], saved, run))
    if eqn.primitive is cond_p:
        steps = [
            lambda kept, operands, branch=branch, inner=inner: interpret(
                branch, operands, functools.partial(_keeping, inner, kept, _bound)
            )
            for branch, inner in zip(eqn.params["branches"], part.inner)
        ]
        outs, kept = switch_keeping(operands[0], steps, operands[1:], eqn.params.get("branches_platforms"))
        saved.append(kept)
        return outs
    if eqn.primitive is scan_p:
        once = functools.partial(_keeping, part.inner[0], saved, run)
        step = lambda kept: functools.partial(_keeping, part.inner[0], kept, _bound)
        outs, rows = scan_keeping(operands, once, step, **eqn.params)
        saved.append(rows)
        return outs
    if eqn.primitive is shard_map_p and part.inner:
        step = lambda kept: functools.partial(_keeping, part.inner[0], kept, _bound)
        outs, kept = shards_keeping(operands, step, eqn.params)
        saved.append(kept)
        return outs
    outs = run(eqn, operands)
    saved.extend(outs)
    return outs


def _bound(eqn, operands):
    return bind(eqn.primitive, operands, eqn.params)


def _again(plan: _Plan, kept: Iterator[Any], tape: Any, eqn: Any, values: Any, slots: Any) -> Any:
    """Records an equation in the backward sweep.  Of what is not there, because nobody reads it, the type stands in."""
    part = plan.parts[id(eqn)]
    program = called(eqn.primitive, eqn.params, PLAIN)
    if program is not None and part.inner:
        return tape.replay(program, values, slots, functools.partial(_again, part.inner[0], kept, tape))
    if part.inner and eqn.primitive is cond_p:
        if not part.saves and not sweep.is_traced(values[:1]):
            branch = taken(range(len(part.inner)), values[0])
            again = functools.partial(_again, part.inner[branch], kept, tape)
            return tape.replay(eqn.params["branches"][branch], values[1:], slots[1:], again)
        pooled = next(kept) if part.saves else None
        steps = [functools.partial(_again, inner) for inner in part.inner]
        parts = {"branches": eqn.params["branches"], "platforms": eqn.params.get("branches_platforms")}
        return staged_cond(tape, values, slots, **parts, again=steps, wanted=part.live, kept=pooled)
    if part.inner and eqn.primitive is scan_p and (part.saves or sweep.is_traced(values)):
        once = functools.partial(_again, part.inner[0], kept, tape)
        step = functools.partial(_again, part.inner[0])
        again = Again(once, step, kept if part.saves else iter([[]]), part.live, [v.aval for v in eqn.outvars])
        return staged_scan(tape, values, slots, again=again, **eqn.params)
    if part.inner and eqn.primitive is shard_map_p and any(slot is not None for slot in slots):
        step = functools.partial(_again, part.inner[0])
        types = [v.aval for v in eqn.outvars]
        again = ShardsAgain(step, next(kept) if part.saves else Kept([]), part.live, types)
        return shards_again(tape, values, slots, eqn.params, again)
    if part.inner and eqn.primitive is remat_p:
        jaxpr, inner, cse = (eqn.params[name] for name in ("jaxpr", "policy", "prevent_cse"))
        given = dict(_given(part.inner[0], jaxpr, kept))
        policy = functools.partial(_either, plan.policy, inner)
        return _staged(tape, values, slots, jaxpr=jaxpr, prevent_cse=cse, policy=policy, given=given)
    if part.runs:
        return tape.apply(eqn.primitive, values, slots, eqn.params)
    outs = [next(kept) if part.saved else var.aval for var in eqn.outvars]
    if all(slot is None for slot in slots):
        return outs, [None] * len(outs)
    return tape.note(eqn.primitive, rule_of(eqn.primitive), eqn.params, values, slots, outs)


def _given(plan: _Plan, jaxpr: Any, kept: Iterator[Any]) -> Iterator[tuple[int, list[Any]]]:
    """What was kept of a checkpointed program within another one, by the other one's policy: the ids of equations, and
    their outputs."""
    for eqn in equations(jaxpr):
        part = plan.parts[id(eqn)]
        program = eqn.params["jaxpr"] if eqn.primitive is remat_p else called(eqn.primitive, eqn.params, PLAIN)
        if program is not None and part.inner:
            yield from _given(part.inner[0], program, kept)
        elif part.saved:
            yield id(eqn), [next(kept) for _ in eqn.outvars]


def _either(outer: Any, inner: Any, primitive: Any, *types: Any, **params: Any) -> Any:
    """The policy that saves what either of two saves."""
    answer = outer(primitive, *types, **params)
    return inner(primitive, *types, **params) if inner is not None and not is_saved(answer) else answer


@call_rule(
    remat_p,
    Probe(lambda x: jax.checkpoint(lambda y: lax.sin(lax.exp(y)))(x), exact=lambda mp, x: mp.sin(mp.exp(x))),
    Probe(lambda x: jax.checkpoint(lambda y: jax.jit(_twice)(y))(x), shapes=((2, 2),), dtypes=("float64",)),
    Probe(lambda x: jax.checkpoint(_twice, policy=jax.checkpoint_policies.everything_saveable)(x), shapes=((2, 2),)),
    Probe(lambda x: jax.checkpoint(_twice, policy=jax.checkpoint_policies.dots_saveable)(x), shapes=((2, 2),)),
    latex=(call, CALL_BAR + r" \quad (f \text{ computed again})"),
    takes_references=True,
)
def checkpoint_forward(
    tape: Any,
    values: Any,
    slots: Any,
    *,
    jaxpr: Any,
    prevent_cse: bool | tuple[bool, ...] = True,
    policy: Any = None,
    **_: Any,
) -> Any:
    """y = f(x), of which x alone is kept  =>  x_bar = (df/dx)^T y_bar, with f run forward again in the backward pass.

    A policy names equations whose outputs are kept too, at any depth: of a scan's step as a stack, of a cond's branches
    in one pool.  The second forward run takes these instead of computing them, and what neither it nor a cotangent
    reads it leaves out.
    A program that works on the caller's references is not run twice: its equations join the caller's.
    """
    if holds_references(values):
        return tape.replay(jaxpr, values, slots)
    once = [
        effect for effect in open_jaxpr(jaxpr)[0].effects if type(effect).__name__ in ("IOEffect", "OrderedIOEffect")
    ]
    if once:
        raise NotImplementedError(
            f"Effects not supported in partial-eval of `checkpoint`/`remat`: {once}. What is computed again in the "
            "backward pass would have them twice: call jax.experimental.io_callback outside of jax.checkpoint."
        )
    params = {"jaxpr": jaxpr, "prevent_cse": prevent_cse, "policy": policy}
    if not sweep.is_traced(values) and _plan_of(jaxpr, slots, policy).saves_in_loops():
        return sweep.compiled_call(tape, remat_p, _staged, values, slots, **params)  # not a new loop with each call
    return _staged(tape, values, slots, **params)


def _plan_of(jaxpr, slots, policy):
    return _Plan(jaxpr, [s is not None for s in slots], [False] * len(open_jaxpr(jaxpr)[0].outvars), policy)


def _staged(tape, values, slots, *, jaxpr, prevent_cse, policy, given=None):
    active = [s is not None for s in slots]
    plan = _plan_of(jaxpr, slots, policy)
    saved: list = []

    def run(eqn, operands):
        if given and id(eqn) in given:
            return given[id(eqn)]
        return tape.apply(eqn.primitive, operands, [None] * len(operands), eqn.params)[0]

    def keep(eqn, operands, unslotted):
        outs = _keeping(plan, saved, run, eqn, operands)
        return outs, [None] * len(outs)

    outs, _ = tape.replay(jaxpr, values, [None] * len(values), keep)
    types = [None if r else jax.typeof(v) for v, r in zip(values, plan.reads)]
    barred = prevent_cse if isinstance(prevent_cse, tuple) else (prevent_cse,) * len(values)
    pull_back = functools.partial(_recompute_and_pull_back, jaxpr, active, barred, plan, types)
    out_slots = [tape.new_slot() if a else None for a in active_outputs(jaxpr, active)]
    read = [v for v, r in zip(values, plan.reads) if r]
    return tape.call(remat_p, pull_back, (read, saved), slots, outs, out_slots)


def _twice(x):
    y = lax.sin(x)
    for _ in range(2):
        y = lax.sin(lax.dot(y, y))
    return y


def _recompute_and_pull_back(jaxpr, active, barred, plan, types, residuals, cts):
    read, saved = residuals
    rest = iter(read)
    values = [reused(next(rest)) if t is None else t for t in types]  # of what is not read the type stands in
    if any(barred):
        # Without the barrier XLA would find the first forward run's values equal and keep them after all.
        places = [i for i, (t, b) in enumerate(zip(types, barred)) if b and t is None]
        present = [ct for ct in cts if ct is not None]
        behind, present = lax.optimization_barrier(([values[i] for i in places], present))
        for i, v in zip(places, behind):
            values[i] = reused(v)
        present = iter(present)
        cts = [None if ct is None else next(present) for ct in cts]
    again = functools.partial(_again, plan, iter(saved))
    with extend_name_stack("checkpoint/rematted_computation"):  # so JAX names what is computed again
        _, pull_back = sweep.forward_jaxpr(jaxpr, values, active, again)
    return pull_back(cts)
