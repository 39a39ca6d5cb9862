"""The integral as a compiled program, for jit and vmap: the rules of `host`, a fixed number of intervals at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.integrals import core, host
from functional_dl.integrals.core import Core, Mesh, Settings

BATCH = 4096
INTERVALS = 400  # all are kept in arrays of this length
AT_ONCE = 8  # intervals halved in a round
ROUNDS = 100


def integrate(
    values_at: Callable[..., Any], lower: Any, upper: Any, settings: Settings, size: int, moved_at: Any = None
) -> Core:
    """The integral of `values_at: x -> (K,)` from lower to upper, both of which may be traced.

    Args:
      moved_at: (pattern, x) -> (K,), `values_at` with its operations moved (`rounding`).
    """
    batch = max(1, BATCH // max(1, size // 4))

    def values(x):
        return jax.lax.map(values_at, x, batch_size=min(batch, x.shape[0]))

    def moved(x):
        patterns = jnp.asarray(host.PATTERNS)
        at = lambda place: jax.vmap(moved_at, in_axes=(0, None))(patterns, place)
        return jnp.moveaxis(jax.lax.map(at, x, batch_size=min(batch, x.shape[0])), 1, 0)

    settings = settings._replace(samples=settings.samples // 2)
    return core.integrate(jnp, values, _adaptive, lower, upper, settings, moved if moved_at else None)


def _adaptive(evaluate, found, settings: Settings) -> Mesh:
    """The worst intervals are halved, a few at a time, until none is worth it or there is no room."""
    ends = jnp.concatenate([found.t_lower[None], found.breaks, found.t_upper[None]])
    apply, cost = host.pair_of_rules(jnp, evaluate, settings)
    count = ends.shape[0] - 1
    room = max(min(settings.intervals, INTERVALS), count + AT_ONCE)
    fill = lambda x, value: jnp.concatenate([x, jnp.full((room - count, *x.shape[1:]), value, x.dtype)])
    left, right = ends[:-1], ends[1:]
    start = (fill(left, ends[-1]), fill(right, ends[-1]), *(fill(x, 0.0) for x in apply(left, right)))

    def wanted(state):
        left, right, parts, errors, floors, used, _ = state
        target = settings.target * jnp.maximum(found.size, jnp.sum(jnp.abs(parts), axis=0)) / used.astype(jnp.float64)
        excess = jnp.max((errors - floors) / jnp.maximum(target, np.finfo(float).tiny)[None], axis=1)
        middle = (left + right) / 2
        excess = jnp.where((middle > left) & (middle < right), excess, 0.0)
        return jnp.where(excess > jnp.maximum(1.0, 1e-3 * jnp.max(excess)), excess, 0.0)

    def going(state):
        return jnp.any(wanted(state) > 0) & (state[5] + AT_ONCE <= room) & (state[6] < ROUNDS * 4)

    def halve(state):
        left, right, parts, errors, floors, used, rounds = state
        excess, index = jax.lax.top_k(wanted(state), AT_ONCE)
        chosen = excess > 0
        low, high = left[index], right[index]
        middle = (low + high) / 2
        new = apply(jnp.concatenate([low, middle]), jnp.concatenate([middle, high]))
        first = jnp.where(chosen, index.astype(used.dtype), room)
        second = jnp.where(chosen, used + jnp.cumsum(chosen, dtype=used.dtype) - 1, room)
        place = jnp.concatenate([first, second])
        put = lambda old, values: old.at[place].set(values, mode="drop")
        left, right = put(left, jnp.concatenate([low, middle])), put(right, jnp.concatenate([middle, high]))
        parts, errors, floors = (put(old, values) for old, values in zip((parts, errors, floors), new))
        return left, right, parts, errors, floors, used + jnp.sum(chosen, dtype=used.dtype), rounds + 1

    used = jnp.asarray(count, jnp.int64)
    left, right, parts, errors, _, used, rounds = jax.lax.while_loop(
        going, halve, (*start, used, jnp.asarray(0, jnp.int64))
    )
    evaluations = cost * (count + 2 * AT_ONCE * rounds)
    return Mesh(
        jnp.sum(parts, axis=0), jnp.sum(errors, axis=0), left, right, parts, jnp.max(errors, axis=1), evaluations
    )
