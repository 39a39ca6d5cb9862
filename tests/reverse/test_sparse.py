"""Sparse matrices: cotangents of entries and of dense operands, against JAX's; places have float0 or none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse
from jax.experimental.sparse.linalg import spsolve

from functional_dl import reverse

SHAPE = (3, 4)
MATRIX = np.array([[1.5, 0.0, -2.0, 0.0], [0.0, 0.0, 0.0, 0.5], [3.0, 1.0, 0.0, 0.0]])
VECTOR, BLOCK = np.array([0.5, -1.0, 2.0, 3.0]), np.arange(8.0).reshape(4, 2) - 3
KINDS = {"bcoo": sparse.BCOO, "bcsr": sparse.BCSR, "coo": sparse.COO, "csr": sparse.CSR}


def _with(matrix, data):
    leaves, tree = jax.tree.flatten(matrix)
    return jax.tree.unflatten(tree, [data, *leaves[1:]])


def _sparse(kind, dense):
    """kind.fromdense by NumPy: nothing is compiled where the cases are listed."""
    rows, columns = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.count_nonzero(dense, axis=1))])
    data, places = dense[rows, columns], [x.astype(np.int32) for x in (rows, columns, starts)]
    at = {"bcoo": [np.stack(places[:2], 1)], "coo": places[:2]}.get(kind, [places[1], places[2]])
    options = {"indices_sorted": True, "unique_indices": True} if kind == "bcoo" else {}
    return KINDS[kind](tuple(map(jnp.array, (data, *at))), shape=dense.shape, **options)


def _cases():
    for name, kind in KINDS.items():
        matrix = _sparse(name, MATRIX)
        data = matrix.data
        yield f"{name} to dense", lambda x, m=matrix: _with(m, x).todense(), (data,)
        yield f"{name} from dense", lambda a, k=kind: k.fromdense(a, nse=5).data, (MATRIX,)
        yield f"{name} @ vector", lambda x, v, m=matrix: _with(m, x) @ v, (data, VECTOR)
        yield f"{name} @ block", lambda x, b, m=matrix: _with(m, x) @ b, (data, BLOCK)
        if name not in ("bcsr", "csr"):
            yield f"{name}.T @ block", lambda x, b, m=matrix: _with(m, x).T @ b, (data, BLOCK[:3])
    bcoo = _sparse("bcoo", MATRIX)
    twice = jnp.array(np.tile(bcoo.indices, (2, 1)))
    repeated = sparse.BCOO((jnp.array(np.arange(10.0) - 4), twice), shape=SHAPE)
    entries = np.asarray(bcoo.data)
    batch = sparse.BCOO(
        (jnp.array(np.stack([entries, 2 * entries])), jnp.array(np.stack([bcoo.indices] * 2))), shape=(2, *SHAPE)
    )
    none = jnp.array(np.zeros((4, 1, 0), np.int32))
    whole = sparse.BCOO((jnp.array((VECTOR * [0, 1, 0, 1])[:, None]), none), shape=(4,))
    yield "any kind, dense", lambda x: sparse.todense(_with(bcoo, x)) * sparse.todense(MATRIX), (bcoo.data,)
    yield "repeated places, dense", lambda x: _with(repeated, x).todense(), (repeated.data,)
    yield "repeated places, sum", lambda x: _with(repeated, x).sum_duplicates(nse=5).data, (repeated.data,)
    yield "sorted", lambda x: _with(repeated, x).sort_indices().data, (repeated.data,)
    yield "extract", lambda a: sparse.bcoo_extract(bcoo, a).data, (MATRIX,)
    yield "transposed", lambda x: sparse.bcoo_transpose(_with(bcoo, x), permutation=(1, 0)).data, (bcoo.data,)
    yield "batch", lambda x, b: _with(batch, x) @ b, (batch.data, BLOCK)
    yield "no sparse axis", lambda a: sparse.BCOO.fromdense(a, n_batch=1, nse=1).data, (VECTOR * [0, 1, 0, 1],)
    yield "no sparse axis, dense", lambda x: _with(whole, x).todense(), (whole.data,)
    numbers = (((1,), (1,)), ((), ()))
    sampled = lambda a, b: sparse.bcoo_dot_general_sampled(a, b, bcoo.indices, dimension_numbers=numbers)
    yield "sampled product", sampled, (MATRIX[:, :2], BLOCK)
    rows = _sparse("csr", MATRIX[:, :3] + 4 * np.eye(3))
    yield "solve", lambda x, b: spsolve(x, rows.indices, rows.indptr, b), (rows.data, VECTOR[:3])


CASES = {name: (fun, args) for name, fun, args in _cases()}
EAGER = {"bcoo @ vector", "sorted", "solve"}  # held to JAX's outside jit; the others in a compiled program


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(4)
def test_equals_jax(name):
    fun, args = CASES[name]
    args = [jnp.asarray(x) for x in args]

    def judged(vjp, *args):
        out, pull = vjp(fun, *args)
        return out, pull(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    def both(*args):
        return judged(reverse.vjp, *args), judged(jax.vjp, *args)

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as JAX's sparse functions need
        (out, bars), (expected_out, expected) = (both if name in EAGER else jax.jit(both))(*args)
    np.testing.assert_allclose(out, expected_out, rtol=1e-13)
    for bar, other in zip(bars, expected, strict=True):
        assert bar.dtype == other.dtype
        np.testing.assert_allclose(bar, other, rtol=1e-12, atol=1e-13)


def _dense(at, x):
    return jnp.zeros(SHAPE).at[at].set(x)


def _products():
    """JAX has no transpose of a product of sparse matrices, and a wrong one of a product with csr.T."""
    bcoo, csr = (kind.fromdense(jnp.array(MATRIX)) for kind in (sparse.BCOO, sparse.CSR))
    at = tuple(bcoo.indices.T)  # both have their entries row by row
    yield (
        lambda x, y: (_with(bcoo, x) @ _with(bcoo, y).T).todense(),
        lambda x, y: _dense(at, x) @ _dense(at, y).T,
        (bcoo.data, 2 * bcoo.data),
    )
    yield lambda x, b: _with(csr, x).T @ b, lambda x, b: _dense(at, x).T @ b, (csr.data, jnp.array(BLOCK[:3]))


@pytest.mark.parametrize(("fun", "dense", "args"), list(_products()), ids=("sparse @ sparse", "csr.T @ block"))
def test_equals_the_dense_product(fun, dense, args):
    expected_out, expected_pull = jax.vjp(dense, *args)
    ct = jnp.cos(jnp.arange(expected_out.size * 1.0)).reshape(expected_out.shape)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        out, pull = reverse.vjp(fun, *args)
        bars = pull(ct)
    np.testing.assert_allclose(out, expected_out, rtol=1e-12, atol=1e-13)
    for bar, expected in zip(bars, expected_pull(ct), strict=True):
        np.testing.assert_allclose(bar, expected, rtol=1e-12, atol=1e-13)


def test_a_matrix_is_an_argument_whose_places_have_float0():
    matrix = sparse.BCOO.fromdense(jnp.array(MATRIX))
    out, pull = reverse.vjp(lambda m: m @ jnp.array(VECTOR), matrix)
    [bar] = pull(jnp.ones_like(out))
    assert isinstance(bar, sparse.BCOO)
    np.testing.assert_array_equal(bar.data, VECTOR[matrix.indices[:, 1]])
    assert bar.indices.dtype == jax.float0
