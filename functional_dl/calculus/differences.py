r"""Derivatives of any order from values alone: difference quotients at many steps, and what their limit is.

With steps h_k = h_0 2^-k the n-th central quotient is D(h) = f^(n)(x) + c_1 h^2 + c_2 h^4 + ..., a one-sided quotient
a series in h; Neville's scheme removes one power after the other.  Steps reach from far wider than x to far narrower,
and the entry is taken whose error (its difference from its neighbours, and the rounding of f) is the least of those
that no narrower step contradicts.  Rounding is measured: a third divided difference at narrow steps holds nothing else.

Everything is written for numpy, which needs no compiling, and for jax.numpy, so that it may be jitted and mapped over.

Source: Ridders, Adv. Eng. Softw. 4 (1982) 75; for the rounding, More and Wild, Estimating computational noise, SIAM
J. Sci. Comput. 33 (2011) 1292.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.estimates import extrapolated_rows

COUNT = 72  # steps
WIDEST = 14  # the widest is 2^14 times as long as x
COLUMNS = 8  # of Neville's scheme
NARROWER = 11  # steps by which those are narrower that say how large the rounding is
SAFETY = 4.0
JUMP = 0.01
# the third divided difference on 0, h, 2 h, 4 h, and its norm
THIRD = np.array([-1 / 8, 1 / 3, -1 / 4, 1 / 24])
SLOW = (0.75, 1.02)  # ratios of neighbouring movements between which quotients converge no faster than a logarithm,
NARROWEST = 3  # quotients that the limit is held against
RUN = 8  # where so many on end are


class Line(NamedTuple):
    """Values of f around x: `here` at x, `ahead` and `behind` at x +- h_k, shape (COUNT, *shape of f)."""

    here: Array
    ahead: Array
    behind: Array


class Quotients(NamedTuple):
    """Difference quotients: their limit, a bound of its error, whether narrower steps leave that limit, whether they
    converge as slowly as a logarithm, and the quotients themselves with their rounding."""

    value: Array
    error: Array
    diverges: Array
    slow: Array
    table: Array
    rounding: Array


def steps(x: Array, xp: Any = jnp) -> Array:
    """h_k, powers of two around the size of x; around 1 for x = 0."""
    size = xp.abs(x)
    # a power of two near |x|: exact in any floating format
    scale = xp.exp2(xp.round(xp.log2(xp.where(size > 0, size, xp.ones_like(size)))))
    exponents = xp.asarray(WIDEST - np.arange(COUNT)).astype(x.dtype)
    return scale * xp.exp2(exponents)


def column(h: Array, like: Array) -> Array:
    return h.reshape(-1, *[1] * (like.ndim - 1))


class Rounding(NamedTuple):
    """The rounding of f: `here` at the scale of each step; `third`, the third divided differences it was read from;
    `size`, that of f(x); `at`, f(x) itself; `most`, what is no rounding but a jump, beside how f varies near x."""

    here: Array
    third: Array
    size: Array
    at: Array
    most: Array

    def of_quotients(self, h: Array, order: int, one_sided: bool) -> "Rounding":
        """The same of n-th quotients: the errors of their values add up like independent ones, and twice for safety."""
        weight = (2.0 if one_sided else 1.0) * (1.0 if order == 1 else 2 * math.sqrt(math.comb(2 * order, order)))
        factor = weight / column(h, self.here) ** order
        return Rounding(factor * self.here, factor * self.third, factor * self.size, self.at, factor * self.most)


def rounding_of(line: Line, xp: Any = jnp) -> Rounding:
    """The rounding of f at the scale of each step, from values at far narrower ones, on the worse side."""
    eps = float(xp.finfo(line.here.dtype).eps)
    weights = [float(w) for w in THIRD / np.linalg.norm(THIRD)]
    third = xp.zeros_like(line.ahead[2:])
    for values in (line.ahead, line.behind):
        near, middle, far = values[2:], values[1:-1], values[:-2]
        new = xp.abs(weights[0] * line.here[None] + weights[1] * near + weights[2] * middle + weights[3] * far)
        third = xp.maximum(third, xp.where(xp.isfinite(new), new, xp.zeros_like(new)))
    narrower = _greatest_so_far(third[::-1], xp)[::-1][np.minimum(np.arange(COUNT) + NARROWER, COUNT - 8)]
    size = xp.maximum(xp.maximum(xp.abs(line.ahead), xp.abs(line.behind)), xp.abs(line.here)[None])
    here = xp.maximum(xp.maximum(2.5 * narrower, 2 * eps * size), _quantum(line, xp)[None])
    at = xp.broadcast_to(xp.abs(line.here)[None], here.shape)
    change = xp.maximum(xp.abs(line.ahead - line.here[None]), xp.abs(line.behind - line.here[None]))
    near = change[WIDEST : WIDEST + 4]  # steps from x to x / 8
    most = JUMP * xp.max(xp.where(xp.isfinite(near), near, xp.zeros_like(near)), axis=0)
    most = xp.maximum(most[None], 4 * eps * size)
    return Rounding(here, xp.concatenate([third, third[-2:]]), at, line.here, most)


def _quantum(line: Line, xp: Any) -> Array:
    """The step in which f moves at the narrowest steps at which it moves: half of it is hidden in every value.  A
    step that is large beside f is no rounding but a jump."""
    change = xp.maximum(xp.abs(line.ahead - line.here[None]), xp.abs(line.behind - line.here[None]))
    change = xp.where(xp.isfinite(change), change, xp.zeros_like(change))
    last = COUNT - 1 - xp.argmax((change > 0)[::-1], axis=0)
    quantum = xp.take_along_axis(change, last[None], axis=0)[0]
    return xp.where(quantum <= JUMP * xp.abs(line.here), quantum / 2, xp.zeros_like(quantum))


def extrapolate(
    quotients: Array, rounding: Rounding, x: Array, h: Array, order: int, power: int, xp: Any = jnp
) -> Quotients:
    """The limit of n-th quotients (order n) at x with steps h, a series in h^power; `rounding` is that of quotients."""
    rows, error = extrapolated_rows(quotients, rounding.here, lambda j: 2.0 ** (power * j), COLUMNS, xp)
    seen = error  # what each row's own neighbours say
    hidden = _plateau(rounding, seen, h**order, xp)
    error = xp.maximum(seen, hidden)
    # a row is believed where no narrower one contradicts it
    gap = xp.abs(rows[:, None] - rows[None])
    allowed = SAFETY * (error[:, None] + error[None])
    later = xp.asarray(np.triu(np.ones((COUNT, COUNT), bool), 1)).reshape(COUNT, COUNT, *[1] * (rows.ndim - 1))
    contradicted = xp.any((gap > allowed) & later, axis=1)
    believed = xp.where(contradicted | ~xp.isfinite(error), xp.full_like(error, xp.inf), error)
    best = xp.argmin(believed, axis=0)
    value = xp.take_along_axis(rows, best[None], axis=0)[0]
    least = xp.take_along_axis(believed, best[None], axis=0)[0]
    # where rounding, or a kink, made narrower rows agree on another value, the error covers both
    away = xp.abs(rows - value[None])
    apart = (away > SAFETY * (seen + least[None])) & (column(xp.arange(COUNT), rows) > best[None])
    least = xp.maximum(least, xp.max(xp.where(apart, away, xp.zeros_like(away)), axis=0))
    noise = xp.minimum(rounding.here + hidden, rounding.most)
    diverges = _diverging(quotients, noise, x, h, value, least, best, xp)
    slow = _slow(quotients, rounding.here, xp)
    least = xp.where(diverges | slow, xp.inf, least)
    # wide steps see less rounding than f has at x, and nothing of what is below it there
    eps = float(xp.finfo(x.dtype).eps)
    change = xp.max(xp.abs(quotients * column(h, quotients) ** order)[WIDEST : WIDEST + 4], axis=0)
    flat = change <= 16 * eps * xp.abs(rounding.at)  # as much may hide on a length of 1
    unseen = xp.where(flat, 4.0, xp.maximum(xp.abs(x), 1.0) ** -order)
    least = xp.maximum(least, unseen * eps * xp.abs(rounding.at))
    known = xp.isfinite(least)
    value = xp.where(known, value, xp.full_like(value, xp.nan))
    bound = xp.where(known, SAFETY * least, xp.full_like(least, xp.inf))
    return Quotients(value, bound, diverges, slow, quotients, rounding.here)


def held_to_the_narrowest(found: Quotients, x: Array, here: Array, xp: Any) -> Quotients:
    """At 0, where f is 0 too, the narrowest quotients are as good as any, unless f is lost to rounding there: the error
    covers them, as rows may agree by chance."""
    last = found.table[-NARROWEST:]
    exact = (x == 0) & (here == 0) & xp.all(xp.isfinite(last) & (last != 0), axis=0)
    away = xp.max(xp.abs(last - found.value[None]), axis=0)
    return found._replace(error=xp.where(exact, xp.maximum(found.error, SAFETY * away), found.error))


def _diverging(
    quotients: Array, rounding: Array, x: Array, h: Array, value: Array, least: Array, best: Array, xp: Any
) -> Array:
    """Whether quotients at narrower steps than the best leave the value, where neither what is left of the series at
    the best step nor rounding, of f or of x + h, explains it.  At a jump and at a vertical tangent they grow without
    end, and no two of them contradict each other."""
    left = xp.abs(xp.take_along_axis(quotients, best[None], axis=0)[0] - value)
    eps = float(xp.finfo(x.dtype).eps)
    moved = 4 * eps * column(xp.abs(x) / h, quotients) * xp.maximum(xp.abs(value)[None], xp.abs(quotients))
    away = xp.abs(quotients - value[None])
    allowed = SAFETY * (left + least)[None] + 2 * SAFETY * rounding + moved
    narrower = column(xp.arange(COUNT), quotients) > best[None]
    return xp.any(narrower & xp.isfinite(away) & (away > allowed), axis=0)


def _slow(quotients: Array, rounding: Array, xp: Any) -> Array:
    """Whether quotients move ever less, but by no power of the step: the last of their movements that stand out of
    rounding are in the ratio that a law in 1 / log h has."""
    moved = xp.abs(quotients[1:] - quotients[:-1])
    above = xp.isfinite(moved) & (moved > 8 * (rounding[1:] + rounding[:-1]))
    ratio = moved[1:] / xp.where(moved[:-1] > 0, moved[:-1], xp.ones_like(moved[:-1]))
    steady = above[1:] & above[:-1] & (ratio >= SLOW[0]) & (ratio <= SLOW[1])
    run = xp.stack([steady[i : len(steady) - RUN + 1 + i] for i in range(RUN)]).all(axis=0)
    place = column(xp.arange(len(above)), above)
    last = xp.max(xp.where(above, place, xp.zeros_like(place)), axis=0)
    start = column(xp.arange(len(run)), run)
    return xp.any(run & (start + RUN == last[None]), axis=0)


def _greatest_so_far(x: Any, xp: Any) -> Any:
    return np.maximum.accumulate(x, axis=0) if xp is np else jax.lax.cummax(x, axis=0)


def _plateau(rounding: Rounding, error: Array, h: Array, xp: Any) -> Array:
    """The rounding that steps narrower than all rounding do not see any more.

    Narrower than the best step, third differences fall like h^3 while f is smooth (like h at a kink), then stay at
    the rounding of f; once x + h no longer changes the rounded parts of f, they fall again, and quotients are those
    of another function.
    """
    third = rounding.third
    order = column(xp.arange(COUNT), third)
    best = xp.argmin(error, axis=0)[None]
    # third is that of quotients: times its step it is that of values again, which stays level
    level = third * column(h, third)
    level = xp.where(xp.isfinite(level), level, xp.zeros_like(level))
    padded = xp.concatenate([level, xp.zeros_like(level[:7])])
    four = xp.median(xp.stack([padded[i : COUNT + 4 + i] for i in range(4)]), axis=0)
    first, second = four[:COUNT], four[4 : COUNT + 4]
    flat = (first <= 8 * second) & (order >= best + 8) & (first <= JUMP * rounding.size * column(h, third))
    noise = _greatest_so_far(xp.where(flat, 3 * xp.minimum(first, second), xp.zeros_like(first)), xp)
    return 2 * noise / column(h, noise)


def nth_quotients(
    values: Callable[..., Any], line: Line, x: Array, h: Array, order: int, direction: int, xp: Any = jnp
) -> Array:
    """sum_i (-1)^i C(n, i) f(x + o_i h) / h^n, o_i = n/2 - i (direction 0) or +-(n - i)."""
    if order == 1:
        if direction == 0:
            return (line.ahead - line.behind) / column(2 * h, line.ahead)
        return direction * ((line.ahead if direction > 0 else line.behind) - line.here[None]) / column(h, line.ahead)
    total = xp.zeros_like(line.ahead)
    for i in range(order + 1):
        offset = order / 2 - i if direction == 0 else float(direction * (order - i))
        term = line.here[None] if offset == 0 else values(x + offset * h)
        total = total + (-1.0) ** i * math.comb(order, i) * term
    sign = 1.0 if direction >= 0 else (-1.0) ** order
    return sign * total / column(h, total) ** order
