r"""What lies beyond the last node at either end: a power law through three points, and how far it can be trusted.

With d the distance to a finite bound, f ~ C d^-p has the integral f(d) d / (1 - p) over (0, d); towards infinity
f ~ C x^-p has f(x) x / (p - 1) over (x, inf).  A logarithm beside the power, f ~ C x^-p (log x)^q, shows as a drift of
the measured p by q / log x: with m = p - 1 the mass is f(x) x / m (1 + q / (m log x) + ...), and the power law is wrong
by a share of about |q| / (m log x)^2, which is the drift from one place to the next over m^2.
"""

from typing import Any, NamedTuple

import numpy as np

from functional_dl.aliases import Array
from functional_dl.integrals import substitution
from functional_dl.integrals.substitution import EPS, Range

STEP = 8.0  # between the three places
LADDER = 24  # steps back from the end at which a value is looked for where it has underflowed to 0
NORMAL = 1e-290  # values below have lost digits to underflow
EDGE = 1e-3  # of the exponent: closer to the power that is not integrable, nothing is believed


class Tail(NamedTuple):
    mass: Any  # (K,) the integral over the piece that was cut off, by the power law
    error: Any  # (K,) how wrong that may be
    place: Any  # the outermost node, and the piece's length where that is finite
    weight: Any
    diverges: Any  # whether the power law has no finite integral, or the integrand is not small


def tail(values: Any, span: Range, t: Array, total: Array, side: int) -> Tail:
    """The piece beyond t at the lower (side -1) or upper (side +1) end.

    p comes from d, 8d and 64d, twice: where the two agree the law is believed, and otherwise only the size of the piece
    is taken, as an error.

    Args:
      values: x (n,) -> (n, K).
      total: (K,) about the integral of |f|, what the piece is compared with.
    """
    xp = span.xp
    x, _, _ = substitution.to_x(span, t)
    bound = span.lower if side < 0 else span.upper
    bounded = xp.isfinite(bound)
    origin = xp.where(bounded, bound, xp.where(xp.isfinite(span.lower), span.lower,
                                                 xp.where(xp.isfinite(span.upper), span.upper, 0.0)))  # fmt: skip
    step = xp.where(bounded, STEP, 1 / STEP)  # away from the end
    ladder = origin + (x - origin) * step ** xp.arange(3.0 + LADDER)
    # a narrow range: at the end's nearest floats
    unit = xp.maximum(EPS * xp.abs(xp.where(bounded, bound, 1.0)), np.finfo(np.float64).tiny)
    near = bound - side * unit * 2.0 ** xp.arange(3.0 + LADDER)
    ladder = xp.where(span.narrow, near, ladder)
    ladder = xp.where((ladder > span.lower) & (ladder < span.upper), ladder, ladder[0])
    f = values(ladder)
    places, f, beyond = ladder[:3], f[:3], f
    distance = xp.abs(places - origin)
    size = xp.where(xp.isfinite(f), xp.abs(f), 0.0)
    seen = (size[0] > 0) & (size[1] > 0) & (size[2] > 0)
    logs = xp.log(xp.where(seen[None, :], size, 1.0))
    logd = xp.log(xp.where(distance > 0, distance, 1.0))
    safe = lambda d: xp.where(d == 0, 1.0, d)
    p = -(logs[1] - logs[0]) / safe(logd[1] - logd[0])
    p_further = -(logs[2] - logs[1]) / safe(logd[2] - logd[1])
    margin = xp.where(bounded, 1 - p, p - 1)
    integrable = margin > EDGE
    piece = xp.max(size, axis=0) * distance[0]
    believed = seen & integrable & (xp.abs(p - p_further) < 0.05)
    mass = xp.where(believed, size[0] * distance[0] / xp.where(integrable, margin, 1.0) * xp.sign(f[0]), 0.0)
    # rounding of the distance, which p is measured with
    drift = xp.abs(p - p_further) + 2 * xp.abs(p) * xp.where(bounded, unit / safe(distance[0]), 0.0)
    trust = (1e-5 + 4 * drift) / xp.where(integrable, xp.minimum(margin, 1.0), 1.0) ** 2
    error = xp.where(believed, xp.abs(mass) * xp.minimum(trust, 4.0), 2 * piece / xp.clip(margin, EDGE, 1.0))
    # where the power drifts by as much as separates it from the edge, the mass may be any: a logarithm decides
    logarithm = drift * xp.abs(logd[0]) / safe(logd[1] - logd[0]) ** 2 * xp.abs(logd[1] - logd[0])
    undecided = believed & (logarithm > 0.5 * margin)
    # a narrow range is not cut, but what a power does within the last float of it cannot be seen
    within = 4 * piece * xp.maximum(xp.abs(p), xp.abs(p_further)) / xp.clip(1 - xp.maximum(p, p_further), EDGE, 1.0)
    mass, error = xp.where(span.narrow, 0.0, mass), xp.where(span.narrow, xp.where(seen, within, piece), error)
    gone = xp.max(size, axis=0) == 0
    under, lost = _underflowed(xp, ladder, beyond, origin, bounded)
    mass, error = xp.where(gone, 0.0, mass), xp.where(gone, lost, error)
    diverges = xp.any((piece > 1e-6 * total) & (~integrable | ~believed | undecided) & ~gone & ~span.narrow)
    diverges = diverges | xp.any((piece > 1e-2 * total) & (p >= 1 - EDGE) & seen & span.narrow)
    diverges = diverges | xp.any(gone & under & (lost > 1e-6 * total))
    weight = xp.where(bounded & ~span.narrow, distance[0], 0.0)
    return Tail(mass, xp.where(xp.isfinite(error), error, xp.inf), places[0], weight, diverges)


def _underflowed(xp, ladder, f, origin, bounded):
    """(whether f reaches 0 at the end by underflow while it falls like a power, (K,) the mass that this hides)."""
    size = xp.where(xp.isfinite(f), xp.abs(f), 0.0)
    distance = xp.abs(ladder - origin)
    good = size > NORMAL
    first = xp.argmax(good, axis=0) if xp is np else _first(xp, good)
    first = xp.clip(first, 0, len(ladder) - 2)
    pick = lambda rows, k: xp.take_along_axis(rows, k[None], axis=0)[0]
    across = xp.broadcast_to(distance[:, None], size.shape)
    here, next_ = pick(size, first), pick(size, first + 1)
    d, d_next = pick(across, first), pick(across, first + 1)
    good = xp.any(good, axis=0) & (d != d_next) & (next_ > 0)
    p = -xp.log(xp.where(good, next_ / xp.where(here > 0, here, 1.0), 1.0)) / xp.log(xp.where(good, d_next / d, 2.0))
    margin = xp.clip(xp.where(bounded, 1 - p, p - 1), EDGE, None)
    # what falls faster than any power has fallen by far more than a power of the distance would
    return good, xp.where(good, 4 * here * d / xp.minimum(margin, 1.0), 0.0)


def _first(xp, good):
    """argmax of booleans along the first axis (a program's argmax is of no use where x64 is off)."""
    place = xp.arange(len(good))[:, None]
    return xp.min(xp.where(good, place, len(good) - 1), axis=0)
