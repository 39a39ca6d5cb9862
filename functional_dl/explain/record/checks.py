"""Each step's rule against two oracles, at the step's own values and cotangents.

- adjoint identity: <x_bar, u> = d/dt <y_bar, f(x + t u)> at t = 0, the right side by central differences of the
  equation itself (Richardson's extrapolation, with an error estimate);
- JAX's own derivative of the single equation.

The first shares no convention with anybody, the second is exact to rounding; a step passes if both agree with it.
Where one does not, it is asked again in double precision before the rule is said to be wrong: differences in 24 bits
err, terms may cancel, and at ties each output has an interval of derivatives of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.check.numeric import derivative
from functional_dl.explain.explanation import Check
from functional_dl.explain.record.recorder import Entry
from functional_dl.jaxprs import Interpreter, bind, primitive_names, programs
from functional_dl.precision import double

STEPS = 2.0 ** -np.arange(5)  # sizes of the differences: h, h/2, ..., h/16
FIRST = (2.0**-6, 2.0**-14, 2.0**-21)  # h, relative to the values: smaller ones where a kink is near
ORACLES = ("adjoint identity", "jax.vjp of the equation")
MOST_CANCELLED = 1e4
STATED = {"stop_gradient", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
IMPLICIT = {"custom_linear_solve", "call_hi_primitive", "linear_call", "custom_vmap_call"}
DTYPES = ("new_dtype", "preferred_element_type", "dtype")  # parameters that state a dtype
PROBES = 2  # other roundings of the operands
SAFETY = 8.0
VAGUE = 1e-2  # relative error: a difference that knows no better says nothing


def check(entry: Entry, out_cts: Sequence[Any], bars: dict[int, object], seed: int = 0) -> Check | None:
    """The step's check.

    Args:
      entry: the equation.
      out_cts: cotangents of its outputs, None for zero.
      bars: slot -> the cotangent that the rule gave the operand (or operands) of that slot.
    """
    cts = {j: ct for j, ct in enumerate(out_cts) if ct is not None}
    one = entry.rule is not None and entry.rule.formula is not None and entry.alone is None  # no equations within
    wanted = [i for i in entry.active if entry.slots[i] in bars or (one and entry.slots[i] not in entry.out_slots)]
    places: dict[Any, list[int]] = {
        entry.slots[i]: [j for j in wanted if entry.slots[j] == entry.slots[i]] for i in wanted
    }
    points = [entry.operands[where[0]] for where in places.values()]
    if not places or not cts:
        return None
    given = [bars.get(s, jnp.zeros_like(x)) for s, x in zip(places, points)]  # where a rule gives none, it is zero

    def outs(*active, prepared=lambda x: x, apply=entry.apply):
        operands = [prepared(x) for x in entry.operands]
        for where, x in zip(places.values(), active):
            for i in where:
                operands[i] = x
        results = apply(*operands)
        return [results[j] for j in cts]

    found = [_against_jax(_pullback(entry, outs, places, list(cts)), outs, points, list(cts.values()), given)]
    if not _is_indirect(entry, [*points, *cts.values()]):
        hermitian = entry.rule is not None and entry.rule.hermitian
        by_values = _adjoint(entry, outs, points, list(cts.values()), given, seed, hermitian)
        # where a user states a derivative, the values may have another one
        stated = by_values is not None and not by_values.passed and found[0] is not None and _states_derivatives(entry)
        found += [] if stated else [by_values]
    results = [result for result in found if result is not None]
    return max(results, key=lambda c: (not c.passed, c.error / c.tolerance), default=None)


class _Widened(Interpreter):
    """A program in double precision, whatever the dtypes that its equations state."""

    most_rounds = 100

    def constant(self, value: Any, aval: Any) -> Any:
        return _widened(value)

    def apply(self, eqn: Any, operands: Any) -> Any:
        params = {name: _wide_dtype(value) if name in DTYPES else value for name, value in eqn.params.items()}
        return [_widened(y) for y in bind(eqn.primitive, [_widened(x) for x in operands], params)]


def _wide_dtype(dtype: Any) -> Any:
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return dtype
    return np.dtype(np.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else np.float64)


def _widened(x: Any) -> Any:
    """An operand in double precision, if it is a floating one."""
    if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        return jnp.asarray(wide(x))
    return x


def _pullback(entry, outs, places, results):
    """(active operands, cotangents of the results) -> JAX's cotangents; of a loop compiled once with all like it."""
    loop = entry.loop
    if loop is None:
        return lambda points, cts: jax.vjp(outs, *points)[1](cts)
    where = [tuple(own) for own in places.values()]

    def pulled(operands, points, cts):
        def run(*points):
            full = list(operands)
            for own, x in zip(where, points):
                for i in own:
                    full[i] = x
            made = bind(loop.primitive, full, loop.params)
            return [made[j] for j in results]

        return jax.vjp(run, *points)[1](cts)

    what = ("pullback", tuple(where), tuple(results))
    return functools.partial(loop.call, what, pulled, entry.operands)


