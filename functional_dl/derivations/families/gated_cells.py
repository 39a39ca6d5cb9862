"""Gated recurrent cells, one step of each: LSTM and GRU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, pulled_back
from functional_dl.derivations.step import Step


def sigma(z: Array) -> Array:
    return 1 / (1 + jnp.exp(-z))


def preactivations(x: Array, h: Array, w: Array, u: Array, b: Array) -> Array:
    """a_q = W_q x + U_q h + b_q for every gate q: shape (gates, n)."""
    return jnp.einsum("qnm,m->qn", w, x) + jnp.einsum("qnm,m->qn", u, h) + b


def lstm_gates(x: Array, h: Array, c: Array, w: Array, u: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    a = preactivations(x, h, w, u, b)
    return sigma(a[0]), sigma(a[1]), jnp.tanh(a[2]), sigma(a[3])


def lstm(x: Array, h: Array, c: Array, w: Array, u: Array, b: Array) -> tuple[Array, Array]:
    """(h', c')."""
    i, f, g, o = lstm_gates(x, h, c, w, u, b)
    new = f * c + i * g
    return o * jnp.tanh(new), new


def lstm_total(*point: Any) -> Array:
    """The whole cotangent of c': its own, and what comes through h' = o tanh c'."""
    *primals, (h_bar, c_bar) = point
    o, new = lstm_gates(*primals)[3], lstm(*primals)[1]
    return c_bar + h_bar * o * (1 - jnp.tanh(new) ** 2)


def lstm_slopes(*primals: Any) -> tuple[Array, Array]:
    """dc'/da_q and dh'/da_q, unit by unit, for the gates q = i, f, g, o."""
    i, f, g, o = lstm_gates(*primals)
    c, new = primals[2], lstm(*primals)[1]
    dc = jnp.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g**2), jnp.zeros_like(o)])
    through_c = (o * (1 - jnp.tanh(new) ** 2))[None] * dc
    return dc, through_c.at[3].add(jnp.tanh(new) * o * (1 - o))


def lstm_by_paths(*point: Any) -> Array:
    """a_bar_qj = sum_k (h_bar_k dh'_k/da_qj + c_bar_k dc'_k/da_qj)."""
    *primals, (h_bar, c_bar) = point
    dc, dh = lstm_slopes(*primals)
    one = jnp.eye(h_bar.size)
    return jnp.einsum("k,qk,kj->qj", h_bar, dh, one) + jnp.einsum("k,qk,kj->qj", c_bar, dc, one)


def lstm_closed(*point: Any) -> Array:
    """a_bar of each gate."""
    *primals, (h_bar, _) = point
    i, f, g, o = lstm_gates(*primals)
    total, c, new = lstm_total(*point), primals[2], lstm(*primals)[1]
    return jnp.stack(
        [total * g * i * (1 - i), total * c * f * (1 - f), total * i * (1 - g**2), h_bar * jnp.tanh(new) * o * (1 - o)]
    )


def definition(symbol: str, name: str, fun: Callable[..., Any], place: int, outputs: str) -> Step:
    return Step(
        rf"\bar {symbol} = \sum_{{y \in \{{{outputs}\}}}} \sum_k \bar y_k \lim_{{\eta \to 0}}"
        rf" \frac{{y_k({symbol} + \eta E) - y_k({symbol})}}{{\eta}}",
        "the definition of the cotangent, entry by entry (E is 1 at one entry)",
        pulled_back(fun, place),
        chain=name,
    )


def affine_chains(
    fun: Callable[..., Any],
    outputs: str,
    places: tuple[int, int, int, int],
    by_paths: Callable[..., Any],
    closed: Callable[..., Any],
) -> tuple[Step, ...]:
    """The lines of W, U and x, which act through a = W x + U h + b alone; places: those of x, h, W and U."""
    x, h, w, u = places
    return (
        definition("W", "W", fun, w, outputs),
        Step(
            r"\bar W_{qjm} = \sum_k \bar a_{qk}\, \delta_{kj}\, x_m",
            r"W acts through $a_q = W_q x + U_q h + b_q$; $\bar a = \bar b$ is derived above",
            lambda *point: jnp.einsum("qk,kj,m->qjm", by_paths(*point), jnp.eye(point[h].size), point[x]),
            kind="limit",
            chain="W",
        ),
        Step(
            r"\bar W_q = \bar a_q\, x^\top",
            "an outer product for every gate",
            lambda *point: closed(*point)[:, :, None] * point[x][None, None, :],
            chain="W",
        ),
        definition("U", "U", fun, u, outputs),
        Step(
            r"\bar U_{qjm} = \sum_k \bar a_{qk}\, \delta_{kj}\, s_{qm}",
            "U acts in the same way, on the state that its gate sees",
            lambda *point: jnp.einsum(
                "qk,kj,qm->qjm", by_paths(*point), jnp.eye(point[h].size), SEEN[fun](*point[:-1])
            ),
            kind="limit",
            chain="U",
        ),
        Step(
            r"\bar U_q = \bar a_q\, s_q^\top",
            "an outer product for every gate",
            lambda *point: closed(*point)[:, :, None] * SEEN[fun](*point[:-1])[:, None, :],
            chain="U",
        ),
        definition("x", "x", fun, x, outputs),
        Step(
            r"\bar x_m = \sum_{q,k} \bar a_{qk}\, W_{qkm}",
            "x reaches every gate",
            lambda *point: jnp.einsum("qk,qkm->m", by_paths(*point), point[w]),
            kind="limit",
            chain="x",
        ),
        Step(
            r"\bar x = \sum_q W_q^\top \bar a_q",
            "a matrix product for every gate, added up",
            lambda *point: sum(matrix.T @ a_bar for matrix, a_bar in zip(point[w], closed(*point))),
            chain="x",
        ),
    )


