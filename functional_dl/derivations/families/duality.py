"""Lagrangian duality: the support vector machine, and the solution of least norm."""

import jax
import jax.numpy as jnp

from functional_dl import losses
from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import drawing, normal
from functional_dl.derivations.step import Oracle, Step

DUAL, WEAK = "the dual function", "weak duality"
C = 10.0


def lagrangian(x: Array, y: Array, alpha: Array, w: Array, b: Array) -> Array:
    """|w|^2 / 2 + sum_i alpha_i (1 - y_i (w.x_i + b)), the slacks being gone."""
    return jnp.vdot(w, w) / 2 + jnp.vdot(alpha, 1 - y * (x @ w + b))


def with_slacks(x: Array, y: Array, alpha: Array, w: Array, b: Array, slack: Array) -> Array:
    """The whole Lagrangian, with multipliers C - alpha of the slacks' signs."""
    return (
        jnp.vdot(w, w) / 2 + C * slack.sum() + jnp.vdot(alpha, 1 - slack - y * (x @ w + b)) - jnp.vdot(C - alpha, slack)
    )


def combined(x: Array, y: Array, alpha: Array) -> Array:
    """w(alpha) = sum_i alpha_i y_i x_i."""
    return (alpha * y) @ x


def minimised(x: Array, y: Array, alpha: Array, w: Array, b: Array) -> Array:
    """min over w of the Lagrangian: it is quadratic with Hessian I, so central differences and one step are exact."""
    slack = jnp.abs(jnp.sin(x[:, 0]))  # any slacks will do
    value = lambda v: with_slacks(x, y, alpha, v, b, slack)
    gradient = jnp.stack([(value(w + e) - value(w - e)) / 2 for e in jnp.eye(w.size)])
    return value(w - gradient)


@jax.jit
def by_descent(x: Array, y: Array, alpha: Array, w: Array, b: Array) -> Array:
    """The same minimum by many short steps from 0."""
    value = lambda v: lagrangian(x, y, alpha, v, b)
    v = jnp.zeros_like(w)
    for _ in range(50):
        v = v - 0.5 * jnp.stack([(value(v + 0.5 * e) - value(v - 0.5 * e)) for e in jnp.eye(w.size)])
    return value(v)


def dual(x: Array, y: Array, alpha: Array) -> Array:
    w = combined(x, y, alpha)
    return alpha.sum() - jnp.vdot(w, w) / 2


def primal(x: Array, y: Array, w: Array, b: Array) -> Array:
    return jnp.vdot(w, w) / 2 + C * jnp.maximum(0.0, 1 - y * (x @ w + b)).sum()