def _against_jax(pullback, outs, points, cts, bars) -> Check | None:
    try:
        expected = pullback(points, cts)
    except (NotImplementedError, ValueError, TypeError):  # JAX has no derivative: while_loop
        return None
    worst, allowed = 0.0, 1.0
    for bar, other, x in zip(bars, expected, points):
        got, want = wide(bar), wide(other)
        scale = _norm(want) or _norm(got)
        if not np.isfinite(scale):
            same = np.array_equal(got, want, equal_nan=True)
            error = 0.0 if same else float("inf")
        else:
            error = _norm(got - want) / scale if scale else 0.0
            error = error if np.isfinite(error) else float("inf")  # the rule's alone is not finite
        tolerance = rounding(x.dtype, [x, *cts]) * cancellation(cts, scale)
        if error / tolerance >= worst / allowed:
            worst, allowed = error, tolerance
    if worst > allowed and np.isfinite(worst):
        return _against_jax_in_double(outs, points, cts, bars, expected) or Check(False, worst, allowed, ORACLES[1])
    return Check(bool(worst <= allowed), worst, allowed, ORACLES[1])


@np.errstate(all="ignore")
def _against_jax_in_double(outs, points, cts, bars, narrow) -> Check | None:
    """The rule against JAX's derivative in double precision; what JAX's loses in the caller's dtype, and what another
    rounding of the operands changes, is allowed.  None where the equation cannot be applied in double precision."""
    rng = np.random.default_rng(0)

    def pulled(moved):
        with double():
            _, pullback = jax.vjp(lambda *active: outs(*active, prepared=_widened), *map(jnp.asarray, moved))
            return [wide(bar) for bar in pullback([jnp.asarray(wide(ct)) for ct in cts])]

    here = [wide(x) for x in points]
    try:
        truth = pulled(here)
        units = [float(jnp.finfo(x.dtype).eps) for x in points]
        others = [
            pulled([x * (1 + u * rng.choice([-1.0, 1.0], x.shape)) for x, u in zip(here, units)]) for _ in range(PROBES)
        ]
    except Exception:  # an equation whose parameters fix its dtypes
        return None
    worst, allowed = 0.0, 1.0
    for i, (bar, x) in enumerate(zip(bars, points)):
        got, want = wide(bar), truth[i]
        lost = max(_norm(other - want) for other in (wide(narrow[i]), *(o[i] for o in others)))
        size = _norm(want) or lost
        error = _norm(got - want) / size if size else 0.0 if not _norm(got) else float("inf")
        tolerance = rounding(x.dtype, [x, *cts]) + (SAFETY * lost / size if size else 0.0)
        if not error / tolerance <= worst / allowed:
            worst, allowed = error, tolerance
    return Check(bool(worst <= allowed), worst, allowed, ORACLES[1])


def rounding(dtype: Any, arrays: Any) -> float:
    """What the rounding of sums of up to n terms allows, n the largest array's size, relative to the result's norm."""
    longest = max((x.size for x in arrays), default=1)
    return float(jnp.finfo(dtype).eps) * (32 + 2 * np.sqrt(longest))


def cancellation(cts: Any, size: float) -> float:
    """How much larger than the result (of norm `size`) the terms are that it is the difference of.

    At y = tanh x near 1 the cotangent is y_bar - y_bar y^2, whose terms are of the size of y_bar: rounded relative to
    that.  A rule that is only ever scaled down is given the same, up to a factor that leaves the check its teeth.
    """
    total = float(np.sqrt(sum(_norm(wide(ct)) ** 2 for ct in cts)))
    return float(np.clip(total / size if size else 1.0, 1.0, MOST_CANCELLED))


