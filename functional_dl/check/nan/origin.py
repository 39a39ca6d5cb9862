"""Where a number that is not finite was born: back from a bad value, or from a bad cotangent, to finite ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check.equations import Step
from functional_dl.check.function import is_inexact, widen
from functional_dl.check.nan.walk import Walk
from functional_dl.jaxprs import Unstructured, frozen, needed, open_jaxpr

OFTEN = 8  # equations of a kind, from which their pullback is compiled


@dataclass(frozen=True)
class Origin:
    """A step, the entry of its output (or operand) where it happened, and the cotangents it was given.

    Fields:
      step: the step.
      position: of the output; backward, of the operand.
      index: the entry.
      direction: "forward" or "backward".
      cts: the cotangents of its outputs, backward.
      masked: the number itself does not reach fun's value: a `where` leaves it out.
    """

    step: Step
    position: int
    index: tuple[int, ...]
    direction: str
    cts: tuple[Any, ...] = ()
    masked: bool = False


def origin_of(walk: Walk, differentiate: Callable[..., Any]) -> Origin | None:
    """The origin of what is not finite in the values, or else in the cotangents; None where all is."""
    for name in walk.outputs:
        if is_bad(walk.values[name]):
            return forward_origin(walk, name)
    sweep = Sweep(walk, differentiate)
    bad = [name for name in walk.inputs if name in sweep.cts and is_bad(sweep.cts[name])]
    origin = _backward_origin(sweep, bad[0]) if bad else None
    return None if origin is None else _behind_a_mask(sweep, origin) or origin


def is_bad(x: Any) -> bool:
    """Whether some entry is not finite."""
    return is_inexact(x) and not bool(np.isfinite(widen(x)).all())


def _has_nan(x) -> bool:
    return is_inexact(x) and bool(np.isnan(widen(x)).any())


def first_bad(x: Any) -> tuple[int, ...]:
    """The first entry that is NaN, or else infinite."""
    mask = np.isnan(widen(x)) if _has_nan(x) else ~np.isfinite(widen(x))
    return tuple(int(i) for i in np.argwhere(mask)[0])


# --- forward ----------------------------------------------------------------------------------------------------------


def forward_origin(walk: Walk, name: int) -> Origin | None:
    """Back from a non-finite value to the step that made it of finite ones; where infinities were given (a mask of
    -inf), to the step that made NaN of them."""
    made = {out: step for step in walk.steps for out in step.outs}
    order = {out: n for n, step in enumerate(walk.steps) for out in step.outs}
    spoiler = None
    seen = set()
    while name in made:
        step = made[name]
        seen.add(name)
        bad = [i for i in step.ins if is_bad(walk.values[i])]
        nan = [i for i in bad if _has_nan(walk.values[i])]
        if not nan and _has_nan(walk.values[name]):
            spoiler = (step, name)
        onward = [i for i in (nan or bad) if i in made and i not in seen]
        if not bad:
            return _origin(walk, step, name)
        if not onward:
            break
        name = min(onward, key=lambda i: order[i])
    return _origin(walk, *spoiler) if spoiler is not None else None


def _origin(walk, step, name) -> Origin:
    return Origin(step, step.outs.index(name), first_bad(walk.values[name]), "forward")


# --- backward ---------------------------------------------------------------------------------------------------------


def step_pullback(step: Step, places: Sequence[int], differentiate: Callable[..., Any]) -> Callable[..., Any]:
    """(operands, cotangents of the outputs) -> cotangents of the operands at these places."""

    def pulled(values, given):
        def of(*active):
            full = list(values)
            for j, x in zip(places, active):
                full[j] = x
            return step.fun(*full)

        return differentiate(of, *[values[j] for j in places])[1](list(given))

    return pulled


@dataclass(frozen=True)
class Term:
    """A cotangent that a step gave to one of its operands, at a position; `given` are those of its outputs."""

    step: Step
    position: int
    bar: Any
    given: tuple[Any, ...]


class Sweep:
    """The backward sweep of a walk, with a cotangent of ones.

    Attributes:
      walk: what is swept.
      cts: name -> cotangent.
      terms: name -> what its uses gave to it.
    """

    walk: Walk

    def __init__(self, walk: Walk, differentiate: Callable[..., Any]) -> None:
        self.walk, self.differentiate = walk, differentiate
        self.cts: dict[int, Any] = {}
        self.terms: dict[int, list[Term]] = {}
        self._compiled: dict[Any, Any] = {}
        self._needed = set(walk.inputs)
        for step in walk.steps:
            if self._needed.intersection(step.ins):
                self._needed.update(step.outs)
        self._kinds = {id(step): self._kind(step) for step in walk.steps} if len(walk.steps) > OFTEN else {}
        counts: dict[Any, int] = {}
        for kind in self._kinds.values():
            counts[kind] = counts.get(kind, 0) + 1
        self._kinds = {i: kind for i, kind in self._kinds.items() if kind is not None and counts[kind] >= OFTEN}
        self._run()

    def _run(self) -> None:
        walk = self.walk
        for name in walk.outputs:
            value = walk.values[name]
            if is_inexact(value) and name in self._needed:
                self._add(name, jnp.ones(jnp.shape(value), value.dtype))
        for step in reversed(walk.steps):
            if not any(name in self.cts for name in step.outs) or not self._needed.intersection(step.ins):
                continue
            given = tuple(self._ct(name) for name in step.outs)
            for j, bar in self.pull(step, given).items():
                self._add(step.ins[j], bar)
                self.terms.setdefault(step.ins[j], []).append(Term(step, j, bar, given))

    def _add(self, name, ct) -> None:
        self.cts[name] = ct if name not in self.cts else self.cts[name] + ct

    def _ct(self, name):
        value = self.walk.values[name]
        if not is_inexact(value):
            return np.zeros(jnp.shape(value), jax.float0)
        return self.cts[name] if name in self.cts else jnp.zeros(jnp.shape(value), value.dtype)

    def _kind(self, step):
        """What the steps share that one compiled pullback serves."""
        values = [self.walk.values[i] for i in (*step.ins, *step.outs)]
        try:
            kind = step.name, frozen(step.params), tuple((np.shape(v), str(jnp.result_type(v))) for v in values)
            hash(kind)
        except (Unstructured, TypeError):
            return None
        return (*kind, tuple(i in self._needed for i in step.ins))

    def pull(self, step: Step, given: Sequence[Any], values: Sequence[Any] | None = None) -> dict[int, Any]:
        """The cotangents of a step's operands, by position; at other values of theirs, if these are given."""
        own = [self.walk.values[i] for i in step.ins] if values is None else list(values)
        places = [j for j, i in enumerate(step.ins) if i in self._needed and is_inexact(self.walk.values[i])]
        if not places:
            return {}
        pulled = step_pullback(step, places, self.differentiate)
        kind = self._kinds.get(id(step))
        try:
            if kind is None or any(ct.dtype == jax.float0 for ct in given):
                bars = pulled(own, given)
            else:
                if kind not in self._compiled:
                    self._compiled[kind] = jax.jit(pulled)
                bars = self._compiled[kind](own, list(given))
        except (NotImplementedError, ValueError):  # no derivative: a callback, a while_loop that is too long to walk
            return {}
        found = {j: bar for j, bar in zip(places, bars) if bar is not None and bar.dtype != jax.float0}
        if found and not any(np.any(bar) for bar in found.values()) and any(np.any(_floats(ct)) for ct in given):
            return self._dependent(found, places, lambda given: pulled(own, given), given)
        return found

    @staticmethod
    def _dependent(found, places, pulled, given):
        """Without the operands whose cotangent is zero whatever it is given (stop_gradient, floor): to JAX that is no
        number, and nothing is multiplied by it."""
        jaxpr = open_jaxpr(jax.make_jaxpr(pulled)(list(given)))[0]
        outvars = dict(zip([j for j in places if j in found], jaxpr.outvars)) if len(found) == len(places) else {}

        def reads(var):
            return any(i is var for i in jaxpr.invars) or any(
                atom is i for eqn in needed(jaxpr, [var]) for atom in eqn.invars for i in jaxpr.invars
            )

        return {j: bar for j, bar in found.items() if j not in outvars or reads(outvars[j])}


