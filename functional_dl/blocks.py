"""A function of many rows, evaluated a block of rows at a time, in the memory that one block needs.

A derivative that is stated row by row is linear in the tangents.  Evaluated by blocks, each under jax.checkpoint, its
transpose is by blocks too: what a block computed is computed again there, and nothing of it is kept.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import PyTree

__all__ = ["by_rows", "rows_of"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def by_rows(fun: Callable[..., Any], size: int, rows: PyTree, *fixed: PyTree) -> PyTree:
    """fun(rows, *fixed), where output i depends on row i alone: `size` rows at a time, in a loop, and the rest at once.

    Args:
      fun: function of a pytree of arrays (n, ...), and of `fixed`, that returns a pytree of arrays (n, ...), for any n.
      size: rows in a block.
      rows: pytree of arrays with one first axis.
      fixed: what each block reads as a whole.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    whole = count // size * size
    if count <= size:
        return fun(rows, *fixed)
    parts = []
    stacked = jax.tree.map(lambda x: x[:whole].reshape(whole // size, size, *x.shape[1:]), rows)
    _, ys = lax.scan(lambda _, block: (None, fun(block, *fixed)), None, stacked)
    parts.append(jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys))
    if whole < count:
        parts.append(fun(jax.tree.map(lambda x: x[whole:], rows), *fixed))
    return parts[0] if len(parts) == 1 else jax.tree.map(lambda *ys: jnp.concatenate(ys), *parts)


def rows_of(entries: int, row: int, least: int = 16) -> int:
    """How many rows of `row` entries make a block of about so many entries; at least `least`."""
    return max(least, entries // max(row, 1))
