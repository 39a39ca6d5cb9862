"""Gradient descent on a quadratic: how fast the error shrinks, and with which step."""

import jax
import jax.numpy as jnp

from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal, spd
from functional_dl.derivations.step import Oracle, Step

ERROR, RATE = "the error after k steps", "its size"
COUNT = 5


def extremes(a: Array) -> tuple[Array, Array]:
    """mu and L: the smallest and the largest eigenvalue."""
    values = jnp.linalg.eigvalsh(a)
    return values[0], values[-1]


def best_step(a: Array) -> Array:
    """alpha = 2 / (mu + L)."""
    low, high = extremes(a)
    return 2 / (low + high)


def minimum(a: Array, b: Array) -> Array:
    return jnp.linalg.solve(a, b)


def descend(a: Array, b: Array, x0: Array, alpha: Array) -> Array:
    """x_{k+1} = x_k - alpha (A x_k - b), COUNT times."""
    x = x0
    for _ in range(COUNT):
        x = x - alpha * (a @ x - b)
    return x


def error(a: Array, b: Array, x0: Array) -> Array:
    return descend(a, b, x0, best_step(a)) - minimum(a, b)


def shrunk(a: Array) -> Array:
    """I - alpha A."""
    return jnp.eye(a.shape[0]) - best_step(a) * a


def factors(a: Array) -> tuple[Array, Array]:
    """(1 - alpha lambda_i) and the eigenvectors."""
    values, vectors = jnp.linalg.eigh(a)
    return 1 - best_step(a) * values, vectors


def coordinates(a: Array, b: Array, x0: Array) -> Array:
    """Q^T (x_0 - x*)."""
    return factors(a)[1].T @ (x0 - minimum(a, b))


def from_the_steepest(key: Key) -> tuple[Array, Array, Array]:
    """x_0 - x* along the eigenvector of the largest eigenvalue, where the bound is attained."""
    a, b, _ = DRAW(key)
    return a, b, minimum(a, b) + 1.7 * factors(a)[1][:, -1]


def by_loop(a: Array, b: Array, x0: Array) -> Array:
    """The same run as a compiled loop, with the gradient of 1/2 x^T A x - b^T x taken entry by entry."""

    def step(_, x):
        gradient = jnp.stack([jnp.vdot(a[i], x) - b[i] for i in range(a.shape[0])])
        return x - best_step(a) * gradient

    return jax.lax.fori_loop(0, COUNT, step, x0) - minimum(a, b)


DRAW = drawing(spd(3), normal(3), normal(3))

