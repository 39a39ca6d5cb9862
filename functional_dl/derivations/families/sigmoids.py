"""Smooth activations made of exponentials: sigmoid, tanh, softplus, SiLU."""

from typing import Any

import jax.numpy as jnp

from functional_dl import activations
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, slope_of
from functional_dl.derivations.step import Oracle, Step


def sigma(z: Array) -> Any:
    return 1 / (1 + jnp.exp(-z))


SIGMOID = Derivation(
    "sigmoid",
    "Derivative of the logistic sigmoid",
    r"\sigma(z) = \frac{1}{1 + e^{-z}} \quad\Rightarrow\quad \sigma'(z) = \sigma(z)\,(1 - \sigma(z))",
    (
        Step(
            r"\sigma'(z) = \lim_{h \to 0} \frac{1}{h} \left( \frac{1}{1 + e^{-z-h}} - \frac{1}{1 + e^{-z}} \right)",
            "the definition of the derivative",
            slope_of(sigma),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{e^{-z} - e^{-z-h}}{h\,(1 + e^{-z-h})(1 + e^{-z})}",
            "a common denominator; the ones cancel",
            Limit(lambda h, z: (jnp.exp(-z) - jnp.exp(-z - h)) / (h * (1 + jnp.exp(-z - h)) * (1 + jnp.exp(-z)))),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{1 - e^{-h}}{h} \cdot \frac{e^{-z}}{(1 + e^{-z-h})(1 + e^{-z})}",
            "the common factor $e^{-z}$ is taken out",
            Limit(lambda h, z: (1 - jnp.exp(-h)) / h * jnp.exp(-z) / ((1 + jnp.exp(-z - h)) * (1 + jnp.exp(-z)))),
        ),
        Step(
            r"= \frac{e^{-z}}{(1 + e^{-z})^2}",
            "$(1 - e^{-h}) / h$ tends to 1, the slope of exp at 0, and exp is continuous",
            lambda z: jnp.exp(-z) / (1 + jnp.exp(-z)) ** 2,
            kind="limit",
        ),
        Step(
            r"= \frac{1}{1 + e^{-z}} \cdot \frac{(1 + e^{-z}) - 1}{1 + e^{-z}}",
            "one is added and subtracted in the numerator",
            lambda z: 1 / (1 + jnp.exp(-z)) * ((1 + jnp.exp(-z)) - 1) / (1 + jnp.exp(-z)),
        ),
        Step(
            r"= \sigma(z)\,(1 - \sigma(z))",
            "both factors in terms of the sigmoid",
            lambda z: sigma(z) * (1 - sigma(z)),
        ),
    ),
    "Goodfellow, Bengio, Courville 2016, section 3.10",
    drawing(normal(5, scale=2.0)),
    fun=activations.sigmoid,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: 1 / (1 + mp.exp(-z)),
    oracles=(Oracle("activations.sigmoid_prime", activations.sigmoid_prime, "z", "last"),),
    point="z, shape (5,)",
)

TANH = Derivation(
    "tanh",
    "Derivative of the hyperbolic tangent",
    r"\tanh z = \frac{\sinh z}{\cosh z} \quad\Rightarrow\quad \tanh'(z) = 1 - \tanh^2 z",
    (
        Step(
            r"\tanh'(z) = \lim_{h \to 0} \frac{\tanh(z + h) - \tanh z}{h}",
            "the definition of the derivative",
            slope_of(jnp.tanh),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{\sinh(z + h) \cosh z - \sinh z \cosh(z + h)}{h \cosh(z + h) \cosh z}",
            "both as quotients, over a common denominator",
            Limit(
                lambda h, z: (
                    (jnp.sinh(z + h) * jnp.cosh(z) - jnp.sinh(z) * jnp.cosh(z + h))
                    / (h * jnp.cosh(z + h) * jnp.cosh(z))
                )
            ),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{\sinh h}{h} \cdot \frac{1}{\cosh(z + h) \cosh z}",
            r"the addition theorem $\sinh(a - b) = \sinh a \cosh b - \sinh b \cosh a$",
            Limit(lambda h, z: jnp.sinh(h) / h / (jnp.cosh(z + h) * jnp.cosh(z))),
        ),
        Step(
            r"= \frac{1}{\cosh^2 z}",
            r"$\sinh h / h$ tends to 1 and $\cosh$ is continuous",
            lambda z: 1 / jnp.cosh(z) ** 2,
            kind="limit",
        ),
        Step(
            r"= \frac{\cosh^2 z - \sinh^2 z}{\cosh^2 z}",
            r"$\cosh^2 z - \sinh^2 z = 1$",
            lambda z: (jnp.cosh(z) ** 2 - jnp.sinh(z) ** 2) / jnp.cosh(z) ** 2,
        ),
        Step(r"= 1 - \tanh^2 z", "divided term by term", lambda z: 1 - jnp.tanh(z) ** 2),
    ),
    "LeCun, Bottou, Orr, Mueller 1998, section 4.4",
    drawing(normal(5)),
    fun=activations.tanh,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: mp.tanh(z),
    oracles=(Oracle("activations.tanh_prime", activations.tanh_prime, "z", "last"),),
    point="z, shape (5,)",
)


