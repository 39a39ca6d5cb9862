r"""Whether the integral over a region diverges: how much sits in shells that shrink to a point, or grow to infinity.

Around a place of greatest values, shells of radii r, r/2, r/4, ... have the masses m_k = r_k^d mean |f|.  Where
f ~ |x - p|^-alpha, m_{k+1} / m_k = 2^(alpha - d): the integral is finite exactly where that is below 1, and towards
infinity likewise.  Where f is unbounded along a curve or surface, every line that crosses it says so: along lines
anywhere, climbed to their greatest value, delta |f(delta)| must fall as delta -> 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.calculus.intervals import Interval, Intervals
from functional_dl.integrals.box import Box, place, plain
from functional_dl.integrals.lines import Lines

SPLITS = 48  # boxes halved at once
HALVINGS = 30  # rounds for each axis
HIGHER = 10.0  # than all samples, by which a value at a place that they missed is told
DIRECTIONS = 96
SHELLS = 40  # each half as wide as the one before
LAST = 8  # of them must all have as much mass as the one before, or nearly
ENOUGH = 0.97
CLIMB = 56  # rounds, each within 0.6 of the distance of the one before
LINES = 24
TRIES = 24  # places on a line, around the best one so far at distances that shrink
ROUNDS = 24
SHARE = 0.25  # of the lines that must say so
WORTH = 1e-6  # of the greatest shell's mass: the last shells have at least so much


class Boxes:
    """Enclosures of an integrand on boxes of shares of the way; finite axes alone.

    Raises:
      NotImplementedError: an operation has no intervals, or an axis is infinite.
    """

    jaxpr: Any

    def __init__(self, region: Box) -> None:
        if any(region.infinite):
            raise NotImplementedError("an infinite axis")

        def at(*shares):
            x = []
            for limit, share in zip(region.limits, shares):
                lower, upper = limit(*x)
                x.append(lower + (upper - lower) * share)
            return region.vector(*x)

        self.ndim = region.ndim
        self.jaxpr = jax.make_jaxpr(at)(*[jnp.zeros(())] * region.ndim)

    def __call__(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(least, greatest) (n, K) on boxes (n, d)."""
        found = Intervals().run(self.jaxpr, [Interval(low[:, k], high[:, k]) for k in range(self.ndim)])[0]
        shape = (len(low), max(1, found.lo[0].size))
        return tuple(np.broadcast_to(end.reshape(len(end), -1), shape) for end in (found.lo, found.hi))  # type: ignore


def unseen(region: Box, values: Callable[..., Any], highest: float) -> bool:
    """Whether the integrand may do what no sample has met: it is 0 at all of them and not proved to be 0, or intervals
    lead to a place where it is far greater.

    Args:
      highest: the greatest modulus of the samples.
    """
    try:
        boxes, cuts = Boxes(region), 16 if region.ndim < 4 else 4
        ends = np.linspace(0.0, 1.0, cuts + 1)
        low = np.stack([g.ravel() for g in np.meshgrid(*[ends[:-1]] * region.ndim, indexing="ij")], axis=1)
        high = low + 1.0 / cuts
        weight = _hides(*boxes(low, high), low, high)
        if highest == 0:
            return bool(np.any(weight != 0))
        for _ in range(HALVINGS * region.ndim):
            chosen = np.argsort(weight)[-SPLITS:]
            chosen = chosen[weight[chosen] > 0]
            if not len(chosen):
                return False
            rows, axis = np.arange(len(chosen)), np.argmax((high - low)[chosen], axis=1)
            middle = (low[chosen, axis] + high[chosen, axis]) / 2
            first, second = high[chosen].copy(), low[chosen].copy()
            first[rows, axis], second[rows, axis] = middle, middle
            new_low, new_high = np.concatenate([low[chosen], second]), np.concatenate([first, high[chosen]])
            keep = np.setdiff1d(np.arange(len(low)), chosen)
            low, high = np.concatenate([low[keep], new_low]), np.concatenate([high[keep], new_high])
            weight = np.concatenate([weight[keep], _hides(*boxes(new_low, new_high), new_low, new_high)])
    except (NotImplementedError, TypeError, ValueError, IndexError):
        return highest == 0
    top = np.argsort(weight)[-SPLITS:]
    kinds = plain(region)
    found = np.max(np.abs(values(kinds, place(region, kinds, np.clip((low + high) / 2, 1e-12, 1 - 1e-12)[top]))))
    return bool(np.isfinite(found) and found > HIGHER * highest)


