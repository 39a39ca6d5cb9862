"""Convolution layers (cross-correlations, as networks have them): kernel, input, bias; with stride."""

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, pulled_back
from functional_dl.derivations.step import Step


def correlate(x: Array, k: Array, b: Array) -> Array:
    """Y_{nopq} = sum_{cuv} X_{n c p+u q+v} K_{ocuv} + b_o."""
    return lax.conv(x, k, (1, 1), "VALID") + jnp.broadcast_to(b[None, :, None, None], _shape(x, k))


def _shape(x, k):
    return (x.shape[0], k.shape[0], x.shape[2] - k.shape[2] + 1, x.shape[3] - k.shape[3] + 1)


def meets(n: int, width: int, stride: int = 1) -> Array:
    """M_{pui} = 1(s p + u = i): output p's tap u lies on input i."""
    outputs = (n - width) // stride + 1
    p, u, i = jnp.arange(outputs), jnp.arange(width), jnp.arange(n)
    return jnp.where(stride * p[:, None, None] + u[None, :, None] == i[None, None, :], 1.0, 0.0)


def taps(x: Array, k: Array) -> tuple[Array, Array]:
    return meets(x.shape[2], k.shape[2]), meets(x.shape[3], k.shape[3])


def scattered(x: Array, k: Array, ct: Array) -> Array:
    """sum_{ouv} Y_bar_{n o i-u j-v} K_{ocuv}: every tap adds the cotangent, moved by (u, v), where it exists."""
    found = jnp.zeros_like(x)
    height, width = ct.shape[2:]
    for u in range(k.shape[2]):
        for v in range(k.shape[3]):
            part = jnp.einsum("nopq,oc->ncpq", ct, k[:, :, u, v])
            found = found.at[:, :, u : u + height, v : v + width].add(part)
    return found


def full(k: Array, ct: Array) -> Array:
    """Correlation of the padded cotangent with the kernel turned round, its channel axes swapped."""
    pads = [(n - 1, n - 1) for n in k.shape[2:]]
    return lax.conv_general_dilated(ct, jnp.flip(k, (2, 3)).swapaxes(0, 1), (1, 1), pads)


def windows(x: Array, k: Array, ct: Array) -> Array:
    """sum_{npq} Y_bar_{nopq} X_{n c p+u q+v}, tap by tap."""
    height, width = ct.shape[2:]
    rows = [
        jnp.stack(
            [jnp.einsum("nopq,ncpq->oc", ct, x[:, :, u : u + height, v : v + width]) for v in range(k.shape[3])], -1
        )
        for u in range(k.shape[2])
    ]
    return jnp.stack(rows, -2)


CONVOLUTION = Derivation(
    "convolution",
    "The convolution layer: input, kernel, bias",
    r"Y_{nopq} = \sum_{c,u,v} X_{n,c,p+u,q+v} K_{ocuv} + b_o \quad\Rightarrow\quad"
    r" \bar X_{ncij} = \sum_{o,u,v} \bar Y_{n,o,i-u,j-v} K_{ocuv},\;"
    r" \bar K_{ocuv} = \sum_{n,p,q} \bar Y_{nopq} X_{n,c,p+u,q+v},\; \bar b_o = \sum_{n,p,q} \bar Y_{nopq}",
    (
        Step(
            r"\bar X_{mcij} = \sum_{n,o,p,q} \bar Y_{nopq} \lim_{h \to 0}"
            r" \frac{Y_{nopq}(X + h E_{mcij}) - Y_{nopq}(X)}{h}",
            "the definition of the cotangent",
            pulled_back(correlate, 0),
            chain="X",
        ),
        Step(
            r"= \sum_{n,o,p,q} \bar Y_{nopq} \sum_{d,u,v} K_{oduv}\, \delta_{nm}\, \delta_{dc}\, \delta_{p+u,i}\,"
            r" \delta_{q+v,j}",
            "Y is linear in X; input (i, j) is met by output (p, q) at tap (u, v) where p + u = i and q + v = j",
            lambda x, k, b, ct: jnp.einsum(
                "nopq,oduv,nm,dc,pui,qvj->mcij", ct, k, jnp.eye(x.shape[0]), jnp.eye(x.shape[1]), *taps(x, k)
            ),
            kind="limit",
            chain="X",
        ),
        Step(
            r"= \sum_{o,u,v} \bar Y_{m,o,i-u,j-v}\, K_{ocuv}",
            "the Kronecker deltas pick n = m, d = c, p = i - u, q = j - v; terms outside of Y do not exist",
            lambda x, k, b, ct: scattered(x, k, ct),
            chain="X",
        ),
        Step(
            r"\bar X = \operatorname{pad}(\bar Y) \star \operatorname{flip}(K)^{\top_{oc}}",
            "with u and v counted from the other end this is a correlation again: the kernel turned round, Y padded",
            lambda x, k, b, ct: full(k, ct),
            chain="X",
        ),
        Step(
            r"\bar K_{ocuv} = \sum_{n,l,p,q} \bar Y_{nlpq} \lim_{h \to 0}"
            r" \frac{Y_{nlpq}(K + h E_{ocuv}) - Y_{nlpq}(K)}{h}",
            "the definition of the cotangent",
            pulled_back(correlate, 1),
            chain="K",
        ),
        Step(
            r"= \sum_{n,l,p,q} \bar Y_{nlpq}\, \delta_{lo} \sum_{i,j} X_{ncij}\, \delta_{p+u,i}\, \delta_{q+v,j}",
            "Y is linear in K",
            lambda x, k, b, ct: jnp.einsum("nlpq,lo,ncij,pui,qvj->ocuv", ct, jnp.eye(k.shape[0]), x, *taps(x, k)),
            kind="limit",
            chain="K",
        ),
        Step(
            r"= \sum_{n,p,q} \bar Y_{nopq}\, X_{n,c,p+u,q+v}",
            "the Kronecker deltas pick l = o, i = p + u, j = q"
            " + v: a shared weight gathers from every place it was used",
            lambda x, k, b, ct: windows(x, k, ct),
            chain="K",
        ),
        Step(
            r"\bar K = \left( X^{\top_{nc}} \star \bar Y^{\top_{no}} \right)^{\top_{co}}",
            "a correlation of the input with the cotangent, examples in the place of channels",
            lambda x, k, b, ct: lax.conv(x.swapaxes(0, 1), ct.swapaxes(0, 1), (1, 1), "VALID").swapaxes(0, 1),
            chain="K",
        ),
        Step(
            r"\bar b_o = \sum_{n,l,p,q} \bar Y_{nlpq} \lim_{h \to 0} \frac{Y_{nlpq}(b + h e_o) - Y_{nlpq}(b)}{h}",
            "the definition of the cotangent",
            pulled_back(correlate, 2),
            chain="b",
        ),
        Step(
            r"= \sum_{n,l,p,q} \bar Y_{nlpq}\, \delta_{lo}",
            "the bias is added at every place",
            lambda x, k, b, ct: jnp.einsum("nlpq,lo->o", ct, jnp.eye(b.size)),
            kind="limit",
            chain="b",
        ),
        Step(
            r"= \sum_{n,p,q} \bar Y_{nopq}",
            "what was repeated forwards is summed backwards",
            lambda x, k, b, ct: ct.sum((0, 2, 3)),
            chain="b",
        ),
    ),
    "Dumoulin and Visin 2016; Goodfellow, Bengio, Courville 2016, section 9.5",
    drawing(normal(2, 2, 3, 3), normal(2, 2, 2, 2), normal(2), normal(2, 2, 2, 2)),
    fun=correlate,
    arguments=("X", "K", "b"),
    point="X, shape (2, 2, 3, 3); K, shape (2, 2, 2, 2); b, shape (2,); the cotangent of Y, shape (2, 2, 2, 2)",
)

