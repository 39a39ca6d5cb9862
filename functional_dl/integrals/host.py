"""The integral of a function with nothing traced: the integrand is compiled once, the subdivision is numpy's.

A compiled adaptive program costs seconds to compile for every new integrand; here only the integrand itself is
compiled, for one batch of places, and all intervals that need it are halved at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.integrals import core, rules
from functional_dl.integrals.core import Core, Mesh, Settings

FINE, COARSE = 21, 12  # two rules of Gauss without common nodes
BATCH = 2048
ROUNDS = 100


class Sampler:
    """A function of one number, evaluated at many: x (n,) -> (n, K), all numpy."""

    batch: int
    fun: Any

    def __init__(self, values_at: Callable[..., Any], size: int) -> None:
        self.batch = int(np.clip(BATCH * 4 // max(1, size), 64, BATCH))
        self.fun = jax.jit(jax.vmap(values_at))
        self.size = size

    def __call__(self, x: Any) -> np.ndarray:
        out = np.empty((len(x), self.size))
        for start in range(0, len(x), self.batch):
            part = x[start : start + self.batch]
            padded = np.pad(part, (0, self.batch - len(part)), mode="edge")
            out[start : start + len(part)] = np.asarray(self.fun(jnp.asarray(padded)))[: len(part)]
        return out


def integrate(sampler: Sampler, lower: Any, upper: Any, settings: Settings) -> Core:
    """The integral from lower to upper, concrete numbers."""
    with np.errstate(all="ignore"):
        return core.integrate(np, sampler, adaptive, np.float64(lower), np.float64(upper), settings)


def adaptive(evaluate: Callable[..., Any], found: Any, settings: Settings) -> Mesh:
    """Halve every interval whose two rules differ by more than its share of the target, until none is left."""
    (x_fine, w_fine), (x_coarse, w_coarse) = rules.gauss(FINE), rules.gauss(COARSE)
    near = 16.0 ** -np.arange(2, 12)  # between an interval's end and the node nearest to it, where no rule looks
    beside = np.concatenate([near, 1 - near])
    said_by, share = rules.interpolation(x_fine, beside), 16 * np.concatenate([near, near])
    unit = np.concatenate([x_fine, x_coarse, beside])
    count = 0

    def apply(left, right):
        nonlocal count
        count += left.size * unit.size
        length = right - left
        g = evaluate((left[:, None] + length[:, None] * unit).ravel())[0].reshape(left.size, unit.size, -1)
        fine = np.einsum("n,jnk,j->jk", w_fine, g[:, :FINE], length)
        coarse = np.einsum("n,jnk,j->jk", w_coarse, g[:, FINE : FINE + COARSE], length)
        apart = np.abs(g[:, FINE + COARSE :] - np.einsum("en,jnk->jek", said_by, g[:, :FINE]))
        hidden = np.einsum("e,jek,j->jk", share, apart, length)
        size = np.einsum("n,jnk,j->jk", w_fine, np.abs(g[:, :FINE]), length)
        # below the rounding of the sums a difference says nothing
        return fine, np.abs(fine - coarse) + hidden, 8 * settings.eps * size

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
