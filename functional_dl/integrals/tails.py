"""What lies beyond the last node at either end: a power law through three points, and how far it can be trusted."""

from typing import Any, NamedTuple

from functional_dl.aliases import Array
from functional_dl.integrals import substitution
from functional_dl.integrals.substitution import Range


class Tail(NamedTuple):
    mass: Any  # (K,) the integral over the piece that was cut off, by the power law
    error: Any  # (K,) how wrong that may be
    place: Any  # the outermost node, and the piece's length where that is finite
    weight: Any
    diverges: Any  # whether the power law has no finite integral, or the integrand is not small


def tail(values: Any, span: Range, t: Array, total: Array, side: int) -> Tail:
    """The piece beyond t at the lower (side -1) or upper (side +1) end.

    With d the distance to a finite bound, f ~ C d^-p has the integral f(d) d / (1 - p) over (0, d); towards infinity
    f ~ C x^-p has f(x) x / (p - 1) over (x, inf).  p comes from d, 8d and 64d, twice: where the two agree the law is
    believed, and otherwise only the size of the piece is taken, as an error.

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
    step = xp.where(bounded, 8.0, 1 / 8.0)  # away from the end
    places = origin + (x - origin) * step ** xp.arange(3.0)
    distance = xp.abs(places - origin)
    f = values(places)
    size = xp.where(xp.isfinite(f), xp.abs(f), 0.0)
    seen = (size[0] > 0) & (size[1] > 0) & (size[2] > 0)
    logs = xp.log(xp.where(seen[None, :], size, 1.0))
    logd = xp.log(xp.where(distance > 0, distance, 1.0))
    safe = lambda d: xp.where(d == 0, 1.0, d)
    p = -(logs[1] - logs[0]) / safe(logd[1] - logd[0])
    p_further = -(logs[2] - logs[1]) / safe(logd[2] - logd[1])
    margin = xp.where(bounded, 1 - p, p - 1)
    integrable = margin > 1e-3
    piece = xp.max(size, axis=0) * distance[0]
    believed = seen & integrable & (xp.abs(p - p_further) < 0.05)
    mass = xp.where(believed, size[0] * distance[0] / xp.where(integrable, margin, 1.0) * xp.sign(f[0]), 0.0)
    # a power that still drifts (a logarithm beside it) is trusted the less, the closer it is to the edge
    trust = (1e-5 + 4 * xp.abs(p - p_further)) / xp.where(integrable, xp.minimum(margin, 1.0), 1.0) ** 2
    error = xp.where(believed, xp.abs(mass) * xp.minimum(trust, 4.0), 2 * piece / xp.clip(margin, 1e-3, 1.0))
    # a logarithm or an oscillation beyond what was seen: never less than a share of the piece itself
    gone = xp.max(size, axis=0) == 0
    mass, error = xp.where(gone, 0.0, mass), xp.where(gone, 0.0, error)
    diverges = xp.any((piece > 1e-6 * total) & (~integrable | ~believed) & ~gone)
    weight = xp.where(bounded, distance[0], 0.0)
    return Tail(mass, xp.where(xp.isfinite(error), error, xp.inf), places[0], weight, diverges)
