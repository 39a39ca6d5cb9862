"""What the rules of linear algebra share: products, transposes, triangles, diagonals of stacks of matrices.  No rules.

Axes before the last two count matrices.  T is the transpose, H the conjugate transpose; for real matrices they agree.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array
from functional_dl.reverse.rules.algebra import is_complex, times, zeros_like

REAL = ("float64", "float32")  # what LAPACK has: no half precision
LAPACK = (*REAL, "complex128", "complex64")


def matmul(a: Array, b: Any) -> Array:
    """a b, at the highest precision: on accelerators the default would round the factors."""
    stack = tuple(range(a.ndim - 2))
    numbers = (((a.ndim - 1,), (b.ndim - 2,)), (stack, stack))
    return lax.dot_general(a, b, numbers, precision=lax.Precision.HIGHEST)


def transpose(a: Array) -> Array:
    """a^T."""
    return lax.transpose(a, (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2))


def conj(a: Array) -> Any:
    """The conjugate; a itself where it is real."""
    return lax.conj(a) if is_complex(a) else a


def hermitian(a: Array) -> Any:
    """a^H."""
    return conj(transpose(a))


def real(a: Any) -> Any:
    """The real part; a itself where it is real."""
    return lax.real(a) if is_complex(a) else a


def _positions(a, k=0):
    """Each entry's row, and its column counted from the k-th diagonal on: equal on that diagonal.

    A k other than 0 is subtracted from a vector of columns, not from the matrix of them.
    """
    row = lax.broadcasted_iota(np.int32, a.shape, a.ndim - 2)
    if not k:
        return row, lax.broadcasted_iota(np.int32, a.shape, a.ndim - 1)
    column = lax.sub(lax.iota(np.int32, a.shape[-1]), np.int32(k))
    return row, lax.broadcast_in_dim(column, a.shape, (a.ndim - 1,))


def tril(a: Array, k: int = 0) -> Array:
    """Entries on and below the k-th diagonal, 0 elsewhere."""
    row, column = _positions(a, k)
    return lax.select(lax.ge(row, column), a, zeros_like(a))


def triu(a: Array, k: int = 0) -> Any:
    """Entries on and above the k-th diagonal, 0 elsewhere."""
    row, column = _positions(a, k)
    return lax.select(lax.le(row, column), a, zeros_like(a))


def on_diagonal(a: Array) -> Array:
    """The entries of the diagonal in their place, 0 elsewhere."""
    row, column = _positions(a)
    return lax.select(lax.eq(row, column), a, zeros_like(a))


def half_tril(a: Array) -> Array:
    """Phi: the lower triangle with its diagonal halved.  For Hermitian A, Phi(A) + Phi(A)^H = A."""
    row, column = _positions(a)
    halved = lax.select(lax.eq(row, column), times(0.5, a), a)
    return lax.select(lax.ge(row, column), halved, zeros_like(a))


def diagonal(a: Array) -> Any:
    """The vector of diagonal entries of square matrices."""
    return lax.reduce_sum(on_diagonal(a), (a.ndim - 1,))


def eye_like(a: Array) -> Any:
    """Identity matrices of the shape and dtype of a."""
    row, column = _positions(a)
    return lax.convert_element_type(lax.eq(row, column), a.dtype)


def along_rows(v: Array, n: Any) -> Any:
    """The matrix whose every one of n rows is v: entry (i, j) is v_j."""
    return lax.broadcast_in_dim(v, (*v.shape[:-1], n, v.shape[-1]), (*range(v.ndim - 1), v.ndim))


def along_columns(v: Array, n: Any) -> Any:
    """The matrix whose every one of n columns is v: entry (i, j) is v_i."""
    return lax.broadcast_in_dim(v, (*v.shape, n), tuple(range(v.ndim)))


def diagonal_matrix(v: Array) -> Any:
    """diag(v)."""
    return on_diagonal(along_columns(v, v.shape[-1]))


def real_diagonal(a: Array) -> Any:
    """a with the imaginary parts of its diagonal dropped."""
    if not is_complex(a):
        return a
    row, column = _positions(a)
    return lax.select(lax.eq(row, column), lax.complex(lax.real(a), zeros_like(lax.real(a))), a)


def take(a: Array, index: Any, axis: Any) -> Any:
    """a with its rows (axis -2) or columns (axis -1) in the order index, one order for each matrix of the stack."""
    axis = a.ndim + axis
    full = lax.broadcast_in_dim(index, a.shape, (*range(a.ndim - 2), axis))
    return jnp.take_along_axis(a, full, axis=axis)


def inverse_order(index: Any) -> Any:
    """The inverse of permutations that stand along the last axis."""
    return jnp.argsort(index, axis=-1).astype(index.dtype)
