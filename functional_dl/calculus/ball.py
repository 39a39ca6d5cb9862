"""Ball arithmetic: numbers of many digits, each a midpoint with a radius that bounds its rounding error.

A `Ball` is a midpoint v and a radius e, |v - exact| <= e to first order: each operation is also evaluated at operands
moved by their errors, and what that changes is the new error.  So cancellation, absorption and ill-conditioned powers
show in e, and the computation can be repeated with more digits; no formula for a derivative is needed.
"""

import functools
import math
import threading
from collections.abc import Callable
from typing import Any

HUGE = 1 << 16  # numbers of more binary digits than this before the point are not exponentiated
NOISY = 0.01  # error of an angle above which its sine is unknown


class _Contexts(threading.local):
    """mpmath contexts of this thread's own, by precision: mpmath changes the precision of one while it works, and takes
    milliseconds to make one."""

    def __init__(self) -> None:
        self.of = functools.lru_cache(maxsize=128)(self._made)

    def _made(self, bits: int) -> Any:
        import mpmath

        mp = mpmath.mp.clone()
        mp.prec = bits
        return mp


CONTEXTS = _Contexts()


class Arithmetic:
    """Functions of balls at a precision in bits."""

    mp: Any
    ulp: Any
    nan: Any
    inf: Any

    def __init__(self, bits: int) -> None:
        self.mp = CONTEXTS.of(bits)
        self.ulp = self.mp.ldexp(1, 3 - bits)
        self.nan, self.inf = self.mp.nan, self.mp.inf
        self.ambiguous = False  # whether a comparison was not decided by the digits there are

    def exact(self, x: Any) -> "Ball":
        return Ball(self, self.mp.mpf(x), self.mp.zero)

    def evaluate(self, fun: Callable[..., Any], *numbers: "Ball", both: bool = False, exact: bool = False) -> "Ball":
        """fun at the numbers; `both`: move operands either way, for functions that jump; `exact`: fun does not
        round."""
        values = [x.v for x in numbers]
        v = self._call(fun, values)
        e = self.mp.zero if exact or not self.mp.isfinite(v) else abs(v) * self.ulp
        for i, x in enumerate(numbers):
            if x.e == 0:
                continue
            if not self.mp.isfinite(x.e):
                return Ball(self, v, self.inf)
            for move in (x.e, -x.e) if both else (x.e,):
                moved = self._call(fun, [*values[:i], x.v + move, *values[i + 1 :]])
                if self.mp.isnan(v) and self.mp.isnan(moved):
                    continue  # outside of the domain, and not at its edge
                change = abs(moved - v)
                e += change if self.mp.isfinite(change) else self.inf
        return Ball(self, v, e)

    def _call(self, fun, values):
        if any(self.mp.isnan(x) for x in values):
            return self.nan
        try:
            v = fun(self.mp, *values)
        except ZeroDivisionError:
            return self.inf
        except (ValueError, OverflowError, self.mp.NoConvergence):
            return self.nan
        if isinstance(v, self.mp.mpc):
            return v.real if v.imag == 0 else self.nan
        return v


class Ball:
    """A number v with a bound e of its error."""

    __slots__ = ("arithmetic", "e", "v")
    arithmetic: Arithmetic
    e: Any
    v: Any

    def __init__(self, arithmetic: Arithmetic, v: Any, e: Any) -> None:
        self.arithmetic, self.v, self.e = arithmetic, v, e

    def _apply(self, fun, other):
        return self.arithmetic.evaluate(fun, self, other)

    def __add__(self, other: Any) -> "Ball":
        return self._linear(self.v + other.v, other)

    def __sub__(self, other: Any) -> Any:
        return self._linear(self.v - other.v, other)

    def _linear(self, v, other):
        rounded = abs(v) * self.arithmetic.ulp if self.arithmetic.mp.isfinite(v) else 0
        return Ball(self.arithmetic, v, self.e + other.e + rounded)

    def __mul__(self, other: Any) -> Any:
        return self._apply(lambda mp, a, b: a * b, other)

    def __truediv__(self, other: Any) -> "Ball":
        """Where the divisor may be zero the quotient may be anything."""
        quotient = self._apply(lambda mp, a, b: a / b, other)
        if other.e != 0 and abs(other.v) <= 2 * other.e:
            quotient.e = self.arithmetic.inf
        return quotient

    def __neg__(self) -> Any:
        return Ball(self.arithmetic, -self.v, self.e)

    def compare(self, other: Any) -> int:
        """The sign of self - other; NaN compares as 2."""
        mp = self.arithmetic.mp
        if mp.isnan(self.v) or mp.isnan(other.v):
            return 2
        if self is other:
            return 0
        gap = self.v - other.v
        if self.e + other.e > 0 and not abs(gap) > self.e + other.e:
            self.arithmetic.ambiguous = True
        return int(mp.sign(gap)) if not mp.isnan(gap) else 0

    def __float__(self) -> float:
        return float(self.v)


def bits_of(x: float) -> int:
    """How many bits a float64's mantissa takes: 1 for a power of two, about 50 for most decimal fractions."""
    if x == 0 or not math.isfinite(x):
        return 0
    whole = int(abs(math.frexp(x)[0]) * 2**53)
    return whole.bit_length() - ((whole & -whole).bit_length() - 1)


def is_rounded(x: Any) -> bool:
    """Whether a constant is likely to stand for a number near it, as 0.1 and 3.14159... do; integers stand for
    themselves."""
    return bits_of(x) > 26 and not (float(x).is_integer() and abs(x) < 2**53)


def moved(x: Any, seed: int) -> float:
    """By how much the number that x stands for may differ from it: at random within half of its last place, but the
    same for equal x, so that what is the same number stays the same number."""
    if seed == 0 or not is_rounded(x):
        return 0.0
    mantissa = int(abs(math.frexp(x)[0]) * 2**53)
    scrambled = (mantissa * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03) & (2**64 - 1)
    scrambled = ((scrambled ^ (scrambled >> 31)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    away = ((scrambled >> 11) / 2**53 - 0.5) * math.ulp(x)
    return away if abs(away) > 0.1 * math.ulp(x) else math.copysign(0.3 * math.ulp(x), away)
