"""Values of f ever nearer to a point, each with a bound of its rounding error, and never at the point itself.

Distances are counted in u = log(1/h): what converges like a power of h does so exponentially in u, what converges like a
power of log h does so like a power of u.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from functional_dl.calculus.program import MOST_BITS, NotReadable, Program
from functional_dl.calculus.wide import moved

DEEPEST = 2300.0  # u of the nearest sample: a distance of 1e-999
NEAREST_FLOAT = 600.0  # the same for a function of Python or NumPy
START_BITS = 128
SECONDS = 8.0  # after which no deeper samples of a slow function are taken
WHEEL = 720720  # the whole numbers at which a sequence is evaluated take all residues of small numbers
EPS = float(np.finfo(np.float64).eps)
UNNOTICED = 1e-40  # absolute rounding errors below this are not worth more digits
LARGEST_WHOLE = 1 << 13  # of the n at which a sequence of Python is evaluated


@dataclass
class Samples:
    """f at distances h = e^-u, u ascending: values (NaN where f is not defined) and bounds of their errors."""

    u: np.ndarray
    value: np.ndarray
    noise: np.ndarray

    def take(self, chosen) -> "Samples":
        return Samples(self.u[chosen], self.value[chosen], self.noise[chosen])

    def merged(self, other: "Samples") -> "Samples":
        order = np.argsort(np.concatenate([self.u, other.u]), kind="stable")
        return Samples(
            *(np.concatenate(pair)[order] for pair in zip(self._fields(), other._fields())),
        )

    def _fields(self):
        return self.u, self.value, self.noise


@dataclass(frozen=True)
class Approach:
    """How the point is approached: x0 + direction h, or, for an infinite x0, x = direction / h; whole: by whole numbers."""

    x0: float
    direction: int
    whole: bool = False

    @property
    def infinite(self) -> bool:
        return math.isinf(self.x0)


def grid(deepest: float, ratio: float = 2**0.25, first: float = 0.7) -> np.ndarray:
    count = int(math.log(deepest / first) / math.log(ratio)) + 1
    return deepest * ratio ** -np.arange(count, dtype=float)[::-1]


class DeepSampler:
    """Samples with as many digits as it takes, of a function that is read as a program."""

    deepest = DEEPEST

    def __init__(self, f: Callable, approach: Approach):
        self.program = Program(f)
        self.approach = approach
        self.sample(np.array([3.0]))  # raises NotReadable where a primitive is unknown

    def sample(self, u: np.ndarray, deadline: float = math.inf) -> Samples:
        found = []
        for distance in u:
            if time.monotonic() > deadline:
                break
            found.append((distance, *self._at(float(distance))))
        return Samples(*np.array(found, float).reshape(-1, 3).T)

    def _at(self, u: float) -> tuple[float, float]:
        """f at distance e^-u: its value and its error, with digits doubled until the error is nothing."""
        bits = START_BITS + int(u / math.log(2)) * (1 if self.approach.infinite else 2)
        while True:
            point = self._point(u, 0)
            v, e = self.program.at(point, bits)
            if not v - v == 0 or e == 0 or e <= abs(v) * 2.0**-70 or e <= UNNOTICED or 2 * bits > MOST_BITS:
                break
            bits *= 2
        noise = _float(e)
        if self.program.rounded or _moves(self.approach.x0):
            for seed in (1, 2):
                other, _ = self.program.at(self._point(u, seed), bits, seed)
                change = abs(other - v)
                noise += 4 * _float(change) if change == change else 0.0 if v != v else math.inf
        value = _float(v)
        if math.isinf(value):  # larger than float64's numbers, or beyond what can be computed
            return value, 0.0 if _finite(v) and e < abs(v) / 1000 else math.inf
        return value, noise + EPS * abs(value)

    def _point(self, u: float, seed: int):
        approach = self.approach
        # h = 2^k m with a mantissa m of 30 bits, without a pattern
        k, part = divmod(-u / math.log(2), 1.0)
        m = math.floor(2**30 * 2**part)

        def point(mp):
            h = mp.ldexp(m, int(k) - 30)
            if approach.infinite:
                x = mp.ldexp(m, -int(k) - 30)
                return approach.direction * (mp.floor(x) + 1 + m % WHEEL if approach.whole else x)
            return mp.mpf(approach.x0) + mp.mpf(_moves(approach.x0, seed)) + approach.direction * h

        return point


def _finite(v) -> bool:
    return bool(v - v == 0)


def _float(v) -> float:
    try:
        return float(v)
    except OverflowError:
        return math.inf if v > 0 else -math.inf


def _moves(x0: float, seed: int = 1) -> float:
    return moved(x0, seed) if math.isfinite(x0) else 0.0


class FloatSampler:
    """Samples in float64; their rounding errors are measured by what f does at points a few roundings away."""

    def __init__(self, f: Callable, approach: Approach):
        self.f, self.approach = f, approach
        self.scale = 1.0 if approach.infinite or approach.x0 == 0 else abs(approach.x0)
        self.deepest = NEAREST_FLOAT
        if not approach.infinite and approach.x0 != 0:
            self.deepest = -math.log(64 * EPS * self.scale)
        if approach.whole:
            self.deepest = math.log(LARGEST_WHOLE)

    def sample(self, u: np.ndarray, deadline: float = math.inf) -> Samples:
        found = []
        for distance in u:
            if time.monotonic() > deadline:
                break
            found.append(self._at(float(distance)))
        u, value, noise = np.array(found, float).reshape(-1, 3).T
        # what rounding did to wider steps, it does to narrower ones, though they may hide it by being all alike
        order = np.argsort(u)
        finite = np.where(np.isfinite(noise), noise, 0.0)[order]
        noise[order] = np.maximum(noise[order], np.maximum.accumulate(finite))
        return Samples(u, value, noise)

    def _at(self, u: float) -> tuple[float, float, float]:
        approach = self.approach
        if approach.whole:
            n = max(1, round(math.exp(u)))
            value = self._call(n)
            return -math.log(1 / n) + 1e-12 * (n == 1), value, 16 * EPS * abs(value) * max(1.0, math.log(n))
        if approach.infinite:
            x = approach.direction * math.exp(u)
            step = 4 * EPS * abs(x)
        else:
            x = approach.x0 + approach.direction * math.exp(-u)
            step = 4 * math.ulp(x)
            if x == approach.x0:
                return u, math.nan, math.inf
            u = -math.log(abs(x - approach.x0))
        values = np.array([self._call(x + j * step) for j in (-2, -1, 0, 1, 2)])
        value = values[2]
        if not np.isfinite(values).all():
            return u, value, 0.0 if math.isnan(value) else math.inf
        # what is left of them after a parabola is rounding
        j = np.arange(-2.0, 3.0)
        rest = values - value - j * (values[3] - values[1]) / 2
        third = max(abs(rest[0] + rest[4]) / 2, abs(values[1] + values[3] - 2 * value), abs(rest).max())
        return u, value, 2 * third + 4 * EPS * abs(value)

    def _call(self, x) -> float:
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(self.f(x))
        except (ArithmeticError, ValueError):
            return math.nan
        if value.shape != () or value.dtype.kind not in "fiub":
            raise ValueError(f"f: expected one real number as its value, got shape {value.shape} of dtype {value.dtype}")
        return float(value)


def sampler(f: Callable, approach: Approach):
    """The best sampler that f allows."""
    try:
        return DeepSampler(f, approach)
    except NotReadable:
        return FloatSampler(f, approach)
