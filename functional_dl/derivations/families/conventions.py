"""Where popular texts go wrong: whose half it is, whose 1/m, delta with respect to what."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl import activations, losses
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, pulled_back, uniform
from functional_dl.derivations.step import Oracle, Step

X = (1.0, 2.0, 3.0, 4.0)


def residuals(theta: Array, y: Array) -> Array:
    """theta_0 + theta_1 x_i - y_i at the points x = 1, 2, 3, 4."""
    return theta[0] + theta[1] * jnp.asarray(X) - y


def features() -> Array:
    """Rows (1, x_i)."""
    return jnp.stack([jnp.ones(len(X)), jnp.asarray(X)], 1)


def half_sum(theta: Array, y: Array) -> Array:
    return jnp.sum(residuals(theta, y) ** 2) / 2


def half_mean(theta: Array, y: Array) -> Array:
    return jnp.sum(residuals(theta, y) ** 2) / (2 * len(X))


def squares_chains(cost: Callable[..., Any], factor: float, symbol: str) -> tuple[Step, ...]:
    """The chains of theta and y for the cost `factor` * 1/2 sum of squares, `symbol` being factor in LaTeX."""
    return (
        Step(
            r"\bar\theta_j = \bar J \lim_{h \to 0} \frac{J(\theta + h e_j) - J(\theta)}{h}",
            "the definition of the cotangent",
            pulled_back(cost, 0),
            chain="theta",
        ),
        Step(
            rf"= \bar J\, {symbol}\sum_i \tfrac12 \cdot 2\,(\theta_0 + \theta_1 x_i - y_i)\,"
            r" \frac{\partial (\theta_0 + \theta_1 x_i)}{\partial \theta_j}",
            "term by term: the square's 2 meets the half, then the chain rule",
            lambda theta, y, ct: (
                ct
                * factor
                * sum(
                    0.5 * 2 * r * jnp.stack([jnp.ones_like(r), x * jnp.ones_like(r)])
                    for r, x in zip(residuals(theta, y), X)
                )
            ),
            kind="limit",
            chain="theta",
        ),
        Step(
            rf"= \bar J\, {symbol}\left( \sum_i r_i,\; \sum_i r_i x_i \right), \quad r_i = \theta_0 + \theta_1 x_i"
            rf" - y_i",
            "the two entries: 1 and $x_i$",
            lambda theta, y, ct: (
                ct * factor * jnp.stack([residuals(theta, y).sum(), jnp.vdot(residuals(theta, y), jnp.asarray(X))])
            ),
            chain="theta",
        ),
        Step(
            rf"\bar\theta = \bar J\, {symbol}X^\top (X \theta - y)",
            "as matrices, rows $(1, x_i)$",
            lambda theta, y, ct: ct * factor * features().T @ (features() @ theta - y),
            chain="theta",
        ),
        Step(
            r"\bar y_i = \bar J \lim_{h \to 0} \frac{J(y + h e_i) - J(y)}{h}",
            "the definition of the cotangent",
            pulled_back(cost, 1),
            chain="y",
        ),
        Step(
            rf"= -\bar J\, {symbol}(\theta_0 + \theta_1 x_i - y_i)",
            "one term of the sum, by `half_squared_error`",
            lambda theta, y, ct: -ct * factor * residuals(theta, y),
            kind="limit",
            chain="y",
        ),
    )


HALF_SUM = Derivation(
    "half_sum_of_squares",
    "Half the sum of squares of a line",
    r"J = \tfrac12 \sum_i (\theta_0 + \theta_1 x_i - y_i)^2 \quad\Rightarrow\quad \nabla J = X^\top (X \theta - y)",
    squares_chains(half_sum, 1.0, ""),
    "Goodfellow, Bengio, Courville 2016, section 5.1.4",
    drawing(normal(2), normal(4), normal()),
    fun=half_sum,
    arguments=("theta", "y"),
    point="theta, shape (2,); y, shape (4,); the cotangent of J, a number; x = 1, 2, 3, 4",
    notes=(
        r"The gradient of this J is not $\frac1m X^\top (X \theta"
        r" - y)$, as some texts have it: that belongs to the J with "
        r"$\frac{1}{2m}$ (`half_mean_of_squares`).  The two differ by the factor m, and so do their learning rates.",
    ),
)

TWO_COSTS = "both gradients side by side"
HALF_MEAN = Derivation(
    "half_mean_of_squares",
    "Half the mean of squares of a line",
    r"J = \tfrac{1}{2m} \sum_i (\theta_0 + \theta_1 x_i - y_i)^2 \quad\Rightarrow\quad"
    r" \nabla J = \tfrac1m X^\top (X \theta - y)",
    (
        *squares_chains(half_mean, 1 / len(X), r"\tfrac1m "),
        Step(
            r"m\, \bar J\, \tfrac1m X^\top (X \theta - y)",
            "m times the gradient of the half mean",
            lambda theta, y, ct: len(X) * (ct / len(X) * features().T @ residuals(theta, y)),
            chain=TWO_COSTS,
        ),
        Step(
            r"= \bar J\, X^\top (X \theta - y)",
            r"m cancels: this is the gradient of $\frac12 \sum_i r_i^2$, which has no $\frac1m$",
            lambda theta, y, ct: ct * features().T @ residuals(theta, y),
            chain=TWO_COSTS,
        ),
    ),
    "Goodfellow, Bengio, Courville 2016, section 5.1.4",
    drawing(normal(2), normal(4), normal()),
    fun=half_mean,
    arguments=("theta", "y"),
    oracles=(
        Oracle(
            "the limit for the half sum",
            lambda theta, y, ct: pulled_back(half_sum, 0)(theta, y, ct),
            TWO_COSTS,
            tolerance=2.0**-30,
        ),
    ),
    point="theta, shape (2,); y, shape (4,); the cotangent of J, a number; x = 1, 2, 3, 4",
    notes=("The half cancels the square's 2; the 1/m is the mean's and stays.",),
)


def decay(w: Array, strength: Array) -> Array:
    return strength / 2 * jnp.sum(w**2)


WEIGHT_DECAY = Derivation(
    "weight_decay",
    "The L2 penalty with its half",
    r"r = \tfrac{\lambda}{2} \sum_i w_i^2 \quad\Rightarrow\quad \bar w = \bar r\,\lambda\,w",
    (
        Step(
            r"\bar w_j = \bar r \lim_{h \to 0} \frac{r(w + h e_j) - r(w)}{h}",
            "the definition of the cotangent",
            pulled_back(decay, 0),
            chain="w",
        ),
        Step(
            r"= \bar r\, \frac{\lambda}{2} \lim_{h \to 0} \frac{2 h w_j + h^2}{h}",
            "all other terms cancel; the square multiplied out",
            Limit(lambda h, w, lam, ct: ct * lam / 2 * (2 * h * w + h**2) / h),
            chain="w",
        ),
        Step(
            r"= \bar r\,\lambda\,w_j",
            "the half cancels the 2: a gradient step shrinks w by the factor 1 - (learning rate) lambda",
            lambda w, lam, ct: ct * lam * w,
            kind="limit",
            chain="w",
        ),
        Step(
            r"\bar\lambda = \bar r \lim_{h \to 0} \frac{(\lambda + h) - \lambda}{2h} \sum_i w_i^2",
            "the definition of the cotangent of the strength",
            pulled_back(decay, 1),
            chain="lambda",
        ),
        Step(
            r"= \tfrac12\, \bar r \sum_i w_i^2",
            "r is linear in it",
            lambda w, lam, ct: ct / 2 * jnp.sum(w**2),
            kind="limit",
            chain="lambda",
        ),
    ),
    "Krogh and Hertz 1992",
    drawing(normal(4), uniform(low=0.1, high=1.0), normal()),
    fun=decay,
    arguments=("w", "lambda"),
    point="w, shape (4,); lambda and the cotangent of r, numbers",
    notes=("`l2` has no half: its gradient is 2 w.  An L2 penalty means nothing until it is said which one it is.",),
)

WITH_A, WITH_Z = "the derivative with respect to a", "the derivative with respect to z"


def cost_of(a: Array, y: Array) -> Array:
    return jnp.sum((a - y) ** 2) / 2


def cost_quotient(moved: Callable[..., Any]) -> Limit:
    """(C(moved(h e_i)) - C) / h for every i."""

    def quotient(h, z, y):
        here = cost_of(moved(z, jnp.zeros_like(z)), y)
        return jax.vmap(lambda e: (cost_of(moved(z, h * e), y) - here) / h)(jnp.eye(z.size))

    return Limit(quotient)


DELTA_OF_Z = Derivation(
    "delta_is_of_z",
    "Delta is a derivative with respect to z, not to a",
    r"a = \sigma(z),\; C = \tfrac12 |a - y|^2 \quad\Rightarrow\quad \delta = \frac{\partial C}{\partial z} = (a"
    r" - y) \odot a (1 - a)"
    r" \;\ne\; \frac{\partial C}{\partial a} = a - y",
    (
        Step(
            r"\delta_i := \frac{\partial C}{\partial z_i} = \lim_{h \to 0} \frac{C(\sigma(z + h e_i))"
            r" - C(\sigma(z))}{h}",
            "the definition of delta: z moves",
            cost_quotient(lambda z, d: jax.nn.sigmoid(z + d)),
            chain=WITH_Z,
        ),
        Step(
            r"= \sum_k (a_k - y_k)\, \sigma'(z_k)\, \delta_{ki}",
            "the chain rule through a",
            lambda z, y: jnp.einsum(
                "k,k,ki->i",
                jax.nn.sigmoid(z) - y,
                jax.nn.sigmoid(z) * (1 - jax.nn.sigmoid(z)),
                jnp.eye(z.size),
            ),
            kind="limit",
            chain=WITH_Z,
        ),
        Step(
            r"= (a_i - y_i)\, a_i (1 - a_i)",
            "one term is left: the factor f'(z) belongs to delta",
            lambda z, y: (jax.nn.sigmoid(z) - y) * jax.nn.sigmoid(z) * (1 - jax.nn.sigmoid(z)),
            chain=WITH_Z,
        ),
        Step(
            r"\frac{\partial C}{\partial a_i} = \lim_{h \to 0} \frac{C(a + h e_i) - C(a)}{h}",
            "what some texts call delta: a moves",
            cost_quotient(lambda z, d: jax.nn.sigmoid(z) + d),
            chain=WITH_A,
        ),
        Step(
            r"= \lim_{h \to 0} \left[ (a_i - y_i) + \tfrac{h}{2} \right]",
            "the square multiplied out",
            Limit(lambda h, z, y: jax.nn.sigmoid(z) - y + h / 2),
            chain=WITH_A,
        ),
        Step(
            r"= a_i - y_i",
            r"without the factor: with this in the place of delta, $\delta (a^{l-1})^\top$ is not $\partial C /"
            r" \partial W$",
            lambda z, y: jax.nn.sigmoid(z) - y,
            kind="limit",
            chain=WITH_A,
        ),
    ),
    "Rumelhart, Hinton, Williams 1986",
    drawing(normal(3), normal(3)),
    oracles=(
        Oracle("half_squared_error and sigmoid", lambda z, y: _both(z, y)[0], WITH_Z),
        Oracle("half_squared_error alone", lambda z, y: _both(z, y)[1], WITH_A),
    ),
    point="z and y, each of shape (3,)",
)


def _both(z, y):
    """dC/dz and dC/da from the tables of losses and activations."""
    a = activations.sigmoid(z)
    a_bar = losses.half_squared_error_prime(a, y)
    return a_bar * activations.sigmoid_prime(z), a_bar


DERIVATIONS = (HALF_SUM, HALF_MEAN, WEIGHT_DECAY, DELTA_OF_Z)
