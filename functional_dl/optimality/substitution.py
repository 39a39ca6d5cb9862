r"""Solving with a small triangular matrix, many matrices at a time.

    forward: v = L^-1 r,     backward: x = L^-T v.
"""

import jax.numpy as jnp
from jax import lax

UNROLLED = 0


def solves(lower):
    """(r -> L^-1 r, v -> L^-T v) for vectors or columns of a matrix."""

    def with_(transpose):
        def solve(right):
            columns = right[:, None] if right.ndim == 1 else right
            if not lower.size or not columns.size:
                return right
            found = lax.linalg.triangular_solve(lower, columns, left_side=True, lower=True, transpose_a=transpose)
            return found[:, 0] if right.ndim == 1 else found

        return solve

    return with_(False), with_(True)