def gru_gates(x: Array, h: Array, w: Array, u: Array, b: Array) -> tuple[Array, Array, Array]:
    """z, r and the candidate n."""
    z = sigma(w[0] @ x + u[0] @ h + b[0])
    r = sigma(w[1] @ x + u[1] @ h + b[1])
    return z, r, jnp.tanh(w[2] @ x + u[2] @ (r * h) + b[2])


def gru(x: Array, h: Array, w: Array, u: Array, b: Array) -> Array:
    z, _, n = gru_gates(x, h, w, u, b)
    return (1 - z) * h + z * n


SEEN = {
    lstm: lambda x, h, c, w, u, b: jnp.stack([h] * 4),
    gru: lambda x, h, w, u, b: jnp.stack([h, h, gru_gates(x, h, w, u, b)[1] * h]),
}

LSTM_CELL = Derivation(
    "lstm_cell",
    "The LSTM cell",
    r"c' = f \odot c + i \odot g,\; h' = o \odot \tanh c' \quad\Rightarrow\quad"
    r" C = \bar c' + \bar h' \odot o \odot (1 - \tanh^2 c'),\; \bar c = C \odot f,\;"
    r" \bar a = (C g\, i (1 - i),\; C c f (1 - f),\; C i (1 - g^2),\; \bar h' \tanh(c')\, o (1 - o))",
    (
        definition("c", "c", lstm, 2, "h', c'"),
        Step(
            r"\bar c_j = \sum_k \left( \bar c'_k + \bar h'_k\, o_k (1 - \tanh^2 c'_k) \right) f_k\, \delta_{kj}",
            "two paths from c to the outputs: c' itself, and h' through the tanh",
            lambda *point: jnp.einsum(
                "k,k,kj->j", lstm_total(*point), lstm_gates(*point[:-1])[1], jnp.eye(point[2].size)
            ),
            kind="limit",
            chain="c",
        ),
        Step(
            r"\bar c = C \odot f, \quad C = \bar c' + \bar h' \odot o \odot (1 - \tanh^2 c')",
            "one term is left: where f is near 1 the cell hands its cotangent on",
            lambda *point: lstm_total(*point) * lstm_gates(*point[:-1])[1],
            chain="c",
        ),
        definition("b", "b", lstm, 5, "h', c'"),
        Step(
            r"\bar b_{qj} = \sum_k \left( \bar h'_k\, \frac{\partial h'_k}{\partial a_{qj}} + \bar c'_k\,"
            r" \frac{\partial c'_k}{\partial a_{qj}} \right)",
            r"the gates work entry by entry, with $\sigma' = \sigma (1 - \sigma)$ and $\tanh' = 1 - \tanh^2$",
            lstm_by_paths,
            kind="limit",
            chain="b",
        ),
        Step(
            r"\bar a = \bar b = (C g\, i (1 - i),\; C c f (1 - f),\; C i (1 - g^2),\; \bar h' \tanh(c')\, o (1 - o))",
            "what comes through c' is collected in C; o acts on h' alone",
            lstm_closed,
            chain="b",
        ),
        *affine_chains(lstm, "h', c'", (0, 1, 3, 4), lstm_by_paths, lstm_closed),
        definition("h", "h", lstm, 1, "h', c'"),
        Step(
            r"\bar h_m = \sum_{q,k} \bar a_{qk}\, U_{qkm}",
            "h reaches the outputs through the gates alone",
            lambda *point: jnp.einsum("qk,qkm->m", lstm_by_paths(*point), point[4]),
            kind="limit",
            chain="h",
        ),
        Step(
            r"\bar h = \sum_q U_q^\top \bar a_q",
            "a matrix product for every gate, added up",
            lambda *point: sum(matrix.T @ a_bar for matrix, a_bar in zip(point[4], lstm_closed(*point))),
            chain="h",
        ),
    ),
    "Hochreiter and Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000",
    lambda key: (
        *drawing(normal(2), normal(3), normal(3), normal(4, 3, 2), normal(4, 3, 3, scale=0.5), normal(4, 3))(key),
        drawing(normal(3), normal(3))(jax.random.fold_in(key, 1)),
    ),
    fun=lstm,
    arguments=("x", "h", "c", "W", "U", "b"),
    point="x, shape (2,); h and c, shape (3,); W, shape (4, 3, 2), U, shape (4, 3, 3), b, shape (4, 3), gates in the "
    "order i, f, g, o; the cotangents of h' and c'",
)


