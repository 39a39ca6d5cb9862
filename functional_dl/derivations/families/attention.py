"""Attention: scaled dot products of queries and keys, and several heads of it."""

import math

import jax.numpy as jnp

from functional_dl.activations import softmax
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, pulled_back
from functional_dl.derivations.step import Step


def weights(q: Array, k: Array) -> Array:
    """A: each row the softmax of a query's scores q k^T / sqrt(d)."""
    return softmax(q @ k.T / math.sqrt(q.shape[1]))


def attend(q: Array, k: Array, v: Array) -> Array:
    return weights(q, k) @ v


def jacobians(a: Array) -> Array:
    """dA_nm / dS_nl = A_nm (delta_ml - A_nl): (n, m, l)."""
    return a[:, :, None] * (jnp.eye(a.shape[1])[None] - a[:, None, :])


def scores_bar(a: Array, a_bar: Array) -> Array:
    """S_bar = A * (A_bar - the weighted mean of A_bar in each row)."""
    return a * (a_bar - jnp.sum(a * a_bar, 1, keepdims=True))


def by_jacobian(q: Array, k: Array, v: Array, ct: Array) -> Array:
    """S_bar_nl = sum_j sum_m Y_bar_nj V_mj dA_nm / dS_nl."""
    return jnp.einsum("nj,mj,nml->nl", ct, v, jacobians(weights(q, k)))


def closed(q: Array, k: Array, v: Array, ct: Array) -> Array:
    return scores_bar(weights(q, k), ct @ v.T)


def root(q: Array) -> float:
    return math.sqrt(q.shape[1])


SCALED_DOT_PRODUCT_ATTENTION = Derivation(
    "scaled_dot_product_attention",
    "Scaled dot-product attention",
    r"Y = A V,\; A = \operatorname{softmax}(S),\; S = \frac{Q K^\top}{\sqrt d} \quad\Rightarrow\quad \bar V"
    r" = A^\top \bar Y,\;"
    r" \bar S = A \odot (\bar A - \operatorname{rowsum}(A \odot \bar A)),\; \bar A = \bar Y V^\top,\;"
    r" \bar Q = \frac{\bar S K}{\sqrt d},\; \bar K = \frac{\bar S^\top Q}{\sqrt d}",
    (
        Step(
            r"\bar V_{mi} = \sum_{n,j} \bar Y_{nj} \lim_{h \to 0} \frac{Y_{nj}(V + h E_{mi}) - Y_{nj}(V)}{h}",
            "the definition of the cotangent",
            pulled_back(attend, 2),
            chain="V",
        ),
        Step(
            r"= \sum_{n,j} \bar Y_{nj} \sum_l A_{nl}\, \delta_{lm}\, \delta_{ji}",
            "Y is linear in V",
            lambda q, k, v, ct: jnp.einsum(
                "nj,nl,lm,ji->mi", ct, weights(q, k), jnp.eye(v.shape[0]), jnp.eye(v.shape[1])
            ),
            kind="limit",
            chain="V",
        ),
        Step(
            r"\bar V = A^\top \bar Y",
            "the Kronecker deltas pick l = m and j = i",
            lambda q, k, v, ct: weights(q, k).T @ ct,
            chain="V",
        ),
        Step(
            r"\bar Q_{ni} = \sum_{r,j} \bar Y_{rj} \lim_{h \to 0} \frac{Y_{rj}(Q + h E_{ni}) - Y_{rj}(Q)}{h}",
            "the definition of the cotangent",
            pulled_back(attend, 0),
            chain="Q",
        ),
        Step(
            r"= \sum_{j,m,l} \bar Y_{nj} V_{mj}\, A_{nm} (\delta_{ml} - A_{nl})\, \frac{K_{li}}{\sqrt d}",
            r"$Q_{ni}$ acts on row n of the scores, $S_{nl} = \sum_i Q_{ni} K_{li} / \sqrt d$; then the Jacobian of"
            r" `softmax`",
            lambda q, k, v, ct: jnp.einsum("nl,li->ni", by_jacobian(q, k, v, ct), k) / root(q),
            kind="limit",
            chain="Q",
        ),
        Step(
            r"= \sum_l A_{nl} \left( \bar A_{nl} - \sum_m A_{nm} \bar A_{nm} \right) \frac{K_{li}}{\sqrt d}, \quad"
            r" \bar A = \bar Y V^\top",
            "the sum over j first; the Kronecker delta picks one term",
            lambda q, k, v, ct: jnp.einsum("nl,li->ni", closed(q, k, v, ct), k) / root(q),
            chain="Q",
        ),
        Step(
            r"\bar Q = \frac{\bar S K}{\sqrt d}, \quad \bar S = A \odot (\bar A"
            r" - \operatorname{rowsum}(A \odot \bar A))",
            "as matrices",
            lambda q, k, v, ct: closed(q, k, v, ct) @ k / root(q),
            chain="Q",
        ),
        Step(
            r"\bar K_{li} = \sum_{n,j} \bar Y_{nj} \lim_{h \to 0} \frac{Y_{nj}(K + h E_{li}) - Y_{nj}(K)}{h}",
            "the definition of the cotangent",
            pulled_back(attend, 1),
            chain="K",
        ),
        Step(
            r"= \sum_{n,j,m} \bar Y_{nj} V_{mj}\, A_{nm} (\delta_{ml} - A_{nl})\, \frac{Q_{ni}}{\sqrt d}",
            "$K_{li}$ acts on column l of the scores, in every row n",
            lambda q, k, v, ct: jnp.einsum("nl,ni->li", by_jacobian(q, k, v, ct), q) / root(q),
            kind="limit",
            chain="K",
        ),
        Step(
            r"\bar K = \frac{\bar S^\top Q}{\sqrt d}",
            "the same S-bar as for Q, transposed",
            lambda q, k, v, ct: closed(q, k, v, ct).T @ q / root(q),
            chain="K",
        ),
    ),
    "Vaswani et al. 2017, section 3.2.1",
    drawing(normal(2, 3), normal(4, 3), normal(4, 2), normal(2, 2)),
    fun=attend,
    arguments=("Q", "K", "V"),
    point="Q, shape (2, 3); K, shape (4, 3); V, shape (4, 2); the cotangent of Y, shape (2, 2)",
)


