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
from functional_dl.sharding import sharding_of

__all__ = ["by_rows", "rows_of", "swapped"]


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
    leaves = jax.tree.leaves(rows)
    count = leaves[0].shape[0]
    if count <= size:
        return fun(rows, tangents, *fixed)
    parts = max(_shards(x) for x in leaves)  # each holds a stretch of the rows, and a block has rows of each
    each, share = count // parts, max(1, size // parts)
    steps = each // share
    whole = steps * share

    def split(x):
        return x.reshape(parts, each, *x.shape[1:])

    def joined(x):
        return x.reshape(parts * x.shape[1], *x.shape[2:])

    def stacked(x):
        x = split(x)[:, :whole]
        return swapped(x.reshape(parts, steps, share, *x.shape[2:]), 0, 1)

    def unstacked(y):
        y = swapped(y, 0, 1)
        return y.reshape(parts, whole, *y.shape[3:])

    def of_block(place, tangents, blocks, fixed):
        block = jax.tree.map(lambda x: joined(lax.dynamic_index_in_dim(x, place, 0, keepdims=False)), blocks)
        out = fun(block, jax.tree.map(joined, tangents), *fixed)
        return jax.tree.map(lambda y: y.reshape(parts, share, *y.shape[1:]), out)

    of_block = of_block if tangents is None else jax.checkpoint(of_block)
    blocks = jax.tree.map(stacked, rows)
    places = lax.iota(jnp.int32, steps), jax.tree.map(stacked, tangents)
    _, ys = lax.scan(lambda _, at: (None, of_block(*at, blocks, fixed)), None, places)
    found = [jax.tree.map(unstacked, ys)]
    if whole < each:
        rest = jax.tree.map(lambda x: joined(split(x)[:, whole:]), (rows, tangents))
        out = (fun if tangents is None else jax.checkpoint(fun))(*rest, *fixed)
        found.append(jax.tree.map(lambda y: y.reshape(parts, each - whole, *y.shape[1:]), out))
    return jax.tree.map(lambda *ys: joined(ys[0] if len(ys) == 1 else jnp.concatenate(ys, 1)), *found)


def swapped(x: Array, first: int, second: int) -> Array:
    """x with two neighbouring axes swapped; where one has length 1 a reshape, for which XLA copies nothing."""
    if 1 not in (x.shape[first], x.shape[second]) or sharding_of(x) is not None:
        return jnp.swapaxes(x, first, second)
    shape = list(x.shape)
    shape[first], shape[second] = shape[second], shape[first]
    return x.reshape(shape)


def _shards(x: Any) -> int:
    """Over how many devices the first axis of x is split, as far as its type says it."""
    sharding = sharding_of(x)
    names = sharding.spec[0] if sharding is not None and len(sharding.spec) else None
    names = (names,) if isinstance(names, str) else names or ()
    return math.prod(sharding.mesh.shape[name] for name in names) if sharding is not None else 1


def rows_of(entries: int, row: int, least: int = 16) -> int:
    """How many rows of `row` entries make a block of about so many entries; at least `least`."""
    return max(least, entries // max(row, 1))
