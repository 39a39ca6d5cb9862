"""The dense layer: weights, bias, input; and a residual block made of two."""

import jax.numpy as jnp

from functional_dl import layers
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, pulled_back
from functional_dl.derivations.step import Step


def delta(n: int) -> Array:
    """delta_{ij}."""
    return jnp.eye(n)


def rows(b: Array, n: int) -> Array:
    """b under each other, n times."""
    return jnp.broadcast_to(b, (n, *b.shape))


def affine(x: Array, w: Array, b: Array) -> Array:
    return x @ w + rows(b, x.shape[0])


DENSE = Derivation(
    "dense",
    "The dense layer: input, weights, bias",
    r"Y = X W + \mathbf{1} b^\top \quad\Rightarrow\quad \bar X = \bar Y W^\top,\; \bar W = X^\top \bar Y,\;"
    r" \bar b = \bar Y^\top \mathbf{1}",
    (
        Step(
            r"\bar X_{mi} = \sum_{n,k} \bar Y_{nk} \lim_{h \to 0} \frac{Y_{nk}(X + h E_{mi}) - Y_{nk}(X)}{h}",
            "the definition of the cotangent, every output weighted",
            pulled_back(affine, 0),
            chain="X",
        ),
        Step(
            r"= \sum_{n,k} \bar Y_{nk} \sum_j \delta_{nm} \delta_{ji} W_{jk}, \quad Y_{nk} = \sum_j X_{nj} W_{jk}"
            r" + b_k",
            r"Y is linear in X, and $\partial X_{nj} / \partial X_{mi} = \delta_{nm} \delta_{ji}$",
            lambda x, w, b, ct: jnp.einsum("nk,nm,ji,jk->mi", ct, delta(x.shape[0]), delta(x.shape[1]), w),
            kind="limit",
            chain="X",
        ),
        Step(
            r"= \sum_k \bar Y_{mk} W_{ik}",
            "the Kronecker deltas pick n = m and j = i",
            lambda x, w, b, ct: jnp.sum(ct[:, None, :] * w[None, :, :], -1),
            chain="X",
        ),
        Step(r"\bar X = \bar Y W^\top", "as a matrix product", lambda x, w, b, ct: ct @ w.T, chain="X"),
        Step(
            r"\bar W_{il} = \sum_{n,k} \bar Y_{nk} \lim_{h \to 0} \frac{Y_{nk}(W + h E_{il}) - Y_{nk}(W)}{h}",
            "the definition of the cotangent",
            pulled_back(affine, 1),
            chain="W",
        ),
        Step(
            r"= \sum_{n,k} \bar Y_{nk} \sum_j X_{nj}\, \delta_{ji} \delta_{kl}",
            r"Y is linear in W, and $\partial W_{jk} / \partial W_{il} = \delta_{ji} \delta_{kl}$",
            lambda x, w, b, ct: jnp.einsum("nk,nj,ji,kl->il", ct, x, delta(x.shape[1]), delta(w.shape[1])),
            kind="limit",
            chain="W",
        ),
        Step(
            r"= \sum_n X_{ni} \bar Y_{nl}",
            "the Kronecker deltas pick j = i and k = l: every example adds its outer product",
            lambda x, w, b, ct: sum(x[n][:, None] * ct[n][None, :] for n in range(x.shape[0])),
            chain="W",
        ),
        Step(r"\bar W = X^\top \bar Y", "as a matrix product", lambda x, w, b, ct: x.T @ ct, chain="W"),
        Step(
            r"\bar b_l = \sum_{n,k} \bar Y_{nk} \lim_{h \to 0} \frac{Y_{nk}(b + h e_l) - Y_{nk}(b)}{h}",
            "the definition of the cotangent",
            pulled_back(affine, 2),
            chain="b",
        ),
        Step(
            r"= \sum_{n,k} \bar Y_{nk}\, \delta_{kl}",
            "the bias goes to every example",
            lambda x, w, b, ct: jnp.einsum("nk,kl->l", ct, delta(b.size)),
            kind="limit",
            chain="b",
        ),
        Step(
            r"= \sum_n \bar Y_{nl}",
            "what was repeated forwards is summed backwards",
            lambda x, w, b, ct: ct.sum(0),
            chain="b",
        ),
    ),
    "Goodfellow, Bengio, Courville 2016, section 6.5",
    drawing(normal(3, 2), normal(2, 4), normal(4), normal(3, 4)),
    fun=lambda x, w, b: layers.affine({"weight": w, "bias": b}, x),
    arguments=("X", "W", "b"),
    point="X, shape (3, 2), examples as rows; W, shape (2, 4); b, shape (4,); the cotangent of Y, shape (3, 4)",
    notes=(
        r"With examples as columns, $Y = W X + b$, they give $W^\top \bar Y$, $\bar Y X^\top$ and a sum over columns.",
    ),
)


