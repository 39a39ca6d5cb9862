r"""Solving with small triangular matrices, many at a time: their inverses, since a product costs less than a solve.

    v = L^-1 r,    x = L^-T v.

One refinement makes up for the digits that an explicit inverse loses.
Source: Higham 2002, section 14.2.
"""

import jax.numpy as jnp
from jax import lax


def solves(lower):
    """(r -> L^-1 r, v -> L^-T v) for vectors or columns of a matrix; L may have no rows."""
    unit = jnp.eye(len(lower), dtype=lower.dtype)
    inverse = lax.linalg.triangular_solve(lower, unit, left_side=True, lower=True) if lower.size else lower
    return (lambda r: inverse @ r), (lambda v: inverse.T @ v)
