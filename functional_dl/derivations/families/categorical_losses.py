"""Losses of many classes from logits: cross-entropy with distributions, with labels, with smoothed labels."""

import jax.numpy as jnp

from functional_dl import losses
from functional_dl.activations import softmax
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, labels, normal, pulled_back, simplex
from functional_dl.derivations.step import Oracle, Step


def identity(z: Array) -> Array:
    """delta_{kj} over the classes."""
    return jnp.eye(z.shape[-1])


def picked(y: Array, z: Array) -> Array:
    """delta_{j y}: 1 at the label."""
    return identity(z)[y]


def column(ct: Array) -> Array:
    """A number for each example, ready to multiply its row."""
    return ct[:, None]


def of_logits(z: Array, t: Array) -> Array:
    return -jnp.sum(t * jnp.log(softmax(z)), -1)


def through_jacobian(z: Array, weight: Array) -> Array:
    """sum_k weight_k p_k (delta_kj - p_j) for each row."""
    p = softmax(z)
    return jnp.einsum("nk,nk,nkj->nj", weight, p, identity(z)[None] - p[:, None, :] * jnp.ones_like(p)[:, :, None])


SOFTMAX_CROSS_ENTROPY = Derivation(
    "softmax_cross_entropy",
    "Softmax and cross-entropy",
    r"l = -\sum_k t_k \ln p_k,\; p = \operatorname{softmax}(z),\; \sum_k t_k = 1 \quad\Rightarrow\quad"
    r" \frac{\partial l}{\partial z} = p - t",
    (
        Step(
            r"\bar z_j = \bar l \lim_{h \to 0} \frac{l(z + h e_j) - l(z)}{h}",
            "the definition of the cotangent",
            pulled_back(of_logits, 0),
            chain="z",
        ),
        Step(
            r"= \bar l \sum_k \frac{\partial l}{\partial p_k}\, \frac{\partial p_k}{\partial z_j}"
            r" = \bar l \sum_k \left( -\frac{t_k}{p_k} \right) p_k\, (\delta_{kj} - p_j)",
            "the chain rule over all classes, with the derivations `cross_entropy` and `softmax`",
            lambda z, t, ct: column(ct) * through_jacobian(z, -t / softmax(z)),
            kind="limit",
            chain="z",
        ),
        Step(
            r"= -\bar l \sum_k t_k\, (\delta_{kj} - p_j)",
            r"$p_k$ cancels",
            lambda z, t, ct: (
                -column(ct)
                * jnp.einsum("nk,nkj->nj", t, identity(z)[None] - softmax(z)[:, None, :] * jnp.ones_like(z)[:, :, None])
            ),
            chain="z",
        ),
        Step(
            r"= \bar l \left( p_j \sum_k t_k - t_j \right)",
            "the Kronecker delta picks one term; $p_j$ does not depend on k",
            lambda z, t, ct: column(ct) * (softmax(z) * t.sum(-1, keepdims=True) - t),
            chain="z",
        ),
        Step(
            r"= \bar l\, (p_j - t_j)",
            "the targets sum to 1",
            lambda z, t, ct: column(ct) * (softmax(z) - t),
            chain="z",
        ),
        Step(
            r"\bar t_k = \bar l \lim_{h \to 0} \frac{l(t + h e_k) - l(t)}{h}",
            "the definition of the cotangent",
            pulled_back(of_logits, 1),
            chain="t",
        ),
        Step(
            r"= -\bar l \ln p_k",
            "l is linear in t",
            lambda z, t, ct: -column(ct) * jnp.log(softmax(z)),
            kind="limit",
            chain="t",
        ),
        Step(
            r"= \bar l \left( \ln \sum_j e^{z_j} - z_k \right)",
            r"$p_k = e^{z_k} / \sum_j e^{z_j}$",
            lambda z, t, ct: column(ct) * (jnp.log(jnp.exp(z).sum(-1, keepdims=True)) - z),
            chain="t",
        ),
    ),
    "Goodfellow, Bengio, Courville 2016, section 6.2.2.3; Bridle 1990",
    drawing(normal(2, 4), simplex(2, 4), normal(2)),
    fun=losses.softmax_cross_entropy,
    arguments=("z", "t"),
    oracles=(
        Oracle(
            "losses.softmax_cross_entropy_prime",
            lambda z, t, ct: column(ct) * losses.softmax_cross_entropy_prime(z, t),
            "z",
            "last",
        ),
    ),
    point="z, shape (2, 4), t, distributions of that shape, and the cotangent of l, shape (2,)",
    notes=("For targets that do not sum to 1 the line before the last is the answer.",),
)


def log_loss(z: Array, y: Array) -> Array:
    """-ln p_y for each row."""
    return jnp.log(jnp.exp(z).sum(-1)) - jnp.sum(picked(y, z) * z, -1)


