"""Sparse matrices, jax.experimental.sparse: rules that are registered once one of its primitives is met (it is heavy).

A sparse matrix is its entries, `data`, and their places, integers (indices, rows and columns, pointers to rows).  So a
cotangent belongs to data and to dense operands alone.  With S the linear map that adds each entry to its place (and
drops an entry whose place lies outside), the dense matrix is S data, and S^T reads at the places:

  data_bar = S^T A_bar.

Each primitive is differentiated as a program of dense operations that computes the same; its cotangents follow from
theirs (scatter, gather, dot_general, sort).
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.jaxprs import primitive_of
from functional_dl.reverse import sweep
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, late_rules
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import implementation

WIDE = ("float64", "float32", *COMPLEX)


def _rows(indptr, entries):
    """The row of each entry, given where rows begin; entries after the last row's end lie outside."""
    return lax.cumsum(jnp.zeros(entries, indptr.dtype).at[indptr].add(1)) - 1


def _transposed(data, indices, indptr):
    """The transpose of a square matrix in rows."""
    columns, rows, data = lax.sort((indices, _rows(indptr, indices.shape[0]), data), num_keys=2)
    ends = lax.cumsum(jnp.bincount(columns, length=indptr.shape[0] - 1))
    return data, rows, jnp.zeros_like(indptr).at[1:].set(ends.astype(indptr.dtype))


def _product(data, out_place, in_place, operand, size):
    """y = A x (or A X):  y_p = sum of data_k x_q(k) over the entries k with p(k) = p, the output place."""
    entries = data.reshape(data.shape + (1,) * (operand.ndim - 1))
    terms = entries * operand[in_place]
    return jnp.zeros((size, *operand.shape[1:]), terms.dtype).at[out_place].add(terms)


def _defined(program, *operands, **params):
    return program(*operands, **params)


def _program_rule(primitive, *probes):
    """Decorator: the primitive is differentiated as the decorated program, which computes the same."""

    def register(program):
        def forward(tape, values, slots, **params):
            def fun(*operands):
                outs = program(*operands, **params)
                return list(outs) if primitive.multiple_results else [outs]

            return tape.run(fun, values, slots)

        functools.update_wrapper(forward, program)
        call_rule(primitive, *probes)(forward)
        return program

    return register


def _product_rule(primitive, *probes):
    """Decorator: as _program_rule, but y is computed sparsely, and the program runs in the backward sweep alone."""

    def register(program):
        def pull_back(active, params, values, cts):
            moving = [x for x, a in zip(values, active) if a]

            def fun(*moved):
                rest = iter(moved)
                return [program(*[next(rest) if a else x for x, a in zip(values, active)], **dict(params))], []

            bars = iter(sweep.forward(fun, moving, [True] * len(moving))[2](cts))
            return [next(bars) if a else None for a in active]

        def forward(tape, values, slots, **params):
            out = primitive.bind(*values, **params)
            active = tuple(s is not None for s in slots)
            pull = functools.partial(pull_back, active, tuple(params.items()))
            return tape.call(primitive, pull, list(values), slots, [out], tape.new_slots([out]), explicit=False)

        functools.update_wrapper(forward, program)
        call_rule(primitive, *probes)(forward)
        return program

    return register


