"""find_nan: the equation, forward or backward, that permuted finite numbers into NaN or infinity."""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
from functional_dl.check.nan.origin import (
    Origin,
    Sweep,
    first_bad,
    forward_origin,
    is_bad,
    origin_of,
    selected_later,
    step_pullback,
)
from functional_dl.check.nan.walk import InnerWalk, Walk
from functional_dl.precision import nan_allowed

_JAX, _HERE = (f"{folder}{os.sep}" for folder in (Path(jax.__file__).parent, Path(__file__).parents[1]))
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
    Example:
      >>> report = check.find_nan(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0), 0.0)
      >>> report.found, report.equation, report.direction
      (True, 'sqrt', 'backward')
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
        origin = origin_of(walk, differentiate)
        report = NanReport(origin is not None, given=_given(primals), loops=tuple(walk.loops))
        return report if origin is None else _described(report, walk, origin, differentiate)


def _given(primals) -> str:
    found = []
    for path, x in tree_leaves_with_path(primals):
        if hasattr(x, "dtype") and is_bad(x):
            index = first_bad(x)
            at = f"[{', '.join(map(str, index))}]" if index else ""
            found.append(f"args{keystr(path)}{at} is {np.asarray(widen(x))[index]:.4g}")
    return ", ".join(found)


def _described(report: NanReport, walk: Walk, origin: Origin, differentiate: Callable[..., Any]) -> NanReport:
    """The report with what happened at the origin, and what to do about it."""
    inner_walk, inner = _inside(walk, origin, differentiate)
    scene = _scene(inner_walk, inner)
    mechanism, advice = mechanisms.explain(scene, inner.direction)
    verified = False
    if inner is origin:
        tried = mends.candidates(origin.step, origin.masked or scene.masked, scene.dtype)
        mend = next((mend for mend in tried if _mends(walk, origin.step, mend, differentiate)), None)
        if mend is not None:
            operands = "x its operand" if len(origin.step.ins) == 1 else "x and y its operands"
            advice, verified = f"{mend.text}   with {operands}", True
    return replace(
        report,
        direction=origin.direction,
        equation=inner.step.name,
        source=inner.step.source or origin.step.source,
        mechanism=mechanism,
        suggestion=advice,
        verified=verified,
        operands=scene.numbers(inner.direction),
        layer=origin.step.layer,
    )


def _inside(walk: Walk, origin: Origin, differentiate) -> tuple[Walk, Origin]:
    """The equation within a function that has a derivative of its own, or within that derivative."""
    step = origin.step
    if step.name not in COMPOSITE:
        return walk, origin
    values = [walk.values[i] for i in step.ins]
    places = [j for j, v in enumerate(values) if is_inexact(v)]
    pulled = step_pullback(step, places, differentiate)
    try:
        if origin.direction == "forward":
            inner = InnerWalk(lambda *args: step.fun(*args), values)
        else:
            inner = InnerWalk(pulled, (values, [jnp.asarray(ct) for ct in origin.cts]))
        for name in inner.outputs:
            found = forward_origin(inner, name) if is_bad(inner.values[name]) else None
            if found is not None:
                line = _line_where_it_stops(pulled, inner) if origin.direction == "backward" else ""
                own = step.source if found.step.source.startswith((_JAX, _HERE)) else found.step.source
                return inner, replace(found, step=replace(found.step, source=line or own))
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
    cts = [ct for ct in origin.cts if ct.dtype != jax.float0]
    ct = mechanisms.entry(mechanisms.plain(cts[0]), origin.index, shape) if cts else None
    zero = ct is not None and np.size(ct) == 1 and not np.any(np.asarray(ct) != 0)
    made = {o: s.name for s in walk.steps for o in s.outs}
    return mechanisms.Scene(
        step,
        values,
        at=[mechanisms.entry(v, origin.index, shape) for v in values],
        out=mechanisms.entry(out, origin.index, shape),
        ct=ct,
        masked=origin.masked or (not forward and zero and selected_later(walk, step)),
        makers=[made.get(i, "") for i in step.ins],
        dtype=next((v.dtype for v in raw if is_inexact(v)), np.dtype("float32")),
    )


def _mends(walk: Walk, step: Step, mend: mends.Mend, differentiate) -> bool:
    """Whether value and gradient are finite with the mend wherever the step's line applies the same equation, and what
    was finite is as it was."""
    try:
        mended = _Mended(walk, step, mend.fun)
    except (TypeError, ValueError):  # an expression for other operands
        return False
    if any(is_bad(mended.values[name]) for name in mended.outputs):
        return False
    if not mends.keeps_values(walk, mended, np.random.default_rng(0)):
        return False
    cts = Sweep(mended, differentiate).cts
    return not any(name in cts and is_bad(cts[name]) for name in mended.inputs)


class _Mended(Walk):
    """The walk again, with a step (and those of its name and source line) replaced."""

    def __init__(self, walk: Walk, step: Step, fun: Callable[..., Any]) -> None:
        self.inputs, self.outputs, self.constants = walk.inputs, walk.outputs, walk.constants
        same = lambda old: old.name == step.name and old.source == step.source
        self.steps = [replace(old, fun=fun) if same(old) else old for old in walk.steps]
        self.values = equations.run(self, [walk.values[name] for name in walk.inputs])