CONTRACTION = Derivation(
    "gradient_descent_contraction",
    "Gradient descent contracts on a quadratic",
    r"f(x) = \tfrac12 x^\top A x - b^\top x,\; \mu I \preceq A \preceq L I,\; \alpha = \frac{2}{\mu + L}"
    r" \quad\Rightarrow\quad"
    r" |x_k - x^*| \le \left( \frac{\kappa - 1}{\kappa + 1} \right)^{\!k} |x_0 - x^*|, \quad \kappa = \frac{L}{\mu}",
    (
        Step(
            r"x_k - x^*, \quad x_{i+1} = x_i - \alpha\,(A x_i - b)",
            "the error after k steps of descent; k is 5",
            error,
            chain=ERROR,
        ),
        Step(
            r"= x_{k-1} - x^* - \alpha\,A\,(x_{k-1} - x^*) = (I - \alpha A)\,(x_{k-1} - x^*) = (I - \alpha A)^k\,(x_0"
            r" - x^*)",
            r"$b = A x^*$, so every step multiplies the error by the same matrix",
            lambda a, b, x0: jnp.linalg.matrix_power(shrunk(a), COUNT) @ (x0 - minimum(a, b)),
            chain=ERROR,
        ),
        Step(
            r"= Q \operatorname{diag}\!\left( (1 - \alpha \lambda_i)^k \right) Q^\top (x_0 - x^*)",
            r"$A = Q \operatorname{diag}(\lambda) Q^\top$: every eigendirection shrinks by its own factor",
            lambda a, b, x0: factors(a)[1] @ (factors(a)[0] ** COUNT * coordinates(a, b, x0)),
            chain=ERROR,
        ),
        Step(
            r"|x_k - x^*|",
            "the size of the error",
            lambda a, b, x0: jnp.linalg.norm(error(a, b, x0)),
            chain=RATE,
        ),
        Step(
            r"= \sqrt{\sum_i (1 - \alpha \lambda_i)^{2k}\, c_i^2}, \quad c = Q^\top (x_0 - x^*)",
            "Q is orthogonal and keeps lengths",
            lambda a, b, x0: jnp.sqrt(jnp.sum(factors(a)[0] ** (2 * COUNT) * coordinates(a, b, x0) ** 2)),
            chain=RATE,
        ),
        Step(
            r"\le \max_i |1 - \alpha \lambda_i|^k\, |x_0 - x^*|",
            "every factor is at most the largest; equal where the error lies along that eigenvector",
            lambda a, b, x0: jnp.max(jnp.abs(factors(a)[0])) ** COUNT * jnp.linalg.norm(x0 - minimum(a, b)),
            kind="upper_bound",
            tight=from_the_steepest,
            chain=RATE,
        ),
        Step(
            r"= \max\left( |1 - \alpha \mu|, |1 - \alpha L| \right)^k\, |x_0 - x^*|",
            r"$|1 - \alpha \lambda|$ is convex in $\lambda$ and largest at an end of $[\mu, L]$",
            lambda a, b, x0: (
                jnp.maximum(jnp.abs(1 - best_step(a) * extremes(a)[0]), jnp.abs(1 - best_step(a) * extremes(a)[1]))
                ** COUNT
                * jnp.linalg.norm(x0 - minimum(a, b))
            ),
            chain=RATE,
        ),
        Step(
            r"= \left( \frac{L - \mu}{L + \mu} \right)^{\!k} |x_0 - x^*|",
            r"with $\alpha = 2 / (\mu + L)$ both ends are equal, and no other step is better",
            lambda a, b, x0: (
                ((extremes(a)[1] - extremes(a)[0]) / (extremes(a)[1] + extremes(a)[0])) ** COUNT
                * jnp.linalg.norm(x0 - minimum(a, b))
            ),
            chain=RATE,
        ),
        Step(
            r"= \left( \frac{\kappa - 1}{\kappa + 1} \right)^{\!k} |x_0 - x^*|",
            r"divided by $\mu$: the condition number alone decides",
            lambda a, b, x0: (
                ((extremes(a)[1] / extremes(a)[0] - 1) / (extremes(a)[1] / extremes(a)[0] + 1)) ** COUNT
                * jnp.linalg.norm(x0 - minimum(a, b))
            ),
            chain=RATE,
        ),
    ),
    "Nesterov 2018, section 2.1.5; Boyd and Vandenberghe 2004, section 9.3",
    DRAW,
    oracles=(
        Oracle("a compiled run of descent", by_loop, ERROR),
        Oracle("a compiled run of descent", lambda *point: jnp.linalg.norm(by_loop(*point)), RATE, "first"),
        Oracle(
            "numpy's condition number",
            lambda a, b, x0: _by_condition(a) * jnp.linalg.norm(x0 - jnp.linalg.inv(a) @ b),
            RATE,
            "last",
        ),
    ),
    point="A, shape (3, 3), symmetric and positive definite; b and x_0, shape (3,)",
)


def _by_condition(a):
    """((kappa - 1) / (kappa + 1))^k with kappa from the singular values."""
    kappa = jnp.linalg.cond(a)
    return ((kappa - 1) / (kappa + 1)) ** COUNT


def gap(a: Array, b: Array, x: Array) -> Array:
    """f(x) - f(x*)."""
    objective = lambda v: v @ a @ v / 2 - b @ v
    return objective(x) - objective(minimum(a, b))