def _floats(ct):
    return np.zeros(()) if ct.dtype == jax.float0 else ct


def _backward_origin(sweep: Sweep, name: int) -> Origin | None:
    """From a non-finite cotangent, entry by entry, to the step that made it of finite ones."""
    index = first_bad(sweep.cts[name])
    while name in sweep.terms:
        spoiled = [term for term in sweep.terms[name] if not np.isfinite(widen(term.bar)[index])]
        if not spoiled:  # a sum of finite cotangents that overflows
            last = sweep.terms[name][-1]
            return Origin(last.step, last.position, index, "backward", last.given)
        term = spoiled[0]
        finite = [_cleared(ct) for ct in term.given]
        if _spoils(sweep, term, finite, index):
            return Origin(term.step, term.position, index, "backward", tuple(finite))
        found = _culprit(sweep, term, finite, index)
        if found is None:
            return Origin(term.step, term.position, index, "backward", term.given)
        name, index = term.step.outs[found[0]], found[1]
    return None


def _cleared(ct):
    return ct if ct.dtype == jax.float0 else jnp.where(jnp.isfinite(ct), ct, jnp.zeros((), ct.dtype))


def _spoils(sweep, term, given, index) -> bool:
    """Whether these cotangents of the step's outputs make the operand's entry non-finite."""
    bar = sweep.pull(term.step, given).get(term.position)
    return bar is not None and not bool(np.isfinite(widen(bar)[index]))


