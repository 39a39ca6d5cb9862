"""find_nan: the equation, forward or backward, that turned finite numbers into NaN or infinity."""

import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from functional_dl.aliases import PyTree
from functional_dl.check import equations
from functional_dl.check.equations import Step
from functional_dl.check.function import is_inexact, widen
from functional_dl.check.nan import mechanisms, mends
from functional_dl.check.nan.walk import InnerWalk, Walk
from functional_dl.jaxprs import Unstructured, frozen, needed, open_jaxpr
from functional_dl.precision import nan_allowed

_JAX, _HERE = (f"{Path(file).parent}{os.sep}" for file in (str(jax.__file__), __file__))
OFTEN = 8  # equations of a kind, from which their pullback is compiled
COMPOSITE = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_linear_solve"}


@dataclass(frozen=True)
class NanReport:
    """Where a non-finite number first appears.

    Fields:
      found: whether the value or the gradient holds a NaN or an infinity that some equation made.
      direction: "forward" or "backward": whether the equation's result or its cotangent is the first that is not
        finite.  What a `where` leaves unselected is "forward" too, though only the gradient shows it.
      equation: the primitive's name.
      source: "file:line" in the user's source.
      mechanism: in words, how it happened.
      suggestion: a rewrite that fixes it.
      verified: the suggestion is an expression in place of the equation that was run as it is printed: value and
        gradient are finite, and no finite value changes, here or elsewhere.
      operands: the values at the entry where it happened, by name.
      layer: the path of the layer that the equation belongs to, as params have it: "blocks/1/hidden"; with any names
        of jax.named_scope around it.  "" outside of all.
      given: the arguments that hold NaN or infinity themselves, in words; "" where none does.
      loops: a sentence for each loop that was too long to be taken apart.
    """

    found: bool
    direction: str = ""
    equation: str = ""
    source: str = ""
    mechanism: str = ""
    suggestion: str = ""
    verified: bool = False
    operands: dict[Any, Any] = field(default_factory=dict)
    layer: str = ""
    given: str = ""
    loops: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = []
        if self.found:
            shown = ", ".join(f"{name} = {value}" for name, value in self.operands.items())
            layer = f" in {self.layer}" if self.layer else ""
            run = "run in its place: value and gradient are finite, and no finite value changes"
            lines = [
                f"{self.source}: {self.equation}{layer}, {self.direction}: {self.mechanism}",
                f"  there {shown}",
                f"  rewrite ({run}): {self.suggestion}" if self.verified else f"  advice: {self.suggestion}",
            ]
        elif not self.given:
            lines = ["no NaN or infinity: the value and its gradient are finite"]
        else:
            lines = ["no equation makes NaN or infinity of finite numbers"]
        lines += [f"  given: {self.given}"] if self.given else []
        return "\n".join([*lines, *[f"  note: {loop}" for loop in self.loops]])


def find_nan(fun: Callable[..., Any], *primals: PyTree, differentiate: Callable[..., Any] = jax.vjp) -> NanReport:
    r"""Finds the first equation that turns finite numbers into non-finite ones, in fun or in its gradient.

    fun is run equation by equation (through jit, vmap, scan, while, cond, checkpoint).  If its value is finite, so is
    its backward sweep, with a cotangent of ones, each equation differentiated on its own.

    Args:
      fun: function of pytrees of arrays that JAX can trace.
      *primals: where it misbehaves.
      differentiate: how an equation is differentiated: `jax.vjp`, or `functional_dl.reverse.vjp`.
    Returns:
      NanReport; `found` is False where value and gradient are finite, or no more than what is given makes them so.
    Raises:
      TypeError: fun is not callable, or branches in Python on a value that it computes.
    """
    if not callable(fun):
        raise TypeError(f"fun: expected a callable, got {fun!r}")
    with nan_allowed():
        try:
            walk = Walk(fun, primals)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            raise TypeError(
                "fun: it uses the value of an array in Python (if, while, int(), NumPy) where it is traced: use "
                "jnp.where, jax.lax.cond or jnp's functions, or hand over what is fixed by functools.partial. "
                f"JAX says: {str(error).splitlines()[0]}"
            ) from error
        report = partial(NanReport, given=_given(primals), loops=tuple(walk.loops))
        for name in walk.outputs:
            if _bad(walk.values[name]):
                origin = _forward_origin(walk, name)
                return report(False) if origin is None else _report(walk, origin, differentiate, report)
        sweep = Sweep(walk, differentiate)
        bad = [name for name in walk.inputs if name in sweep.cts and _bad(sweep.cts[name])]
        origin = _backward_origin(sweep, bad[0]) if bad else None
        if origin is None:
            return report(False)
        return _report(walk, _behind_a_mask(sweep, origin) or origin, differentiate, report)