def smoothness_step(a: Array, b: Array, x: Array) -> Array:
    """x - (1/L) grad f(x)."""
    return x - (a @ x - b) / extremes(a)[1]


def along_the_largest(key: Key) -> tuple[Array, Array, Array]:
    """A gradient along the eigenvector of the largest eigenvalue."""
    a, b, _ = DRAW(key)
    return a, b, minimum(a, b) + 0.8 * factors(a)[1][:, -1]


def objective(a: Array, b: Array, x: Array) -> Array:
    return x @ a @ x / 2 - b @ x


DESCENT_LEMMA = Derivation(
    "descent_lemma",
    "A step of length 1/L descends",
    r"\mu I \preceq A \preceq L I,\; x^+ = x - \tfrac1L \nabla f(x) \quad\Rightarrow\quad f(x^+) \le f(x)"
    r" - \tfrac{1}{2L} |\nabla f(x)|^2",
    (
        Step(
            r"f(x^+), \quad x^+ = x - \tfrac1L g,\; g = A x - b",
            "the objective after a step",
            lambda a, b, x: objective(a, b, smoothness_step(a, b, x)),
            chain=RATE,
        ),
        Step(
            r"= f(x) + g^\top (x^+ - x) + \tfrac12 (x^+ - x)^\top A\, (x^+ - x)",
            "Taylor's formula, exact for a quadratic",
            lambda a, b, x: (
                objective(a, b, x)
                + (a @ x - b) @ (smoothness_step(a, b, x) - x)
                + (smoothness_step(a, b, x) - x) @ a @ (smoothness_step(a, b, x) - x) / 2
            ),
            chain=RATE,
        ),
        Step(
            r"= f(x) - \tfrac1L |g|^2 + \tfrac{1}{2 L^2}\, g^\top A\, g",
            "the step put in",
            lambda a, b, x: (
                objective(a, b, x)
                - jnp.sum((a @ x - b) ** 2) / extremes(a)[1]
                + (a @ x - b) @ a @ (a @ x - b) / (2 * extremes(a)[1] ** 2)
            ),
            chain=RATE,
        ),
        Step(
            r"\le f(x) - \tfrac1L |g|^2 + \tfrac{1}{2L} |g|^2",
            r"$g^\top A\, g \le L |g|^2$, with equality along the eigenvector of L",
            lambda a, b, x: (
                objective(a, b, x)
                - jnp.sum((a @ x - b) ** 2) / extremes(a)[1]
                + jnp.sum((a @ x - b) ** 2) / (2 * extremes(a)[1])
            ),
            kind="upper_bound",
            tight=along_the_largest,
            chain=RATE,
        ),
        Step(
            r"= f(x) - \tfrac{1}{2L} |g|^2",
            "the two terms together: less, unless the gradient is 0",
            lambda a, b, x: objective(a, b, x) - jnp.sum((a @ x - b) ** 2) / (2 * extremes(a)[1]),
            chain=RATE,
        ),
    ),
    "Nesterov 2018, section 1.2.3",
    DRAW,
    oracles=(
        Oracle(
            "one step, entry by entry",
            lambda a, b, x: (
                gap(a, b, x - jnp.stack([a[i] @ x - b[i] for i in range(3)]) / jnp.linalg.norm(a, 2))
                + objective(a, b, jnp.linalg.inv(a) @ b)
            ),
            RATE,
            "first",
        ),
        Oracle(
            "the spectral norm for L",
            lambda a, b, x: (
                gap(a, b, x)
                + objective(a, b, jnp.linalg.inv(a) @ b)
                - jnp.sum((a @ x - b) ** 2) / (2 * jnp.linalg.norm(a, 2))
            ),
            RATE,
            "last",
        ),
    ),
    point="A, shape (3, 3), symmetric and positive definite; b and x, shape (3,)",
)

DERIVATIONS = (CONTRACTION, DESCENT_LEMMA)
