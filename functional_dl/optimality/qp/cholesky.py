r"""The inverse of a Cholesky factor, of many small matrices at a time.

    K = L L',  M = L^-1;   K = [K1 B'; B K2]  =>  C = B M1',   K2 - C C' = L2 L2',  M = [M1 0; -M2 C M1 M2].

Two products with M take the place of two triangular solves; one refinement makes up for the digits that an explicit
inverse loses. A call of LAPACK costs more than its arithmetic where n is small, so up to LEAF rows the batch is put
last and the elimination is written out, each line one operation on all of them. Up to MOST rows halves are put
together by products; beyond, LAPACK is used.

On a CPU, batched LAPACK calls of JAX 0.10 wait for threads of the pool that they run in: two loops of them in one
program can block each other for ever, where that pool is small.
Source: Higham 2002, section 14.2.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from functional_dl.aliases import Array

LEAF, MOST = 10, 40


@custom_vmap
def inverse_factor(K: Array) -> Array:
    """M = L^-1 with K = L L', K (n, n) symmetric and positive definite, n >= 0; nan where it is not."""
    return _by_lapack(K)


def compact_inverse_factor(K: Array) -> Array:
    """The same by a loop over columns: slower, and compiled in a moment; for what few elements of a batch need."""
    after = jnp.arange(len(K))

    def column(k, carry):
        K, M = carry
        row, unit = K[k] / jnp.sqrt(K[k, k]), M[k] / jnp.sqrt(K[k, k])
        below = jnp.where(after > k, row, 0.0)[:, None]
        return K - below * row[None], M.at[k].set(unit) - below * unit[None]

    unit = jnp.where(jnp.isnan(K), K, jnp.eye(len(K), dtype=K.dtype))  # varies over devices as K does
    return lax.fori_loop(0, len(K), column, (K, unit))[1] if len(K) else K


def _by_lapack(K):
    if len(K) == 0:
        return K
    lower = jnp.linalg.cholesky(K, symmetrize_input=False)
    return lax.linalg.triangular_solve(lower, jnp.eye(len(K), dtype=K.dtype), left_side=True, lower=True)


@inverse_factor.def_vmap
def _many(size, batched, K):
    return (_halves(K) if K.shape[-1] <= MOST else jax.vmap(_by_lapack)(K)), True


def _halves(K):
    """(batch, n, n), by products of halves."""
    n = K.shape[-1]
    if n <= LEAF:
        return jnp.moveaxis(_eliminated(jnp.moveaxis(K, 0, 2)), 2, 0)
    half = n // 2
    first = _halves(K[:, :half, :half])
    corner = K[:, half:, :half] @ jnp.swapaxes(first, 1, 2)
    # C C' as C (M1 B'): a product of an array with itself is slow in XLA
    second = _halves(K[:, half:, half:] - corner @ (first @ K[:, :half, half:]))
    corner = -second @ (corner @ first)
    top = jnp.pad(first, ((0, 0), (0, 0), (0, n - half)))
    return jnp.concatenate([top, jnp.concatenate([corner, second], axis=2)], axis=1)


def _eliminated(K):
    """(n, n, batch): columns of L, then rows of M, m_i = (e_i - sum_(k < i) L_ik m_k) / L_ii."""
    n, columns, pivots, rows = len(K), [], [], []
    for k in range(n):
        column = K[k:, k]
        for j, earlier in enumerate(columns):
            column = column - earlier[k - j :] * earlier[k - j : k - j + 1]
        pivots.append(1 / jnp.sqrt(column[:1]))
        columns.append(column * pivots[k])
    unit = jnp.eye(n, dtype=K.dtype)
    for i in range(n):
        row = jnp.broadcast_to(unit[i, :, None], K.shape[1:])
        for k in range(i):
            row = row - columns[k][i - k : i - k + 1] * rows[k]
        rows.append(row * pivots[i])
    return jnp.stack(rows) if rows else K