def growth(h: Array, z: Array) -> Any:
    """u(h) = e^z (e^h - 1) / (1 + e^z)."""
    return jnp.exp(z) * jnp.expm1(h) / (1 + jnp.exp(z))


SOFTPLUS = Derivation(
    "softplus",
    "Derivative of softplus",
    r"s(z) = \ln(1 + e^z) \quad\Rightarrow\quad s'(z) = \sigma(z)",
    (
        Step(
            r"s'(z) = \lim_{h \to 0} \frac{\ln(1 + e^{z+h}) - \ln(1 + e^z)}{h}",
            "the definition of the derivative",
            slope_of(lambda z: jnp.log(1 + jnp.exp(z))),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{1}{h} \ln \frac{1 + e^{z+h}}{1 + e^z}",
            "a difference of logarithms is the logarithm of a quotient",
            Limit(lambda h, z: jnp.log((1 + jnp.exp(z + h)) / (1 + jnp.exp(z))) / h),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{1}{h} \ln(1 + u), \quad u = \frac{e^z (e^h - 1)}{1 + e^z}",
            "one is taken out of the quotient",
            Limit(lambda h, z: jnp.log1p(growth(h, z)) / h),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{\ln(1 + u)}{u} \cdot \frac{e^z}{1 + e^z} \cdot \frac{e^h - 1}{h}",
            "multiplied and divided by u",
            Limit(
                lambda h, z: jnp.log1p(growth(h, z)) / growth(h, z) * jnp.exp(z) / (1 + jnp.exp(z)) * jnp.expm1(h) / h
            ),
        ),
        Step(
            r"= \frac{e^z}{1 + e^z}",
            r"u tends to 0; $\ln(1 + u)/u$ and $(e^h - 1)/h$ tend to 1",
            lambda z: jnp.exp(z) / (1 + jnp.exp(z)),
            kind="limit",
        ),
        Step(r"= \frac{1}{1 + e^{-z}} = \sigma(z)", r"numerator and denominator times $e^{-z}$", sigma),
    ),
    "Dugas, Bengio, Belisle, Nadeau, Garcia 2001",
    drawing(normal(5)),
    fun=activations.softplus,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: mp.log1p(mp.exp(z)),
    oracles=(Oracle("activations.softplus_prime", activations.softplus_prime, "z", "last"),),
    point="z, shape (5,)",
)

SILU = Derivation(
    "silu",
    "Derivative of SiLU (swish)",
    r"f(z) = z\,\sigma(z) \quad\Rightarrow\quad f'(z) = \sigma(z)\,(1 + z\,(1 - \sigma(z)))",
    (
        Step(
            r"f'(z) = \lim_{h \to 0} \frac{(z + h)\,\sigma(z + h) - z\,\sigma(z)}{h}",
            "the definition of the derivative",
            slope_of(lambda z: z * sigma(z)),
        ),
        Step(
            r"= \lim_{h \to 0} \left[ \sigma(z + h) + z\, \frac{\sigma(z + h) - \sigma(z)}{h} \right]",
            "the product is split, as for the product rule",
            Limit(lambda h, z: sigma(z + h) + z * (sigma(z + h) - sigma(z)) / h),
        ),
        Step(
            r"= \sigma(z) + z\, \sigma(z)\,(1 - \sigma(z))",
            r"$\sigma$ is continuous, and $\sigma' = \sigma (1 - \sigma)$ (derivation `sigmoid`)",
            lambda z: sigma(z) + z * sigma(z) * (1 - sigma(z)),
            kind="limit",
        ),
        Step(
            r"= \sigma(z)\,(1 + z\,(1 - \sigma(z)))",
            r"$\sigma(z)$ is taken out",
            lambda z: sigma(z) * (1 + z * (1 - sigma(z))),
        ),
    ),
    "Elfwing, Uchibe, Doya 2018",
    drawing(normal(5, scale=2.0)),
    fun=activations.silu,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: z / (1 + mp.exp(-z)),
    oracles=(Oracle("activations.silu_prime", activations.silu_prime, "z", "last"),),
    point="z, shape (5,)",
)

DERIVATIONS = (SIGMOID, TANH, SOFTPLUS, SILU)
