"""Piecewise activations: ReLU, leaky ReLU, ELU, with what is taken at their kinks."""

from typing import Any

import jax.numpy as jnp

from functional_dl import activations
from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.kinked import at_kink
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import away, drawing, slope_of
from functional_dl.derivations.step import Oracle, Step

LEAK = 0.01


def step(condition: Any) -> Any:
    """1(condition)."""
    return jnp.where(condition, 1.0, 0.0)


def side(z: Array) -> Any:
    """c(z) = 1(z > 0) + alpha 1(z < 0)."""
    return step(z > 0) + LEAK * step(z < 0)


def on_zero(key: Key) -> Any:
    """A point on the kink and around it."""
    return ((jnp.asarray([0.0, 1.0, -1.0]),),)


RELU_AT_0, RELU_INTERVAL = at_kink("f", "0", activations.relu, 0.0, (0.0, 1.0), 0.0, "at z = 0")
RELU = Derivation(
    "relu",
    "Derivative of the rectified linear unit",
    r"f(z) = \max(z, 0) \quad\Rightarrow\quad f'(z) = \mathbf{1}(z > 0) \quad (z \ne 0)",
    (
        Step(
            r"f'(z) = \lim_{h \to 0} \frac{\max(z + h, 0) - \max(z, 0)}{h}",
            "the definition of the derivative, for z other than 0",
            slope_of(lambda z: jnp.maximum(z, 0.0)),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{\mathbf{1}(z > 0)\,(z + h) - \mathbf{1}(z > 0)\,z}{h}",
            r"for $|h| < |z|$ both arguments lie on one side of 0, where max is the identity or zero",
            Limit(lambda h, z: (step(z > 0) * (z + h) - step(z > 0) * z) / h),
        ),
        Step(
            r"= \lim_{h \to 0} \mathbf{1}(z > 0)\,\frac{h}{h}",
            "the indicator is taken out",
            Limit(lambda h, z: step(z > 0) * (h / h)),
        ),
        Step(r"= \mathbf{1}(z > 0)", "the quotient is 1 for every h", lambda z: step(z > 0), kind="limit"),
        *RELU_AT_0,
    ),
    "Nair and Hinton 2010; Glorot, Bordes, Bengio 2011",
    drawing(away(4)),
    fun=activations.relu,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: z if z > 0 else 0 * z,
    oracles=(Oracle("activations.relu_prime", activations.relu_prime, "z", "last"), RELU_INTERVAL),
    kinks=("z = 0: slopes 0 and 1; taken: 0, so that a unit at rest stays at rest.",),
    kink_points=on_zero,
    point="z, shape (4,), away from 0",
)

LEAKY_AT_0, LEAKY_INTERVAL = at_kink("f", "0", activations.leaky_relu, 0.0, (LEAK, 1.0), 1.0, "at z = 0")
LEAKY_RELU = Derivation(
    "leaky_relu",
    "Derivative of the leaky rectified linear unit",
    r"f(z) = \max(z, \alpha z),\; 0 < \alpha < 1 \quad\Rightarrow\quad f'(z) = \mathbf{1}(z > 0)"
    r" + \alpha\,\mathbf{1}(z < 0)"
    r" \quad (z \ne 0)",
    (
        Step(
            r"f'(z) = \lim_{h \to 0} \frac{\max(z + h, \alpha (z + h)) - \max(z, \alpha z)}{h}",
            "the definition of the derivative, for z other than 0",
            slope_of(lambda z: jnp.maximum(z, LEAK * z)),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{c(z)\,(z + h) - c(z)\,z}{h}, \quad c(z) = \mathbf{1}(z > 0)"
            r" + \alpha\,\mathbf{1}(z < 0)",
            r"for $|h| < |z|$ both arguments lie on one side of 0, where f is multiplication by c(z)",
            Limit(lambda h, z: (side(z) * (z + h) - side(z) * z) / h),
        ),
        Step(
            r"= \mathbf{1}(z > 0) + \alpha\,\mathbf{1}(z < 0)",
            "the difference is c(z) h for every such h",
            side,
            kind="limit",
        ),
        Step(
            r"= \begin{cases} 1 & z \ge 0 \\ \alpha & z < 0 \end{cases}",
            "written by cases, with the convention at 0",
            lambda z: jnp.where(z >= 0, 1.0, LEAK),
        ),
        *LEAKY_AT_0,
    ),
    "Maas, Hannun, Ng 2013",
    drawing(away(4)),
    fun=activations.leaky_relu,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: z if z > 0 else LEAK * z,
    oracles=(Oracle("activations.leaky_relu_prime", activations.leaky_relu_prime, "z", "last"), LEAKY_INTERVAL),
    kinks=("z = 0: slopes 0.01 and 1; taken: 1, as in JAX (PyTorch takes 0.01).",),
    kink_points=on_zero,
    point="z, shape (4,), away from 0; the slope alpha is 0.01",
)

ELU_AT_0, ELU_INTERVAL = at_kink("f", "0", activations.elu, 0.0, (1.0, 1.0), 1.0, "at z = 0")
ELU = Derivation(
    "elu",
    "Derivative of the exponential linear unit",
    r"f(z) = \begin{cases} z & z > 0 \\ e^z - 1 & z \le 0 \end{cases} \quad\Rightarrow\quad f'(z) = 1 + \min(f(z), 0)",
    (
        Step(
            r"f'(z) = \lim_{h \to 0} \frac{f(z + h) - f(z)}{h}",
            "the definition of the derivative",
            slope_of(lambda z: jnp.where(z > 0, z, jnp.exp(z) - 1)),
        ),
        Step(
            r"= \lim_{h \to 0} \begin{cases} h / h & z > 0 \\ (e^{z + h} - e^z) / h & z < 0 \end{cases}",
            r"for $|h| < |z|$ both arguments lie on one side of 0; the ones cancel",
            Limit(lambda h, z: jnp.where(z > 0, h / h, (jnp.exp(z + h) - jnp.exp(z)) / h)),
        ),
        Step(
            r"= \lim_{h \to 0} \begin{cases} 1 & z > 0 \\ e^z\,(e^h - 1)/h & z < 0 \end{cases}",
            r"$e^z$ is taken out",
            Limit(lambda h, z: jnp.where(z > 0, 1.0, jnp.exp(z) * jnp.expm1(h) / h)),
        ),
        Step(
            r"= \begin{cases} 1 & z > 0 \\ e^z & z < 0 \end{cases}",
            r"$(e^h - 1)/h$ tends to 1",
            lambda z: jnp.where(z > 0, 1.0, jnp.exp(z)),
            kind="limit",
        ),
        Step(
            r"= 1 + \min(f(z), 0)",
            r"$e^z = f(z) + 1$ on the left: the output is enough, the input need not be kept",
            lambda z: 1 + jnp.minimum(activations.elu(z), 0.0),
        ),
        *ELU_AT_0,
    ),
    "Clevert, Unterthiner, Hochreiter 2016",
    drawing(away(4)),
    fun=activations.elu,
    arguments=("z",),
    slope=True,
    exact=lambda mp, z: z if z > 0 else mp.expm1(z),
    oracles=(Oracle("activations.elu_prime", activations.elu_prime, "z", "last"), ELU_INTERVAL),
    kinks=("None for alpha = 1: both sides have slope 1 at 0.  The second derivative jumps there.",),
    kink_points=on_zero,
    point="z, shape (4,), away from 0",
)

DERIVATIONS = (RELU, LEAKY_RELU, ELU)
