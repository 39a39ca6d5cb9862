"""The Gaussian error linear unit, exact and in its tanh form."""

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

from functional_dl import activations
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, slope_of
from functional_dl.derivations.step import Oracle, Step

NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)


def cdf(z: Array) -> Array:
    """Phi(z), the standard normal distribution function."""
    return erfc(-z / math.sqrt(2)) / 2


def pdf(z: Array) -> Array:
    """phi(z), its density."""
    return jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def mean_density(h: Array, z: Array) -> Array:
    """(1/h) int_z^{z+h} phi(t) dt, by Gauss's rule."""
    return sum(
        (w / 2 * pdf(z + h * (1 + x) / 2) for x, w in zip(NODES.tolist(), WEIGHTS.tolist())), start=jnp.zeros(())
    )


GELU = Derivation(
    "gelu",
    "Derivative of GELU",
    r"f(z) = z\,\Phi(z),\; \Phi(z) = \int_{-\infty}^z \frac{e^{-t^2/2}}{\sqrt{2\pi}}\,dt \quad\Rightarrow\quad"
    r" f'(z) = \Phi(z) + z\,\varphi(z)",
    (
        Step(
            r"f'(z) = \lim_{h \to 0} \frac{(z + h)\,\Phi(z + h) - z\,\Phi(z)}{h}",
            "the definition of the derivative",
            slope_of(lambda z: z * cdf(z)),
        ),
        Step(
            r"= \lim_{h \to 0} \left[ \Phi(z + h) + z\,\frac{\Phi(z + h) - \Phi(z)}{h} \right]",
            "the product is split",
            Limit(lambda h, z: cdf(z + h) + z * (cdf(z + h) - cdf(z)) / h),
        ),
        Step(
            r"= \lim_{h \to 0} \left[ \Phi(z + h) + z\,\frac{1}{h} \int_z^{z+h} \varphi(t)\,dt \right]",
            r"$\Phi$ is the integral of the density $\varphi$",
            Limit(lambda h, z: cdf(z + h) + z * mean_density(h, z)),
        ),
        Step(
            r"= \Phi(z) + z\,\varphi(z)",
            r"the mean of a continuous function over $[z, z+h]$ tends to its value at z: the fundamental theorem",
            lambda z: cdf(z) + z * pdf(z),
            kind="limit",
        ),
        Step(
            r"= \frac{1}{2} \operatorname{erfc}\!\left( -\frac{z}{\sqrt 2} \right) + \frac{z\,e^{-z^2/2}}{\sqrt{2\pi}}",
            r"$\Phi$ through the complementary error function, which keeps its digits far to the left",
            lambda z: erfc(-z / math.sqrt(2)) / 2 + z * jnp.exp(-(z**2) / 2) / math.sqrt(2 * math.pi),
        ),
    ),
    "Hendrycks and Gimpel 2016",
    drawing(normal(5)),
    fun=activations.gelu,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: z * mp.erfc(-z / mp.sqrt(2)) / 2,
    oracles=(Oracle("activations.gelu_prime", activations.gelu_prime, "z", "last"),),
    point="z, shape (5,)",
)

C, A = math.sqrt(2 / math.pi), 0.044715


def inner(z: Array) -> Array:
    """u(z) = c (z + a z^3)."""
    return C * (z + A * z**3)


def half(z: Array) -> Array:
    """(1 + tanh u) / 2."""
    return (1 + jnp.tanh(inner(z))) / 2


def logistic(z: Array) -> Array:
    return 1 / (1 + jnp.exp(-z))


def chords(h: Array, z: Array) -> tuple[Array, Array]:
    """The slopes of the two chords: of tanh between u(z) and u(z + h), and of u between z and z + h."""
    du = inner(z + h) - inner(z)
    return (jnp.tanh(inner(z + h)) - jnp.tanh(inner(z))) / du, du / h


GELU_TANH = Derivation(
    "gelu_tanh",
    "Derivative of GELU's tanh form",
    r"f(z) = \tfrac{z}{2}(1 + \tanh u),\; u = c\,(z + a z^3),\; c = \sqrt{2/\pi},\; a = 0.044715 \quad\Rightarrow\quad"
    r" f'(z) = s + 2 z s (1 - s)\,u',\; s = \sigma(2u)",
    (
        Step(
            r"f'(z) = \lim_{h \to 0} \frac{f(z + h) - f(z)}{h}",
            "the definition of the derivative",
            slope_of(lambda z: z * half(z)),
        ),
        Step(
            r"= \lim_{h \to 0} \left[ \frac{1 + \tanh u(z + h)}{2} + \frac{z}{2} \cdot"
            r" \frac{\tanh u(z + h) - \tanh u(z)}{u(z + h) - u(z)} \cdot \frac{u(z + h) - u(z)}{h} \right]",
            "the product is split; multiplied and divided by the change of u",
            Limit(lambda h, z: half(z + h) + z / 2 * chords(h, z)[0] * chords(h, z)[1]),
        ),
        Step(
            r"= \frac{1 + \tanh u}{2} + \frac{z}{2}\,(1 - \tanh^2 u)\,c\,(1 + 3 a z^2)",
            r"$\tanh' = 1 - \tanh^2$ (derivation `tanh`) and $u' = c\,(1 + 3 a z^2)$",
            lambda z: half(z) + z / 2 * (1 - jnp.tanh(inner(z)) ** 2) * C * (1 + 3 * A * z**2),
            kind="limit",
        ),
        Step(
            r"= s + 2 z\,s\,(1 - s)\,c\,(1 + 3 a z^2), \quad s = \sigma(2u)",
            r"$(1 + \tanh u)/2 = \sigma(2u)$, so $1 - \tanh^2 u = 4 s (1 - s)$",
            lambda z: (
                logistic(2 * inner(z))
                + 2 * z * logistic(2 * inner(z)) * (1 - logistic(2 * inner(z))) * C * (1 + 3 * A * z**2)
            ),
        ),
    ),
    "Hendrycks and Gimpel 2016",
    drawing(normal(5)),
    fun=activations.gelu_tanh,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: z / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3))),
    oracles=(Oracle("activations.gelu_tanh_prime", activations.gelu_tanh_prime, "z", "last"),),
    point="z, shape (5,)",
)

DERIVATIONS = (GELU, GELU_TANH)
