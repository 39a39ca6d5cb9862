"""Values of f ever nearer to a point, each with a bound of its rounding error, and never at the point itself.

Distances are counted in u = log(1/h): what converges like a power of h does so exponentially in u, what converges
like a power of log h does so like a power of u.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from functional_dl.calculus.ball import moved
from functional_dl.calculus.intervals import Interval, Undecided
from functional_dl.calculus.program import MOST_BITS, NotReadable, Program, TooLate
from functional_dl.precision import double

DEEPEST = 2300.0  # u of the nearest sample: a distance of 1e-999
NEAREST_FLOAT = 140.0  # the same for a function of Python or NumPy: 1e-61, whose fifth power is still a number
START_BITS = 128
NEIGHBOURHOODS = (6.0, 20.0, 60.0)  # u of the neighbourhoods of the point in which f's comparisons may be proved
PIECES = 64  # of each
SECONDS = 8.0  # after which no deeper samples of a slow function are taken
WHEEL = 720720  # the integers at which a sequence is evaluated take all residues of small numbers
SIXTH = np.array([1.0, -6, 15, -20, 15, -6, 1])
NOTICED = 0.01  # of all that f moves: roughness above which a value is no longer one of a smooth function
SOONEST = 6.0  # u from which on roughness may be due to rounding: that of a cancellation of order h^5
FLAT = 8  # equal values at the end, as rounding leaves them
EPS = float(np.finfo(np.float64).eps)
UNNOTICED = 1e-40  # absolute rounding errors below this are not worth more digits
RUN = 72  # neighbouring integers at which a sequence of Python is held against its samples, some places
LARGEST_WHOLE = 1 << 13  # of the n at which a sequence of Python is evaluated


@dataclass
class Samples:
    """f at distances h = e^-u, u ascending: values (NaN where f is not defined) and bounds of their errors."""

    u: np.ndarray
    value: np.ndarray
    noise: np.ndarray
    failure: str = ""  # what f's own arithmetic came to nearer to the point than these: an exception, nan, inf

    def take(self, chosen: Any) -> "Samples":
        return Samples(self.u[chosen], self.value[chosen], self.noise[chosen], self.failure)


@dataclass(frozen=True)
class Approach:
    """How the point is approached: x0 + direction h, or, for an infinite x0, x = direction / h; integers: only at
    integers."""

    x0: float
    direction: int
    integers: bool = False

    @property
    def infinite(self) -> bool:
        return math.isinf(self.x0)


def grid(deepest: float, ratio: float, first: float = 0.7) -> np.ndarray:
    count = int(math.log(deepest / first) / math.log(ratio)) + 1
    return deepest * ratio ** -np.arange(count, dtype=float)[::-1]


def worst_so_far(noise: np.ndarray) -> np.ndarray:
    """Of errors in the order of depth: what rounding did to wider steps it does to narrower ones, though they may
    hide it by being all alike."""
    return np.maximum.accumulate(noise) if len(noise) else noise


def resurgence(u: np.ndarray, value: np.ndarray) -> np.ndarray:
    """How far f moves from one sample to the next where it had moved less before: what grows again is rounding."""
    step = np.abs(np.diff(value, prepend=value[:1]))
    step[~np.isfinite(step)] = 0.0
    least = np.minimum.accumulate(np.where((u > SOONEST / 2) & (step > 0), step, np.inf))
    again = (u > SOONEST) & (step > 4 * least)
    return np.where(again, step, 0.0)


class Sampler:
    """Keeps what was sampled; `sample` adds to it and returns all, with errors that rounding cannot hide."""

    def __init__(self) -> None:
        self.rows: dict[float, tuple] = {}
        self.deadline = math.inf

    def sample(self, u: np.ndarray, deadline: float = math.inf) -> Samples:
        self.deadline = deadline
        for distance in u:
            try:
                place, *row = self._at(float(distance))
            except TooLate:
                break
            self.rows[place] = tuple(row)
        places = sorted(self.rows)
        return self._seen(np.array(places), np.array([self.rows[place] for place in places]).T)

    def _at(self, u: float) -> tuple[float, ...]:
        raise NotImplementedError

    def _seen(self, u, columns) -> Samples:
        raise NotImplementedError


class DeepSampler(Sampler):
    """Samples with as many digits as it takes, of a function that is read as a program."""

    deepest, ratio = DEEPEST, 2**0.25
    deepest: float
    ratio: float
    program: Program

    def __init__(self, f: Callable[..., Any], approach: Approach) -> None:
        super().__init__()
        self.program = Program(f)
        self.approach = approach
        self._at(3.0)  # raises NotReadable where a primitive is unknown

    def _seen(self, u, columns) -> Samples:
        value, noise, moved = columns
        return Samples(u, value, noise + worst_so_far(moved))

    def _at(self, u: float) -> tuple[float, ...]:
        """u, f at distance e^-u, its error, with digits doubled until that is nothing, and by how much f moves with
        constants that are rounded."""
        bits = START_BITS + int(u / math.log(2)) * (1 if self.approach.infinite else 2)
        while True:
            point = self._point(u, 0)
            v, e = self.program.at(point, bits, deadline=self.deadline)
            if not _finite(v) or e == 0 or e <= abs(v) * 2.0**-70 or e <= UNNOTICED or 2 * bits > MOST_BITS:
                break
            bits *= 2
        noise, moves = _float(e), 0.0
        if self.program.rounded or _moves(self.approach.x0):
            for seed in (1, 2):
                other, _ = self.program.at(self._point(u, seed), bits, seed, deadline=self.deadline)
                change = abs(other - v)
                moves += 4 * _float(change) if change == change else 0.0 if v != v else math.inf
        value = _float(v)
        if math.isnan(value):
            return u, value, 0.0 if e == 0 else math.inf, 0.0
        if math.isinf(value):  # larger than float64's numbers, or beyond what can be computed
            return u, value, 0.0 if _finite(v) and e < abs(v) / 1000 and moves < math.inf else math.inf, moves
        return u, value, noise + EPS * abs(value), moves

    def undecided(self) -> list[int]:
        """The comparisons and steps of f that are not proved to be the same near the point, wherever f is evaluated."""
        if not self.program.sites:
            return []
        enclosure, x0 = self.program.enclosure(), self.approach.x0
        everything = list(range(self.program.sites))
        if enclosure is None:
            return everything
        best = everything
        for u in NEIGHBOURHOODS:
            # from distance e^-u to the point, cut by powers, and on to the nearest float
            h = np.exp(-np.linspace(u, 690.0, PIECES + 1))
            with np.errstate(all="ignore"):
                ends = self.approach.direction / h if math.isinf(x0) else x0 + self.approach.direction * h
            nearest = x0 if math.isinf(x0) else math.nextafter(x0, x0 + self.approach.direction)
            ends = np.unique([*ends[ends != x0], nearest])
            if len(ends) < 2:
                ends = np.repeat(ends, 2)
            try:
                _, _, undecided = enclosure(ends[:-1], ends[1:])
            except NotImplementedError:
                return everything
            if len(undecided) != self.program.sites:
                return everything
            left = [k for k, where in enumerate(undecided) if where.any()]
            best = left if len(left) < len(best) else best
        return best

    def flipped(self, site: int, u: float) -> float:
        """By how much f moves at distance e^-u with that comparison or step otherwise."""
        bits = START_BITS + int(u / math.log(2)) * (1 if self.approach.infinite else 2)
        point = self._point(u, 0)
        v, _ = self.program.at(point, bits, deadline=self.deadline)
        changes = []
        for by in (1, -1):
            other, _ = self.program.at(point, bits, flip=(site, by), deadline=self.deadline)
            changes.append(_float(abs(other - v)))
        return max(c if c == c else math.inf for c in changes)

    def _point(self, u: float, seed: int):
        approach = self.approach
        # h, or x where that is large, is 2^k m with a mantissa m of 30 bits, without a pattern
        k, part = divmod((u if approach.infinite else -u) / math.log(2), 1.0)
        m = math.floor(2**30 * 2**part)

        def point(mp):
            h = mp.ldexp(m, int(k) - 30)
            if approach.infinite:
                x = mp.ldexp(m, int(k) - 30)
                return approach.direction * (
                    mp.floor(x) + 1 + (m * 0x9E3779B1 >> 9) % WHEEL if approach.integers else x
                )
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


class FloatSampler(Sampler):
    """Samples in float64, whose rounding is measured by what is not smooth: among points a few roundings apart, and
    among points a 256th of the distance apart."""

    f: Any
    approach: Approach
    ratio: float
    deepest: float

    def __init__(self, f: Callable[..., Any], approach: Approach) -> None:
        super().__init__()
        self.f, self.approach = f, approach
        self.failure = ""
        self.ratio = 2**0.125
        self.deepest = NEAREST_FLOAT
        if not approach.infinite and approach.x0 != 0:
            self.deepest = -math.log(1024 * EPS * abs(approach.x0))
        if approach.integers:
            self.deepest = math.log(LARGEST_WHOLE)

    def _seen(self, u, columns) -> Samples:
        value, fine, wide, widest = columns
        # NaN and infinity that end a row of numbers are those of the arithmetic, not of f
        finite = np.flatnonzero(np.isfinite(value) & np.isfinite(fine))
        failure = self.failure if len(finite) < len(value) else ""
        if len(finite) and finite[-1] + 1 < len(value):
            rest = value[finite[-1] + 1 :]
            failure = failure or ("inf" if np.isinf(rest).any() and not np.isnan(rest).any() else "nan")
            u, value, fine, wide, widest = (x[: finite[-1] + 1] for x in (u, value, fine, wide, widest))
        return self._rounding(u, value, fine, wide, widest, failure)

    def _rounding(self, u, value, fine, wide, widest, failure) -> Samples:
        usual = self._usual(u, value)
        loud = np.flatnonzero(widest > NOTICED * usual)
        end = value[-FLAT:]
        flat = len(end) == FLAT and np.isfinite(end).all() and np.ptp(end) == 0
        # rounding grows into view as a power of 1/h; an oscillation is there much sooner
        if flat or (len(loud) > 0 and u[loud[0]] >= SOONEST):
            noise = np.maximum(np.where(np.isfinite(fine), np.maximum(fine, wide), 0.0), resurgence(u, value))
            noise = worst_so_far(noise)
        else:
            noise = worst_so_far(np.where(np.isfinite(fine), fine, 0.0))
            noise = np.maximum(noise, np.where(wide <= NOTICED * usual, wide, 0.0))
        with np.errstate(invalid="ignore"):
            drowned = (noise > 0.1 * usual) & (noise > 1e-4 * np.abs(value - self._middle(u, value)))
        noise = np.where(np.logical_or.accumulate(drowned), np.inf, noise)
        return Samples(u, value, np.where(np.isinf(fine), np.inf, noise), failure)

    def departs_between(self, samples: Samples, limit: float, error: float, deadline: float) -> bool:
        """Whether a sequence, at runs of neighbouring integers, is farther from its limit than samples foretell."""
        seen = np.isfinite(samples.value)
        places, off = np.exp(samples.u[seen]), np.abs(samples.value[seen] - limit)
        self.deadline = deadline
        for last in places[-1] * np.array([1.0, 1 / 2, 1 / 8]):
            usual = 16 * np.max(off[places >= last / 4]) + 16 * error + 64 * EPS * abs(limit)
            for n in range(max(1, round(last) - RUN), round(last)):
                try:
                    value = self._call(n)
                except TooLate:
                    return False
                if value is not None and not abs(value - limit) <= usual:
                    return True
        return False

    def constant_near(self) -> bool:
        """Whether f is proved to be one and the same near the point: it is run on an interval."""
        x0, direction = self.approach.x0, self.approach.direction
        for u in NEIGHBOURHOODS:
            h = math.exp(-u)
            near, far = (direction * 1e300, direction / h) if math.isinf(x0) else (x0, x0 + direction * h)
            near = near if math.isinf(x0) else math.nextafter(x0, far)
            try:
                with np.errstate(all="ignore"):
                    out = self.f(Interval(np.array([min(near, far)]), np.array([max(near, far)])))
            except (Undecided, TypeError, ValueError, ArithmeticError, AttributeError):
                continue
            if not isinstance(out, Interval) or bool(np.all(out.lo == out.hi)):
                return True
        return False

    @staticmethod
    def _middle(u, value) -> float:
        early = value[(u <= SOONEST) & np.isfinite(value)]
        return float(np.median(early)) if len(early) else 0.0

    @staticmethod
    def _usual(u, value) -> float:
        """How much f moves where no rounding is large yet."""
        early = value[(u <= SOONEST) & np.isfinite(value)]
        return float(np.ptp(early)) + 64 * EPS * float(np.median(np.abs(early))) if len(early) else 0.0

    def _at(self, u: float) -> tuple[float, ...]:
        approach = self.approach
        if approach.integers:
            n = max(1, round(math.exp(u)))
            value = self._call(n)
            if value is None:
                return math.log(n), math.nan, math.inf, math.inf, 0.0
            return math.log(n), value, 16 * EPS * abs(value) * max(1.0, math.log(n)), 0.0, 0.0
        x0 = 0.0 if approach.infinite else approach.x0
        x = x0 + approach.direction * math.exp(u if approach.infinite else -u)
        h = x - x0
        if h == 0:
            return u, math.nan, math.inf, math.inf, 0.0
        u = abs(math.log(abs(h)))
        value = self._call(x)
        if value is None:  # too large, or divided by what rounding made zero
            return u, math.nan, math.inf, math.inf, 0.0
        if not math.isfinite(value):
            return u, value, 0.0, 0.0, 0.0
        ulps = 4 * math.ulp(x)
        fine = self._roughness(x0, x, ulps)
        wide, widest = (2 * self._roughness(x0, x, max(abs(h) / part, ulps)) for part in (256, 32))
        return u, value, 2 * fine + 4 * EPS * abs(value), wide, widest

    def _roughness(self, x0: float, x: float, step: float) -> float:
        """The sixth difference of f around x, scaled to the error of one value; nothing of a smooth function is left
        in it."""
        values = [self._call(p) for p in (x + j * step for j in range(-3, 4)) if p != x0 and (p > x0) == (x > x0)]
        if len(values) < 7 or None in values:
            return 0.0
        with np.errstate(all="ignore"):
            rough = abs(float(np.dot(SIXTH, np.array(values, float)))) / math.sqrt(924)
        return rough if math.isfinite(rough) else 0.0

    def _call(self, x) -> float | None:
        """f(x); NaN outside of its domain, None where the arithmetic failed."""
        if time.monotonic() > self.deadline:
            raise TooLate
        try:
            with np.errstate(all="ignore"), double():
                value = np.asarray(self.f(x))
        except ArithmeticError as error:
            self.failure = f"{type(error).__name__}: {error}"
            return None
        except ValueError as error:
            if not outside_of_domain(error):
                raise
            return math.nan
        if value.shape != () or value.dtype.kind not in "fiub":
            raise ValueError(
                f"f: expected one real number as its value, got shape {value.shape} of dtype {value.dtype}"
            )
        return float(value)


def outside_of_domain(error: ValueError) -> bool:
    """Whether an error is what Python's mathematical functions say outside of their domain; any other is the caller's
    to see."""
    message = str(error)
    return message == "math domain error" or (message.startswith("expected a") and " input, got " in message)


def sampler(f: Callable[..., Any], approach: Approach) -> "DeepSampler | FloatSampler":
    """The best sampler that f allows."""
    try:
        return DeepSampler(f, approach)
    except NotReadable:
        return FloatSampler(f, approach)
