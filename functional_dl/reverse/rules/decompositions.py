"""Orthogonal factors: qr, eigh, svd, eig.

Cotangents pair with differentials as Re tr(Y_bar^T dY), so that for dY = A dX B:  X_bar = A^T Y_bar B^T,  and for
dY = dX^H:  X_bar = Y_bar^H.  Factors are unique up to signs or phases; the differential taken is the one that moves
vectors within the orthogonal complement (v^H dv = 0), JAX's choice, unless said otherwise.  A factor that nothing uses
has no cotangent (None) and costs nothing: sums over repeated eigenvalues have their derivative, vectors have none.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import eig_p, eigh_p, qr_p, svd_p
from jax.lax import linalg

from functional_dl.aliases import Array
from functional_dl.reverse.latex import Latex
from functional_dl.reverse.rule import Probe
from functional_dl.reverse.rules.algebra import is_complex, over, times, zeros_like
from functional_dl.reverse.rules.matrices import (
    LAPACK,
    REAL,
    along_columns,
    along_rows,
    conj,
    diagonal,
    diagonal_matrix,
    eye_like,
    hermitian,
    inverse_order,
    matmul,
    on_diagonal,
    real,
    real_diagonal,
    take,
    transpose,
    triu,
)
from functional_dl.reverse.sweep import call_rule

COMPLEX = ("complex128", "complex64")


def _spread(x):
    """x + diag(2, 4, 6, ...): far from singular, eigenvalues and singular values apart, for probes."""
    grid = np.eye(*x.shape[-2:]) * 2.0 * (1 + np.arange(x.shape[-1]))
    return lax.add(x, jnp.asarray(np.broadcast_to(grid, x.shape), x.dtype))


def _gaps(values):
    """F_ij = 1 / (values_j - values_i), 0 on the diagonal; infinite where two values are equal, as they then mix."""
    n = values.shape[-1]
    difference = lax.sub(along_rows(values, n), along_columns(values, n))
    eye = eye_like(difference)
    return lax.sub(over(1, lax.add(difference, eye)), eye)


def _sum(*terms):
    """The sum of the terms that are there."""
    return functools.reduce(lax.add, [t for t in terms if t is not None])


# --- qr ---------------------------------------------------------------------------------------------------------------


def _qr(full=False, pivoting=False):
    return lambda x: linalg.qr(_spread(x), full_matrices=full, pivoting=pivoting)[:2]


def pivoted_qr(x: Array) -> Any:
    return _qr(pivoting=True)(x)


@call_rule(
    qr_p,
    Probe(_qr(), shapes=((3, 3),), dtypes=LAPACK),
    Probe(_qr(), shapes=((2, 4, 2),), dtypes=LAPACK),
    Probe(_qr(), shapes=((2, 4),), dtypes=LAPACK),
    Probe(_qr(full=True), shapes=((4, 2),), dtypes=LAPACK),
    Probe(_qr(full=True), shapes=((2, 3),), dtypes=REAL),
    Probe(functools.partial(pivoted_qr), shapes=((4, 3),), dtypes=LAPACK),
    Probe(lambda x: linalg.qr(_spread(x), full_matrices=False)[1], shapes=((3, 3),), dtypes=LAPACK),
    Probe(lambda x: linalg.qr(_spread(x), full_matrices=False)[0], shapes=((2, 2, 4),), dtypes=("float64",)),
    Probe(_qr(full=True), shapes=((2, 3, 2),), dtypes=("float64",)),
    latex=Latex(
        r"<x> = Q R",
        (r"\left(\bar Q + Q \operatorname{copyltu}(M)\right) R^{-\top}, \quad M = R \bar R^{\top} - \bar Q^{\top} Q",),
        whole=True,
    ),
)
def qr_forward(tape: Any, values: Any, slots: Any, *, pivoting: Any, full_matrices: Any, **params: Any) -> Any:
    """A = Q R,  Q^H Q = I, R upper with real diagonal (m >= n).  With C = dA R^-1 and B = Q^H C:

      dQ = C - Q N,   dR = N R,   N = triu(B) with real diagonal + tril(B, -1)^H,

    as Q^H dQ = B - N is skew-Hermitian and N upper.  Transposed:

      N_bar = R_bar R^T - Q^T Q_bar,   B_bar = the Hermitian matrix that has N_bar's upper triangle (real diagonal),
      a_bar = (Q_bar + conj(Q) B_bar) R^-T.

    Wide A = (A_1, A_2), R = (R_1, R_2):  A_1 = Q R_1 is square, R_2 = Q^H A_2 adds conj(A_2) R_2_bar^H to Q_bar, and
    a_2_bar = conj(Q) R_2_bar.   Pivoting:  all this holds of A with its columns in their order.
    full_matrices adds Q_2 to Q = (Q_1, Q_2), which the Householder reflections fix as a function of Q_1: see _complete.
    """
    outs = qr_p.bind(*values, pivoting=pivoting, full_matrices=full_matrices, **params)
    pull_back = functools.partial(_qr_pull_back, jnp.shape(values[0]), full_matrices)
    return tape.call(qr_p, pull_back, outs, slots, outs, tape.new_slots(outs), explicit=False)


def _qr_pull_back(shape, full_matrices, outs, cts):
    q, r, *pivots = outs
    q_bar, r_bar = cts[:2]
    m, n = shape[-2:]
    if m < n:
        r1, r2 = r[..., :m], r[..., m:]
        r1_bar = None
        bar2 = lax.full((*shape[:-1], n - m), 0, r.dtype)
        if r_bar is not None:
            r1_bar, r2_bar = r_bar[..., :m], r_bar[..., m:]
            bar2 = matmul(conj(q), r2_bar)
            q_bar = _sum(q_bar, matmul(conj(q), matmul(conj(r2), hermitian(r2_bar))))  # A_2 = Q R_2
        bar = lax.concatenate([_thin_qr_bar(q, r1, q_bar, r1_bar), bar2], len(shape) - 1)
    else:
        if full_matrices and m > n:
            q, q_bar = _complete(q, q_bar, n)
            r, r_bar = r[..., :n, :], None if r_bar is None else r_bar[..., :n, :]
        bar = _thin_qr_bar(q, r, q_bar, r_bar)
    return (take(bar, inverse_order(pivots[0]), -1) if pivots else bar,)


def _thin_qr_bar(q, r, q_bar, r_bar):
    n_bar = _sum(
        None if r_bar is None else matmul(r_bar, transpose(r)),
        None if q_bar is None else lax.neg(matmul(transpose(q), q_bar)),
    )
    upper = triu(n_bar, 1)
    b_bar = _sum(upper, hermitian(upper), real_diagonal(on_diagonal(n_bar)))
    c_bar = _sum(q_bar, matmul(conj(q), b_bar))
    return linalg.triangular_solve(r, c_bar, left_side=False, lower=False, transpose_a=True)


def _complete(q, q_bar, n):
    """Q = (Q_1, Q_2) as a function of Q_1.  With Z = Q_1[n:] (Q_1[:n] - I)^-1 and E = Q_1 + Q_2 Z:

      dQ_2 = dQ_1 Z^H - E W^H,   W = dQ_1[n:] - Z dQ_1[:n],

    so Q_2_bar = G adds to Q_1_bar:  G conj(Z),  and -G^H conj(E) in its rows from n on, Z^T G^H conj(E) above them.
    Source: Roberts and Roberts, QR and LQ decomposition matrix backpropagation algorithms, arXiv:2009.10071, for the
    thin factor; the reflections' form of Q_2: Golub and Van Loan, Matrix Computations, section 5.1.
    """
    q1, q2 = q[..., :n], q[..., n:]
    if q_bar is None:
        return q1, None
    g = q_bar[..., n:]
    top, bottom = q1[..., :n, :], q1[..., n:, :]
    z = transpose(jnp.linalg.solve(transpose(lax.sub(top, eye_like(top))), transpose(bottom)))
    e = lax.add(q1, matmul(q2, z))
    below = lax.neg(matmul(hermitian(g), conj(e)))
    above = lax.neg(matmul(transpose(z), below))
    rows = lax.concatenate([above, below], q.ndim - 2)
    return q1, _sum(q_bar[..., :n], matmul(g, conj(z)), rows)


# --- eigh -------------------------------------------------------------------------------------------------------------


def _projectors(v):
    """v_k v_k^H for every k: what eigenvectors are without their phases."""
    return jnp.einsum("...ik,...jk->...ijk", v, conj(v))


def _eigh_probe(x, **options):
    v, w = linalg.eigh(_spread(x), **options)
    return _projectors(v), w


@call_rule(
    eigh_p,
    Probe(_eigh_probe, shapes=((3, 3),), dtypes=REAL),
    Probe(functools.partial(_eigh_probe, lower=False), shapes=((2, 2, 2),), dtypes=REAL),
    Probe(lambda x: _projectors(linalg.eigh(_spread(x))[0]), shapes=((3, 3),), dtypes=COMPLEX),
    # the vectors' signs are LAPACK's choice, and another one in float32
    Probe(lambda x: linalg.eigh(_spread(x)), shapes=((3, 3),), dtypes=("float64",)),
    Probe(lambda x: linalg.eigh(_spread(x))[1], shapes=((3, 3),), dtypes=("float64", "complex128")),
    Probe(lambda x: linalg.eigh(_spread(x))[0], shapes=((3, 3),), dtypes=REAL),
    latex=Latex(
        r"<x> = V \operatorname{diag}(w)\, V^{\top}",
        (
            r"V \left(\operatorname{diag}(\bar w) + F \odot (V^{\top} \bar V)\right) V^{\top}, "
            r"\quad F_{ij} = \tfrac{1}{w_j - w_i}",
        ),
        whole=True,
    ),
    hermitian=True,
)
def eigh_forward(tape: Any, values: Any, slots: Any, *, subset_by_index: Any = None, **params: Any) -> Any:
    """A V = V diag(w),  V^H V = I,  A Hermitian.  With M = V^H dA V and F_ij = 1 / (w_j - w_i), F_ii = 0:

      dw = Re diag(M),   dV = V (F o M)
      =>  M_bar = diag(w_bar) + F o (V^T V_bar),   a_bar = conj(V) M_bar V^T.

    a_bar is meant for Hermitian dA: the function that symmetrises A first halves it between A_ij and A_ji.  V and w
    are those of (A + A^H) / 2, as JAX's are where they are differentiated, and so are their own derivatives.
    Where eigenvalues repeat, F is infinite: their vectors have no derivative; w_bar alone needs no F.
    """
    if subset_by_index is not None and tuple(subset_by_index) != (0, jnp.shape(values[0])[-1]):
        raise NotImplementedError("Derivatives not defined for partial eigen decomposition.")
    a = times(0.5, lax.add(values[0], hermitian(values[0])))
    outs = eigh_p.bind(a, subset_by_index=subset_by_index, **params)
    return tape.call(eigh_p, _eigh_pull_back, outs, slots, outs, tape.new_slots(outs), explicit=False)


def _eigh_pull_back(outs, cts):
    v, w = outs
    v_bar, w_bar = cts
    if v_bar is None:
        scaled = lax.mul(conj(v), along_rows(lax.convert_element_type(w_bar, v.dtype), v.shape[-2]))
        return (matmul(scaled, transpose(v)),)
    m_bar = lax.mul(lax.convert_element_type(_gaps(w), v.dtype), matmul(transpose(v), v_bar))
    if w_bar is not None:
        m_bar = lax.add(m_bar, diagonal_matrix(lax.convert_element_type(w_bar, v.dtype)))
    return (matmul(conj(v), matmul(m_bar, transpose(v))),)


# --- svd --------------------------------------------------------------------------------------------------------------


def _svd_probe(x):
    """Without the phase (of a real matrix, the sign) that u_k and v_k share: it is not the same in every precision."""
    u, s, vh = linalg.svd(_spread(x), full_matrices=False)
    return s, jnp.einsum("...ik,...kj->...ijk", u, vh)


def _svd_left(x):
    return _projectors(linalg.svd(_spread(x), full_matrices=False)[0])


@call_rule(
    svd_p,
    Probe(_svd_probe, shapes=((3, 3),), dtypes=LAPACK),
    Probe(_svd_probe, shapes=((4, 2),), dtypes=LAPACK),
    Probe(_svd_probe, shapes=((2, 2, 3),), dtypes=LAPACK),
    Probe(lambda x: linalg.svd(_spread(x), full_matrices=False), shapes=((4, 2),), dtypes=("float64",)),
    Probe(lambda x: linalg.svd(_spread(x), full_matrices=False), shapes=((2, 3, 3),), dtypes=("float64",)),
    Probe(lambda x: linalg.svd(_spread(x), compute_uv=False), shapes=((3, 2),), dtypes=LAPACK),
    Probe(lambda x: linalg.svd(_spread(x), full_matrices=True)[::2], shapes=((3, 3),), dtypes=("float64",)),
    Probe(_svd_left, shapes=((3, 2),), dtypes=REAL),
    Probe(lambda x: linalg.svd(_spread(x), full_matrices=False)[1:], shapes=((2, 3),), dtypes=("float64",)),
    latex=Latex(
        r"<x> = U \operatorname{diag}(s)\, V^{\top}",
        (
            r"U \left(\operatorname{diag}(\bar s) + G \odot L \odot (U^{\top} \bar U - \bar U^{\top} U) "
            r"+ G \odot L^{\top} \odot (V^{\top} \bar V - \bar V^{\top} V)\right) V^{\top} + \dots, "
            r"\quad G_{ij} = \tfrac{1}{s_j - s_i}, \; L_{ij} = \tfrac{s_j}{s_i + s_j}",
        ),
        whole=True,
    ),
)
def svd_forward(
    tape: Any,
    values: Any,
    slots: Any,
    *,
    full_matrices: Any,
    compute_uv: Any,
    subset_by_index: Any = None,
    **params: Any,
) -> Any:
    """A = U S V^H,  U and V with orthonormal columns.  With M = U^H dA V, F_ij = 1 / (s_j^2 - s_i^2), F_ii = 0:

      ds = Re diag(M)
      dU = U (F o (M S + S M^H) + i Im diag(M) S^-1) + (I - U U^H) dA V S^-1
      dV = V (F o (S M + M^H S))                     + (I - V V^H) dA^H U S^-1.

    Transposed, with P = U^T U_bar, Q = V^T V_bar, G_ij = 1 / (s_j - s_i) and L_ij = s_j / (s_i + s_j), so that
    F_ij s_j = G_ij L_ij and s_i F_ij = G_ij L_ji, where nothing is squared (values of 1e21 are fine in float32):

      M_bar = diag(s_bar) + G o L o (P - P^H) + i Im diag(P) S^-1 + G o L^T o (Q - Q^H)
      a_bar = conj(U) M_bar V^T  +  (U_bar - conj(U) P) S^-1 V^T        [where A is tall]
                                 +  conj(U) S^-1 (V_bar - conj(V) Q)^H  [where A is wide].

    The phase that u_k and v_k share is held in V.  Repeated singular values: see eigh.
    """
    if compute_uv:
        m, n = jnp.shape(values[0])[-2:]
        if full_matrices and m != n:
            raise NotImplementedError("Singular value decomposition JVP not implemented for full matrices")
        if subset_by_index is not None and tuple(subset_by_index) != (0, min(m, n)):
            raise NotImplementedError(
                "Singular value decomposition JVP not implemented for subset_by_index with compute_uv=True"
            )
    params = dict(params, full_matrices=False, compute_uv=True, subset_by_index=subset_by_index)
    residuals = svd_p.bind(*values, **params)
    outs = residuals if compute_uv else residuals[:1]
    return tape.call(svd_p, _svd_pull_back, residuals, slots, outs, tape.new_slots(outs), explicit=False)


def _svd_pull_back(residuals, cts):
    s, u, vh = residuals
    s_bar, u_bar, vh_bar = cts if len(cts) == 3 else (*cts, None, None)
    (m, k), n = u.shape[-2:], vh.shape[-1]
    dtype = u.dtype
    if u_bar is None and vh_bar is None:
        scaled = lax.mul(conj(u), along_rows(lax.convert_element_type(s_bar, dtype), m))
        return (matmul(scaled, conj(vh)),)
    gaps = lax.convert_element_type(_gaps(s), dtype)
    half = along_rows(times(0.5, s), k)  # s_j / 2: the sum of two of the largest numbers is not infinite
    share = lax.div(half, lax.add(lax.add(half, transpose(half)), eye_like(half)))
    share = lax.convert_element_type(share, dtype)
    m_bar, tall, wide = None, None, None
    if s_bar is not None:
        m_bar = diagonal_matrix(lax.convert_element_type(s_bar, dtype))
    if u_bar is not None:
        p = matmul(transpose(u), u_bar)
        m_bar = _sum(m_bar, lax.mul(lax.mul(gaps, share), lax.sub(p, hermitian(p))))
        if is_complex(u):
            inverse = lax.select(lax.eq(s, zeros_like(s)), zeros_like(s), over(1, s))
            phase = lax.mul(lax.imag(diagonal(p)), inverse)
            m_bar = lax.add(m_bar, diagonal_matrix(lax.complex(zeros_like(phase), phase)))
        if m > n:
            off = lax.sub(u_bar, matmul(conj(u), p))
            tall = lax.div(off, along_rows(lax.convert_element_type(s, dtype), m))
    if vh_bar is not None:
        v_bar = hermitian(vh_bar)
        q = matmul(conj(vh), v_bar)  # V^T = conj(V^H)
        m_bar = _sum(m_bar, lax.mul(lax.mul(gaps, transpose(share)), lax.sub(q, hermitian(q))))
        if n > m:
            off = lax.sub(v_bar, matmul(transpose(vh), q))
            wide = hermitian(lax.div(off, along_rows(lax.convert_element_type(s, dtype), n)))
    left = _sum(matmul(conj(u), m_bar), tall)
    a_bar = matmul(left, conj(vh))
    return (a_bar if wide is None else lax.add(a_bar, matmul(conj(u), wide)),)


# --- eig --------------------------------------------------------------------------------------------------------------


def _eig_vectors(x, left=True, right=True):
    return linalg.eig(
        _spread(x), compute_left_eigenvectors=left, compute_right_eigenvectors=right, enable_eigvec_derivs=True
    )


@call_rule(
    eig_p,
    Probe(lambda x: jnp.linalg.eigvals(_spread(x)), shapes=((3, 3),), low=-0.5, high=0.5, dtypes=LAPACK, order=1),
    Probe(lambda x: jnp.linalg.eigvals(_spread(x)), shapes=((2, 2, 2),), low=-0.5, high=0.5, dtypes=LAPACK, order=1),
    Probe(_eig_vectors, shapes=((3, 3),), low=-0.5, high=0.5, dtypes=("float64", "complex128")),
    Probe(functools.partial(_eig_vectors, right=False), shapes=((2, 2, 2),), high=0.5, low=-0.5, dtypes=("float64",)),
    Probe(lambda x: _eig_vectors(x, left=False)[1], shapes=((3, 3),), high=0.5, low=-0.5, dtypes=("float64",)),
    latex=Latex(
        r"<x> V = V \operatorname{diag}(w)",
        (r"V^{-\top} \left(\operatorname{diag}(\bar w) + F \odot (V^{\top} \bar V)\right) V^{\top}",),
        whole=True,
    ),
)
def eig_forward(
    tape: Any,
    values: Any,
    slots: Any,
    *,
    compute_left_eigenvectors: Any,
    compute_right_eigenvectors: Any,
    enable_eigvec_derivs: bool = False,
    **params: Any,
) -> Any:
    """A V = V diag(w).  With B = V^-1 dA V and F_ij = 1 / (w_j - w_i), F_ii = 0:

      dw = diag(B),   dv_j = u_j + c_j v_j,   U = V (F o B),   c_j = -Re(v_j^H u_j) - i Im(u_kj) / v_kj,

    as |v_j| = 1 and v_j's largest component, the k-th, is real: LAPACK's normalisation.  Transposed, with
    g_j = v_j^T v_j_bar:

      u_j_bar = v_j_bar - Re(g_j) conj(v_j) - i Im(g_j) / v_kj e_k,
      B_bar = diag(w_bar) + F o (V^T U_bar),   a_bar = V^-T B_bar V^T,   of a real A the real part.

    Left vectors are the right ones of A^H, of which the eigenvalues are conj(w).
    """
    vectors = compute_left_eigenvectors or compute_right_eigenvectors
    if vectors and not enable_eigvec_derivs:
        raise NotImplementedError(
            "Derivatives of non-symmetric eigenvectors are only valid under assumptions on the input that JAX cannot "
            "check (see the enable_eigvec_derivs argument to jax.lax.linalg.eig). Pass enable_eigvec_derivs=True to "
            "jax.lax.linalg.eig to opt in."
        )
    params = dict(params, compute_left_eigenvectors=compute_left_eigenvectors)
    params["enable_eigvec_derivs"] = enable_eigvec_derivs
    residuals = eig_p.bind(*values, compute_right_eigenvectors=True, **params)
    outs = residuals if compute_right_eigenvectors else residuals[:-1]
    real_input = not is_complex(values[0])
    pull_back = functools.partial(_eig_pull_back, real_input, compute_left_eigenvectors, compute_right_eigenvectors)
    return tape.call(eig_p, pull_back, residuals, slots, outs, tape.new_slots(outs), explicit=False)


def _eig_pull_back(real_input, left, right, residuals, cts):
    w, vr = residuals[0], residuals[-1]
    w_bar = cts[0]
    vr_bar = cts[-1] if right else None
    bar = None
    if w_bar is not None or vr_bar is not None:
        bar = _eig_bar(w, vr, w_bar, vr_bar)
    if left and cts[1] is not None:
        bar = _sum(bar, hermitian(_eig_bar(conj(w), residuals[1], None, cts[1])))
    return (real(bar) if real_input else bar,)


def _eig_bar(w, v, w_bar, v_bar):
    b_bar = None if w_bar is None else diagonal_matrix(w_bar)
    if v_bar is not None:
        b_bar = _sum(b_bar, lax.mul(_gaps(w), matmul(transpose(v), _unnormalised(v, v_bar))))
    return jnp.linalg.solve(transpose(v), matmul(b_bar, transpose(v)))


def _unnormalised(v, v_bar):
    """u_bar of eig's derivation."""
    rows = v.ndim - 2
    n = v.shape[rows]
    g = lax.reduce_sum(lax.mul(v, v_bar), (rows,))
    largest = lax.argmax(lax.abs(v), rows, jnp.int32)
    at = lax.eq(lax.broadcasted_iota(jnp.int32, v.shape, rows), along_rows(largest, n))
    component = lax.reduce_sum(lax.select(at, lax.real(v), zeros_like(lax.real(v))), (rows,))
    turn = lax.div(lax.imag(g), component)
    turned = lax.select(at, along_rows(lax.complex(zeros_like(turn), turn), n), zeros_like(v))
    scale = along_rows(lax.convert_element_type(lax.real(g), v.dtype), n)
    return lax.sub(lax.sub(v_bar, lax.mul(scale, conj(v))), turned)
