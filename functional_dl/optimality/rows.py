"""Gradients of constraints without their matrix: products by one backward pass, rows a few at a time.

The row of a bound is + or - a unit vector; it is never formed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array

BLOCK = 32  # rows formed at once


def each_row(fun: Callable[[Array], Array], x: Array, reduce: Callable[[Array], Array]) -> Array:
    """reduce(grad fun_i(x)) for each i, BLOCK rows at a time."""
    value, pull = jax.vjp(fun, x)
    if value.size == 0:
        return jnp.zeros(0, x.dtype)
    one = lambda i: reduce(pull(jnp.zeros_like(value).at[i].set(1))[0])
    return lax.map(one, jnp.arange(value.size), batch_size=BLOCK)


def norms(flat: Any, x: Array) -> tuple[Array, Array]:
    """The lengths of the gradients of h and of g, bounds included."""
    of_h, of_own = (each_row(fun, x, jnp.linalg.norm) for fun in (flat.equalities, flat.general))
    return of_h, jnp.concatenate([of_own, jnp.ones(sum(side.size for side in flat.bounded()), x.dtype)])


def combined(flat: Any, x: Array, lam: Array, mu: Array) -> tuple[Array, Array]:
    """lam . grad h and mu . grad g, each by one backward pass."""
    return jax.vjp(flat.equalities, x)[1](lam)[0], jax.vjp(flat.inequalities, x)[1](mu)[0]


def formed(block: Callable[[Array, Array], Array], x: Array, indices: np.ndarray) -> np.ndarray:
    """The rows with the given indices; block(x, BLOCK indices) is a compiled function."""
    rows = np.zeros((len(indices), x.size))
    for begin in range(0, len(indices), BLOCK):
        chosen = indices[begin : begin + BLOCK]
        padded = np.concatenate([chosen, np.zeros(BLOCK - len(chosen), chosen.dtype)])
        rows[begin : begin + BLOCK] = np.asarray(block(x, jnp.asarray(padded)), float)[: len(chosen)]
    return rows


def rows_of(flat: Any) -> Callable[[Array, Array], Array]:
    """(x, indices) -> those rows of the gradients of (h, general inequalities)."""

    def block(x, indices):
        value, pull = jax.vjp(lambda x: jnp.concatenate([flat.equalities(x), flat.general(x)]), x)
        return jax.vmap(lambda i: pull(jnp.zeros_like(value).at[i].set(1))[0])(indices)

    return block
