r"""Any range of integration as a piece of the t axis, on which the ends are harmless.

The double exponential substitutions of Takahasi and Mori, with u = (pi/2) sinh t:

    [a, b]:            x = a + (b - a) e^u / (e^u + e^-u)      x - a and b - x are exact to rounding near their ends
    [a, inf):          x = a + e^u                             (-inf, b]:   x = b - e^-u
    (-inf, inf):       x = sinh u

After it, an algebraic or logarithmic singularity at an end decays double exponentially in t, and an integral diverges
at an end exactly if the transformed integrand does not decay.  Everything is branch-free (where), so bounds may be
traced.  Source: Takahasi and Mori 1974; Bailey, Jeyabalan and Li 2005.
"""

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from functional_dl.aliases import Array

HALF_PI = np.pi / 2
LARGEST = 690.0  # exp(690) is near the largest float64
LEAST = 1e-307  # distances below it lose digits
EPS = float(np.finfo(np.float64).eps)
NARROW = 2.0**24  # units in the last place of its ends that a range must be wider than, to be cut off before them


class Range(NamedTuple):
    """[lower, upper] with lower <= upper, either of which may be infinite."""

    lower: Any
    upper: Any
    xp: ModuleType  # jax.numpy where the bounds may be traced, else numpy

    @property
    def kinds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        below, above = self.xp.isfinite(self.lower), self.xp.isfinite(self.upper)
        return below & above, below & ~above, ~below & above, ~below & ~above

    @property
    def narrow(self) -> Any:
        """Whether a finite range holds so few floats that what is close to its ends is within rounding of them: then
        nodes are placed by their distances from the ends, and the integrand is asked at the nearest float inside."""
        xp = self.xp
        unit = EPS * xp.maximum(xp.abs(self.lower), xp.abs(self.upper))
        return self.kinds[0] & (self.upper - self.lower < NARROW * unit)


def to_x(span: Range, t: Any) -> tuple[Array, Array, Array]:
    """(x, dx/dt, inside): inside is False where x is at no distance from a bound or leaves the floats.  Distances from
    the nearer end are exact; x itself is the float inside that is nearest."""
    xp, (finite, right, left, _) = span.xp, span.kinds
    a, b = xp.where(xp.isfinite(span.lower), span.lower, 0.0), xp.where(xp.isfinite(span.upper), span.upper, 0.0)
    u, du = HALF_PI * xp.sinh(t), HALF_PI * xp.cosh(t)
    width = xp.where(finite & (b > a), b - a, 1.0)
    from_lower, from_upper = width / (1 + xp.exp(-2 * u)), width / (1 + xp.exp(2 * u))
    x_finite = xp.where(t < 0, a + from_lower, b - from_upper)
    dx_finite = 2 * du * from_lower * (from_upper / width)
    grown, shrunk = xp.exp(u), xp.exp(-u)
    x_whole, dx_whole = xp.sinh(u), du * xp.cosh(u)
    x = xp.where(finite, x_finite, xp.where(right, a + grown, xp.where(left, b - shrunk, x_whole)))
    dx = xp.where(finite, dx_finite, xp.where(right, du * grown, xp.where(left, du * shrunk, dx_whole)))
    apart = finite & (from_lower > 0) & (from_upper > 0)
    clipped = xp.clip(x, xp.nextafter(span.lower, span.upper), xp.nextafter(span.upper, span.lower))
    inside = (apart & span.narrow | (x > span.lower) & (x < span.upper)) & xp.isfinite(dx)
    x = xp.where(span.narrow, clipped, x)
    return xp.where(inside, x, _middle(span)), xp.where(inside, dx, 0.0), inside


def to_t(span: Range, x: Any) -> Array:
    """The t of a place x: the inverse of `to_x`, clipped to where floats can follow."""
    xp, (finite, right, left, _) = span.xp, span.kinds
    tiny = np.finfo(np.float64).tiny
    below, above = xp.maximum(x - span.lower, tiny), xp.maximum(span.upper - x, tiny)
    one = xp.ones_like(x)
    u = xp.where(
        finite,
        (xp.log(below) - xp.log(above)) / 2,
        xp.where(right, xp.log(xp.where(right, below, one)),
                  xp.where(left, -xp.log(xp.where(left, above, one)), xp.arcsinh(x))),
    )  # fmt: skip
    return xp.arcsinh(u / HALF_PI)


def share_to_t(xp: ModuleType, share: Any) -> Array:
    """The t of a share of the way through a finite range: exact, whatever the range."""
    return xp.arcsinh((xp.log(share) - xp.log1p(-share)) / 2 / HALF_PI)


def limits(span: Range) -> tuple[Array, Array]:
    """The t at which the ends are cut off: as far as floats go, but 2^14 units in the last place from a bound that is
    not 0 (closer, the distance to the bound is rounded too coarsely for a singularity there); a narrow range is not
    cut."""
    xp, (finite, right, left, _) = span.xp, span.kinds
    furthest_finite = np.arcsinh(LARGEST / 2 / HALF_PI)
    furthest = np.arcsinh(LARGEST / HALF_PI)
    a, b = xp.where(xp.isfinite(span.lower), span.lower, 0.0), xp.where(xp.isfinite(span.upper), span.upper, 0.0)
    width = xp.where(finite & (b > a), b - a, 1.0)
    gap_a, gap_b = 2.0**14 * EPS * xp.abs(a), 2.0**14 * EPS * xp.abs(b)
    # not the same on both sides, so that no node of a symmetric rule is at the middle of the range
    t_lower = xp.where(finite, -0.9987 * furthest_finite, -0.9987 * furthest)
    t_upper = xp.where(finite, 0.9991 * furthest_finite, 0.9991 * furthest)
    # nor nearer than floats go, in a range that is itself hardly more than the least of them
    scale_a, scale_b = (
        xp.where(finite, xp.minimum(xp.maximum(gap, LEAST) / width, 2.0**-10), gap) for gap in (gap_a, gap_b)
    )
    cut = ~span.narrow
    t_lower = xp.where(cut & (finite | right & (gap_a > 0)), xp.maximum(t_lower, _small(xp, finite, scale_a)), t_lower)
    t_upper = xp.where(cut & (finite | left & (gap_b > 0)), xp.minimum(t_upper, -_small(xp, finite, scale_b)), t_upper)
    return t_lower, t_upper


def _small(xp, finite, distance):
    """The negative t at which the (relative) distance to the lower bound is `distance`."""
    distance = xp.maximum(distance, 1e-300)
    u = xp.where(finite, xp.log(distance / (1 - xp.minimum(distance, 0.5))) / 2, xp.log(distance))
    return xp.arcsinh(u / HALF_PI)


def _middle(span: Range):
    """A place well inside the range, off its middle, where the integrand may be asked without harm."""
    xp, (finite, right, left, _) = span.xp, span.kinds
    a, b = xp.where(xp.isfinite(span.lower), span.lower, 0.0), xp.where(xp.isfinite(span.upper), span.upper, 0.0)
    return xp.where(finite, a + 0.4873 * (b - a), xp.where(right, a + 1.0317, xp.where(left, b - 1.0317, 0.4873)))
