"""The integral of a function with nothing traced: the integrand is compiled once, the subdivision is numpy's.

A compiled adaptive program costs seconds to compile for every new integrand; here only the integrand itself is
compiled, for one batch of places, and all intervals that need it are halved at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from functional_dl.integrals import core, rounding, rules, substitution
from functional_dl.integrals.core import Core, Mesh, Settings
from functional_dl.integrals.substitution import Range

FINE, COARSE = 21, 12  # two rules of Gauss without common nodes
BATCH = 2048
ROUNDS = 100


PATTERNS = rounding.signs()


class Sampler:
    """A function of one number, evaluated at many: x (n,) -> (n, K), all numpy."""

    batch: int
    fun: Any

    def __init__(self, values_at: Callable[..., Any], size: int, moved_at: Callable[..., Any] | None = None) -> None:
        """moved_at: (pattern, x) -> (K,), `values_at` with its operations moved by a pattern of signs (`rounding`)."""
        self.batch = int(np.clip(BATCH * 4 // max(1, size), 64, BATCH))
        at = moved_at if moved_at else lambda pattern, x: values_at(x)
        self.fun = jax.jit(jax.vmap(at, in_axes=(None, 0)))
        self.size = size
        self.moves = moved_at is not None

    def __call__(self, x: Any) -> np.ndarray:
        return self._with(np.zeros(PATTERNS.shape[1]), x)

    def moved(self, x: Any) -> np.ndarray:
        """(patterns, n, K): with every operation moved."""
        return np.stack([self._with(pattern, x) for pattern in PATTERNS])

    def _with(self, pattern: np.ndarray, x: Any) -> np.ndarray:
        out = np.empty((len(x), self.size))
        for start in range(0, len(x), self.batch):
            part = x[start : start + self.batch]
            padded = np.pad(part, (0, self.batch - len(part)), mode="edge")
            out[start : start + len(part)] = np.asarray(self.fun(pattern, padded))[: len(part)]
        return out


class PlainSampler(Sampler):
    """The same of a function of Python or NumPy, called with one number at a time."""

    def __init__(self, values_at: Callable[[float], np.ndarray], size: int) -> None:
        self.fun, self.size, self.moves = values_at, size, False

    def __call__(self, x: Any) -> np.ndarray:
        return np.array([self.fun(float(place)) for place in x]).reshape(len(x), self.size)


def integrate(sampler: Sampler, lower: Any, upper: Any, settings: Settings, hidden: Any = ()) -> Core:
    """The integral from lower to upper, concrete numbers.

    Args:
      hidden: places of features too narrow for samples, which become break points.
    """
    span = Range(np.float64(min(lower, upper)), np.float64(max(lower, upper)), np)

    def adaptive_from(evaluate, found, settings):
        if len(hidden):
            places = substitution.to_t(span, np.asarray(hidden, np.float64))
            places = places[(places > found.t_lower) & (places < found.t_upper)]
            found = found._replace(breaks=np.unique(np.concatenate([found.breaks, places])))
        return adaptive(evaluate, found, settings)

    with np.errstate(all="ignore"):
        moved = sampler.moved if sampler.moves else None
        return core.integrate(np, sampler, adaptive_from, np.float64(lower), np.float64(upper), settings, moved)


def pair_of_rules(xp: Any, evaluate: Callable[..., Any], settings: Settings) -> tuple[Callable[..., Any], int]:
    """(left (m,), right (m,)) -> (integral by the finer rule, its error, the rounding of that), (m, K) each; and how
    many evaluations an interval takes."""
    (x_fine, w_fine), (x_coarse, w_coarse) = rules.gauss(FINE), rules.gauss(COARSE)
    near = 16.0 ** -np.arange(2, 12)  # between an interval's end and the node nearest to it, where no rule looks
    beside = np.concatenate([near, 1 - near])
    said_by, share = rules.interpolation(x_fine, beside), 16 * np.concatenate([near, near])
    unit = xp.asarray(np.concatenate([x_fine, x_coarse, beside]))
    w_fine, w_coarse, said_by, share = map(xp.asarray, (w_fine, w_coarse, said_by, share))

    def apply(left, right):
        length = right - left
        t = left[:, None] + length[:, None] * unit[None, :]
        g = evaluate(t.reshape(-1))[0].reshape(left.shape[0], unit.shape[0], -1)
        fine = xp.einsum("n,jnk,j->jk", w_fine, g[:, :FINE], length)
        coarse = xp.einsum("n,jnk,j->jk", w_coarse, g[:, FINE : FINE + COARSE], length)
        apart = xp.abs(g[:, FINE + COARSE :] - xp.einsum("en,jnk->jek", said_by, g[:, :FINE]))
        hidden = xp.einsum("e,jek,j->jk", share, apart, length)
        size = xp.einsum("n,jnk,j->jk", w_fine, xp.abs(g[:, :FINE]), length)
        # below the rounding of the sums a difference says nothing
        return fine, xp.abs(fine - coarse) + hidden, 8 * settings.eps * size

    return apply, unit.shape[0]


def adaptive(evaluate: Callable[..., Any], found: Any, settings: Settings) -> Mesh:
    """Halve every interval whose two rules differ by more than its share of the target, until none is left."""
    rule, cost = pair_of_rules(np, evaluate, settings)
    count = 0

    def apply(left, right):
        nonlocal count
        count += left.size * cost
        return rule(left, right)

    ends = np.concatenate([[found.t_lower], found.breaks, [found.t_upper]])
    left, right = ends[:-1], ends[1:]
    parts, errors, floors = apply(left, right)
    for _ in range(ROUNDS):
        target = settings.target * np.maximum(found.size, np.sum(np.abs(parts), axis=0)) / left.size
        middle = (left + right) / 2
        wanted = np.max((errors - floors) / np.maximum(target, np.finfo(float).tiny), axis=1)
        wanted = np.where((middle > left) & (middle < right), wanted, 0.0)
        # the worst first: what is rounding would be halved for ever, and take the room of what is not
        chosen = np.flatnonzero(wanted > max(1.0, 1e-3 * np.max(wanted)))
        room = settings.intervals - left.size
        if not chosen.size or room <= 0:
            break
        chosen = chosen[np.argsort(wanted[chosen])[::-1][:room]]
        kept = np.setdiff1d(np.arange(left.size), chosen)
        new_left = np.concatenate([left[chosen], middle[chosen]])
        new_right = np.concatenate([middle[chosen], right[chosen]])
        new = apply(new_left, new_right)
        left, right = np.concatenate([left[kept], new_left]), np.concatenate([right[kept], new_right])
        parts, errors, floors = (np.concatenate([old[kept], n]) for old, n in zip((parts, errors, floors), new))
    total = np.sum(errors, axis=0)
    return Mesh(np.sum(parts, axis=0), total, left, right, parts, np.max(errors, axis=1), count)
