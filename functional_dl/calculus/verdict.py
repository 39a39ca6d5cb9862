"""What samples ever nearer to a point say of the limit: it is this, it is infinite, there is none, or it cannot be
told.

The samples are seen through windows in u = log(1/h), each twice as deep as the one before: by how much f still moves
in a window compared with the one before bounds how much it can move in all that follow.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from functional_dl.calculus.accelerate import Candidate, consistent, polynomial, shanks
from functional_dl.calculus.samples import EPS, SOONEST, Samples

CONVERGES, INFINITE, OSCILLATES, UNDEFINED, UNKNOWN = "converges", "infinite", "oscillates", "undefined", "unknown"
FALLING = 0.1  # of a window's movement left in the next one: then less than that much again follows
GROWTH = 1.22  # of the least modulus from window to window, above which it grows without bound
SLOWEST = 0.8  # from window to window; what slows down more may be a law in log log h
WORTH = 1e-3  # relative error above which a limit is not given
DROWNED = 0.1  # of what f usually is: errors above which a sample says nothing
PRECISE = 1e-4  # of the last window's movement: to which an expansion must fit, to be the law
FEWEST = 3  # samples in a window
FEW_VALUES = 3
NEARER = 0.4  # of how far f was from its limit over the second third of the samples, that it is over the last
SETTLED = 1e-10  # of f: movement of the last samples up to which f has arrived
SHALLOW = 100.0  # u up to which slow convergence and slow growth are alike
FASTER = 1.05  # from window to window, by which what grows without bound moves faster there


class Verdict(NamedTuple):
    kind: str
    value: float
    error: float
    reason: str
    along: float = np.nan  # of what could not be told: the limit along the samples, which any limit would have to equal


def _unknown(reason: str) -> Verdict:
    return Verdict(UNKNOWN, np.nan, np.inf, reason)


def decide(samples: Samples, where: str) -> Verdict:
    """The verdict for one direction; `where` says in words how the point is approached."""
    known = samples.take(np.isfinite(samples.noise) | np.isinf(samples.value) & (samples.noise == 0))
    if len(known.u) < 8:
        why = f" ({samples.failure})" if samples.failure else ""
        return _unknown(f"f could be evaluated at too few points {where}{why}")
    undefined = _undefined(known, where)
    if undefined:
        return undefined
    defined = known.take(~np.isnan(known.value))
    infinite = _infinite(defined, where)
    if infinite:
        return infinite
    finite = defined.take(np.isfinite(defined.value))
    if len(finite.u) < 8:
        return _unknown(f"f could be evaluated at too few points {where}")
    finite = finite.take(~drowned(finite))
    if len(finite.u) < 8:
        return _unknown(f"rounding errors in f hide its limit {where}")
    found = _convergent(finite)
    if found:
        return Verdict(CONVERGES, found.value, found.error, f"f(x) settles {where}")
    return _oscillating(finite, where) or _slow(finite, where)


def steps(samples: Samples) -> bool:
    """Whether f is seen to take a few values only: then it jumps between them, or there are more."""
    values = samples.value[np.isfinite(samples.value)]
    return len(np.unique(values)) <= FEW_VALUES


def rare(found: Verdict, where: str, count: int) -> Verdict:
    return _unknown(
        f"f depends on a condition that may hold at places {where} that none of {count} samples has met: there f would "
        "have other values"
    )._replace(along=found.value)


def without_failure(found: Verdict, samples: Samples, where: str) -> Verdict:
    """The verdict, where f's own arithmetic failed nearer to the point: only what had been reached before counts."""
    if not samples.failure:
        return found
    last = samples.value[np.isfinite(samples.value) & (samples.u > samples.u[-1] / 2)]
    reached = len(last) > 0 and max(abs(last[-1] - found.value), np.ptp(last[-FEWEST:])) <= found.error + SETTLED * (
        abs(found.value) + float(np.ptp(samples.value[np.isfinite(samples.value)]))
    )
    if found.kind == CONVERGES and not reached and samples.failure in ("nan", "inf"):
        return _unknown(f"f's own arithmetic gives {samples.failure} {where}, before f has settled")
    if found.kind == INFINITE and samples.failure == "nan":
        return _unknown(f"f's own arithmetic gives nan {where}, so that its growth cannot be followed")
    return found


def drowned(samples: Samples) -> np.ndarray:
    """Which samples say nothing, their errors being as large as what f usually is and moves."""
    finite = samples.value[np.isfinite(samples.value)]
    if not len(finite):
        return np.zeros(len(samples.u), bool)
    low, middle, high = np.percentile(finite, [10, 50, 90])
    early = samples.value[np.isfinite(samples.value) & (samples.u <= SOONEST)]
    usual = max(abs(middle) + high - low, 0.01 * float(np.ptp(early)) if len(early) else 0.0)
    return samples.noise > DROWNED * usual


