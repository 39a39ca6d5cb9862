"""Softmax, its logarithm, and the logarithm of a sum of exponentials."""

from typing import Any

import jax.numpy as jnp

from functional_dl import activations
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, outer, pulled_back
from functional_dl.derivations.step import Oracle, Step


def total(z: Array) -> Any:
    """S = sum_k e^{z_k}."""
    return jnp.exp(z).sum()


def probabilities(z: Array) -> Any:
    """p_i = e^{z_i} / S."""
    return jnp.exp(z) / total(z)


def identity(z: Array) -> Any:
    """delta_{ij}."""
    return jnp.eye(z.size)


SOFTMAX = Derivation(
    "softmax",
    "Softmax and its Jacobian",
    r"p_i = \frac{e^{z_i}}{\sum_k e^{z_k}} \quad\Rightarrow\quad \frac{\partial p_i}{\partial z_j} = p_i (\delta_{ij}"
    r" - p_j),"
    r"\quad \bar z = p \odot (\bar p - \langle p, \bar p \rangle \mathbf{1})",
    (
        Step(
            r"\bar z_j = \sum_i \bar p_i \frac{\partial p_i}{\partial z_j}"
            r" = \sum_i \bar p_i \lim_{h \to 0} \frac{p_i(z + h e_j) - p_i(z)}{h}",
            "the definition of the cotangent: every output that $z_j$ reaches, weighted",
            pulled_back(probabilities),
        ),
        Step(
            r"= \sum_i \bar p_i\, \frac{\delta_{ij} e^{z_i} S - e^{z_i} e^{z_j}}{S^2}, \quad S = \sum_k e^{z_k}",
            r"the quotient rule, with $\partial S / \partial z_j = e^{z_j}$",
            lambda z, ct: jnp.einsum(
                "i,ij->j",
                ct,
                (identity(z) * jnp.exp(z)[:, None] * total(z) - outer(jnp.exp(z), jnp.exp(z))) / total(z) ** 2,
            ),
            kind="limit",
        ),
        Step(
            r"= \sum_i \bar p_i\, p_i\, (\delta_{ij} - p_j)",
            r"$e^{z_i} / S = p_i$: this is the Jacobian $\operatorname{diag}(p) - p\,p^\top$",
            lambda z, ct: jnp.einsum(
                "i,i,ij->j", ct, probabilities(z), identity(z) - jnp.broadcast_to(probabilities(z), (z.size, z.size))
            ),
        ),
        Step(
            r"= \sum_i (\operatorname{diag}(p) - p\,p^\top)_{ij}\, \bar p_i",
            "the same as a matrix, which is symmetric",
            lambda z, ct: (jnp.diag(probabilities(z)) - outer(probabilities(z), probabilities(z))) @ ct,
        ),
        Step(
            r"= p_j \left( \bar p_j - \sum_i p_i\, \bar p_i \right)",
            "the Kronecker delta picks one term; what is left does not depend on j: no k by k matrix is needed",
            lambda z, ct: probabilities(z) * (ct - jnp.sum(probabilities(z) * ct)),
        ),
    ),
    "Bridle 1990; Goodfellow, Bengio, Courville 2016, section 6.2.2.3",
    drawing(normal(4), normal(4)),
    fun=activations.softmax,
    arguments=("z",),
    oracles=(Oracle("activations.softmax_prime", lambda z, ct: activations.softmax_prime(z).T @ ct, "z", "last"),),
    point="z and the cotangent of p, each of shape (4,)",
)

LOG_SOFTMAX = Derivation(
    "log_softmax",
    "Log-softmax",
    r"y_i = z_i - \ln \sum_k e^{z_k} \quad\Rightarrow\quad \bar z = \bar y - p \sum_i \bar y_i",
    (
        Step(
            r"\bar z_j = \sum_i \bar y_i \lim_{h \to 0} \frac{y_i(z + h e_j) - y_i(z)}{h}",
            "the definition of the cotangent",
            pulled_back(lambda z: z - jnp.log(total(z))),
        ),
        Step(
            r"= \sum_i \bar y_i \left( \delta_{ij} - \frac{1}{S}\,\frac{\partial S}{\partial z_j} \right)",
            "the derivative of the logarithm and the chain rule",
            lambda z, ct: jnp.einsum(
                "i,ij->j", ct, identity(z) - jnp.broadcast_to(jnp.exp(z) / total(z), (z.size, z.size))
            ),
            kind="limit",
        ),
        Step(
            r"= \bar y_j - \sum_i \bar y_i\, \frac{e^{z_j}}{S}",
            "the Kronecker delta picks one term",
            lambda z, ct: ct - sum(ct[i] * jnp.exp(z) / total(z) for i in range(z.size)),
        ),
        Step(
            r"\bar z = \bar y - p \sum_i \bar y_i",
            r"$e^{z_j} / S = p_j$, and p does not depend on i",
            lambda z, ct: ct - probabilities(z) * ct.sum(),
        ),
    ),
    "Blanchard, Higham, Higham 2021",
    drawing(normal(4), normal(4)),
    fun=activations.log_softmax,
    arguments=("z",),
    oracles=(
        Oracle("activations.log_softmax_prime", lambda z, ct: activations.log_softmax_prime(z).T @ ct, "z", "last"),
    ),
    point="z and the cotangent of y, each of shape (4,)",
)

LOGSUMEXP = Derivation(
    "logsumexp",
    "The logarithm of a sum of exponentials",
    r"y = \ln \sum_k e^{z_k} \quad\Rightarrow\quad \bar z = \bar y\, \operatorname{softmax}(z)",
    (
        Step(
            r"\bar z_j = \bar y \lim_{h \to 0} \frac{y(z + h e_j) - y(z)}{h}",
            "the definition of the cotangent",
            pulled_back(lambda z: jnp.log(total(z))),
        ),
        Step(
            r"= \bar y\, \frac{1}{S} \sum_k \frac{\partial e^{z_k}}{\partial z_j} = \bar y\,"
            r" \frac{1}{S} \sum_k \delta_{kj} e^{z_k}",
            "the derivative of the logarithm, the chain rule, and the sum term by term",
            lambda z, ct: ct / total(z) * jnp.einsum("kj,k->j", identity(z), jnp.exp(z)),
            kind="limit",
        ),
        Step(r"= \bar y\, \frac{e^{z_j}}{S}", "one term of the sum is left", lambda z, ct: ct * jnp.exp(z) / total(z)),
        Step(
            r"= \bar y\, \frac{e^{z_j - m}}{\sum_k e^{z_k - m}}, \quad m = \max_k z_k",
            r"numerator and denominator times $e^{-m}$: now no exponential overflows",
            lambda z, ct: ct * jnp.exp(z - z.max()) / jnp.exp(z - z.max()).sum(),
        ),
    ),
    "Boyd and Vandenberghe 2004, section 3.1.5",
    drawing(normal(4), normal()),
    fun=lambda z: jnp.log(jnp.sum(jnp.exp(z - z.max()))) + z.max(),
    arguments=("z",),
    oracles=(Oracle("activations.softmax", lambda z, ct: ct * activations.softmax(z), "z", "last"),),
    point="z, shape (4,), and the cotangent of y, a number",
)

DERIVATIONS = (SOFTMAX, LOG_SOFTMAX, LOGSUMEXP)