SOFTMAX_CROSS_ENTROPY_LABELS = Derivation(
    "softmax_cross_entropy_labels",
    "Softmax and cross-entropy with integer labels",
    r"l = -\ln p_y,\; p = \operatorname{softmax}(z) \quad\Rightarrow\quad \frac{\partial l}{\partial z_j} = p_j"
    r" - \delta_{jy}",
    (
        Step(
            r"\bar z_j = \bar l \lim_{h \to 0} \frac{l(z + h e_j) - l(z)}{h}, \quad l = \ln \sum_k e^{z_k} - z_y",
            "the definition of the cotangent",
            pulled_back(log_loss, 0),
        ),
        Step(
            r"= \bar l \left( \frac{1}{S} \sum_k \delta_{kj} e^{z_k} - \delta_{jy} \right), \quad S = \sum_k e^{z_k}",
            "the derivation `logsumexp`; $z_y$ moves with $z_j$ only where j is the label",
            lambda z, y, ct: (
                column(ct)
                * (jnp.einsum("kj,nk->nj", identity(z), jnp.exp(z)) / jnp.exp(z).sum(-1, keepdims=True) - picked(y, z))
            ),
            kind="limit",
        ),
        Step(
            r"= \bar l\, (p_j - \delta_{jy})",
            r"$e^{z_j} / S = p_j$",
            lambda z, y, ct: column(ct) * (softmax(z) - picked(y, z)),
        ),
        Step(
            r"= \bar l \begin{cases} p_j - 1 & j = y \\ p_j & j \ne y \end{cases}",
            "in code: one is taken off in place, no one-hot matrix is built",
            lambda z, y, ct: column(ct) * softmax(z).at[jnp.arange(y.size), y].add(-1.0),
        ),
    ),
    "Goodfellow, Bengio, Courville 2016, section 6.2.2.3",
    drawing(normal(3, 4), labels(3, classes=4), normal(3)),
    fun=losses.softmax_cross_entropy,
    arguments=("z", "y"),
    extra_points=lambda key: ((normal(2, 4)(key), jnp.asarray([3, 3]), jnp.ones(2)),),
    point="z, shape (3, 4), labels y, shape (3,), and the cotangent of l, shape (3,)",
)

SMOOTHING = 0.1


def smoothed(y: Array, z: Array) -> Array:
    """(1 - s) delta_{ky} + s / K."""
    return (1 - SMOOTHING) * picked(y, z) + SMOOTHING / z.shape[-1]


def smoothed_loss(z: Array, y: Array) -> Array:
    return losses.softmax_cross_entropy(z, smoothed(y, z))


LABEL_SMOOTHING = Derivation(
    "label_smoothing",
    "Cross-entropy with smoothed labels",
    r"l = -\sum_k q_k \ln p_k,\; q_k = (1 - s)\,\delta_{ky} + \frac{s}{K} \quad\Rightarrow\quad"
    r" \frac{\partial l}{\partial z_j} = p_j - (1 - s)\,\delta_{jy} - \frac{s}{K}",
    (
        Step(
            r"\bar z_j = \bar l \lim_{h \to 0} \frac{l(z + h e_j) - l(z)}{h}",
            "the definition of the cotangent",
            pulled_back(lambda z, y: -jnp.sum(smoothed(y, z) * jnp.log(softmax(z)), -1)),
        ),
        Step(
            r"= \bar l \sum_k \left( -\frac{q_k}{p_k} \right) p_k\, (\delta_{kj} - p_j)",
            "the chain rule, as in `softmax_cross_entropy`",
            lambda z, y, ct: column(ct) * through_jacobian(z, -smoothed(y, z) / softmax(z)),
            kind="limit",
        ),
        Step(
            r"= \bar l \left( p_j \sum_k q_k - q_j \right)",
            r"$p_k$ cancels; the Kronecker delta picks one term",
            lambda z, y, ct: column(ct) * (softmax(z) * smoothed(y, z).sum(-1, keepdims=True) - smoothed(y, z)),
        ),
        Step(
            r"= \bar l \left( p_j - (1 - s)\,\delta_{jy} - \frac{s}{K} \right)",
            r"$\sum_k q_k = (1 - s) + K \cdot s / K = 1$",
            lambda z, y, ct: column(ct) * (softmax(z) - (1 - SMOOTHING) * picked(y, z) - SMOOTHING / z.shape[-1]),
        ),
    ),
    "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016, section 7",
    drawing(normal(3, 4), labels(3, classes=4), normal(3)),
    fun=smoothed_loss,
    arguments=("z", "y"),
    point="z, shape (3, 4), labels y, shape (3,), and the cotangent of l, shape (3,); s is 0.1",
)


DERIVATIONS = (SOFTMAX_CROSS_ENTROPY, SOFTMAX_CROSS_ENTROPY_LABELS, LABEL_SMOOTHING)