def _hides(least, greatest, low, high):
    """The range of values times the box's volume."""
    with np.errstate(all="ignore"):
        size = np.max(np.minimum(greatest, 1e300) - np.maximum(least, -1e300), axis=1)
        size = np.where((np.max(np.abs(greatest), axis=1) == 0) & (np.max(np.abs(least), axis=1) == 0), 0.0, size)
        constant = (size == 0) & (np.max(np.abs(greatest), axis=1) > 0)
        return np.where(constant, np.finfo(float).tiny, size * np.prod(high - low, axis=1))


def diverges(region: Box, values: Callable[..., Any], lines: Lines) -> bool:
    """Whether shells or lines say that the integral of |f| diverges, or is not to be told from one that does."""
    rng = np.random.default_rng(17)
    finite = [k for k in range(region.ndim) if not region.infinite[k]]
    if any(_at(region, values, top, rng) for top in lines.tops):
        return True
    if any(region.infinite) and _at_infinity(region, values, rng):
        return True
    return any(_along(region, values, k, rng) for k in finite)


def _moduli(region, values, shares):
    """|f| times the Jacobian at shares of the way; entries that are not finite count as 0."""
    kinds = plain(region)
    size = np.max(np.abs(values(kinds, place(region, kinds, shares))), axis=1)
    return np.where(np.isfinite(size), size, 0.0)


def _stays(mass: np.ndarray) -> bool:
    """Whether the last masses do not fall."""
    mass = mass[: np.flatnonzero(mass > 0)[-1] + 1] if np.any(mass > 0) else mass
    if len(mass) < 2 * LAST or np.max(mass) == 0:
        return False
    ratios = mass[1:] / np.where(mass[:-1] > 0, mass[:-1], np.inf)
    return bool(np.all(ratios[-LAST:] >= ENOUGH)) and bool(np.all(mass[-LAST:] >= WORTH * np.max(mass)))