def gru_slopes(*primals: Any) -> tuple[Array, Array, Array]:
    """dh'/da_z and dh'/da_n, unit by unit, and the Jacobian dh'_k/da_rj, which goes through U_n."""
    _x, h, _w, u, _b = primals
    z, r, n = gru_gates(*primals)
    to_n = z * (1 - n**2)
    return (n - h) * z * (1 - z), to_n, to_n[:, None] * u[2] * (h * r * (1 - r))[None, :]


def gru_by_paths(*point: Any) -> Array:
    *primals, ct = point
    dz, dn, dr = gru_slopes(*primals)
    one = jnp.eye(ct.size)
    return jnp.stack(
        [jnp.einsum("k,k,kj->j", ct, dz, one), jnp.einsum("k,kj->j", ct, dr), jnp.einsum("k,k,kj->j", ct, dn, one)]
    )


def gru_closed(*point: Any) -> Array:
    *primals, ct = point
    _x, h, _w, u, _b = primals
    z, r, n = gru_gates(*primals)
    n_bar = ct * z * (1 - n**2)
    return jnp.stack([ct * (n - h) * z * (1 - z), (u[2].T @ n_bar) * h * r * (1 - r), n_bar])


GRU_CELL = Derivation(
    "gru_cell",
    "The GRU cell",
    r"h' = (1 - z) \odot h + z \odot n,\; n = \tanh(W_n x + U_n (r \odot h) + b_n) \quad\Rightarrow\quad"
    r" \bar a_n = \bar h' \odot z \odot (1 - n^2),\; \bar a_z = \bar h' \odot (n - h) \odot z (1 - z),\;"
    r" \bar a_r = (U_n^\top \bar a_n) \odot h \odot r (1 - r)",
    (
        definition("b", "b", gru, 4, "h'"),
        Step(
            r"\bar b_{qj} = \sum_k \bar h'_k\, \frac{\partial h'_k}{\partial a_{qj}}, \quad"
            r" \frac{\partial h'_k}{\partial a_{rj}} = z_k (1 - n_k^2)\, U_{n,kj}\, h_j\, r_j (1 - r_j)",
            "z and n act entry by entry; r acts on what $U_n$ sees, and so on every unit of n",
            gru_by_paths,
            kind="limit",
            chain="b",
        ),
        Step(
            r"\bar a = \bar b = (\bar h' (n - h) z (1 - z),\; (U_n^\top \bar a_n)\, h\, r (1 - r),\; \bar h' z (1"
            r" - n^2))",
            "the sum over k for r is a product with the transpose of $U_n$; gates in the order z, r, n",
            gru_closed,
            chain="b",
        ),
        *affine_chains(gru, "h'", (0, 1, 2, 3), gru_by_paths, gru_closed),
        definition("h", "h", gru, 1, "h'"),
        Step(
            r"\bar h_m = \sum_k \bar h'_k (1 - z_k)\, \delta_{km} + \sum_k \left( \bar a_{zk} U_{z,km}"
            r" + \bar a_{rk} U_{r,km}"
            r" + \bar a_{nk} U_{n,km}\, r_m \right)",
            "four paths: straight on, through z, through r, and through n, where r scales h first",
            lambda *point: (
                jnp.einsum("k,k,km->m", point[-1], 1 - gru_gates(*point[:-1])[0], jnp.eye(point[1].size))
                + jnp.einsum("qk,qkm,qm->m", gru_by_paths(*point), point[3], gru_factors(*point[:-1]))
            ),
            kind="limit",
            chain="h",
        ),
        Step(
            r"\bar h = (1 - z) \odot \bar h' + U_z^\top \bar a_z + U_r^\top \bar a_r + r \odot (U_n^\top \bar a_n)",
            "as matrices",
            lambda *point: (
                (1 - gru_gates(*point[:-1])[0]) * point[-1]
                + point[3][0].T @ gru_closed(*point)[0]
                + point[3][1].T @ gru_closed(*point)[1]
                + gru_gates(*point[:-1])[1] * (point[3][2].T @ gru_closed(*point)[2])
            ),
            chain="h",
        ),
    ),
    "Cho et al. 2014",
    drawing(normal(2), normal(3), normal(3, 3, 2), normal(3, 3, 3, scale=0.5), normal(3, 3), normal(3)),
    fun=gru,
    arguments=("x", "h", "W", "U", "b"),
    point="x, shape (2,); h, shape (3,); W, shape (3, 3, 2), U, shape (3, 3, 3), b, shape (3, 3), gates in the order "
    "z, r, n; the cotangent of h'",
    notes=("The source has r inside the product with $U_n$.  Frameworks that apply r after it have another cell.",),
)


def gru_factors(*primals: Any) -> Array:
    """What scales h before each gate sees it: 1, 1, r."""
    r = gru_gates(*primals)[1]
    return jnp.stack([jnp.ones_like(r), jnp.ones_like(r), r])


DERIVATIONS = (LSTM_CELL, GRU_CELL)
