r"""Solving with small triangular matrices, many at a time: their inverses, since a product costs less than a solve.

    v = L^-1 r,    x = L^-T v;        L = [A 0; B C]    =>    L^-1 = [A^-1 0; -C^-1 B A^-1  C^-1].

One refinement makes up for the digits that an explicit inverse loses.
Source: Higham 2002, section 14.2.
"""

import jax
import jax.numpy as jnp
from jax import lax

LEAF = 12  # up to here LAPACK's solve is faster than products of blocks


def solves(lower):
    """(r -> L^-1 r, v -> L^-T v) for vectors or columns of a matrix; L may have no rows."""
    inverted = inverse(lower)
    return (lambda r: inverted @ r), (lambda v: inverted.T @ v)


def inverse(lower):
    """L^-1."""
    n, unit = len(lower), jnp.eye(len(lower), dtype=lower.dtype)
    if n == 0:
        return lower
    if n <= LEAF:
        return lax.linalg.triangular_solve(lower, unit, left_side=True, lower=True)
    half = n // 2
    odd = n - 2 * half
    top = jnp.pad(lower[:half, :half], ((odd, 0), (odd, 0))) + jnp.diag(jnp.arange(half + odd) < odd).astype(
        lower.dtype
    )
    first, second = jax.vmap(inverse)(jnp.stack([top, lower[half:, half:]]))
    first = first[odd:, odd:]
    corner = -second @ (lower[half:, :half] @ first)
    return jnp.block([[first, jnp.zeros_like(corner.T)], [corner, second]])