def windows(samples: Samples, end: float, count: int = 4) -> list[Samples]:
    """The last windows before u = end, the deepest first."""
    return [samples.take((samples.u > end / 2 ** (k + 1)) & (samples.u <= end / 2**k)) for k in range(count)]


def _spread(window: Samples) -> float:
    if not len(window.u):
        return np.nan
    with np.errstate(invalid="ignore"):
        spread = float(np.ptp(window.value))
    return np.inf if np.isnan(spread) else spread  # all are infinite


def _undefined(known: Samples, where: str) -> Verdict | None:
    deep = known.take(known.u > known.u[-1] / 4)
    missing = np.isnan(deep.value)
    if missing.all():
        return Verdict(UNDEFINED, np.nan, np.inf, f"f is not defined {where}: its values are NaN")
    if missing.any():
        return Verdict(OSCILLATES, np.nan, np.inf, f"f is undefined at arbitrarily close points {where}")
    return None


def _infinite(defined: Samples, where: str) -> Verdict | None:
    """Windows whose least modulus and whose movement grow steadily, all of one sign."""
    loud = defined.take(defined.noise <= 0.1 * np.abs(defined.value))
    if len(loud.u) < 8:
        return None
    parts = windows(loud, loud.u[-1], 3)
    if min(len(w.u) for w in parts) < FEWEST:
        return None
    sign = np.sign(parts[0].value[-1])
    if sign == 0 or not all((np.sign(w.value) == sign).all() for w in parts[:2]):
        return None
    least = [float(np.min(np.abs(w.value))) for w in parts]
    steady = _grows(least, GROWTH) and (math.isinf(_spread(parts[0])) or _grows([_spread(w) for w in parts], 1.1))
    steady = steady and _goes_on(parts)
    # what rounded constants hide nearer to the point, a pole must have announced before
    hidden = loud.u[-1] < 0.5 * defined.u[-1]
    if not steady or (hidden and (loud.u[-1] < 12 or not _grows(least, 20.0))):
        return None
    name = "+infinity" if sign > 0 else "-infinity"
    return Verdict(INFINITE, float(sign * np.inf), 0.0, f"f(x) grows beyond all bounds {where}: it tends to {name}")


def _goes_on(parts: list[Samples]) -> bool:
    """Whether growth is no slow convergence: by how much f moves for each unit of u.

    log x, whose rate is 1, and L - c x^-0.01, whose rate falls like e^(-0.01 u), are alike for small u: there the rate
    must grow.  Far out a power law in u has rates in a steady proportion from window to window, and that of what
    converges like a power of the distance falls by ever more.
    """
    u = np.concatenate([window.u for window in parts[::-1]])
    value = np.concatenate([window.value for window in parts[::-1]])
    places = [int(np.argmin(np.abs(u - u[-1] / 2**k))) for k in range(4)]
    if len(set(places)) < 4 or not np.isfinite(value[places]).all():
        return True
    rates = np.diff(value[places]) / np.diff(u[places])
    if np.any(rates == 0):
        return True
    first, second = rates[0] / rates[1], rates[1] / rates[2]
    if u[-1] < SHALLOW:
        return min(first, second) >= FASTER
    return first >= 1.0 or first >= second * (1 - 1e-6)


def _grows(deepest_first: list[float], factor: float) -> bool:
    return all(a >= factor * b for a, b in itertools.pairwise(deepest_first))


def _convergent(finite: Samples) -> Candidate | None:
    raw = _settled(finite)
    candidates = [raw] if raw else []
    if raw is None or raw.error > 1e-13 * (abs(raw.value) + 1e-3 * float(np.median(np.abs(finite.value)))):
        candidates += _analytic(finite)
    found = consistent(candidates)
    if found is None:
        return None
    if found.error > WORTH * _size(finite, found.value):
        return None
    return found._replace(error=found.error + 2 * EPS * abs(found.value))


def _size(samples: Samples, value: float) -> float:
    early = samples.value[samples.u <= SOONEST]
    moved = 0.01 * float(np.ptp(early)) if len(early) else 0.0
    return abs(value) + float(np.median(np.abs(samples.value))) + moved + 1e-300


def _settled(finite: Samples) -> Candidate | None:
    """The last sample of a window in which f hardly moves; samples deeper than the window must not contradict it."""
    best = None
    for end in range(len(finite.u) - 1, 4, -1):
        deepest, before, first = windows(finite, finite.u[end], 3)
        if min(len(deepest.u), len(before.u)) < FEWEST:
            continue
        noise, moved, moved_before = float(np.max(deepest.noise)), _spread(deepest), _spread(before)
        if moved > max(FALLING * moved_before, 4 * noise):
            continue
        value, error = float(finite.value[end]), 2 * moved + 2 * noise
        if len(first.u) >= FEWEST and 0 < moved_before <= 0.5 * _spread(first):
            # windows shrink by a factor that itself shrinks: what follows is less than one more such step
            share = max(moved, noise) / moved_before
            error = min(error, 8 * moved * share + 2 * noise)
        later = slice(end + 1, None)
        if (np.abs(finite.value[later] - value) > error + 2 * finite.noise[later]).any():
            continue
        if best is None or error < best.error:
            best = Candidate(value, error, "settled")
    return best