def _at(region: Box, values: Callable[..., Any], top: np.ndarray, rng: Any) -> bool:
    """Shells around a place: the same directions for all of them."""
    around = rng.uniform(-1.0, 1.0, (DIRECTIONS, region.ndim))
    around /= np.max(np.abs(around), axis=1, keepdims=True)
    around *= rng.uniform(0.5, 1.0, (DIRECTIONS, 1))
    top = _climbed(region, values, top, rng)
    # a place at an end stands for it
    top = np.where(top < 1e-9, 0.0, np.where(top > 1 - 1e-9, 1.0, top))
    radii = 2.0 ** -np.arange(2, 2 + SHELLS)
    exact = (top == 0) | (top == 1)
    # where floats are too coarse for the distances, or the place is known to 1e-10 only, shells end before
    radii = radii if np.all(exact) and not np.any(top == 1) else radii[: SHELLS // 2 + LAST]
    shares = top + radii[:, None, None] * around
    inside = np.all((shares > 0) & (shares < 1), axis=2)
    flat = np.clip(shares.reshape(-1, region.ndim), 1e-300, 1 - 1e-16)
    size = _moduli(region, values, flat).reshape(len(radii), DIRECTIONS)
    mass = radii**region.ndim * np.mean(np.where(inside, size, 0.0), axis=1)
    return _stays(mass)


def _climbed(region: Box, values: Callable[..., Any], top: np.ndarray, rng: Any) -> np.ndarray:
    """The greatest value near a place: in all directions at once, within distances that shrink."""
    reach, best = 0.02, np.array(top)
    for _ in range(CLIMB):
        tried = best + reach * rng.uniform(-1.0, 1.0, (DIRECTIONS, region.ndim))
        tried = np.clip(np.concatenate([best[None], tried]), 1e-300, 1 - 1e-16)
        best = tried[np.argmax(_moduli(region, values, tried))]
        reach *= 0.6
    return best


def _at_infinity(region: Box, values: Callable[..., Any], rng: Any) -> bool:
    """Shells that grow: |x| about R on the infinite axes at once, anywhere on the others."""
    from functional_dl.integrals.substitution import HALF_PI

    kinds, count = plain(region), int(np.sum(region.infinite))
    around = rng.uniform(-1.0, 1.0, (DIRECTIONS, region.ndim))
    shares = rng.uniform(0.0, 1.0, (DIRECTIONS, region.ndim))
    around /= np.max(np.abs(around), axis=1, keepdims=True)
    mass = []
    for scale in 2.0 ** np.arange(4, 4 + SHELLS):
        points = place(region, kinds, shares)
        # t of a half-infinite axis at a distance, and of the whole line at a place
        u = np.log(np.abs(around) * scale + 1e-300)
        whole = np.arcsinh(np.arcsinh(around * scale) / HALF_PI)
        half = np.arcsinh(np.abs(u) * np.sign(u) / HALF_PI)
        for k in range(region.ndim):
            if region.infinite[k]:
                lower, upper = (float(end) for end in region.limits[k](*np.zeros(k)))
                both = np.isinf(lower) and np.isinf(upper)
                flipped = np.isinf(lower) or lower > upper
                points[:, k] = whole[:, k] if both else (-half[:, k] if flipped else half[:, k])
        size = np.max(np.abs(values(kinds, points)), axis=1)
        # the integrand is times dx/dt, of the infinite axes: dx/dt = (pi/2) cosh(t) |x|, about
        factor = np.ones(DIRECTIONS)
        for k in np.flatnonzero(region.infinite):
            factor /= HALF_PI * np.cosh(points[:, k]) * np.maximum(np.abs(around[:, k]) * scale, 1e-300)
        size = np.where(np.isfinite(size * factor), size * factor, 0.0)
        mass.append(scale**count * float(np.mean(size)))
    return _stays(np.array(mass))


def _along(region: Box, values: Callable[..., Any], axis: int, rng: Any) -> bool:
    """Lines along a finite axis, anywhere: climbed to their greatest value, which is then approached."""
    lines = rng.random((LINES, region.ndim))
    lines[:, axis] = 0.5
    reach, offsets = 0.5, np.linspace(-1.0, 1.0, 2 * TRIES + 1)

    def along(shares):
        points = np.repeat(lines[:, None], shares.shape[1], axis=1)
        points[:, :, axis] = np.clip(shares, 1e-300, 1 - 1e-16)
        return _moduli(region, values, points.reshape(-1, region.ndim)).reshape(shares.shape)

    best = np.full(LINES, 0.5)
    for _ in range(ROUNDS):
        tried = best[:, None] + reach * (offsets + rng.uniform(-0.4, 0.4, (LINES, len(offsets))) / TRIES)[:]
        tried = np.concatenate([best[:, None], np.clip(tried, 1e-300, 1 - 1e-16)], axis=1)
        best = tried[np.arange(LINES), np.argmax(along(tried), axis=1)]
        reach *= 0.25
    # towards the place where values are greatest, from either side, as far as it is known
    best = np.where(best < 1e-9, 0.0, np.where(best > 1 - 1e-9, 1.0, best))
    distances = 2.0 ** -np.arange(4, 4 + SHELLS // 2 + LAST // 2)
    says = np.zeros(LINES, bool)
    for side in (-1.0, 1.0):
        shares = best[:, None] + side * distances
        size = np.where((shares > 0) & (shares < 1), along(shares), 0.0) * distances
        says |= np.array([_stays(row) for row in size])
    return bool(np.mean(says) >= SHARE)