def heads(x: Array, wq: Array, wk: Array, wv: Array) -> tuple[Array, Array, Array, Array]:
    """Q, K, V and A of each head: shapes (h, n, e) and (h, n, n)."""
    q, k, v = (jnp.einsum("nd,hde->hne", x, w) for w in (wq, wk, wv))
    return q, k, v, softmax(jnp.einsum("hne,hme->hnm", q, k) / math.sqrt(wq.shape[2]))


def multi(x: Array, wq: Array, wk: Array, wv: Array, wo: Array) -> Array:
    _, _, v, a = heads(x, wq, wk, wv)
    return jnp.einsum("hnm,hme,hed->nd", a, v, wo)


def bars(
    x: Array, wq: Array, wk: Array, wv: Array, wo: Array, ct: Array, jacobian: bool = False
) -> tuple[Array, Array, Array]:
    """The cotangents of Q, K and V of each head, by the derivation of one head."""
    q, k, v, a = heads(x, wq, wk, wv)
    z_bar = jnp.einsum("nd,hed->hne", ct, wo)
    a_bar = jnp.einsum("hne,hme->hnm", z_bar, v)
    if jacobian:
        full = a[:, :, :, None] * (jnp.eye(a.shape[2])[None, None] - a[:, :, None, :])
        s_bar = jnp.einsum("hnm,hnml->hnl", a_bar, full)
    else:
        s_bar = a * (a_bar - jnp.sum(a * a_bar, 2, keepdims=True))
    e = math.sqrt(wq.shape[2])
    return (
        jnp.einsum("hnm,hme->hne", s_bar, k) / e,
        jnp.einsum("hnm,hne->hme", s_bar, q) / e,
        jnp.einsum("hnm,hne->hme", a, z_bar),
    )


def projection_chain(name: str, letter: str, place: int) -> tuple[Step, Step, Step]:
    """The lines of W_q, W_k or W_v; place is that of its head's part in `bars`."""
    return (
        Step(
            rf"\bar W^{{{letter}}}_{{gdi}} = \sum_{{n,l}} \bar Y_{{nl}} \lim_{{h \to 0}}"
            rf" \frac{{Y_{{nl}}(W^{{{letter}}} + h E_{{gdi}}) - Y_{{nl}}(W^{{{letter}}})}}{{h}}",
            "the definition of the cotangent; g numbers the heads",
            pulled_back(multi, place + 1),
            chain=name,
        ),
        Step(
            rf"= \sum_{{n,e}} \bar {letter.upper()}^g_{{ne}}\, X_{{nd}}\, \delta_{{ei}}",
            f"$W^{letter}$ acts through ${letter.upper()}^g = X W^{letter}_g$ of its own head alone; what reaches that"
            f" is the "
            "derivation `scaled_dot_product_attention`, with its Jacobian written out",
            lambda *point: jnp.einsum(
                "hne,nd,ei->hdi", bars(*point, jacobian=True)[place], point[0], jnp.eye(point[1].shape[2])
            ),
            kind="limit",
            chain=name,
        ),
        Step(
            rf"\bar W^{{{letter}}}_g = X^\top \bar {letter.upper()}^g",
            "as a matrix product for each head, as in `dense`",
            lambda *point: jnp.stack([point[0].T @ part for part in bars(*point)[place]]),
            chain=name,
        ),
    )