def _given(primals) -> str:
    found = []
    for path, x in tree_leaves_with_path(primals):
        if hasattr(x, "dtype") and is_inexact(x) and _bad(x):
            index = _first_bad(x)
            at = f"[{', '.join(map(str, index))}]" if index else ""
            found.append(f"args{keystr(path)}{at} is {np.asarray(widen(x))[index]:.4g}")
    return ", ".join(found)


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


def _bad(x) -> bool:
    return is_inexact(x) and not bool(np.isfinite(np.asarray(x, _wide(x))).all())


def _wide(x):
    return np.complex128 if jnp.issubdtype(x.dtype, jnp.complexfloating) else np.float64


def _has_nan(x) -> bool:
    return is_inexact(x) and bool(np.isnan(np.asarray(x, _wide(x))).any())


def _first_bad(x) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(~np.isfinite(np.asarray(x, _wide(x))))[0])


# --- forward ----------------------------------------------------------------------------------------------------------


def _forward_origin(walk: Walk, name: int) -> Origin | None:
    """Back from a non-finite value to the step that made it of finite ones; where infinities were given (a mask of
    -inf), to the step that made NaN of them."""
    made = {out: step for step in walk.steps for out in step.outs}
    order = {out: n for n, step in enumerate(walk.steps) for out in step.outs}
    spoiler = None
    seen = set()
    while name in made:
        step = made[name]
        seen.add(name)
        bad = [i for i in step.ins if _bad(walk.values[i])]
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
    value = walk.values[name]
    if _has_nan(value):
        index = tuple(int(i) for i in np.argwhere(np.isnan(np.asarray(value, _wide(value))))[0])
    else:
        index = _first_bad(value)
    return Origin(step, step.outs.index(name), index, "forward")


# --- backward ---------------------------------------------------------------------------------------------------------


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

        def pulled(values, given):
            def of(*active):
                full = list(values)
                for j, x in zip(places, active):
                    full[j] = x
                return step.fun(*full)

            return self.differentiate(of, *[values[j] for j in places])[1](list(given))

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
    index = _first_bad(sweep.cts[name])
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
    infinite = [i for i, v in zip(step.ins, values) if hasattr(v, "dtype") and is_inexact(v) and _bad(v)]
    masked = _selected_later(walk, step)
    if infinite:
        calm = [_cleared(v) if hasattr(v, "dtype") and is_inexact(v) else v for v in values]
        bar = sweep.pull(step, origin.cts, calm).get(origin.position)
        if bar is None or not np.isfinite(widen(bar)[origin.index]):
            return None  # it is not for them
        for name in infinite:
            found = _forward_origin(walk, name)
            if found is not None:
                return replace(found, masked=_selected_later(walk, found.step))
        return None
    for o, name in enumerate(step.outs):
        value = walk.values[name]
        if is_inexact(value) and _bad(value):
            same = np.shape(value) == np.shape(values[origin.position])
            index = origin.index if same and not np.isfinite(widen(value)[origin.index]) else _first_bad(value)
            return Origin(step, o, index, "forward", masked=masked)
    return None


def _selected_later(walk, step) -> bool:
    """Whether a step's result goes into a choice between values."""
    names = set(step.outs)
    for later in walk.steps:
        if names.intersection(later.ins):
            if later.name in ("select_n", "max", "min", "clamp"):
                return True
            names.update(later.outs)
    return False


# --- the report -------------------------------------------------------------------------------------------------------


def _report(walk: Walk, origin: Origin, differentiate, report) -> NanReport:
    inner_walk, inner = _inside(walk, origin, differentiate)
    scene = _scene(inner_walk, inner)
    found = mechanisms.explain(scene, inner.direction)
    text = found.advice
    verified = False
    if inner is origin:
        for mend in mends.candidates(origin.step, origin.masked or scene.masked, scene.dtype):
            if _mends(walk, origin.step, mend, differentiate):
                text, verified = f"{mend.text}   with {_names(origin.step)}", True
                break
    return report(
        True,
        origin.direction,
        inner.step.name,
        inner.step.source or origin.step.source,
        found.mechanism,
        text,
        verified,
        mechanisms.operands_of(scene, inner.direction),
        origin.step.layer,
    )


