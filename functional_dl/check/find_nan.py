"""find_nan: the equation, forward or backward, that turned finite numbers into NaN or infinity."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import PyTree
from functional_dl.check import equations, mechanisms
from functional_dl.check.equations import Step
from functional_dl.check.function import is_inexact
from functional_dl.check.walk import Walk
from functional_dl.precision import nan_allowed


@dataclass(frozen=True)
class NanReport:
    """Where a non-finite number first appears.

    Fields:
      found: whether the value or the gradient holds a NaN or an infinity that some equation made.
      direction: "forward" or "backward".
      equation: the primitive's name.
      source: "file:line" in the user's source.
      mechanism: in words, how it happened.
      suggestion: a rewrite that fixes it.
      verified: the rewrite was run and gave finite values and gradients.
      operands: the values at the entry where it happened, by name.
      layer: the path of the layer that the equation belongs to, as params have it: "blocks/1/hidden"; with any names
        of jax.named_scope around it.  "" outside of all.
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

    def __str__(self) -> str:
        if not self.found:
            return "no NaN or infinity: the value and its gradient are finite"
        shown = ", ".join(f"{name} = {value}" for name, value in self.operands.items())
        checked = " (run, and finite)" if self.verified else ""
        layer = f" in {self.layer}" if self.layer else ""
        return (
            f"{self.source}: {self.equation}{layer}, {self.direction}: {self.mechanism}\n  there {shown}\n"
            f"  rewrite{checked}: {self.suggestion}"
        )


def find_nan(fun: Callable[..., Any], *primals: PyTree, differentiate: Callable[..., Any] = jax.vjp) -> NanReport:
    r"""Finds the first equation that turns finite numbers into non-finite ones, in fun or in its gradient.

    fun is run equation by equation (through jit, vmap, scan, while, cond, checkpoint).  If its value is finite, so is
    its backward sweep, with a cotangent of ones, each equation differentiated on its own.

    Args:
      fun: function of pytrees of arrays that JAX can trace.
      *primals: where it misbehaves.
      differentiate: how an equation is differentiated: `jax.vjp`, or `functional_dl.reverse.vjp`.
    Returns:
      NanReport; `found` is False where value and gradient are finite.
    Raises:
      TypeError: fun is not callable.
    """
    if not callable(fun):
        raise TypeError(f"fun: expected a callable, got {fun!r}")
    with nan_allowed():
        walk = Walk(fun, primals)
        for name in walk.outputs:
            if _bad(walk.values[name]):
                origin = _forward_origin(walk, name)
                return _report(walk, origin, "forward", differentiate) if origin is not None else NanReport(False)
        search = _backward(walk, differentiate)
        if search is None:
            return NanReport(False)
        return _report(walk, search, "backward", differentiate)


@dataclass(frozen=True)
class Origin:
    """A step, the entry of its output (or operand) where it happened, and the cotangents it was given."""

    step: Step
    position: int
    index: tuple[int, ...]
    cts: tuple[Any, ...] = ()


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
        name = _earliest(walk, onward)
    if spoiler is not None:
        return _origin(walk, *spoiler)
    return None


def _earliest(walk, names):
    order = {out: n for n, step in enumerate(walk.steps) for out in step.outs}
    return min(names, key=lambda i: order[i])


def _origin(walk, step, name) -> Origin:
    value = walk.values[name]
    if _has_nan(value):
        index = tuple(int(i) for i in np.argwhere(np.isnan(np.asarray(value, _wide(value))))[0])
    else:
        index = _first_bad(value)
    return Origin(step, step.outs.index(name), index)


# --- backward ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """A cotangent that a step gave to one of its operands, at a position; `given` are those of its outputs."""

    step: Step
    position: int
    bar: Any
    given: tuple[Any, ...]


