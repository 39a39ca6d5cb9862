"""Losses of two classes: binary cross-entropy from probabilities and from logits, and the hinge."""

import jax.numpy as jnp

from functional_dl import losses
from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.kinked import at_kink
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, signs, slope_of, uniform
from functional_dl.derivations.step import Oracle, Step


def bernoulli(p: Array, t: Array) -> Array:
    """-t ln p - (1 - t) ln(1 - p)."""
    return -t * jnp.log(p) - (1 - t) * jnp.log(1 - p)


def sigma(z: Array) -> Array:
    return 1 / (1 + jnp.exp(-z))


BINARY_CROSS_ENTROPY = Derivation(
    "binary_cross_entropy",
    "Binary cross-entropy from a probability",
    r"l = -t \ln p - (1 - t) \ln(1 - p) \quad\Rightarrow\quad \frac{\partial l}{\partial p} = \frac{p - t}{p\,(1 - p)}",
    (
        Step(
            r"\frac{\partial l}{\partial p} = \lim_{h \to 0} \frac{l(p + h, t) - l(p, t)}{h}",
            "the definition of the partial derivative",
            slope_of(bernoulli, 0),
            chain="p",
        ),
        Step(
            r"= \lim_{h \to 0} \left[ -\frac{t}{h} \ln\left(1 + \frac{h}{p}\right)"
            r" - \frac{1 - t}{h} \ln\left(1 - \frac{h}{1 - p}\right) \right]",
            "differences of logarithms are logarithms of quotients",
            Limit(lambda h, p, t: -t / h * jnp.log1p(h / p) - (1 - t) / h * jnp.log1p(-h / (1 - p))),
            chain="p",
        ),
        Step(
            r"= -\frac{t}{p} + \frac{1 - t}{1 - p}",
            r"$\ln(1 + u)/u$ tends to 1 for $u = h/p$ and $u = -h/(1 - p)$",
            lambda p, t: -t / p + (1 - t) / (1 - p),
            kind="limit",
            chain="p",
        ),
        Step(
            r"= \frac{-t\,(1 - p) + (1 - t)\,p}{p\,(1 - p)}",
            "a common denominator",
            lambda p, t: (-t * (1 - p) + (1 - t) * p) / (p * (1 - p)),
            chain="p",
        ),
        Step(r"= \frac{p - t}{p\,(1 - p)}", "t p cancels", lambda p, t: (p - t) / (p * (1 - p)), chain="p"),
        Step(
            r"\frac{\partial l}{\partial t} = \lim_{h \to 0} \frac{l(p, t + h) - l(p, t)}{h}",
            "the definition of the partial derivative",
            slope_of(bernoulli, 1),
            chain="t",
        ),
        Step(
            r"= \lim_{h \to 0} \frac{-h \ln p + h \ln(1 - p)}{h}",
            "l is linear in t",
            Limit(lambda h, p, t: (-h * jnp.log(p) + h * jnp.log(1 - p)) / h),
            chain="t",
        ),
        Step(
            r"= \ln \frac{1 - p}{p}",
            "h cancels: minus the log-odds",
            lambda p, t: jnp.log((1 - p) / p),
            kind="limit",
            chain="t",
        ),
    ),
    "Goodfellow, Bengio, Courville 2016, section 6.2.2.2",
    drawing(uniform(4, low=0.15, high=0.8), uniform(4, low=0.2, high=0.8)),
    fun=losses.binary_cross_entropy,
    arguments=("p", "t"),
    slope=True,
    exact=lambda mp, p, t: -t * mp.log(p) - (1 - t) * mp.log(1 - p),
    oracles=(Oracle("losses.binary_cross_entropy_prime", losses.binary_cross_entropy_prime, "p", "last"),),
    point="p and t in (0, 1), each of shape (4,)",
)


def chords(h: Array, z: Array, t: Array) -> tuple[Array, Array]:
    """The slopes of the two chords: of l between sigma(z) and sigma(z + h), and of sigma between z and z + h."""
    change = sigma(z + h) - sigma(z)
    return (bernoulli(sigma(z + h), t) - bernoulli(sigma(z), t)) / change, change / h