def block(x: Array, v: Array, w: Array) -> Array:
    return x + w @ jnp.tanh(v @ x)


def inner(x: Array, v: Array) -> Array:
    return jnp.tanh(v @ x)


def prime(x: Array, v: Array) -> Array:
    """f'(V x)."""
    return 1 - jnp.tanh(v @ x) ** 2


RESIDUAL_BLOCK = Derivation(
    "residual_block",
    "A residual block",
    r"y = x + W f(V x) \quad\Rightarrow\quad \bar x = \bar y + V^\top \left( f'(V x) \odot W^\top \bar y \right)",
    (
        Step(
            r"\bar x_i = \sum_k \bar y_k \lim_{h \to 0} \frac{y_k(x + h e_i) - y_k(x)}{h}",
            "the definition of the cotangent",
            pulled_back(block, 0),
            chain="x",
        ),
        Step(
            r"= \sum_k \bar y_k \left( \delta_{ki} + \sum_j W_{kj}\, f'(z_j)\, V_{ji} \right), \quad z = V x",
            "two paths from $x_i$ to $y_k$: the shortcut, and through every hidden unit j",
            lambda x, v, w, ct: jnp.einsum("k,ki->i", ct, delta(x.size) + jnp.einsum("kj,j,ji->ki", w, prime(x, v), v)),
            kind="limit",
            chain="x",
        ),
        Step(
            r"= \bar y_i + \sum_j V_{ji}\, f'(z_j) \sum_k W_{kj} \bar y_k",
            "the shortcut hands the cotangent on as it is; the other sum in the order of the backward pass",
            lambda x, v, w, ct: ct + jnp.einsum("ji,j->i", v, prime(x, v) * jnp.einsum("kj,k->j", w, ct)),
            chain="x",
        ),
        Step(
            r"\bar x = \bar y + V^\top \left( f'(z) \odot W^\top \bar y \right)",
            "as matrices: identity plus something, so a deep stack does not lose the cotangent",
            lambda x, v, w, ct: ct + v.T @ (prime(x, v) * (w.T @ ct)),
            chain="x",
        ),
        Step(
            r"\bar V_{ji} = \sum_k \bar y_k \lim_{h \to 0} \frac{y_k(V + h E_{ji}) - y_k(V)}{h}",
            "the definition of the cotangent",
            pulled_back(block, 1),
            chain="V",
        ),
        Step(
            r"= \sum_k \bar y_k\, W_{kj}\, f'(z_j)\, x_i",
            "$V_{ji}$ reaches the output through hidden unit j alone",
            lambda x, v, w, ct: jnp.einsum("k,kj,j,i->ji", ct, w, prime(x, v), x),
            kind="limit",
            chain="V",
        ),
        Step(
            r"\bar V = \left( f'(z) \odot W^\top \bar y \right) x^\top",
            "as matrices",
            lambda x, v, w, ct: (prime(x, v) * (w.T @ ct))[:, None] * x[None, :],
            chain="V",
        ),
        Step(
            r"\bar W_{kj} = \sum_l \bar y_l \lim_{h \to 0} \frac{y_l(W + h E_{kj}) - y_l(W)}{h}",
            "the definition of the cotangent",
            pulled_back(block, 2),
            chain="W",
        ),
        Step(
            r"= \sum_l \bar y_l\, \delta_{lk} f(z_j)",
            "y is linear in W",
            lambda x, v, w, ct: jnp.einsum("l,lk,j->kj", ct, delta(ct.size), inner(x, v)),
            kind="limit",
            chain="W",
        ),
        Step(
            r"\bar W = \bar y\, f(z)^\top",
            "as matrices",
            lambda x, v, w, ct: ct[:, None] * inner(x, v)[None, :],
            chain="W",
        ),
    ),
    "He, Zhang, Ren, Sun 2016",
    drawing(normal(3), normal(4, 3), normal(3, 4), normal(3)),
    fun=block,
    arguments=("x", "V", "W"),
    point="x, shape (3,); V, shape (4, 3); W, shape (3, 4); the cotangent of y, shape (3,); f is tanh",
)

DERIVATIONS = (DENSE, RESIDUAL_BLOCK)