STRIDE = 2


def strided(x: Array, k: Array) -> Array:
    """y_p = sum_u x_{s p + u} k_u."""
    outputs = (x.size - k.size) // STRIDE + 1
    return jnp.stack([jnp.vdot(x[STRIDE * p : STRIDE * p + k.size], k) for p in range(outputs)])


def dilated(ct: Array, n: int) -> Array:
    """The cotangent with s - 1 zeros between its entries, padded to the length n."""
    return jnp.zeros(n).at[: STRIDE * ct.size : STRIDE].set(ct)


STRIDED_CONVOLUTION = Derivation(
    "strided_convolution",
    "Convolution with a stride, along a line",
    r"y_p = \sum_u x_{s p + u}\, k_u \quad\Rightarrow\quad \bar x_i = \sum_{p,u \,:\, s p + u = i} \bar y_p k_u, \quad"
    r" \bar k_u = \sum_p \bar y_p\, x_{s p + u}",
    (
        Step(
            r"\bar x_i = \sum_p \bar y_p \lim_{h \to 0} \frac{y_p(x + h e_i) - y_p(x)}{h}",
            "the definition of the cotangent",
            pulled_back(strided, 0),
            chain="x",
        ),
        Step(
            r"= \sum_p \bar y_p \sum_u k_u\, \delta_{s p + u, i}",
            "y is linear in x",
            lambda x, k, ct: jnp.einsum("p,u,pui->i", ct, k, meets(x.size, k.size, STRIDE)),
            kind="limit",
            chain="x",
        ),
        Step(
            r"= \sum_u k_u\, \tilde y_{i - u}, \quad \tilde y_{s p} = \bar y_p, \text{ else } 0",
            "the cotangent spread out by the stride, zeros between: a stride forwards is a dilation backwards",
            lambda x, k, ct: sum(
                k[u] * jnp.concatenate([jnp.zeros(u), dilated(ct, x.size)[: x.size - u]]) for u in range(k.size)
            ),
            chain="x",
        ),
        Step(
            r"\bar k_u = \sum_p \bar y_p \lim_{h \to 0} \frac{y_p(k + h e_u) - y_p(k)}{h}",
            "the definition of the cotangent",
            pulled_back(strided, 1),
            chain="k",
        ),
        Step(
            r"= \sum_p \bar y_p \sum_i x_i\, \delta_{s p + u, i}",
            "y is linear in k",
            lambda x, k, ct: jnp.einsum("p,i,pui->u", ct, x, meets(x.size, k.size, STRIDE)),
            kind="limit",
            chain="k",
        ),
        Step(
            r"= \sum_p \bar y_p\, x_{s p + u}",
            "the Kronecker delta picks i = s p + u",
            lambda x, k, ct: jnp.stack(
                [jnp.vdot(ct, x[u : u + STRIDE * ct.size : STRIDE][: ct.size]) for u in range(k.size)]
            ),
            chain="k",
        ),
    ),
    "Dumoulin and Visin 2016, chapter 4",
    drawing(normal(8), normal(3), normal(3)),
    fun=strided,
    arguments=("x", "k"),
    point="x, shape (8,); k, shape (3,); the cotangent of y, shape (3,); the stride s is 2",
)

DERIVATIONS = (CONVOLUTION, STRIDED_CONVOLUTION)