@late_rules("bcoo_", "bcsr_", "coo_", "csr_", "spsolve", "todense")
def register() -> None:
    from jax.experimental import sparse
    from jax.experimental.sparse import linalg

    places = np.array([[0, 1], [2, 0], [2, 2], [0, 1]], np.int32)
    row, column = places[:3, 0][[0, 1, 2]], places[:3, 1]
    pointers = np.array([0, 1, 1, 3], np.int32)

    def bcoo(data):
        return sparse.BCOO((data, jnp.asarray(places)), shape=(3, 3))

    def bcsr(data):
        return sparse.BCSR((data, jnp.asarray(column), jnp.asarray(pointers)), shape=(3, 3))

    def coo(data):
        return sparse.COO((data, jnp.asarray(row), jnp.asarray(column)), shape=(3, 3))

    def csr(data):
        return sparse.CSR((data, jnp.asarray(column), jnp.asarray(pointers)), shape=(3, 3))

    def probe(fun, *shapes, low=-2.0, dtypes=WIDE):
        return Probe(fun, shapes=shapes, low=low, dtypes=dtypes)

    # --- defined by JAX as programs of dense operations: differentiated as such

    for primitive, derivation, probes in [
        (
            sparse.todense_p,
            "A = S data, of any kind of matrix  =>  data_bar = S^T A_bar: A_bar at the places.",
            [probe(lambda x: sparse.todense(bcoo(x)), (4,)), probe(sparse.todense, (3, 2))],
        ),
        (
            sparse.bcoo_todense_p,
            "A = S data  =>  data_bar = S^T A_bar: A_bar at the places.",
            [probe(lambda x: bcoo(x).todense(), (4,), dtypes=FLOATS + COMPLEX)],
        ),
        (
            sparse.bcoo_extract_p,
            "data = S^T A  =>  A_bar = S data_bar; an entry whose place came before takes nothing.",
            [probe(lambda a: sparse.bcoo_extract(bcoo(jnp.ones(4, a.dtype)), a).data, (3, 3))],
        ),
        (
            sparse.bcoo_transpose_p,
            "The places are exchanged, and batch axes of data with them  =>  data_bar is y_bar, exchanged back.",
            [probe(lambda x: sparse.bcoo_transpose(bcoo(x), permutation=(1, 0)).data, (4,))],
        ),
        (
            sparse.bcoo_sort_indices_p,
            "y = data in another order  =>  data_bar = y_bar in the first order.",
            [probe(lambda x: bcoo(x).sort_indices().data, (4,))],
        ),
        (
            sparse.bcoo_sum_duplicates_p,
            "y_k = sum of the entries with the k-th place  =>  data_bar = y_bar of its place.",
            [probe(lambda x: bcoo(x).sum_duplicates(nse=4).data, (4,))],
        ),
        (
            sparse.bcoo_dot_general_sampled_p,
            "data = S^T (A B)  =>  A_bar = (S data_bar) B^T,  B_bar = A^T (S data_bar).",
            [
                probe(
                    lambda a, b: sparse.bcoo_dot_general_sampled(
                        a, b, jnp.asarray(places), dimension_numbers=(((1,), (0,)), ((), ()))
                    ),
                    (3, 2),
                    (2, 3),
                )
            ],
        ),
        (
            sparse.bcoo_spdot_general_p,
            "y = the products of pairs of entries that meet, summed: bilinear in both data.",
            [probe(lambda x, y: (bcoo(x) @ bcoo(y)).todense(), (4,), (4,))],
        ),
        (
            sparse.bcsr_todense_p,
            "A = S data  =>  data_bar = S^T A_bar: A_bar at the places.",
            [probe(lambda x: bcsr(x).todense(), (3,))],
        ),
        (
            sparse.bcsr_extract_p,
            "data = S^T A  =>  A_bar = S data_bar.",
            [probe(lambda a: sparse.bcsr_extract_p.bind(jnp.asarray(column), jnp.asarray(pointers), a), (3, 3))],
        ),
    ]:
        defined = functools.partial(_defined, implementation(primitive))
        functools.update_wrapper(defined, _defined)
        defined.__doc__ = derivation
        _program_rule(primitive, *probes)(defined)

    # --- products

    @_product_rule(
        sparse.bcoo_dot_general_p,
        probe(lambda x, b: bcoo(x) @ b, (4,), (3, 2)),
        probe(lambda x, b: b @ bcoo(x), (4,), (2, 3)),
    )
    def bcoo_dot_general(data, indices, b, *, dimension_numbers, preferred_element_type, lhs_spinfo):
        """y = A B with A = S data  =>  data_bar = S^T (y_bar B^T),  B_bar = A^T y_bar, over the axes in question."""
        a = sparse.bcoo_todense_p.bind(data, indices, spinfo=lhs_spinfo)
        return lax.dot_general(a, b, dimension_numbers, preferred_element_type=preferred_element_type)

    @_product_rule(sparse.bcsr_dot_general_p, probe(lambda x, b: bcsr(x) @ b, (3,), (3, 2)))
    def bcsr_dot_general(data, indices, indptr, b, *, dimension_numbers, preferred_element_type, lhs_spinfo):
        """y = A B with A = S data  =>  data_bar = S^T (y_bar B^T),  B_bar = A^T y_bar, over the axes in question."""
        a = sparse.bcsr_todense_p.bind(data, indices, indptr, spinfo=lhs_spinfo)
        return lax.dot_general(a, b, dimension_numbers, preferred_element_type=preferred_element_type)

    @_product_rule(sparse.coo_matvec_p, probe(lambda x, v: coo(x) @ v, (3,), (3,)))
    @_product_rule(sparse.coo_matmat_p, probe(lambda x, b: coo(x).T @ b, (3,), (3, 2)))
    def coo_product(data, row, col, b, *, spinfo, transpose):
        """y_p = sum of data_k b_q(k), k with p(k) = p  =>  data_k_bar = y_bar_p(k) . b_q(k),  b_q_bar likewise."""
        out_place, in_place = (col, row) if transpose else (row, col)
        return _product(data, out_place, in_place, b, spinfo.shape[1 if transpose else 0])

    @_product_rule(sparse.csr_matvec_p, probe(lambda x, v: csr(x) @ v, (3,), (3,)))
    @_product_rule(sparse.csr_matmat_p, probe(lambda x, b: csr(x) @ b, (3,), (3, 2)))
    def csr_product(data, indices, indptr, b, *, shape, transpose):
        """y_p = sum of data_k b_q(k), k with p(k) = p  =>  data_k_bar = y_bar_p(k) . b_q(k),  b_q_bar likewise."""
        row = _rows(indptr, data.shape[0])
        out_place, in_place = (indices, row) if transpose else (row, indices)
        return _product(data, out_place, in_place, b, shape[1 if transpose else 0])

    # --- to and from dense matrices, by rows and columns

    @_program_rule(sparse.coo_todense_p, probe(lambda x: coo(x).todense(), (3,)))
    def coo_todense(data, row, col, *, spinfo):
        """A = S data  =>  data_bar = S^T A_bar: A_bar at the places."""
        return jnp.zeros(spinfo.shape, data.dtype).at[row, col].add(data)

    @_program_rule(sparse.csr_todense_p, probe(lambda x: csr(x).todense(), (3,)))
    def csr_todense(data, indices, indptr, *, shape):
        """A = S data  =>  data_bar = S^T A_bar: A_bar at the places."""
        return jnp.zeros(shape, data.dtype).at[_rows(indptr, data.shape[0]), indices].add(data)

    def from_dense(primitive, read, probe):
        @call_rule(primitive, probe)
        def forward(tape, values, slots, *, nse, **params):
            """data = S^T A for the places where A is not 0, and 0 for entries left over  =>  A_bar = S data_bar."""
            outs = primitive.bind(*values, nse=nse, **params)
            kept = lax.iota(np.int32, nse) < jnp.count_nonzero(values[0]).astype(np.int32)
            [data], [slot] = tape.run(lambda a: [read(a, kept, *outs[1:])], values, slots)
            return [data, *outs[1:]], [slot] + [None] * (len(outs) - 1)

    def at_places(a, kept, rows, columns):
        entries = a.at[rows, columns].get(mode="fill", fill_value=0)
        return lax.select(kept, entries, jnp.zeros_like(entries))

    from_dense(
        sparse.bcoo_fromdense_p,
        lambda a, kept, indices: sparse.bcoo_extract_p.bind(indices, a, assume_unique=True),
        probe(lambda a: sparse.BCOO.fromdense(a, nse=9).data, (3, 3), low=0.5),
    )
    from_dense(
        sparse.bcsr_fromdense_p,
        lambda a, kept, indices, indptr: sparse.bcsr_extract_p.bind(indices, indptr, a),
        probe(lambda a: sparse.BCSR.fromdense(a, nse=9).data, (3, 3), low=0.5),
    )
    from_dense(
        sparse.coo_fromdense_p,
        at_places,
        probe(lambda a: sparse.COO.fromdense(a, nse=9).data, (3, 3), low=0.5),
    )
    from_dense(
        sparse.csr_fromdense_p,
        lambda a, kept, indices, indptr: at_places(a, kept, _rows(indptr, indices.shape[0]), indices),
        probe(lambda a: sparse.CSR.fromdense(a, nse=9).data, (3, 3), low=0.5),
    )

    # --- solutions

    full = np.arange(3, dtype=np.int32), np.array([0, 1, 2, 3], np.int32)

    def solve(x, b):
        return linalg.spsolve(x, jnp.asarray(full[0]), jnp.asarray(full[1]), b)

    spsolve_p = primitive_of(solve, np.ones(3, np.float32), np.ones(3, np.float32))

    @call_rule(spsolve_p, probe(solve, (3,), (3,), low=0.5, dtypes=("float64",)))
    def spsolve_forward(tape, values, slots, **params):
        """A x = b,  A dx = db - dA x  =>  b_bar = A^-T x_bar,  A_bar = -b_bar x^T,  data_bar = S^T A_bar."""
        out = spsolve_p.bind(*values, **params)

        def pull_back(residuals, cts):
            (data, indices, indptr), x = residuals
            b_bar = spsolve_p.bind(*_transposed(data, indices, indptr), cts[0], **params)
            return lambda: -b_bar[_rows(indptr, data.shape[0])] * x[indices], None, None, b_bar

        return tape.call(
            spsolve_p, pull_back, (list(values[:3]), out), slots, [out], tape.new_slots([out]), explicit=False
        )