@np.errstate(all="ignore")  # masks put infinities among the values: what is not finite then is no verdict
def _adjoint(entry, outs, points, cts, bars, seed, hermitian) -> Check | None:
    rng = np.random.default_rng(seed)
    directions = [_direction(x, rng) for x in points]
    directions = [u + np.swapaxes(u, -1, -2) for u in directions] if hermitian else directions
    weights = [np.asarray(ct, np.float64) for ct in cts]

    def along(t: float) -> np.ndarray:
        moved = [x + jnp.asarray(t * u, x.dtype) for x, u in zip(points, directions)]
        values = [np.asarray(y, np.float64) for y in outs(*moved)]
        return np.asarray(sum(float((w * y).sum()) for w, y in zip(weights, values)))

    noise = _noise(outs(*points), points, weights)
    given = sum(float((np.asarray(b, np.float64) * u).sum()) for b, u in zip(bars, directions))
    scale = sum(_norm(np.asarray(b, np.float64)) * _norm(u) for b, u in zip(bars, directions)) or 1.0
    found = None
    for first in FIRST:
        slope = derivative(along, steps=first * STEPS)
        low, high = (float(v) for v in slope.interval)
        if not np.isfinite([low, high, given]).all():
            continue
        off = max(low - given, given - high, 0.0)
        size = max(_norm(np.asarray(b, np.float64)) for b in bars)
        tolerance = rounding(points[0].dtype, [*points, *cts]) * cancellation(cts, size)
        tolerance += (float(slope.error) + noise / first) / scale
        if tolerance > VAGUE:
            continue
        found = Check(bool(off / scale <= tolerance), abs(float(slope.value) - given) / scale, tolerance, ORACLES[0])
        if found.passed:
            return found
    if found is None:
        return None
    return _adjoint_in_double(entry, outs, points, weights, bars, directions) or found


def _adjoint_in_double(entry, outs, points, weights, bars, directions) -> Check | None:
    """The adjoint identity with differences in double precision, each output entry between its one-sided ones.

    None where the equation cannot be applied so, or the differences are too vague to tell.
    """
    given = sum(float((wide(b) * u).sum()) for b, u in zip(bars, directions))
    scale = sum(_norm(wide(b)) * _norm(u) for b, u in zip(bars, directions)) or 1.0
    flat = np.concatenate([w.reshape(-1) for w in weights])
    program = jax.make_jaxpr(entry.apply)(*entry.operands)
    in_double = lambda *operands: _Widened().run(program, operands)

    def along(t: float) -> np.ndarray:
        with double():
            moved = [jnp.asarray(wide(x) + t * u) for x, u in zip(points, directions)]
            values = outs(*moved, prepared=_widened, apply=in_double)
            return np.concatenate([np.asarray(y).reshape(-1) for y in values])

    size = max(_norm(wide(b)) for b in bars)
    rounded = rounding(points[0].dtype, [*points, *weights]) * cancellation(weights, size)
    found = None
    for first in FIRST:
        try:
            slope = derivative(along, steps=first * STEPS)
        except Exception:  # as above
            return None
        sides = [np.where(flat == 0, 0.0, flat * side) for side in (
            np.where(slope.kink, slope.left, slope.value), np.where(slope.kink, slope.right, slope.value))]  # fmt: skip
        low, high = float(np.minimum(*sides).sum()), float(np.maximum(*sides).sum())
        error = float(np.where(flat == 0, 0.0, np.abs(flat) * slope.error).sum())
        tolerance = rounded + error / scale
        if not np.isfinite([low, high, given, tolerance]).all() or tolerance > VAGUE:
            continue
        off = max(low - given, given - high, 0.0) / scale
        found = Check(bool(off <= tolerance), off, tolerance, ORACLES[0])
        if found.passed:
            return found
    return found


def _noise(values, points, weights) -> float:
    """What rounding leaves uncertain of the sum of weighted values."""
    unit = max(float(jnp.finfo(x.dtype).eps) for x in (*values, *points))
    return unit * sum(float(np.abs(w * np.asarray(y, np.float64)).sum()) for w, y in zip(weights, values))


def _is_indirect(entry: Entry, arrays: Sequence[Any]) -> bool:
    """Whether differences of the equation are not what its rule is to agree with: complex numbers have more
    directions than one; a solver's derivative is its equation's, whatever it reads besides (a factorisation)."""
    return entry.primitive.name in IMPLICIT or any(wide(x).dtype.kind == "c" for x in arrays)


def _states_derivatives(entry: Entry) -> bool:
    """Whether the equation, or one within it, has a derivative that somebody stated."""
    inner = [name for program in programs(entry.params) for name in primitive_names(program)]
    return not STATED.isdisjoint([entry.primitive.name, *inner])


def wide(x: Array) -> np.ndarray:
    """The array in double precision."""
    array = np.asarray(x)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _norm(x: np.ndarray) -> float:
    return float(np.sqrt(np.square(np.abs(x)).sum()))


def _direction(x, rng) -> np.ndarray:
    """A random direction, of x's size entry by entry, so that a step keeps signs; of its mean size where x is 0."""
    point = np.asarray(x, np.float64)
    size = np.abs(point)
    spare = float(size.mean()) if size.size and size.any() else 1.0
    return rng.uniform(-1, 1, point.shape) * np.where(size > 0, size, spare)
