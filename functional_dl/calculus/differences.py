r"""Derivatives of any order from values alone: difference quotients at many steps, and what their limit is.

With steps h_k = h_0 2^-k the n-th central quotient is D(h) = f^(n)(x) + c_1 h^2 + c_2 h^4 + ..., a one-sided quotient
a series in h; Neville's scheme removes one power after the other.  Steps reach from far wider than x to far narrower,
and the entry is taken whose error (its difference from its neighbours, and the rounding of f) is the least of those
that no narrower step contradicts.  Rounding is measured: a third divided difference at narrow steps holds nothing else.

Everything is written in jax.numpy, so that it may be jitted and mapped over.

Source: Ridders, Adv. Eng. Softw. 4 (1982) 75; for the rounding, More and Wild, Estimating computational noise, SIAM
J. Sci. Comput. 33 (2011) 1292.
"""

import math
from collections.abc import Callable
from functools import partial
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


class Line(NamedTuple):
    """Values of f around x: `here` at x, `ahead` and `behind` at x +- h_k, shape (COUNT, *shape of f)."""

    here: Array
    ahead: Array
    behind: Array


class Quotients(NamedTuple):
    """Difference quotients: their limit, a bound of its error, whether narrower steps leave that limit, and the
    quotients themselves with their rounding."""

    value: Array
    error: Array
    diverges: Array
    table: Array
    rounding: Array


def steps(x: Array) -> Array:
    """h_k, powers of two around the size of x; around 1 for x = 0."""
    size = jnp.abs(x)
    # a power of two near |x|: exact in any floating format
    scale = jnp.exp2(jnp.round(jnp.log2(jnp.where(size > 0, size, jnp.ones_like(size)))))
    exponents = jnp.asarray(WIDEST - np.arange(COUNT), x.dtype)
    return scale * jnp.exp2(exponents)


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


@jax.jit
def rounding_of(line: Line) -> Rounding:
    """The rounding of f at the scale of each step, from values at far narrower ones, on the worse side."""
    eps = float(jnp.finfo(line.here.dtype).eps)
    weights = [float(w) for w in THIRD / np.linalg.norm(THIRD)]
    third = jnp.zeros_like(line.ahead[2:])
    for values in (line.ahead, line.behind):
        near, middle, far = values[2:], values[1:-1], values[:-2]
        new = jnp.abs(weights[0] * line.here[None] + weights[1] * near + weights[2] * middle + weights[3] * far)
        third = jnp.maximum(third, jnp.where(jnp.isfinite(new), new, jnp.zeros_like(new)))
    narrower = jnp.stack([jnp.max(third[min(k + NARROWER, COUNT - 8) :], axis=0) for k in range(COUNT)])
    size = jnp.maximum(jnp.maximum(jnp.abs(line.ahead), jnp.abs(line.behind)), jnp.abs(line.here)[None])
    here = jnp.maximum(jnp.maximum(2.5 * narrower, 2 * eps * size), _quantum(line)[None])
    at = jnp.broadcast_to(jnp.abs(line.here)[None], here.shape)
    change = jnp.maximum(jnp.abs(line.ahead - line.here[None]), jnp.abs(line.behind - line.here[None]))
    near = change[WIDEST : WIDEST + 4]  # steps from x to x / 8
    most = JUMP * jnp.max(jnp.where(jnp.isfinite(near), near, jnp.zeros_like(near)), axis=0)
    most = jnp.maximum(most[None], 4 * eps * size)
    return Rounding(here, jnp.concatenate([third, third[-2:]]), at, line.here, most)


def _quantum(line: Line) -> Array:
    """The step in which f moves at the narrowest steps at which it moves: half of it is hidden in every value.  A
    step that is large beside f is no rounding but a jump."""
    change = jnp.maximum(jnp.abs(line.ahead - line.here[None]), jnp.abs(line.behind - line.here[None]))
    change = jnp.where(jnp.isfinite(change), change, jnp.zeros_like(change))
    last = COUNT - 1 - jnp.argmax((change > 0)[::-1], axis=0)
    quantum = jnp.take_along_axis(change, last[None], axis=0)[0]
    return jnp.where(quantum <= JUMP * jnp.abs(line.here), quantum / 2, jnp.zeros_like(quantum))