def draw(key: Key) -> tuple[Array, ...]:
    """Six points of two classes, multipliers with sum alpha_i y_i = 0 in [0, C], any w and b."""
    x, raw, w, b = drawing(normal(6, 2), normal(6), normal(2), normal())(key)
    y = jnp.asarray([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    share = jnp.exp(raw)
    alpha = jnp.concatenate([share[:3] / share[:3].sum(), share[3:] / share[3:].sum()])
    return x, y, alpha, w, b


def at_own_w(key: Key) -> tuple[Array, ...]:
    """w = w(alpha), where only complementary slackness is missing."""
    x, y, alpha, _, b = draw(key)
    return x, y, alpha, combined(x, y, alpha), b


def two_points(key: Key) -> tuple[Array, ...]:
    """One point of each class, where the optimum is known: both inequalities are equalities."""
    x, _, _, _, _ = draw(key)
    x = jnp.stack([x[0] + jnp.asarray([1.5, 0.0]), x[0] - jnp.asarray([0.5, 1.0])])
    d = x[0] - x[1]
    w = 2 * d / jnp.vdot(d, d)
    alpha = jnp.full(2, 2 / jnp.vdot(d, d))
    return x, jnp.asarray([1.0, -1.0]), alpha, w, -jnp.vdot(w, x[0] + x[1]) / 2


SVM_DUAL = Derivation(
    "svm_dual",
    "The dual of the support vector machine",
    r"\min_{w,b} \tfrac12 |w|^2 + C \sum_i \max(0, 1 - y_i (w^\top x_i"
    r" + b)) \;\ge\; \max_{0 \le \alpha \le C,\, \sum_i \alpha_i y_i = 0}"
    r" \; \sum_i \alpha_i - \tfrac12 \sum_{i,j} \alpha_i \alpha_j y_i y_j\, x_i^\top x_j",
    (
        Step(
            r"g(\alpha) = \min_{w, b, \xi} \tfrac12 |w|^2 + C \sum_i \xi_i + \sum_i \alpha_i (1 - \xi_i"
            r" - y_i (w^\top x_i + b))"
            r" - \sum_i (C - \alpha_i)\, \xi_i",
            r"the Lagrangian; b and $\xi$ drop out, since $\sum_i \alpha_i y_i = 0$ and $C - \alpha_i - (C - \alpha_i)"
            r" = 0$",
            minimised,
            chain=DUAL,
        ),
        Step(
            r"= \tfrac12 |w|^2 + \sum_i \alpha_i (1 - y_i (w^\top x_i + b)), \quad w = \sum_i \alpha_i y_i x_i",
            r"stationary in w: $w - \sum_i \alpha_i y_i x_i = 0$",
            lambda x, y, alpha, w, b: lagrangian(x, y, alpha, combined(x, y, alpha), b),
            chain=DUAL,
        ),
        Step(
            r"= \tfrac12 |w|^2 + \sum_i \alpha_i - w^\top \sum_i \alpha_i y_i x_i",
            "multiplied out; b drops out",
            lambda x, y, alpha, w, b: (
                jnp.vdot(combined(x, y, alpha), combined(x, y, alpha)) / 2
                + alpha.sum()
                - jnp.vdot(combined(x, y, alpha), sum(a * t * v for a, t, v in zip(alpha, y, x)))
            ),
            chain=DUAL,
        ),
        Step(
            r"= \sum_i \alpha_i - \tfrac12 |w|^2",
            "the last sum is w",
            lambda x, y, alpha, w, b: dual(x, y, alpha),
            chain=DUAL,
        ),
        Step(
            r"= \sum_i \alpha_i - \tfrac12 \sum_{i,j} \alpha_i \alpha_j y_i y_j\, x_i^\top x_j",
            "the square written out: x enters through inner products alone, which a kernel can replace",
            lambda x, y, alpha, w, b: alpha.sum() - jnp.einsum("i,j,i,j,ij->", alpha, alpha, y, y, x @ x.T) / 2,
            chain=DUAL,
        ),
        Step(
            r"\sum_i \alpha_i - \tfrac12 |w(\alpha)|^2, \quad w(\alpha) = \sum_i \alpha_i y_i x_i",
            "the dual value, compared with the primal value of any w and b",
            lambda x, y, alpha, w, b: dual(x, y, alpha),
            chain=WEAK,
        ),
        Step(
            r"= \tfrac12 |w|^2 + \sum_i \alpha_i (1 - y_i (w^\top x_i + b)) - \tfrac12 |w - w(\alpha)|^2",
            r"multiplied out, with $\sum_i \alpha_i y_i = 0$",
            lambda x, y, alpha, w, b: lagrangian(x, y, alpha, w, b) - jnp.sum((w - combined(x, y, alpha)) ** 2) / 2,
            chain=WEAK,
        ),
        Step(
            r"\le \tfrac12 |w|^2 + \sum_i \alpha_i (1 - y_i (w^\top x_i + b))",
            r"a square is not negative; equal for $w = w(\alpha)$",
            lambda x, y, alpha, w, b: lagrangian(x, y, alpha, w, b),
            kind="upper_bound",
            tight=at_own_w,
            chain=WEAK,
        ),
        Step(
            r"\le \tfrac12 |w|^2 + \sum_i \alpha_i \max(0, 1 - y_i (w^\top x_i + b))",
            r"$\alpha_i \ge 0$; equal where $\alpha_i = 0$ for every point beyond the margin",
            lambda x, y, alpha, w, b: jnp.vdot(w, w) / 2 + jnp.vdot(alpha, jnp.maximum(0.0, 1 - y * (x @ w + b))),
            kind="upper_bound",
            tight=two_points,
            chain=WEAK,
        ),
        Step(
            r"\le \tfrac12 |w|^2 + C \sum_i \max(0, 1 - y_i (w^\top x_i + b))",
            r"$\alpha_i \le C$; equal where $\alpha_i = C$ for every point inside of the margin",
            lambda x, y, alpha, w, b: primal(x, y, w, b),
            kind="upper_bound",
            tight=two_points,
            chain=WEAK,
        ),
    ),
    "Cortes and Vapnik 1995; Boyd and Vandenberghe 2004, section 5.2",
    draw,
    oracles=(
        Oracle("the Lagrangian minimised by descent", by_descent, DUAL),
        Oracle("the Lagrangian minimised by descent", by_descent, WEAK, "first"),
        Oracle(
            "losses.hinge",
            lambda x, y, alpha, w, b: jnp.sum(w**2) / 2 + C * losses.hinge(x @ w + b, y).sum(),
            WEAK,
            "last",
        ),
    ),
    extra_points=lambda key: (two_points(key),),
    point="x, shape (6, 2); y = -1 or 1; alpha in [0, C] with sum alpha_i y_i = 0; any w, shape (2,), and b; C is 10",
    notes=("With one point of each class the optimum is known; there the dual value is the primal value: no gap.",),
)

SOLUTION, LEAST = "the dual function", "the solution"


def norm_lagrangian(a: Array, b: Array, lam: Array, x: Array) -> Array:
    return jnp.vdot(x, x) / 2 + jnp.vdot(lam, b - a @ x)


def norm_minimised(a: Array, b: Array, lam: Array, x: Array) -> Array:
    value = lambda v: norm_lagrangian(a, b, lam, v)
    return value(x - jnp.stack([(value(x + e) - value(x - e)) / 2 for e in jnp.eye(x.size)]))


def multipliers(a: Array, b: Array) -> Array:
    return jnp.linalg.solve(a @ a.T, b)


def optimal_pair(key: Key) -> tuple[Array, Array, Array, Array]:
    a, b, _, _ = NORM_DRAW(key)
    return a, b, multipliers(a, b), a.T @ multipliers(a, b)


def feasible(a: Array, b: Array, x: Array) -> Array:
    """The point of A x = b nearest to x."""
    return x + jnp.linalg.pinv(a) @ (b - a @ x)


NORM_DRAW = drawing(normal(2, 4), normal(2), normal(2), normal(4))

LEAST_NORM = Derivation(
    "least_norm",
    "The solution of least norm, by its dual",
    r"\min_{A x = b} \tfrac12 |x|^2 = \max_\lambda\; \lambda^\top b - \tfrac12 |A^\top \lambda|^2, \quad"
    r" x^* = A^\top (A A^\top)^{-1} b \quad (A \text{ of full row rank})",
    (
        Step(
            r"g(\lambda) = \min_x \tfrac12 |x|^2 + \lambda^\top (b - A x)",
            "the Lagrangian, minimised; its Hessian is I, so differences and one step are exact",
            norm_minimised,
            chain=SOLUTION,
        ),
        Step(
            r"= \tfrac12 |A^\top \lambda|^2 + \lambda^\top (b - A A^\top \lambda)",
            r"stationary in x: $x = A^\top \lambda$",
            lambda a, b, lam, x: norm_lagrangian(a, b, lam, a.T @ lam),
            chain=SOLUTION,
        ),
        Step(
            r"= \lambda^\top b - \tfrac12 |A^\top \lambda|^2",
            r"$\lambda^\top A A^\top \lambda = |A^\top \lambda|^2$",
            lambda a, b, lam, x: jnp.vdot(lam, b) - jnp.sum((a.T @ lam) ** 2) / 2,
            chain=SOLUTION,
        ),
        Step(
            r"\le \tfrac12 b^\top (A A^\top)^{-1} b",
            r"g is concave; its gradient $b - A A^\top \lambda$ is 0 at $\lambda^* = (A A^\top)^{-1} b$",
            lambda a, b, lam, x: jnp.vdot(b, multipliers(a, b)) / 2,
            kind="upper_bound",
            tight=optimal_pair,
            chain=SOLUTION,
        ),
        Step(
            r"= \tfrac12 |x^*|^2, \quad x^* = A^\top \lambda^*",
            r"$|x^*|^2 = (\lambda^*)^\top A A^\top \lambda^* = (\lambda^*)^\top b$: no gap",
            lambda a, b, lam, x: jnp.sum((a.T @ multipliers(a, b)) ** 2) / 2,
            chain=SOLUTION,
        ),
        Step(
            r"\le \tfrac12 |x|^2 \quad \text{for every } x \text{ with } A x = b",
            r"weak duality; equal for $x = x^*$",
            lambda a, b, lam, x: jnp.sum(feasible(a, b, x) ** 2) / 2,
            kind="upper_bound",
            tight=optimal_pair,
            chain=SOLUTION,
        ),
        Step(
            r"x^* = A^\top \lambda^*, \quad A A^\top \lambda^* = b",
            "the solution that the dual gives",
            lambda a, b, lam, x: a.T @ multipliers(a, b),
            chain=LEAST,
        ),
        Step(
            r"= A^\top (A A^\top)^{-1} b",
            r"$\lambda^*$ put in",
            lambda a, b, lam, x: a.T @ jnp.linalg.inv(a @ a.T) @ b,
            chain=LEAST,
        ),
        Step(
            r"= A^+ b",
            "the pseudoinverse",
            lambda a, b, lam, x: jnp.linalg.pinv(a) @ b,
            chain=LEAST,
        ),
    ),
    "Boyd and Vandenberghe 2004, section 5.2.1",
    NORM_DRAW,
    oracles=(
        Oracle(
            "the value at the stationary point, entry by entry",
            lambda a, b, lam, x: sum(l * t for l, t in zip(lam, b)) - sum(jnp.vdot(c, lam) ** 2 for c in a.T) / 2,
            SOLUTION,
            "first",
        ),
        Oracle(
            "a feasible point by least squares",
            lambda a, b, lam, x: jnp.sum((x + jnp.linalg.lstsq(a, b - a @ x)[0]) ** 2) / 2,
            SOLUTION,
            "last",
        ),
        Oracle("jnp.linalg.lstsq", lambda a, b, lam, x: jnp.linalg.lstsq(a, b)[0], LEAST),
    ),
    point="A, shape (2, 4); b and lambda, shape (2,); x, shape (4,), of which the nearest feasible point is taken",
)

DERIVATIONS = (SVM_DUAL, LEAST_NORM)