def _culprit(sweep, term, finite, index) -> tuple[int, tuple[int, ...]] | None:
    """The output, and its entry, whose non-finite cotangent makes the operand's entry non-finite: by halving."""
    places = [
        (o, tuple(int(i) for i in place))
        for o, ct in enumerate(term.given)
        if ct.dtype != jax.float0
        for place in np.argwhere(~np.isfinite(widen(ct)))
    ]

    def kept(chosen):
        given = [np.array(ct) if ct.dtype != jax.float0 else ct for ct in finite]
        for o, place in chosen:
            given[o][place] = np.asarray(term.given[o])[place]
        return [ct if ct.dtype == jax.float0 else jnp.asarray(ct) for ct in given]

    while len(places) > 1:
        half = places[: len(places) // 2]
        places = half if _spoils(sweep, term, kept(half), index) else places[len(places) // 2 :]
    return places[0] if places else None


def _behind_a_mask(sweep: Sweep, origin: Origin) -> Origin | None:
    """Where a step's cotangent is not finite for its operand or its result is not: the step that made that one."""
    walk, step = sweep.walk, origin.step
    values = [walk.values[i] for i in step.ins]
    infinite = [i for i, v in zip(step.ins, values) if hasattr(v, "dtype") and is_inexact(v) and is_bad(v)]
    masked = selected_later(walk, step)
    if infinite:
        calm = [_cleared(v) if hasattr(v, "dtype") and is_inexact(v) else v for v in values]
        bar = sweep.pull(step, origin.cts, calm).get(origin.position)
        if bar is None or not np.isfinite(widen(bar)[origin.index]):
            return None  # it is not for them
        for name in infinite:
            found = forward_origin(walk, name)
            if found is not None:
                return replace(found, masked=selected_later(walk, found.step))
        return None
    for o, name in enumerate(step.outs):
        value = walk.values[name]
        if is_inexact(value) and is_bad(value):
            same = np.shape(value) == np.shape(values[origin.position])
            index = origin.index if same and not np.isfinite(widen(value)[origin.index]) else first_bad(value)
            return Origin(step, o, index, "forward", masked=masked)
    return None


def selected_later(walk: Walk, step: Step) -> bool:
    """Whether a step's result goes into a choice between values."""
    names = set(step.outs)
    for later in walk.steps:
        if names.intersection(later.ins):
            if later.name in ("select_n", "max", "min", "clamp"):
                return True
            names.update(later.outs)
    return False