def _names(step) -> str:
    return "x its operand" if len(step.ins) == 1 else "x and y its operands"


def _inside(walk: Walk, origin: Origin, differentiate) -> tuple[Walk, Origin]:
    """The equation within a function that has a derivative of its own, or within that derivative."""
    step = origin.step
    if step.name not in COMPOSITE:
        return walk, origin
    values = [walk.values[i] for i in step.ins]
    places = [j for j, v in enumerate(values) if is_inexact(v)]

    def pulled(active, given):
        def of(*own):
            full = list(values)
            for j, x in zip(places, own):
                full[j] = x
            return step.fun(*full)

        return differentiate(of, *active)[1](list(given))

    try:
        if origin.direction == "forward":
            inner = InnerWalk(lambda *args: step.fun(*args), values)
        else:
            inner = InnerWalk(pulled, ([values[j] for j in places], [jnp.asarray(ct) for ct in origin.cts]))
        for name in inner.outputs:
            if _bad(inner.values[name]):
                found = _forward_origin(inner, name)
                if found is not None:
                    line = _line_where_it_stops(pulled, inner) if origin.direction == "backward" else ""
                    return inner, replace(found, step=replace(found.step, source=line or found.step.source))
    except Exception:  # what cannot be run apart keeps its own line
        pass
    return walk, origin


def _line_where_it_stops(pulled, inner) -> str:
    """The line of a derivative rule that makes the first number which is not finite: where JAX stops that runs it.

    Equations of a rule do not remember their line: in a backward sweep JAX gives them that of the function's call.
    """
    args = jax.tree.unflatten(inner.in_tree, [inner.values[name] for name in inner.inputs])
    try:
        with jax.debug_nans(True), jax.debug_infs(True):
            pulled(*args)
    except FloatingPointError as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not f.filename.startswith((_JAX, _HERE))]
        return f"{own[-1].filename}:{own[-1].lineno}" if own else ""
    return ""


def _scene(walk: Walk, origin: Origin) -> mechanisms.Scene:
    step = origin.step
    raw = [walk.values[i] for i in step.ins]
    values = [mechanisms.plain(v) for v in raw]
    forward = origin.direction == "forward"
    out = mechanisms.plain(walk.values[step.outs[origin.position if forward else 0]])
    shape = np.shape(out) if forward else np.shape(values[origin.position])
    at = [mechanisms.entry(v, origin.index, shape) for v in values]
    cts = [ct for ct in origin.cts if ct.dtype != jax.float0]
    ct = mechanisms.entry(mechanisms.plain(cts[0]), origin.index, shape) if cts else None
    zero = ct is not None and np.size(ct) == 1 and not np.any(np.asarray(ct) != 0)
    hidden = not forward and zero and _selected_later(walk, step)
    made = {o: s for s in walk.steps for o in s.outs}
    first = next((v.dtype for v in raw if is_inexact(v)), np.dtype("float32"))
    entry = mechanisms.entry(out, origin.index, shape)
    return mechanisms.Scene(
        step, values, at, entry, ct, origin.masked or hidden, [made.get(i) for i in step.ins], first
    )


def _mends(walk: Walk, step: Step, mend: mends.Mend, differentiate) -> bool:
    """Whether value and gradient are finite with the mend wherever the step's line applies the same equation, and what
    was finite is as it was."""
    try:
        mended = _Mended(walk, step, mend.fun)
    except (TypeError, ValueError):  # an expression for other operands
        return False
    if any(_bad(mended.values[name]) for name in mended.outputs):
        return False
    if not mends.keeps_values(walk, mended, np.random.default_rng(0)):
        return False
    cts = Sweep(mended, differentiate).cts
    return not any(name in cts and _bad(cts[name]) for name in mended.inputs)


class _Mended(Walk):
    """The walk again, with a step (and those of its name and source line) replaced."""

    def __init__(self, walk: Walk, step: Step, fun: Callable[..., Any]) -> None:
        self.inputs, self.outputs, self.constants = walk.inputs, walk.outputs, walk.constants
        same = lambda old: old.name == step.name and old.source == step.source
        self.steps = [replace(old, fun=fun) if same(old) else old for old in walk.steps]
        self.values = equations.run(self, [walk.values[name] for name in walk.inputs])