def _backward(walk: Walk, differentiate, replace=None) -> Origin | None:
    """The step of the backward sweep that made a non-finite cotangent of an input, of finite ones; None if there is
    none.  What a mask or a zero keeps from all inputs is no fault."""
    cts: dict[int, Any] = {}
    terms: dict[int, list[Term]] = {}
    needed = set(walk.inputs)
    for step in walk.steps:
        if needed.intersection(step.ins):
            needed.update(step.outs)
    for name in walk.outputs:
        value = walk.values[name]
        if is_inexact(value) and name in needed:
            _add(cts, name, jnp.ones(jnp.shape(value), value.dtype))
    for step in reversed(walk.steps):
        if not any(name in cts for name in step.outs) or not needed.intersection(step.ins):
            continue
        given = [_ct(cts, walk, name) for name in step.outs]
        places = [j for j, i in enumerate(step.ins) if i in needed and is_inexact(walk.values[i])]
        if not places:
            continue
        bars = _pull(walk, step, places, given, differentiate, replace)
        for j, bar in zip(places, bars):
            if bar is None or bar.dtype == jax.float0:
                continue
            _add(cts, step.ins[j], bar)
            terms.setdefault(step.ins[j], []).append(Term(step, j, bar, tuple(given)))
    bad = [name for name in walk.inputs if name in cts and _bad(cts[name])]
    return _backward_origin(cts, terms, bad[0]) if bad else None


def _backward_origin(cts, terms, name: int) -> Origin | None:
    """From a non-finite cotangent to the step that made it of finite ones: the first of the sweep, of several."""
    origin = None
    while name in terms:
        spoiled = [term for term in terms[name] if _bad(term.bar)]
        if not spoiled:  # a sum of finite cotangents that overflows
            last = terms[name][-1]
            return Origin(last.step, last.position, _first_bad(cts[name]), last.given)
        term = spoiled[0]
        origin = Origin(term.step, term.position, _first_bad(term.bar), term.given)
        onward = [out for out, ct in zip(term.step.outs, term.given) if ct.dtype != jax.float0 and _bad(ct)]
        if not onward:
            return origin
        name = onward[0]
    return origin


def _add(cts, name, ct) -> None:
    cts[name] = ct if name not in cts else cts[name] + ct


def _ct(cts, walk, name):
    value = walk.values[name]
    if not is_inexact(value):
        return np.zeros(jnp.shape(value), jax.float0)
    return cts[name] if name in cts else jnp.zeros(jnp.shape(value), value.dtype)


def _pull(walk, step, places, given, differentiate, replace=None):
    values = [walk.values[i] for i in step.ins]
    fun = step.fun if replace is None or replace[0] is not step else replace[1]

    def of(*active):
        full = list(values)
        for j, x in zip(places, active):
            full[j] = x
        return fun(*full)

    try:
        _, pullback = differentiate(of, *[values[j] for j in places])
        return pullback(given)
    except (NotImplementedError, ValueError):  # no derivative: a callback, a while_loop that is too long to walk
        return [None] * len(places)


# --- the report -------------------------------------------------------------------------------------------------------


def _report(walk: Walk, origin: Origin, direction: str, differentiate) -> NanReport:
    found = mechanisms.explain(walk, origin, direction)
    verified = found.repair is not None and _runs_clean(walk, found.step, found.repair, differentiate)
    return NanReport(
        True,
        direction,
        origin.step.name,
        origin.step.source,
        found.mechanism,
        found.suggestion,
        verified,
        found.operands,
        origin.step.layer,
    )


def _runs_clean(walk: Walk, step: Step, repair: Callable[..., Any], differentiate) -> bool:
    """Whether value and gradient are finite with the step replaced, wherever its line applies the same equation."""
    mended = _Mended(walk, step, repair)
    if any(_bad(mended.values[name]) for name in mended.outputs):
        return False
    return _backward(mended, differentiate) is None


class _Mended(Walk):
    """The walk again, with a step (and those of its name and source line) replaced."""

    def __init__(self, walk: Walk, step: Step, repair: Callable[..., Any]) -> None:
        self.inputs, self.outputs, self.constants = walk.inputs, walk.outputs, walk.constants

        def mended(old):
            same = old.name == step.name and old.source == step.source
            return replace(old, fun=partial(repair, old)) if same else old

        self.steps = [mended(old) for old in walk.steps]
        self.values = equations.run(self, [walk.values[name] for name in walk.inputs])
