"""The cotangents that a right pullback returns, and how far from them rounding may take one.

The reference is JAX's pullback of fun in double precision, believed only where it agrees with differences of values
(fun may hold a custom rule that is wrong); else the numeric Jacobian.  An entry's tolerance has two parts:

  C eps sqrt(sum_j (J_ji ct_j)^2)     the rounding of the sum that the entry is, in the caller's dtype;
  what the same pullback loses when JAX computes it in the caller's dtype (an ill-conditioned function).
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from functional_dl.aliases import Array
from functional_dl.check import numeric
from functional_dl.check.function import Function, is_complex, jit, pairing, widen

# C of the formula above: a right pullback may be written in many ways, each with a few dozen roundings
ROUNDINGS = {"float64": 1000.0, "float32": 200.0, "float16": 30.0, "bfloat16": 12.0}
SIGNS = 6  # random signs, from which sqrt(sum_j (J_ji ct_j)^2) is estimated
PROBES = 4  # of the primals rounded another way, in double precision
SAFETY = 64.0  # times what these change
DENSE = 20_000_000  # entries of a numeric Jacobian, at most
COORDINATES = 3000  # real entries of the primals of which a numeric Jacobian is taken, at most


def dtype_name(x: Array) -> str:
    return {"complex64": "float32", "complex128": "float64"}.get(str(x.dtype), str(x.dtype))


def eps(x: Array) -> float:
    return float(jnp.finfo(x.dtype).eps)


def rounded_point(function: Function, places: int, rng: np.random.Generator, unit: float = 0.0) -> list[np.ndarray]:
    """The differentiable leaves, each entry moved up or down by some last places (of its dtype, or of size `unit`)."""
    return [
        x * (1 + places * (unit or eps(p)) * rng.choice([-1.0, 1.0], x.shape))
        for x, p in zip(function.wide_point, function.point)
    ]


@dataclass(frozen=True)
class Rounding:
    """What rounding may do to one leaf's cotangent.

    Fields:
      tolerance: how far off each entry may be.
      size: sqrt(sum_j (J_ji ct_j)^2) of each entry, or the entry itself, whichever is larger.
      lost: what JAX's own pullback in the caller's dtypes is off by; None where it has none.
      eps: of the coarsest dtype on the way.
    """

    tolerance: np.ndarray
    size: np.ndarray
    lost: np.ndarray | None
    eps: float


class Reference:
    """Right cotangents of a function at its primals.

    Attributes:
      source: "autodiff", "numeric", or "" where the function is too large for either to be had.
      disagreement: a sentence, where JAX's derivative of fun and its values do not agree.
      surrogate: whether the former is meant to be another.
      jacobian: (J^T, error) in real entries, where the source is numeric.
    """

    source: str
    disagreement: str
    surrogate: bool

    def __init__(self, function: Function, rng: np.random.Generator, surrogates: bool = True) -> None:
        self.function = function
        self.rng = rng
        self.source, self.disagreement, self.surrogate = "", "", False
        self.jacobian: Any = None
        if function.traceable:
            self.disagreement = self._disagreement()
            self.surrogate = bool(self.disagreement) and surrogates and self._is_declared()
            if self.surrogate:
                self.disagreement = (
                    "fun declares another derivative than that of its values (a stopped gradient, or a rule of a "
                    "function of steps): JAX's derivative is compared with, not differences."
                )
            if self.surrogate or not self.disagreement:
                self.source = "autodiff"
        if not self.source:
            size = sum(map(numeric.numbers, function.wide_point))
            outs = sum(y.size for y in function.own_outs)
            if size <= COORDINATES and size * outs <= DENSE:
                self.jacobian = numeric.numeric_jacobian(function)
                self.source = "numeric"

    # --- cotangents

    def _jit(self, fun):
        return jit(fun, self.function.entries)

    @functools.cached_property
    def _compiled(self):
        function = self.function
        return self._jit(lambda active, cts: jax.vjp(lambda active: function.of_active(active), active)[1](cts)[0])

    def pull_at(self, active: Sequence[Any], cts: Sequence[Any]) -> list[np.ndarray]:
        """JAX's pullback of the function at other primals, in double precision where that is possible."""
        with self.function.precision():
            if not self.function.wide:
                active = [np.asarray(x).astype(p.dtype) for x, p in zip(active, self.function.point)]
                cts = [np.asarray(c).astype(y.dtype) for c, y in zip(cts, self.function.own_outs)]
            return [widen(bar) for bar in self._compiled(list(active), list(cts))]

    def pull(self, cts: Sequence[Any]) -> list[np.ndarray]:
        """Right cotangents of the differentiable leaves, given those of the differentiable outputs."""
        if self.source == "numeric":
            return self._from_jacobian(cts)[0]
        return self.pull_at(self.function.wide_point, [widen(c) for c in cts])

    @functools.cached_property
    def _push(self):
        own = lambda *active: self.function.of_active(active)
        return self._jit(lambda active, tangents: jax.jvp(own, active, tangents)[1])

    @functools.cached_property
    def _push_by_transposing(self):
        """For rules of reverse mode alone: the transpose of the pullback."""
        own = lambda *active: self.function.of_active(active)

        def push(active, tangents):
            outs, pullback = jax.vjp(own, *active)
            return jax.linear_transpose(pullback, outs)(tangents)[0]

        return self._jit(push)

    def column(self, k: int, index: Any) -> list[np.ndarray]:
        """What one entry of one leaf moves: d outputs / d entry."""
        tangent = np.zeros(self.function.wide_point[k].shape, self.function.wide_point[k].dtype)
        tangent[index] = 1.0
        return self.push(k, tangent)

    def push(self, k: int, tangent: np.ndarray) -> list[np.ndarray]:
        """The tangents of the outputs for a tangent of one leaf."""
        tangents = [np.zeros(x.shape, x.dtype) for x in self.function.wide_point]
        tangents[k] = tangent
        active = self.function.wide_point if self.function.wide else self.function.point
        with self.function.precision():
            tangents = tuple(t.astype(np.asarray(x).dtype) for t, x in zip(tangents, active))
            try:
                moved = self._push(tuple(active), tangents)
            except TypeError:
                moved = self._push_by_transposing(tuple(active), tangents)
            return [widen(y) for y in moved]

    def _from_jacobian(self, cts):
        transposed, error = self.jacobian
        flat = np.concatenate([numeric.real_ct(widen(c)) for c in cts])
        # a row is not finite where fun has no derivative
        values, errors = transposed @ flat, error @ np.abs(flat)
        point = self.function.wide_point
        cut = lambda flat: [numeric.unreal_ct(flat[part], like) for part, like in zip(numeric.parts(point), point)]
        return cut(values), list(map(np.abs, cut(errors)))

    def pull_low(self, cts: Sequence[Any]) -> list[np.ndarray] | None:
        """JAX's pullback in the caller's dtypes; None where there is none."""
        if not self.function.traceable:
            return None
        own = [np.asarray(c).astype(y.dtype) for c, y in zip(cts, self.function.own_outs)]
        try:
            return [widen(bar) for bar in self._compiled(list(self.function.point), own)]
        except Exception:  # a function that only runs uncompiled, or only in double precision
            return None

    # --- tolerances

    def rounding(self, cts: Sequence[Any], expected: Sequence[np.ndarray]) -> list[Rounding]:
        """For each leaf, what rounding may do to its entries."""
        squares = [np.zeros(e.shape) for e in expected]
        for _ in range(SIGNS):
            signed = [widen(c) * self.rng.choice([-1.0, 1.0], np.shape(c)) for c in cts]
            for total, bar in zip(squares, self.pull(signed)):
                total += np.abs(bar) ** 2 / SIGNS
        low = self.pull_low(cts)
        spread = self._from_jacobian(cts)[1] if self.source == "numeric" else [0.0] * len(expected)
        coarsest = max([*self.function.point, *self.function.own_outs], key=eps)
        found = []
        for k, (e, square, own) in enumerate(zip(expected, squares, spread)):
            x = max(self.function.point[k], coarsest, key=eps)
            size = np.sqrt(square) + np.abs(e)
            size = np.where(np.isfinite(size), size, 0.0)  # of the finite entries alone
            # an estimate from a few signs may be low in single entries: a part of the leaf's typical size is added
            typical = float(np.sqrt(np.sum(size**2) / max(np.count_nonzero(np.isfinite(e)), 1)))
            unit = ROUNDINGS.get(dtype_name(x), 4.0) * eps(x)
            allowed = unit * (size + 0.03 * typical) + float(jnp.finfo(x.dtype).tiny) + own
            if low is not None and self.source == "autodiff":
                allowed = allowed + self._natural(np.abs(low[k] - e), size, typical)
            lost = None if low is None else low[k] - e
            found.append(Rounding(allowed, np.maximum(np.sqrt(square), np.abs(e)), lost, eps(x)))
        return found

    @staticmethod
    def _natural(loss, size, typical):
        """Eight times what JAX loses in the caller's dtype: entry by entry, and in proportion over the leaf."""
        ratio = loss / (size + 0.03 * typical)
        finite = ratio[np.isfinite(ratio)]
        share = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
        if share > 0.25:  # nothing is left of some entries: any entry may be off by what is usual
            size = np.full(np.shape(size), np.max(size, initial=0.0) + typical)
        share = min(share, 0.25)
        return 8 * np.where(np.isfinite(loss), np.minimum(loss, 0.25 * (size + typical)), 0.0) + 8 * share * size

    # --- is JAX's derivative of fun the derivative of fun?

    def _disagreement(self) -> str:
        """A sentence where JAX's derivative contradicts differences of fun's values; "" where it does not."""
        function = self.function
        cts = [self._random(y) for y in function.own_outs]
        cts = [np.where(np.isfinite(widen(y)), c, 0.0) for c, y in zip(cts, function.own_outs)]
        try:
            bars = self.pull_at(function.wide_point, cts)
        except Exception as error:  # JAX cannot differentiate fun in reverse
            return f"JAX does not differentiate fun: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        for k, bar in enumerate(bars):
            claimed, measured, wrong = self._compared(k, bar, cts)
            # a fault is seen along nearly every direction, a misjudged difference is not
            if wrong and self._compared(k, bar, cts)[-1]:
                return (
                    f"JAX's derivative of fun for {function.paths[function.active[k]]} along a random direction is "
                    f"{claimed:.9g}, differences of fun's values give {float(measured.value):.9g} "
                    f"(+- {float(measured.error):.1g}): fun holds a custom rule that is wrong, or a stopped gradient."
                )
        return ""

    def _is_declared(self) -> bool:
        """Whether JAX's derivative is what it is without custom rules, but for those of surrogates."""
        from functional_dl.check.surrogates import declared  # most functions declare nothing

        function = self.function
        active = [np.asarray(x).astype(p.dtype) for x, p in zip(function.wide_point, function.point)]
        point = function.wide_point if function.wide else active
        try:
            with function.precision():
                other = declared(lambda *a: function.of_active(a), point)
                if other is None:
                    return False
                outs, pullback = jax.vjp(other, *point)
                cts = [self._random(y).astype(y.dtype) for y in outs]
                bars = [widen(bar) for bar in pullback(cts)]
        except Exception:  # a program that cannot be taken apart
            return False
        return all(
            np.allclose(
                bar, right, rtol=1e3 * function.eps, atol=1e3 * function.eps * np.max(np.abs(right), initial=0.0)
            )
            for bar, right in zip(bars, self.pull_at(function.wide_point, cts))
        )

    def _compared(self, k, bar, cts):
        """The cotangent of leaf k along a random direction; the differences; and whether they contradict it."""
        function = self.function
        direction = [np.zeros(x.shape, x.dtype) for x in function.wide_point]
        finite = np.isfinite(bar)  # elsewhere JAX claims nothing, and nothing is moved
        bar = np.where(finite, bar, 0.0)
        direction[k] = np.where(finite, function.scales[k] * self._random(function.wide_point[k]), 0.0)
        found = numeric.along(function, direction, cts)
        claimed = pairing([bar], [direction[k]])
        low, high = found.interval
        slack = 1e-6 * float(np.sqrt(np.sum(np.abs(bar * direction[k]) ** 2)))
        if not (np.isfinite(found.error) and np.isfinite(claimed)):
            return claimed, found, False
        if not low - slack <= claimed <= high + slack:  # seen again with the rounding of terms that cancel
            for _ in range(PROBES):
                moved = self.pull_at(rounded_point(function, 1, self.rng, numeric.EPS), cts)[k]
                change = pairing([np.where(finite & np.isfinite(moved), moved - bar, 0.0)], [direction[k]])
                slack = max(slack, SAFETY * abs(change))
        return claimed, found, not low - slack <= claimed <= high + slack

    def _random(self, like) -> np.ndarray:
        """Entries of both signs, none small; complex where `like` is."""
        return random_like(like, self.rng)


def random_like(like: ArrayLike, rng: Any) -> np.ndarray:
    """An array of doubles with entries of both signs, none of them small; complex where `like` is."""
    entries = rng.uniform(0.5, 1.5, np.shape(like)) * rng.choice([-1.0, 1.0], np.shape(like))
    if is_complex(like):
        entries = entries + 1j * rng.uniform(0.5, 1.5, np.shape(like)) * rng.choice([-1.0, 1.0], np.shape(like))
    return entries


def positive_like(like: ArrayLike, rng: Any) -> np.ndarray:
    """As `random_like`, all entries (real and imaginary parts) positive."""
    entries = random_like(like, rng)
    return np.abs(entries.real) + 1j * np.abs(entries.imag) if is_complex(like) else np.abs(entries)