SIGMOID_CROSS_ENTROPY = Derivation(
    "sigmoid_cross_entropy",
    "Sigmoid and binary cross-entropy",
    r"l = -t \ln \sigma(z) - (1 - t) \ln(1 - \sigma(z)) \quad\Rightarrow\quad \frac{\partial l}{\partial z}"
    r" = \sigma(z) - t",
    (
        Step(
            r"\frac{\partial l}{\partial z} = \lim_{h \to 0} \frac{l(\sigma(z + h), t) - l(\sigma(z), t)}{h}",
            "the definition of the partial derivative",
            slope_of(lambda z, t: bernoulli(sigma(z), t), 0),
            chain="z",
        ),
        Step(
            r"= \lim_{h \to 0} \frac{l(\sigma(z + h), t) - l(\sigma(z), t)}{\sigma(z + h) - \sigma(z)}"
            r" \cdot \frac{\sigma(z + h) - \sigma(z)}{h}",
            r"multiplied and divided by the change of $\sigma$, which is never 0: the chain rule",
            Limit(lambda h, z, t: chords(h, z, t)[0] * chords(h, z, t)[1]),
            chain="z",
        ),
        Step(
            r"= \frac{p - t}{p\,(1 - p)} \cdot p\,(1 - p), \quad p = \sigma(z)",
            "the derivations `binary_cross_entropy` and `sigmoid`",
            lambda z, t: (sigma(z) - t) / (sigma(z) * (1 - sigma(z))) * (sigma(z) * (1 - sigma(z))),
            kind="limit",
            chain="z",
        ),
        Step(
            r"= \sigma(z) - t",
            "p (1 - p) cancels, which in numbers it does not do where p rounds to 0 or 1: work from logits",
            lambda z, t: sigma(z) - t,
            chain="z",
        ),
        Step(
            r"\frac{\partial l}{\partial t} = \lim_{h \to 0} \frac{l(\sigma(z), t + h) - l(\sigma(z), t)}{h}",
            "the definition of the partial derivative",
            slope_of(lambda z, t: bernoulli(sigma(z), t), 1),
            chain="t",
        ),
        Step(
            r"= \ln \frac{1 - \sigma(z)}{\sigma(z)}",
            "l is linear in t (`binary_cross_entropy`)",
            lambda z, t: jnp.log((1 - sigma(z)) / sigma(z)),
            kind="limit",
            chain="t",
        ),
        Step(
            r"= \ln e^{-z}",
            r"$1 - \sigma(z) = e^{-z} \sigma(z)$",
            lambda z, t: jnp.log(jnp.exp(-z)),
            chain="t",
        ),
        Step(r"= -z", "the logit is the log-odds", lambda z, t: -z, chain="t"),
    ),
    "Goodfellow, Bengio, Courville 2016, section 6.2.2.2",
    drawing(normal(4), uniform(4, low=0.2, high=0.8)),
    fun=losses.sigmoid_cross_entropy,
    arguments=("z", "t"),
    slope=True,
    exact=lambda mp, z, t: mp.log1p(mp.exp(z)) - t * z,
    oracles=(Oracle("losses.sigmoid_cross_entropy_prime", losses.sigmoid_cross_entropy_prime, "z", "last"),),
    point="z and t in (0, 1), each of shape (4,)",
)


def hinge(z: Array, t: Array) -> Array:
    return jnp.maximum(1 - t * z, 0.0)


def violated(z: Array, t: Array) -> Array:
    """1(t z < 1)."""
    return jnp.where(t * z < 1, 1.0, 0.0)


HINGE_AT_1, HINGE_INTERVAL = at_kink(
    "l", "1", lambda z: losses.hinge(z, jnp.ones_like(z)), 1.0, (-1.0, 0.0), 0.0, "at t z = 1, t = 1"
)


def hinge_draw(key: Key) -> tuple[Array, Array]:
    """Margins t z on either side of 1."""
    t, gap, side = drawing(signs(4), uniform(4, low=0.3, high=1.0), lambda k: jnp.asarray([-1.0, -1.0, 1.0, 1.0]))(key)
    return t * (1 + side * gap), t


HINGE = Derivation(
    "hinge",
    "Hinge loss",
    r"l = \max(0, 1 - t z),\; t = \pm 1 \quad\Rightarrow\quad \frac{\partial l}{\partial z} = -t\,\mathbf{1}(t z < 1)"
    r" \quad (t z \ne 1)",
    (
        Step(
            r"\frac{\partial l}{\partial z} = \lim_{h \to 0} \frac{\max(0, 1 - t (z + h)) - \max(0, 1 - t z)}{h}",
            "the definition of the partial derivative",
            slope_of(hinge, 0),
            chain="z",
        ),
        Step(
            r"= \lim_{h \to 0} \mathbf{1}(t z < 1)\, \frac{(1 - t z - t h) - (1 - t z)}{h}",
            r"for $|h| < |1 - t z|$ both margins lie on one side of 1",
            Limit(lambda h, z, t: violated(z, t) * ((1 - t * z - t * h) - (1 - t * z)) / h),
            chain="z",
        ),
        Step(
            r"= -t\,\mathbf{1}(t z < 1)",
            "the difference is -t h",
            lambda z, t: -t * violated(z, t),
            kind="limit",
            chain="z",
        ),
        Step(
            r"\frac{\partial l}{\partial t} = \lim_{h \to 0} \frac{\max(0, 1 - (t + h) z) - \max(0, 1 - t z)}{h}",
            "the same for t, were it a number like others",
            slope_of(hinge, 1),
            chain="t",
        ),
        Step(
            r"= \lim_{h \to 0} \mathbf{1}(t z < 1)\, \frac{-h z}{h}",
            "both margins lie on one side of 1",
            Limit(lambda h, z, t: violated(z, t) * (-h * z / h)),
            chain="t",
        ),
        Step(
            r"= -z\,\mathbf{1}(t z < 1)",
            "h cancels",
            lambda z, t: -z * violated(z, t),
            kind="limit",
            chain="t",
        ),
        *HINGE_AT_1,
    ),
    "Cortes and Vapnik 1995",
    hinge_draw,
    fun=lambda z, t: jnp.where(t * z < 1, 1 - t * z, 0.0),
    arguments=("z", "t"),
    slope=True,
    exact=lambda mp, z, t: 1 - t * z if t * z < 1 else 0 * z,
    oracles=(Oracle("losses.hinge_prime", losses.hinge_prime, "z", "last"), HINGE_INTERVAL),
    kinks=("t z = 1: slopes -t and 0; taken: 0, the margin being met.",),
    kink_points=lambda key: ((jnp.asarray([1.0, -1.0, 0.5]), jnp.asarray([1.0, -1.0, 1.0])),),
    point="z and t = -1 or 1, each of shape (4,), margins away from 1",
)

DERIVATIONS = (BINARY_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY, HINGE)
