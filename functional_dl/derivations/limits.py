"""Lines under a limit sign: a quotient in h, its limit by extrapolation, and how fast it gets there."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten, tree_leaves, tree_map, tree_unflatten

from functional_dl.aliases import Array
from functional_dl.estimates import Estimate, extrapolated_rows

EPS = float(np.finfo(np.float64).eps)
GRID = 2.0 ** -np.arange(3, 13)  # h, each half of the one before
STEPS = GRID[1:]  # for the limit
SHOWN = GRID[[0, 2, 4]]  # at which two lines under a limit sign are compared


@dataclass(frozen=True)
class Limit:
    """lim_{h -> 0} quotient(h, *point), h from above.

    Called with a point it is the limit, from values at h = 1/16, 1/32, ... by eliminating the powers of h one after the
    other; `at(h, *point)` is the quotient itself.
    """

    quotient: Callable[..., Any]

    def __call__(self, *point: Array) -> Array:
        (stacked,) = _on_grid((self.quotient,))(jnp.asarray(GRID), *point)
        return extrapolated(tree_map(lambda leaf: leaf[1:], stacked))

    def at(self, h: Any, *point: Any) -> Any:
        return self.quotient(jnp.asarray(h, float), *point)


@dataclass(frozen=True)
class Approach:
    """A quotient at several h: a tree whose leaves have the steps as their first axis."""

    steps: np.ndarray
    stacked: Any

    @functools.cached_property
    def table(self) -> np.ndarray:
        """As vectors: shape (number of steps, number of entries)."""
        return _rows(len(self.steps), tree_leaves(self.stacked))


def extrapolated(stacked: np.ndarray) -> Array:
    """The limit as a tree, from a tree whose leaves have STEPS as their first axis."""
    leaves, tree = tree_flatten(stacked)
    xp = jnp if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) else np
    value = extrapolate(_rows(len(STEPS), leaves, xp), xp).value
    sizes = np.cumsum([leaf[0].size for leaf in leaves])[:-1]
    parts = zip(xp.split(value, sizes), leaves)
    return tree_unflatten(tree, [jnp.asarray(v, leaf.dtype).reshape(leaf.shape[1:]) for v, leaf in parts])


def approaches(limits: tuple[Limit, ...], point: tuple[Any, ...]) -> list[tuple[Approach, Approach]]:
    """The quotients of several limits at STEPS and at SHOWN, compiled together."""
    found = _on_grid(tuple(limit.quotient for limit in limits))(jnp.asarray(GRID), *point)
    return [(_part(stacked, slice(1, None)), _part(stacked, np.array([0, 2, 4]))) for stacked in found]


def _part(stacked, rows) -> Approach:
    return Approach(GRID[rows], tree_map(lambda leaf: np.asarray(leaf)[rows], stacked))


@functools.lru_cache(maxsize=1024)
def _on_grid(quotients: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    def at_all(grid, *point):
        return [jax.vmap(lambda h: quotient(h, *point))(grid) for quotient in quotients]

    return jax.jit(at_all)


def _rows(count: int, leaves, xp: Any = np):
    """Leaves with the steps as their first axis, side by side as a matrix of `count` rows."""
    return xp.concatenate([xp.zeros((count, 0)), *(xp.asarray(leaf, float).reshape(count, -1) for leaf in leaves)], 1)


def extrapolate(table: np.ndarray, xp: Any = np) -> Estimate:
    """The limit of q(h) = q_0 + c_1 h + c_2 h^2 + ... from its values at STEPS (Neville's scheme, backwards in h).

    Of the scheme the entry is taken that agrees best with its neighbours; its error is that disagreement, and the
    rounding of a quotient, eps / h, enlarged eight times, for f may be larger than its quotients.  xp: the module that
    computes, jax.numpy for a traced table.
    """
    rounding = EPS * xp.maximum(1.0, xp.max(xp.abs(table), axis=0))[None] / STEPS[:, None]
    rows, errors = extrapolated_rows(table, rounding, lambda j: 2.0**j, xp=xp)
    best = xp.argmin(errors, axis=0)[None]
    value, error = (xp.take_along_axis(part, best, axis=0)[0] for part in (rows, errors))
    return Estimate(value, 8 * error)


def observed_order(table: np.ndarray, value: np.ndarray) -> float:
    """p of |q(h) - value| ~ h^p, at the smallest h where the error still stands clear of rounding.

    Infinite where it never does: then q does not depend on h, up to rounding.
    """
    error = np.max(np.abs(table - value), axis=1, initial=0.0)
    noise = 64 * EPS * max(1.0, float(np.max(np.abs(table), initial=0.0))) / STEPS
    clear = np.flatnonzero(error > 8 * noise)
    if not len(clear):
        return np.inf
    if len(clear) == 1:
        return float(np.log2(error[0] / np.maximum(error[1], noise[1])))
    last = clear[-1]
    return float(np.log2(error[last - 1] / error[last]))
