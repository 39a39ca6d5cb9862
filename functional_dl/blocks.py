"""A function of many rows, evaluated a block of rows at a time, in the memory that one block needs.

A derivative that is stated row by row is linear in the tangents: evaluated by blocks, its transpose is by blocks too.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array, PyTree
from functional_dl.sharding import full, sharding_of

__all__ = ["by_rows", "moved", "over_rows", "rows_of"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def by_rows(fun: Callable[..., Any], size: int, rows: PyTree, *fixed: PyTree, tangents: PyTree = None) -> PyTree:
    """fun(rows, tangents, *fixed), whose output i depends on row i alone, by blocks of `size` rows and what is left.

    Args:
      fun: function of two pytrees of arrays (n, ...), and of `fixed`, that returns a pytree of arrays (n, ...), for
        any n.
      size: rows in a block.
      rows: pytree of arrays with one first axis.
      fixed: what each block reads as a whole.
      tangents: pytree of arrays with the same first axis, in which fun is linear.  Its transpose is by blocks too, each
        of which computes again what it needs of `rows` and `fixed`; nothing of a block is kept, nor rows a second time.
    """
    if _count(rows) <= size:
        return fun(rows, tangents, *fixed)
    blocks = _Blocks(size, rows, tangents)

    def of_block(*block):
        return jax.tree.map(blocks.split, fun(*block, *fixed))

    _, ys = lax.scan(lambda _, at: (None, blocks.apply(of_block, at)), None, blocks.places)
    found = [jax.tree.map(blocks.unstacked, ys)]
    if blocks.rest is not None:
        found.append(blocks.again(of_block)(*blocks.rest))
    return jax.tree.map(lambda *ys: blocks.joined(ys[0] if len(ys) == 1 else jnp.concatenate(ys, 1)), *found)


def over_rows(
    fun: Callable[..., Any],
    merge: Callable[[Any, Any], Any],
    empty: PyTree,
    size: int,
    rows: PyTree,
    *fixed: PyTree,
    tangents: PyTree = None,
) -> PyTree:
    """fun(rows, tangents, *fixed), a sum over the rows or the like, as merge(merge(fun of a block, of another), ...).

    Args:
      fun, size, rows, fixed, tangents: as of `by_rows`; fun's output has no axis of the rows.
      merge: of fun's outputs on two sets of rows, that on both; linear where there are tangents.
      empty: fun's output on no row, a pytree of numbers.
    """
    if _count(rows) <= size:
        return fun(rows, tangents, *fixed)
    blocks = _Blocks(size, rows, tangents)

    def of_block(*block):
        return fun(*block, *fixed)

    first = jax.tree.map(lambda x: x[0], blocks.places)
    types = jax.tree.unflatten(
        jax.tree.structure(empty), jax.make_jaxpr(lambda: blocks.apply(of_block, first))().out_avals
    )
    found = jax.tree.map(lambda value, aval: full(aval, value), empty, types)
    found, _ = lax.scan(lambda found, at: (merge(found, blocks.apply(of_block, at)), None), found, blocks.places)
    return found if blocks.rest is None else merge(found, blocks.again(of_block)(*blocks.rest))


class _Blocks:
    """Rows and their tangents, block by block: places of blocks to scan over, and what is left."""

    def __init__(self, size: int, rows: PyTree, tangents: PyTree):
        leaves = jax.tree.leaves(rows)
        self.parts = max(_shards(x) for x in leaves)  # each holds a stretch of the rows, and a block has rows of each
        each, self.share = _count(rows) // self.parts, max(1, size // self.parts)
        self.whole = each // self.share * self.share
        self.again = (lambda fun: fun) if tangents is None else jax.checkpoint
        self.stacks = jax.tree.map(self._stacked, rows)
        self.shapes = [jax.tree.map(lambda x: x.shape[1:], part) for part in (rows, tangents)]
        steps = self.whole // self.share
        self.places = lax.iota(jnp.int32, steps), jax.tree.map(self._stacked, tangents)
        left = jax.tree.map(lambda x: self.joined(self.split(x)[:, self.whole :]), (rows, tangents))
        self.rest = left if self.whole < each else None

    def apply(self, fun: Callable[..., Any], at: Any) -> Any:
        """fun(rows, tangents) of the block at a place."""

        def rows_of_block(x, shape):
            return x.reshape(self.parts * self.share, *shape)

        def of_place(place, tangents, stacks):
            rows = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, place, 0, keepdims=False), stacks)
            return fun(*(jax.tree.map(rows_of_block, *part) for part in zip((rows, tangents), self.shapes)))

        return self.again(of_place)(*at, self.stacks)

    def split(self, x: Array) -> Array:
        return x.reshape(self.parts, x.shape[0] // self.parts, *x.shape[1:])

    def joined(self, x: Array) -> Array:
        return x.reshape(self.parts * x.shape[1], *x.shape[2:])

    def _stacked(self, x: Array) -> Array:
        """(steps, parts, share, ...); on no mesh (steps, share, n), for axes of length 1 mislead XLA into copies."""
        steps = self.whole // self.share
        if sharding_of(x) is None and self.parts == 1:
            return x[: self.whole].reshape(steps, self.share, math.prod(x.shape[1:]))
        return moved(self.split(x)[:, : self.whole].reshape(self.parts, steps, self.share, *x.shape[1:]), 0, 1)

    def unstacked(self, y: Array) -> Array:
        y = moved(y, 0, 1)
        return y.reshape(self.parts, self.whole, *y.shape[3:])


def _count(rows: PyTree) -> int:
    return jax.tree.leaves(rows)[0].shape[0]


def moved(x: Array, source: int, destination: int) -> Array:
    """x with an axis moved, as jnp.moveaxis; where no two axes longer than 1 pass each other a reshape, for which XLA
    copies nothing."""
    order = list(range(x.ndim))
    order.insert(destination % x.ndim, order.pop(source % x.ndim))
    kept = [i for i in order if x.shape[i] != 1]
    if kept != sorted(kept) or sharding_of(x) is not None:
        return jnp.transpose(x, order)
    return x.reshape([x.shape[i] for i in order])


def _shards(x: Any) -> int:
    """Over how many devices the first axis of x is split, as far as its type says it."""
    sharding = sharding_of(x)
    names = sharding.spec[0] if sharding is not None and len(sharding.spec) else None
    names = (names,) if isinstance(names, str) else names or ()
    return math.prod(sharding.mesh.shape[name] for name in names) if sharding is not None else 1


def rows_of(entries: int, row: int, count: int, least: int = 16) -> int:
    """How many of `count` rows of `row` entries make a block of about so many entries: at least `least`, and if it can
    be a divisor, for what is left over makes a second program."""
    most = max(least, entries // max(row, 1))
    return next((size for size in range(most, most // 2, -1) if count % size == 0), most)
