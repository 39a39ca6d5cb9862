"""Pooling over two-by-two windows: the largest entry, and the mean."""

from typing import Any

import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.kinked import at_kink
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import distinct, drawing, normal, pulled_back
from functional_dl.derivations.step import Step

SIDE = 2


def windows(x: Array) -> Any:
    """x as (p, q, u, v): window (p, q), place (u, v) in it."""
    rows, columns = x.shape
    return x.reshape(rows // SIDE, SIDE, columns // SIDE, SIDE).transpose(0, 2, 1, 3)


def whole(w: Array) -> Any:
    """The inverse of `windows`."""
    p, q, u, v = w.shape
    return w.transpose(0, 2, 1, 3).reshape(p * u, q * v)


def spread(y: Array) -> Any:
    """y_pq at every place of its window."""
    return jnp.repeat(jnp.repeat(y, SIDE, 0), SIDE, 1)


def places(n: Any) -> Any:
    """M_{pui} = 1(2 p + u = i)."""
    p, u, i = jnp.arange(n // SIDE), jnp.arange(SIDE), jnp.arange(n)
    return jnp.where(SIDE * p[:, None, None] + u[None, :, None] == i[None, None, :], 1.0, 0.0)


def largest(x: Array) -> Any:
    return windows(x).max((2, 3))


def winners(x: Array) -> Any:
    """1(x_{2p+u, 2q+v} = y_pq), divided by how many there are."""
    found = jnp.where(windows(x) == largest(x)[:, :, None, None], 1.0, 0.0)
    return found / found.sum((2, 3), keepdims=True)


def by_chords(h: Array, x: Array, ct: Array) -> Any:
    """Every entry's own window alone: (max over the window with x_ij + h in it, less the max) / h."""
    w = windows(x)
    columns = []
    for u in range(SIDE):
        for v in range(SIDE):
            columns.append((w.at[:, :, u, v].add(h).max((2, 3)) - w.max((2, 3))) / h)
    return whole((ct[:, :, None] * jnp.stack(columns, -1)).reshape(w.shape))


AT_TIE, TIE_INTERVAL = at_kink(
    "m", "1", lambda x: jnp.maximum(x, 1.0), 1.0, (0.0, 1.0), 0.5, "at a tie of two, m(x) = max(x, 1)"
)

MAX_POOLING = Derivation(
    "max_pooling",
    "Max pooling",
    r"y_{pq} = \max_{u,v} x_{2p+u,\,2q+v} \quad\Rightarrow\quad"
    r" \bar x_{ij} = \bar y_{pq}\, \mathbf{1}(x_{ij} = y_{pq}), \; p = \lfloor i/2 \rfloor,\, q = \lfloor j/2 \rfloor"
    r" \quad \text{(no tie)}",
    (
        Step(
            r"\bar x_{ij} = \sum_{p,q} \bar y_{pq} \lim_{h \to 0} \frac{y_{pq}(x + h E_{ij}) - y_{pq}(x)}{h}",
            "the definition of the cotangent",
            pulled_back(largest),
            chain="x",
        ),
        Step(
            r"= \bar y_{pq} \lim_{h \to 0} \frac{\max(x_{ij} + h, m_{ij}) - \max(x_{ij}, m_{ij})}{h}, \quad"
            r" p = \lfloor i/2 \rfloor,\, q = \lfloor j/2 \rfloor",
            r"$x_{ij}$ lies in one window alone; $m_{ij}$ is the largest of that window's other entries",
            Limit(by_chords),
            chain="x",
        ),
        Step(
            r"= \sum_{p,q} \bar y_{pq} \sum_{u,v} \mathbf{1}(x_{2p+u,2q+v}"
            r" = y_{pq})\, \delta_{2p+u,i}\, \delta_{2q+v,j}",
            r"for $|h|$ below the distance to the second largest the winner stays: slope 1 for it, 0 for the others",
            lambda x, ct: jnp.einsum("pq,pquv,pui,qvj->ij", ct, winners(x), places(x.shape[0]), places(x.shape[1])),
            kind="limit",
            chain="x",
        ),
        Step(
            r"= \bar y_{\lfloor i/2 \rfloor \lfloor j/2 \rfloor}\, \frac{\mathbf{1}(x_{ij}"
            r" = y_{\lfloor i/2 \rfloor \lfloor j/2 \rfloor})}"
            r"{\#\{\text{winners}\}}",
            "windows do not overlap: one term is left; where several win they share (a convention)",
            lambda x, ct: spread(ct) * whole(winners(x)),
            chain="x",
        ),
        *AT_TIE,
    ),
    "Goodfellow, Bengio, Courville 2016, section 9.3",
    drawing(distinct(4, 4), normal(2, 2)),
    fun=largest,
    arguments=("x",),
    oracles=(TIE_INTERVAL,),
    kinks=(
        "Ties in a window: any way to share the cotangent among the winners is in the subdifferential; taken: equally.",
    ),
    kink_points=lambda key: (
        (
            jnp.asarray([[1.0, 1.0, 0.5, 0.2], [0.0, 1.0, 0.1, 0.5], [2.0, 2.0, 0.0, -1.0], [2.0, 2.0, -2.0, 3.0]]),
            jnp.ones((2, 2)),
        ),
    ),
    point="x, shape (4, 4), entries apart, and the cotangent of y, shape (2, 2)",
)


def means(x: Array) -> Any:
    return windows(x).mean((2, 3))


AVERAGE_POOLING = Derivation(
    "average_pooling",
    "Average pooling",
    r"y_{pq} = \frac14 \sum_{u,v} x_{2p+u,\,2q+v} \quad\Rightarrow\quad"
    r" \bar x_{ij} = \tfrac14\, \bar y_{\lfloor i/2 \rfloor \lfloor j/2 \rfloor}",
    (
        Step(
            r"\bar x_{ij} = \sum_{p,q} \bar y_{pq} \lim_{h \to 0} \frac{y_{pq}(x + h E_{ij}) - y_{pq}(x)}{h}",
            "the definition of the cotangent",
            pulled_back(means),
        ),
        Step(
            r"= \sum_{p,q} \bar y_{pq}\, \frac14 \sum_{u,v} \delta_{2p+u,i}\, \delta_{2q+v,j}",
            "y is linear in x",
            lambda x, ct: jnp.einsum("pq,pui,qvj->ij", ct, places(x.shape[0]), places(x.shape[1])) / 4,
            kind="limit",
        ),
        Step(
            r"= \tfrac14\, \bar y_{\lfloor i/2 \rfloor \lfloor j/2 \rfloor}",
            "$x_{ij}$ lies in one window alone",
            lambda x, ct: spread(ct) / 4,
        ),
    ),
    "Goodfellow, Bengio, Courville 2016, section 9.3",
    drawing(normal(4, 4), normal(2, 2)),
    fun=means,
    arguments=("x",),
    point="x, shape (4, 4), and the cotangent of y, shape (2, 2)",
)

DERIVATIONS = (MAX_POOLING, AVERAGE_POOLING)
