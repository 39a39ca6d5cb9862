"""Smooth activations made of exponentials: sigmoid, tanh, softplus, SiLU."""

import jax.numpy as jnp

from functional_dl import activations
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, slope_of
from functional_dl.derivations.step import Oracle, Step


def sigma(z):
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
            "the common factor e^{-z} is taken out",
            Limit(lambda h, z: (1 - jnp.exp(-h)) / h * jnp.exp(-z) / ((1 + jnp.exp(-z - h)) * (1 + jnp.exp(-z)))),
        ),
        Step(
            r"= \frac{e^{-z}}{(1 + e^{-z})^2}",
            "(1 - e^{-h}) / h tends to 1, the slope of exp at 0, and exp is continuous",
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
DERIVATIONS = (SIGMOID,)