MULTI_HEAD_ATTENTION = Derivation(
    "multi_head_attention",
    "Multi-head self-attention",
    r"Y = \sum_g A^g V^g W^o_g,\; Q^g, K^g, V^g = X W^q_g, X W^k_g, X W^v_g \quad\Rightarrow\quad"
    r" \bar X = \sum_g \bar Q^g (W^q_g)^\top + \bar K^g (W^k_g)^\top + \bar V^g (W^v_g)^\top",
    (
        Step(
            r"\bar X_{ni} = \sum_{m,l} \bar Y_{ml} \lim_{h \to 0} \frac{Y_{ml}(X + h E_{ni}) - Y_{ml}(X)}{h}",
            "the definition of the cotangent",
            pulled_back(multi, 0),
            chain="X",
        ),
        Step(
            r"= \sum_g \sum_{m,e} \left( \bar Q^g_{me} W^q_{gie} + \bar K^g_{me} W^k_{gie}"
            r" + \bar V^g_{me} W^v_{gie} \right) \delta_{mn}",
            "X has three paths into every head, as query, key and value; cotangents of one value's uses add up",
            lambda *point: sum(
                jnp.einsum("hme,hie,mn->ni", part, w, jnp.eye(point[0].shape[0]))
                for part, w in zip(bars(*point, jacobian=True), point[1:4])
            ),
            kind="limit",
            chain="X",
        ),
        Step(
            r"\bar X = \sum_g \bar Q^g (W^q_g)^\top + \bar K^g (W^k_g)^\top + \bar V^g (W^v_g)^\top",
            "as matrix products",
            lambda *point: sum(
                part[g] @ w[g].T for g in range(point[1].shape[0]) for part, w in zip(bars(*point), point[1:4])
            ),
            chain="X",
        ),
        *projection_chain("Wq", "q", 0),
        *projection_chain("Wk", "k", 1),
        *projection_chain("Wv", "v", 2),
        Step(
            r"\bar W^o_{gei} = \sum_{n,l} \bar Y_{nl} \lim_{h \to 0} \frac{Y_{nl}(W^o + h E_{gei}) - Y_{nl}(W^o)}{h}",
            "the definition of the cotangent",
            pulled_back(multi, 4),
            chain="Wo",
        ),
        Step(
            r"= \sum_{n,l} \bar Y_{nl}\, (A^g V^g)_{ne}\, \delta_{li}",
            "Y is linear in $W^o$",
            lambda x, wq, wk, wv, wo, ct: jnp.einsum(
                "nl,hnm,hme,li->hei", ct, heads(x, wq, wk, wv)[3], heads(x, wq, wk, wv)[2], jnp.eye(ct.shape[1])
            ),
            kind="limit",
            chain="Wo",
        ),
        Step(
            r"\bar W^o_g = (A^g V^g)^\top \bar Y",
            "as a matrix product for each head",
            lambda x, wq, wk, wv, wo, ct: jnp.stack(
                [(a @ v).T @ ct for v, a in zip(heads(x, wq, wk, wv)[2], heads(x, wq, wk, wv)[3])]
            ),
            chain="Wo",
        ),
    ),
    "Vaswani et al. 2017, section 3.2.2",
    drawing(normal(3, 2), normal(2, 2, 2), normal(2, 2, 2), normal(2, 2, 2), normal(2, 2, 2), normal(3, 2)),
    fun=multi,
    arguments=("X", "Wq", "Wk", "Wv", "Wo"),
    point="X, shape (3, 2); W^q, W^k, W^v, shape (2 heads, 2, 2); W^o, shape (2 heads, 2, 2); the cotangent of Y",
)

DERIVATIONS = (SCALED_DOT_PRODUCT_ATTENTION, MULTI_HEAD_ATTENTION)
