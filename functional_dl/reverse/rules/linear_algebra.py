"""Triangular factors and linear systems: cholesky, lu, triangular_solve, tridiagonal_solve, custom_linear_solve.

Cotangents pair with differentials as Re tr(Y_bar^T dY), so that for dY = A dX B:  X_bar = A^T Y_bar B^T,  and for
dY = dX^H:  X_bar = Y_bar^H.  Capital letters are matrices; stacks of them (leading axes) are treated one by one.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core.primitives import (
    cholesky_p,
    hessenberg_p,
    householder_product_p,
    linear_solve_p,
    lu_p,
    schur_p,
    triangular_solve_p,
    tridiagonal_p,
    tridiagonal_solve_p,
)
from jax.lax import linalg

from functional_dl.aliases import Array
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import Latex, Terms, bar
from functional_dl.reverse.rule import Probe, unsupported, vjp_rule, zero_derivative
from functional_dl.reverse.rules.algebra import is_complex
from functional_dl.reverse.rules.matrices import (
    LAPACK,
    REAL,
    conj,
    half_tril,
    hermitian,
    inverse_order,
    matmul,
    on_diagonal,
    real_diagonal,
    take,
    transpose,
    tril,
    triu,
)
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.values import instantiate

_LOWER_TRIANGLE = jax.__version_info__ >= (0, 11)  # where cholesky's cotangent stands: see its rule


def _dominant(x, weight=4.0):
    """x + weight I: far from singular, for probes."""
    return lax.add(x, jnp.broadcast_to(jnp.asarray(weight * jnp.eye(*x.shape[-2:]), x.dtype), x.shape))


def _definite(x):
    return _dominant(matmul(x, hermitian(x)), 1.0)


@vjp_rule(
    cholesky_p,
    Probe(lambda x: linalg.cholesky(_definite(x)), shapes=((3, 3),), dtypes=LAPACK),
    Probe(lambda x: linalg.cholesky(_definite(x)), shapes=((2, 2, 2),), dtypes=LAPACK),
    Probe(lambda x: linalg.cholesky(_definite(x)), shapes=((0, 0),), dtypes=REAL),
    reads="l",
    latex=(
        r"L, \quad L L^{\top} = <x>",
        r"\tfrac12 \left(S + S^{\top}\right), \quad S = L^{-\top} \Phi(L^{\top} <c>)\, L^{-1}",
    ),
    hermitian=True,
)
def cholesky_vjp(ct, l, a, **_):
    """A = L L^H  =>  L^-1 dA L^-H = L^-1 dL + (L^-1 dL)^H,  a lower triangle plus its H  =>  dL = L Phi(L^-1 dA L^-H),
    Phi(X) = the lower triangle of X with half its diagonal.  Transposed, with P = Phi(L^T L_bar):

      G = L^-T P conj(L)^-1,   a_bar = Phi(G + G^H):

    the factorisation reads the lower triangle of A alone, so a_bar stands there; an entry below the diagonal counts
    for its mirror image too.  JAX before 0.11 holds another convention, and ours follows: dA is meant to be Hermitian,
    a_bar = G, which differs on matrices alone that are not.  The function that symmetrises A first (as is the default)
    has one cotangent, whichever is taken here: (G + G^H) / 2.
    """
    l = tril(l)
    p = half_tril(matmul(transpose(l), ct))
    g = linalg.triangular_solve(l, p, left_side=True, lower=True, transpose_a=True)
    g = linalg.triangular_solve(l, g, left_side=False, lower=True, conjugate_a=is_complex(l))
    return (real_diagonal(half_tril(lax.add(g, hermitian(g)))) if _LOWER_TRIANGLE else g,)


def _solve_probe(left, lower, transpose_a=False, conjugate_a=False, unit=False):
    def solve(a, b):
        return linalg.triangular_solve(
            _dominant(a),
            b,
            left_side=left,
            lower=lower,
            transpose_a=transpose_a,
            conjugate_a=conjugate_a,
            unit_diagonal=unit,
        )

    return solve


def _triangle_latex(terms: Terms) -> str:
    a, b = terms.xs[:2]
    transposed = f"{a}^{{\\top}}" if terms.params.get("transpose_a") else a
    return f"{transposed}^{{-1}} {b}" if terms.params.get("left_side") else f"{b}\\, {transposed}^{{-1}}"


def _triangle_bar_latex(terms: Terms) -> str:
    a, b, y = terms.xs[0], bar(terms.xs[1]), terms.ys[0]
    left = terms.params.get("left_side")
    if terms.place == 1:
        transposed = a if terms.params.get("transpose_a") else f"{a}^{{\\top}}"
        return f"{transposed}^{{-1}} <c>" if left else f"<c>\\, {transposed}^{{-1}}"
    product = f"{b}\\, {y}^{{\\top}}" if left else f"{y}^{{\\top}} {b}"
    if terms.params.get("transpose_a"):
        product = f"({product})^{{\\top}}"
    return f"-\\operatorname{{tri}}({product})"


@vjp_rule(
    triangular_solve_p,
    *[
        Probe(_solve_probe(left, lower, trans, conjugate, unit), shapes=((2, 2), b), dtypes=LAPACK)
        for left, b in ((True, (2, 3)), (False, (3, 2)))
        for lower, trans, conjugate, unit in (
            (True, False, False, False),
            (False, True, False, True),
            (True, True, True, False),
            (False, False, True, True),
        )
    ],
    Probe(_solve_probe(True, True), shapes=((2, 2, 2), (2, 2, 1)), dtypes=LAPACK),
    Probe(_solve_probe(True, True, False, False, True), shapes=((2, 2), (2, 3)), dtypes=LAPACK),
    Probe(_solve_probe(True, True, True, True, False), shapes=((2, 2), (2, 3)), dtypes=("complex128", "complex64")),
    reads=("a out", "a"),
    latex=(_triangle_latex, _triangle_bar_latex),
)
def triangular_solve_vjp(ct, out, a, b, *, left_side, lower, transpose_a, conjugate_a, unit_diagonal):
    """op(A) X = B,  op(A) dX + d op(A) X = dB  =>  b_bar = op(A)^-T X_bar,  op_bar = -b_bar X^T.
    X op(A) = B  =>  b_bar = X_bar op(A)^-T,  op_bar = -X^T b_bar.

    op transposes and conjugates, or not;  a_bar = op_bar with the same done to it, on the triangle that is read, and
    without the diagonal where that is taken to be 1.
    """
    b_bar = linalg.triangular_solve(
        a,
        ct,
        left_side=left_side,
        lower=lower,
        transpose_a=not transpose_a,
        conjugate_a=conjugate_a,
        unit_diagonal=unit_diagonal,
    )

    def a_bar():
        bar = matmul(b_bar, transpose(out)) if left_side else matmul(transpose(out), b_bar)
        bar = transpose(bar) if transpose_a else bar
        bar = conj(bar) if conjugate_a else bar
        inside = int(unit_diagonal)
        return lax.neg(tril(bar, -inside) if lower else triu(bar, inside))

    return a_bar, b_bar


@vjp_rule(
    lu_p,
    Probe(lambda x: linalg.lu(_dominant(x)), shapes=((3, 3),), dtypes=LAPACK),
    Probe(lambda x: linalg.lu(lax.rev(_dominant(x), (1,))), shapes=((2, 3, 3),), dtypes=LAPACK),
    Probe(lambda x: linalg.lu(_dominant(x)), shapes=((4, 2),), dtypes=LAPACK),
    Probe(lambda x: linalg.lu(_dominant(x)), shapes=((1, 4, 2),), dtypes=("float64",)),
    Probe(lambda x: linalg.lu(lax.rev(_dominant(x), (0,))), shapes=((2, 4),), dtypes=LAPACK),
    reads="outs",
    latex=Latex(
        r"P <x> = L U",
        (
            r"P^{\top} L^{-\top} M U^{-\top}, "
            r"\quad M = \operatorname{tril}(L^{\top} \bar L) + \operatorname{triu}(\bar U U^{\top})",
        ),
        whole=True,
    ),
)
def lu_vjp(cts, outs, a, **_):
    """P A = L U,  L unit lower, U upper:  L^-1 dL + dU U^-1 = L^-1 P dA U^-1 = X,  where the first term is strictly
    lower and the second upper  =>  dL = L tril(X, -1),  dU = triu(X) U.  Of the packed factors, LU_bar = C:

      X_bar = tril(L^T C, -1) + triu(C U^T),   a_bar = P^T L^-T X_bar U^-T.

    A matrix that is not square is one of a square product: L (m, m) and U (n, n) are filled up with identities.
    P is locally constant.
    """
    packed, _, permutation = outs
    (m, n), k = a.shape[-2:], min(a.shape[-2:])
    lower, upper = _square(packed, m, k, axis=-1), _square(packed, n, k, axis=-2)
    lower = lax.add(tril(lower, -1), _identity_from(lower, 0))
    upper = triu(upper) if k == n else lax.add(triu(upper), _identity_from(upper, k))
    x_bar = lax.add(
        tril(matmul(transpose(lower), cts[0]), -1),
        triu(matmul(cts[0], transpose(upper))),
    )
    bar = linalg.triangular_solve(lower, x_bar, left_side=True, lower=True, transpose_a=True, unit_diagonal=True)
    bar = linalg.triangular_solve(upper, bar, left_side=False, lower=False, transpose_a=True)
    return (take(bar, inverse_order(permutation), -2),)


def _square(packed, size, k, axis):
    """The first k columns (axis -1) or rows (axis -2) of packed, with zeros up to a square of the size."""
    kept = lax.slice_in_dim(packed, 0, k, axis=packed.ndim + axis)
    widths = [(0, 0, 0)] * packed.ndim
    widths[axis] = (0, size - k, 0)
    return lax.pad(kept, jnp.zeros((), packed.dtype), widths) if size > k else kept


def _identity_from(a, start):
    """diag(0, ..., 0, 1, ..., 1), the ones from `start` on."""
    index = lax.broadcasted_iota(jnp.int32, a.shape, a.ndim - 2)
    return on_diagonal(lax.convert_element_type(lax.ge(index, jnp.int32(start)), a.dtype))


def _shifted(x, by):
    """y_i = x_{i - by} along the axis before the last, 0 where there is none."""
    widths = [(0, 0, 0)] * x.ndim
    widths[-2] = (by, -by, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), widths)


@vjp_rule(
    tridiagonal_solve_p,
    Probe(
        lambda dl, d, du, b: linalg.tridiagonal_solve(dl, lax.add(d, d.dtype.type(6)), du, b),
        shapes=((4,), (4,), (4,), (4, 2)),
        dtypes=REAL,
    ),
    Probe(
        lambda dl, d, du, b: linalg.tridiagonal_solve(dl, lax.add(d, d.dtype.type(6)), du, b),
        shapes=((2, 3), (2, 3), (2, 3), (2, 3, 1)),
        dtypes=REAL,
    ),
    reads=("out dl d du", "out dl d du", "out dl d du", "dl d du"),
    latex=(
        r"T^{-1} <3>, \quad T = \operatorname{tridiag}(<0>, <1>, <2>)",
        r"-\operatorname{lower}(v\, <y>^{\top}), \quad v = T^{-\top} <c>",
        r"-\operatorname{diag}(v\, <y>^{\top}), \quad v = T^{-\top} <c>",
        r"-\operatorname{upper}(v\, <y>^{\top}), \quad v = T^{-\top} <c>",
        r"T^{-\top} <c>",
    ),
)
def tridiagonal_solve_vjp(ct, out, dl, d, du, b, **params):
    """M X = B,  M_{i,i-1} = dl_i,  M_{ii} = d_i,  M_{i,i+1} = du_i  =>  b_bar = M^-T X_bar,  M_bar = -b_bar X^T, so

      dl_bar_i = -sum_k b_bar_{ik} X_{i-1,k},  d_bar_i = -sum_k b_bar_{ik} X_{ik},
      du_bar_i = -sum_k b_bar_{ik} X_{i+1,k};

    dl_0 and du_{n-1} are not read, their cotangent is 0.  M^T has the diagonals (0, du_0, ...), d, (dl_1, ..., 0).
    """
    column = (*d.shape, 1)
    dl_t = lax.reshape(_shifted(lax.reshape(du, column), 1), d.shape)
    du_t = lax.reshape(_shifted(lax.reshape(dl, column), -1), d.shape)
    b_bar = tridiagonal_solve_p.bind(dl_t, d, du_t, ct, **params)

    def against(x):
        return lax.neg(lax.reduce_sum(lax.mul(b_bar, x), (b_bar.ndim - 1,)))

    return lambda: against(_shifted(out, 1)), lambda: against(out), lambda: against(_shifted(out, -1)), b_bar


def _jacobi(a, b):
    """Solves a x = b by custom_linear_solve with the dense solver both ways."""
    matrix = _dominant(a)

    def solve(matvec, b):
        return linalg.triangular_solve(tril(matrix), lax.reshape(b, (2, 1)), left_side=True, lower=True)[:, 0]

    def transpose_solve(vecmat, b):
        columns = lax.reshape(b, (2, 1))
        return linalg.triangular_solve(tril(matrix), columns, left_side=True, lower=True, transpose_a=True)[:, 0]

    return lax.custom_linear_solve(lambda x: lax.dot(tril(matrix), x), b, solve, transpose_solve)


def _solved_with_a_report(d, b):
    """The solver tells how many steps it took."""

    def solve(_, b):
        return b / (d * d + 1.0), jnp.int32(1)

    return lax.custom_linear_solve(lambda x: x * (d * d + 1.0), b, solve, symmetric=True, has_aux=True)


@call_rule(
    linear_solve_p,
    Probe(_jacobi, shapes=((2, 2), (2,)), dtypes=LAPACK),
    Probe(lambda a, b: jnp.linalg.solve(_dominant(a), b), shapes=((2, 3, 3), (2, 3, 1)), dtypes=LAPACK),
    Probe(
        lambda d, b: lax.custom_linear_solve(
            lambda x: x * (d * d + 1.0), b, lambda _, b: b / (d * d + 1.0), symmetric=True
        ),
        shapes=((3,), (3,)),
        dtypes=("float64",),
    ),
    Probe(_solved_with_a_report, shapes=((3,), (3,)), dtypes=("float64",)),
    latex=(r"A^{-1} b", r"A^{-\top} <c> \text{ through the system's entries and } b"),
)
def linear_solve_forward(
    tape: Any, values: list[Array], slots: list[Any], *, const_lengths: Any, jaxprs: Any
) -> tuple[list[Array], list[int]]:
    """A(theta) x = b,  solved by the user's `solve`  =>  A dx + dA x = db  =>

      b_bar = A^-T x_bar  by the user's `transpose_solve`,   theta_bar = -(d[A(theta) x]/d theta)^T b_bar  at fixed x,

    by the hand-swept derivative of the user's `matvec`.  What `solve` itself does is not differentiated.
    """
    outs = linear_solve_p.bind(*values, const_lengths=const_lengths, jaxprs=jaxprs)
    unknowns = len(values) - sum(const_lengths)
    out_slots = [*tape.new_slots(outs[:unknowns]), *[None for _ in outs[unknowns:]]]  # the rest is the solver's report
    active = tuple(s is not None for s in slots)
    pull_back = functools.partial(_solve_pull_back, const_lengths, jaxprs, active)
    return tape.call(linear_solve_p, pull_back, (list(values), outs[:unknowns]), slots, outs, out_slots)


def _solve_pull_back(const_lengths, jaxprs, active, residuals, cts):
    if jaxprs.transpose_solve is None:
        raise TypeError("transpose_solve required for backwards mode automatic differentiation of custom_linear_solve")
    values, x = residuals
    parts, start = [], 0
    for length in const_lengths:
        parts.append(values[start : start + length])
        start += length
    consts = type(const_lengths)(*parts)
    x_bar = [instantiate(ct, y) for ct, y in zip(cts, x)]
    swapped = [value for part in consts.transpose() for value in part]
    solved = linear_solve_p.bind(*swapped, *x_bar, const_lengths=const_lengths.transpose(), jaxprs=jaxprs.transpose())
    b_bar = solved[: len(x)]
    count = len(consts.matvec)
    theta_bar: list = [None] * count
    if any(active[:count]):
        wanted = (*active[:count], *[False] * len(x))
        _, pull = sweep.forward_jaxpr(jaxprs.matvec, [*consts.matvec, *x], wanted)
        theta_bar = pull([lax.neg(bar) for bar in b_bar])[:count]
    return [*theta_bar, *[None] * (start - count), *b_bar]


zero_derivative(
    "a permutation, written in another way: integers have no tangent space", linalg.lu_pivots_to_permutation_p
)
unsupported(
    "JAX has no derivative of it either.  Its factors are not determined by smooth equations alone; differentiate "
    "what is computed from them by other means (jnp.linalg.eigh, jnp.linalg.eigvals, jax.scipy.linalg.expm).",
    schur_p,
    hessenberg_p,
    tridiagonal_p,
)
unsupported(
    "JAX has no derivative of it either.  Differentiate through jnp.linalg.qr, whose rule needs no reflectors.",
    householder_product_p,
    linalg.ormqr_p,
)
unsupported(
    "JAX has no derivative of it either.  Write L' = cholesky(L L^T + w w^T), which has one.", linalg.cholesky_update_p
)
unsupported(
    "JAX has no derivative of it either.  Write alpha * a @ a.T + beta * c, which has one.", linalg.symmetric_product_p
)