def _analytic(finite: Samples) -> list[Any]:
    """Extrapolations in powers of h, where f moves ever less, faster than by a power of log h."""
    quiet = finite.take(finite.noise <= 0.01 * np.ptp(finite.value))
    if len(quiet.u) < 8:
        return []
    moved = [_spread(w) for w in windows(quiet, quiet.u[-1], 3)]
    noise = float(np.max(quiet.noise[-3:]))
    falling = moved[0] <= 0.5 * moved[1] and moved[0] * moved[2] <= 0.7 * moved[1] ** 2
    if not falling and moved[0] > 4 * noise:
        return []
    h = np.exp(-quiet.u)
    laws = {"h": h, "h^2": h**2, "sqrt h": np.sqrt(h), "h^(1/3)": np.cbrt(h)}
    return [c for law, w in laws.items() if (c := polynomial(quiet, w, law)) and _approached(quiet, c)]


def _approached(samples: Samples, found: Candidate) -> bool:
    """Whether f comes nearer to a limit throughout: values that agree by chance at the end do not."""
    away = np.abs(samples.value - found.value)
    third = len(away) // 3
    middle, last = float(np.max(away[third:-third])), float(np.max(away[-third:]))
    return last <= max(NEARER * middle, found.error, 4 * float(np.max(samples.noise[-third:])))


def strides(samples: Samples) -> tuple[int, int]:
    """Every how many samples u grows by a factor of about sqrt 2, and of 2."""
    ratio = float(np.median(np.log2(samples.u[1:] / samples.u[:-1])))
    return max(1, round(0.5 / ratio)), max(1, round(1 / ratio))


def _oscillating(finite: Samples, where: str) -> Verdict | None:
    finite = finite.take(finite.noise <= 0.02 * np.ptp(finite.value))
    if len(finite.u) < 8:
        return None
    parts = windows(finite, finite.u[-1], 4)
    if min(len(w.u) for w in parts[:3]) < FEWEST:
        return None
    spread = [_spread(w) for w in parts]
    noise = max(float(np.max(w.noise)) for w in parts[:2])
    recent = np.concatenate([parts[1].value, parts[0].value])
    # of the middle, or of zero where the oscillation grows
    crossings = max(int(np.sum(np.diff(recent > level))) for level in ((np.min(recent) + np.max(recent)) / 2, 0.0))
    shallow = spread[3] if len(parts[3].u) >= FEWEST else spread[2]
    if crossings < max(3, 0.1 * len(recent)) or spread[0] < 20 * noise or not spread[0] >= 0.7 * shallow:
        return None
    low, high = (float(pick(parts[0].value)) for pick in (np.min, np.max))
    if spread[0] > GROWTH * spread[1] > GROWTH**2 * spread[2]:
        return Verdict(OSCILLATES, np.nan, np.inf, f"f(x) oscillates without bound {where}")
    return Verdict(
        OSCILLATES, np.nan, np.inf, f"f(x) keeps oscillating {where}, between about {low:.6g} and {high:.6g}"
    )


def _slow(finite: Samples, where: str) -> Verdict:
    """Laws in powers of 1 / log h: extrapolated where windows shrink at a steady rate, and refused where they slow
    down."""
    moved = [_spread(w) for w in windows(finite, finite.u[-1], 4)]
    rates = [a / b if b > 0 else np.inf for a, b in itertools.pairwise(moved)]
    steady = all(0.05 < r <= SLOWEST for r in rates[:2]) and rates[0] <= 1.05 * rates[1]
    one_way = np.mean(np.diff(finite.value[finite.u > finite.u[-1] / 8]) > 0)
    if not steady or 0.05 < one_way < 0.95:
        return _unknown(
            f"f(x) has not settled {where}, at the closest points evaluated: it moves too slowly, or too irregularly, "
            "to tell"
        )
    deep = finite.take(finite.u >= 4.0)
    candidates = [polynomial(deep, 1 / deep.u, "1/log h"), polynomial(deep, 1 / deep.u**0.5, "1/sqrt(log h)")]
    candidates += [shanks(deep.take(slice((len(deep.u) - 1) % k, None, k)), f"geometric {k}") for k in strides(deep)]
    found = consistent(candidates)
    whole = float(np.ptp(finite.value))
    if found is None or found.error > 0.05 * min(whole, 20 * moved[0]):
        return _unknown(f"f(x) converges so slowly {where} that no limit can be given with a useful error")
    # a law that fits to few digits has terms, such as log log h, that none of these expansions holds
    precise = found.error <= PRECISE * moved[0]
    error = (found.error if precise else max(4 * found.error, moved[0])) + 2 * EPS * abs(found.value)
    return Verdict(
        CONVERGES, found.value, error, f"f(x) settles {where}, as slowly as a power of 1/log of the distance"
    )
