"""Losses of a distribution against another: cross-entropy and the Kullback-Leibler divergence."""

import jax.numpy as jnp

from functional_dl import losses
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, pulled_back, simplex
from functional_dl.derivations.step import Oracle, Step


def identity(z: Array) -> Array:
    """delta_{kj} over the classes."""
    return jnp.eye(z.shape[-1])


def column(ct: Array) -> Array:
    """A number for each example, ready to multiply its row."""
    return ct[:, None]


def cross(p: Array, t: Array) -> Array:
    return -jnp.sum(t * jnp.log(p), -1)


CROSS_ENTROPY = Derivation(
    "cross_entropy",
    "Categorical cross-entropy from probabilities",
    r"l = -\sum_k t_k \ln p_k \quad\Rightarrow\quad \bar p_j = -\bar l\, \frac{t_j}{p_j}",
    (
        Step(
            r"\bar p_j = \bar l \lim_{h \to 0} \frac{l(p + h e_j) - l(p)}{h}",
            "the definition of the cotangent, each $p_j$ on its own",
            pulled_back(cross, 0),
            chain="p",
        ),
        Step(
            r"= -\bar l \sum_k t_k\, \frac{1}{p_k}\, \delta_{kj}",
            "the sum term by term; the logarithm's derivative is the reciprocal",
            lambda p, t, ct: -column(ct) * jnp.einsum("nk,kj->nj", t / p, identity(p)),
            kind="limit",
            chain="p",
        ),
        Step(
            r"= -\bar l\, \frac{t_j}{p_j}",
            "one term is left",
            lambda p, t, ct: -column(ct) * t / p,
            chain="p",
        ),
        Step(
            r"\bar t_k = \bar l \lim_{h \to 0} \frac{l(t + h e_k) - l(t)}{h}",
            "the definition of the cotangent",
            pulled_back(cross, 1),
            chain="t",
        ),
        Step(
            r"= -\bar l \sum_j \delta_{jk} \ln p_j",
            "l is linear in t",
            lambda p, t, ct: -column(ct) * jnp.einsum("jk,nj->nk", identity(p), jnp.log(p)),
            kind="limit",
            chain="t",
        ),
        Step(r"= -\bar l \ln p_k", "one term is left", lambda p, t, ct: -column(ct) * jnp.log(p), chain="t"),
    ),
    "Goodfellow, Bengio, Courville 2016, section 6.2.2.3",
    drawing(simplex(2, 4), simplex(2, 4), normal(2)),
    fun=losses.cross_entropy,
    arguments=("p", "t"),
    oracles=(
        Oracle(
            "losses.cross_entropy_prime",
            lambda p, t, ct: column(ct) * losses.cross_entropy_prime(p, t),
            "p",
            "last",
        ),
    ),
    point="p and t, distributions of shape (2, 4), and the cotangent of l, shape (2,)",
)


def divergence(p: Array, t: Array) -> Array:
    return jnp.sum(t * jnp.log(t / p), -1)


KL_DIVERGENCE = Derivation(
    "kl_divergence",
    "Kullback-Leibler divergence",
    r"l = \sum_k t_k \ln \frac{t_k}{p_k} \quad\Rightarrow\quad \bar p_j = -\bar l\, \frac{t_j}{p_j}, \quad"
    r" \bar t_j = \bar l \left( \ln \frac{t_j}{p_j} + 1 \right)",
    (
        Step(
            r"\bar p_j = \bar l \lim_{h \to 0} \frac{l(p + h e_j) - l(p)}{h}",
            "the definition of the cotangent",
            pulled_back(divergence, 0),
            chain="p",
        ),
        Step(
            r"= \bar l\, \frac{\partial}{\partial p_j} \left( \sum_k t_k \ln t_k - \sum_k t_k \ln p_k \right)"
            r" = -\bar l \sum_k \frac{t_k}{p_k}\, \delta_{kj}",
            "minus the entropy of t, which does not depend on p, and the cross-entropy",
            lambda p, t, ct: -column(ct) * jnp.einsum("nk,kj->nj", t / p, identity(p)),
            kind="limit",
            chain="p",
        ),
        Step(
            r"= -\bar l\, \frac{t_j}{p_j}",
            "one term is left: the gradient of the cross-entropy",
            lambda p, t, ct: -column(ct) * t / p,
            chain="p",
        ),
        Step(
            r"\bar t_j = \bar l \lim_{h \to 0} \frac{l(t + h e_j) - l(t)}{h}",
            "the definition of the cotangent",
            pulled_back(divergence, 1),
            chain="t",
        ),
        Step(
            r"= \bar l \sum_k \delta_{kj} \left( \ln \frac{t_k}{p_k} + t_k\, \frac{p_k}{t_k}\, \frac{1}{p_k} \right)",
            "the product rule; the chain rule for the logarithm of the quotient",
            lambda p, t, ct: column(ct) * jnp.einsum("kj,nk->nj", identity(p), jnp.log(t / p) + t * (p / t) * (1 / p)),
            kind="limit",
            chain="t",
        ),
        Step(
            r"= \bar l \left( \ln \frac{t_j}{p_j} + 1 \right)",
            "the second term is 1",
            lambda p, t, ct: column(ct) * (jnp.log(t / p) + 1),
            chain="t",
        ),
    ),
    "Kullback and Leibler 1951",
    drawing(simplex(2, 4), simplex(2, 4), normal(2)),
    fun=losses.kl_divergence,
    arguments=("p", "t"),
    oracles=(
        Oracle(
            "losses.kl_divergence_prime", lambda p, t, ct: column(ct) * losses.kl_divergence_prime(p, t), "p", "last"
        ),
    ),
    point="p and t, distributions of shape (2, 4), and the cotangent of l, shape (2,)",
)

DERIVATIONS = (CROSS_ENTROPY, KL_DIVERGENCE)