@partial(jax.jit, static_argnames=("order", "power"))
def extrapolate(quotients: Array, rounding: Rounding, x: Array, h: Array, order: int, power: int) -> Quotients:
    """The limit of n-th quotients (order n) at x with steps h, a series in h^power; `rounding` is that of quotients."""
    rows, error = extrapolated_rows(quotients, rounding.here, lambda j: 2.0 ** (power * j), COLUMNS, jnp)
    seen = error  # what each row's own neighbours say
    hidden = _plateau(rounding, seen, h**order)
    error = jnp.maximum(seen, hidden)
    # a row is believed where no narrower one contradicts it
    gap = jnp.abs(rows[:, None] - rows[None])
    allowed = SAFETY * (error[:, None] + error[None])
    later = jnp.asarray(np.triu(np.ones((COUNT, COUNT), bool), 1)).reshape(COUNT, COUNT, *[1] * (rows.ndim - 1))
    contradicted = jnp.any((gap > allowed) & later, axis=1)
    believed = jnp.where(contradicted | ~jnp.isfinite(error), jnp.full_like(error, jnp.inf), error)
    best = jnp.argmin(believed, axis=0)
    value = jnp.take_along_axis(rows, best[None], axis=0)[0]
    least = jnp.take_along_axis(believed, best[None], axis=0)[0]
    # where rounding, or a kink, made narrower rows agree on another value, the error covers both
    away = jnp.abs(rows - value[None])
    apart = (away > SAFETY * (seen + least[None])) & (column(jnp.arange(COUNT), rows) > best[None])
    least = jnp.maximum(least, jnp.max(jnp.where(apart, away, jnp.zeros_like(away)), axis=0))
    noise = jnp.minimum(rounding.here + hidden, rounding.most)
    diverges = _diverging(quotients, noise, x, h, value, least, best)
    least = jnp.where(diverges, jnp.inf, least)
    # wide steps see less rounding than f has at x, and nothing of what is below it there
    eps = float(jnp.finfo(x.dtype).eps)
    change = jnp.max(jnp.abs(quotients * column(h, quotients) ** order)[WIDEST : WIDEST + 4], axis=0)
    flat = change <= 16 * eps * jnp.abs(rounding.at)  # as much may hide on a length of 1
    unseen = jnp.where(flat, 4.0, jnp.maximum(jnp.abs(x), 1.0) ** -order)
    least = jnp.maximum(least, unseen * eps * jnp.abs(rounding.at))
    known = jnp.isfinite(least)
    value = jnp.where(known, value, jnp.full_like(value, jnp.nan))
    bound = jnp.where(known, SAFETY * least, jnp.full_like(least, jnp.inf))
    return Quotients(value, bound, diverges, quotients, rounding.here)


def _diverging(quotients: Array, rounding: Array, x: Array, h: Array, value: Array, least: Array, best: Array) -> Array:
    """Whether quotients at narrower steps than the best leave the value, where neither what is left of the series at
    the best step nor rounding, of f or of x + h, explains it.  At a jump and at a vertical tangent they grow without
    end, and no two of them contradict each other."""
    left = jnp.abs(jnp.take_along_axis(quotients, best[None], axis=0)[0] - value)
    eps = float(jnp.finfo(x.dtype).eps)
    moved = 4 * eps * column(jnp.abs(x) / h, quotients) * jnp.maximum(jnp.abs(value)[None], jnp.abs(quotients))
    away = jnp.abs(quotients - value[None])
    allowed = SAFETY * (left + least)[None] + 2 * SAFETY * rounding + moved
    narrower = column(jnp.arange(COUNT), quotients) > best[None]
    return jnp.any(narrower & jnp.isfinite(away) & (away > allowed), axis=0)


def _plateau(rounding: Rounding, error: Array, h: Array) -> Array:
    """The rounding that steps narrower than all rounding do not see any more.

    Narrower than the best step, third differences fall like h^3 while f is smooth (like h at a kink), then stay at
    the rounding of f; once x + h no longer changes the rounded parts of f, they fall again, and quotients are those
    of another function.
    """
    third = rounding.third
    order = column(jnp.arange(COUNT), third)
    best = jnp.argmin(error, axis=0)[None]
    # third is that of quotients: times its step it is that of values again, which stays level
    level = third * column(h, third)
    level = jnp.where(jnp.isfinite(level), level, jnp.zeros_like(level))
    padded = jnp.concatenate([level, jnp.zeros_like(level[:7])])
    four = jnp.median(jnp.stack([padded[i : COUNT + 4 + i] for i in range(4)]), axis=0)
    first, second = four[:COUNT], four[4 : COUNT + 4]
    flat = (first <= 8 * second) & (order >= best + 8) & (first <= JUMP * rounding.size * column(h, third))
    noise = jax.lax.cummax(jnp.where(flat, 3 * jnp.minimum(first, second), jnp.zeros_like(first)), axis=0)
    return 2 * noise / column(h, noise)


def nth_quotients(values: Callable[..., Any], line: Line, x: Array, h: Array, order: int, direction: int) -> Array:
    """sum_i (-1)^i C(n, i) f(x + o_i h) / h^n, o_i = n/2 - i (direction 0) or +-(n - i)."""
    if order == 1:
        if direction == 0:
            return (line.ahead - line.behind) / column(2 * h, line.ahead)
        return direction * ((line.ahead if direction > 0 else line.behind) - line.here[None]) / column(h, line.ahead)
    total = jnp.zeros_like(line.ahead)
    for i in range(order + 1):
        offset = order / 2 - i if direction == 0 else float(direction * (order - i))
        term = line.here[None] if offset == 0 else values(x + offset * h)
        total = total + (-1.0) ** i * math.comb(order, i) * term
    sign = 1.0 if direction >= 0 else (-1.0) ** order
    return sign * total / column(h, total) ** order
