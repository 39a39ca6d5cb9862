"""Linear regression: the normal equations, and ridge regression."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, uniform
from functional_dl.derivations.step import Oracle, Step

GRADIENT, MINIMUM, SQUARE = "the gradient", "the minimum", "why it is the minimum"


def cost(x: Array, y: Array, w: Array) -> Any:
    return jnp.sum((x @ w - y) ** 2)


def quotients(objective: Callable[..., Any]) -> Limit:
    """(J(w + h e_j) - J(w)) / h for every j."""

    def quotient(h, x, y, w, *rest):
        here = objective(x, y, w, *rest)
        return jnp.stack([(objective(x, y, w + h * e, *rest) - here) / h for e in jnp.eye(w.size)])

    return Limit(quotient)


def solution(x: Array, y: Array) -> Any:
    return jnp.linalg.solve(x.T @ x, x.T @ y)


def at_the_solution(key: Key) -> Any:
    x, y, _ = DRAW(key)
    return x, y, solution(x, y)


def by_qr(x: Array, y: Array) -> Any:
    q, r = jnp.linalg.qr(x)
    return jnp.linalg.solve(r, q.T @ y)


DRAW = drawing(normal(6, 3), normal(6), normal(3))

NORMAL_EQUATIONS = Derivation(
    "normal_equations",
    "Linear regression: the normal equations",
    r"w^* = \operatorname*{argmin}_w |X w - y|^2 \quad\Leftrightarrow\quad X^\top X\, w^* = X^\top y \quad"
    r" (X \text{ of full column rank})",
    (
        Step(
            r"\frac{\partial J}{\partial w_j} = \lim_{h \to 0} \frac{J(w + h e_j) - J(w)}{h}, \quad J(w) = |X w - y|^2",
            "the definition of the partial derivative",
            quotients(cost),
            chain=GRADIENT,
        ),
        Step(
            r"= \lim_{h \to 0} \frac{2 h\, (X e_j)^\top (X w - y) + h^2 |X e_j|^2}{h}",
            "the square multiplied out",
            Limit(lambda h, x, y, w: (2 * h * x.T @ (x @ w - y) + h**2 * jnp.sum(x**2, 0)) / h),
            chain=GRADIENT,
        ),
        Step(
            r"\nabla J = 2 X^\top (X w - y)",
            "h is divided off and tends to 0",
            lambda x, y, w: 2 * x.T @ (x @ w - y),
            kind="limit",
            chain=GRADIENT,
        ),
        Step(
            r"w - \tfrac12 (X^\top X)^{-1} \nabla J(w)",
            "Newton's step from any w: J is quadratic, so it lands where the gradient is 0",
            lambda x, y, w: w - jnp.linalg.inv(x.T @ x) @ (2 * x.T @ (x @ w - y)) / 2,
            chain=MINIMUM,
        ),
        Step(
            r"= w - (X^\top X)^{-1} X^\top X\, w + (X^\top X)^{-1} X^\top y",
            "multiplied out",
            lambda x, y, w: w - jnp.linalg.inv(x.T @ x) @ x.T @ x @ w + jnp.linalg.inv(x.T @ x) @ x.T @ y,
            chain=MINIMUM,
        ),
        Step(
            r"= (X^\top X)^{-1} X^\top y = w^*",
            "w cancels: the solution of the normal equations",
            lambda x, y, w: solution(x, y),
            chain=MINIMUM,
        ),
        Step(
            r"= R^{-1} Q^\top y, \quad X = Q R",
            r"$X^\top X = R^\top R$ and $X^\top y = R^\top Q^\top y$: without squaring the condition number",
            lambda x, y, w: by_qr(x, y),
            chain=MINIMUM,
        ),
        Step(
            r"|X w^* - y|^2",
            "the least cost, compared with that of any w",
            lambda x, y, w: cost(x, y, solution(x, y)),
            chain=SQUARE,
        ),
        Step(
            r"\le |X w^* - y|^2 + |X (w - w^*)|^2",
            "a square is not negative; equal for w = w*",
            lambda x, y, w: cost(x, y, solution(x, y)) + jnp.sum((x @ (w - solution(x, y))) ** 2),
            kind="upper_bound",
            tight=at_the_solution,
            chain=SQUARE,
        ),
        Step(
            r"= |X w^* - y|^2 + |X (w - w^*)|^2 + 2\,(w - w^*)^\top X^\top (X w^* - y)",
            "the last term is 0 by the normal equations: the residual is orthogonal to the columns",
            lambda x, y, w: (
                cost(x, y, solution(x, y))
                + jnp.sum((x @ (w - solution(x, y))) ** 2)
                + 2 * (w - solution(x, y)) @ x.T @ (x @ solution(x, y) - y)
            ),
            chain=SQUARE,
        ),
        Step(
            r"= |X w - y|^2",
            r"$|p + q|^2 = |p|^2 + |q|^2 + 2 p^\top q$ with $p + q = X w - y$",
            lambda x, y, w: cost(x, y, w),
            chain=SQUARE,
        ),
    ),
    "Gauss 1809; Goodfellow, Bengio, Courville 2016, section 5.1.4",
    DRAW,
    oracles=(
        Oracle(
            "the residual's inner products", lambda x, y, w: jnp.stack([2 * c @ (x @ w - y) for c in x.T]), GRADIENT
        ),
        Oracle("jnp.linalg.lstsq", lambda x, y, w: jnp.linalg.lstsq(x, y)[0], MINIMUM),
        Oracle("jnp.linalg.lstsq's cost", lambda x, y, w: cost(x, y, jnp.linalg.lstsq(x, y)[0]), SQUARE, "first"),
        Oracle("the cost, term by term", lambda x, y, w: sum((r @ w - t) ** 2 for r, t in zip(x, y)), SQUARE, "last"),
    ),
    point="X, shape (6, 3); y, shape (6,); any w, shape (3,)",
)


def ridge_cost(x: Array, y: Array, w: Array, lam: Array) -> Any:
    return cost(x, y, w) + lam * jnp.sum(w**2)


def ridge(x: Array, y: Array, lam: Array) -> Any:
    return jnp.linalg.solve(x.T @ x + lam * jnp.eye(x.shape[1]), x.T @ y)


def extended(x: Array, y: Array, lam: Array) -> Any:
    """Rows sqrt(lam) e_j with target 0 below X and y."""
    n = x.shape[1]
    return jnp.concatenate([x, jnp.sqrt(lam) * jnp.eye(n)]), jnp.concatenate([y, jnp.zeros(n)])


RIDGE = Derivation(
    "ridge_regression",
    "Ridge regression",
    r"w^* = \operatorname*{argmin}_w |X w - y|^2 + \lambda |w|^2 = (X^\top X + \lambda I)^{-1} X^\top y",
    (
        Step(
            r"\frac{\partial J}{\partial w_j} = \lim_{h \to 0} \frac{J(w + h e_j) - J(w)}{h}",
            "the definition of the partial derivative",
            quotients(ridge_cost),
            chain=GRADIENT,
        ),
        Step(
            r"\nabla J = 2 X^\top (X w - y) + 2 \lambda w",
            "the derivations `normal_equations` and `l2`: there is no half, so both terms have a 2",
            lambda x, y, w, lam: 2 * x.T @ (x @ w - y) + 2 * lam * w,
            kind="limit",
            chain=GRADIENT,
        ),
        Step(
            r"= 2\,(X^\top X + \lambda I)\,w - 2 X^\top y",
            "sorted by w",
            lambda x, y, w, lam: 2 * (x.T @ x + lam * jnp.eye(w.size)) @ w - 2 * x.T @ y,
            chain=GRADIENT,
        ),
        Step(
            r"w^* : \; (X^\top X + \lambda I)\, w^* = X^\top y",
            "where the gradient is 0; J is strictly convex, so this is the minimum",
            lambda x, y, w, lam: ridge(x, y, lam),
            chain=MINIMUM,
        ),
        Step(
            r"= \operatorname*{argmin}_w \left| \begin{bmatrix} X \\ \sqrt\lambda\, I \end{bmatrix} w -"
            r" \begin{bmatrix} y \\ 0 \end{bmatrix} \right|^2",
            "the penalty as further examples: plain least squares",
            lambda x, y, w, lam: by_qr(*extended(x, y, lam)),
            chain=MINIMUM,
        ),
        Step(
            r"= X^\top (X X^\top + \lambda I)^{-1} y",
            r"$(X^\top X + \lambda I)\, X^\top = X^\top (X X^\top + \lambda I)$: a system of the examples' size",
            lambda x, y, w, lam: x.T @ jnp.linalg.solve(x @ x.T + lam * jnp.eye(x.shape[0]), y),
            chain=MINIMUM,
        ),
    ),
    "Hoerl and Kennard 1970",
    drawing(normal(6, 3), normal(6), normal(3), uniform(low=0.3, high=1.0)),
    oracles=(
        Oracle(
            "entry by entry",
            lambda x, y, w, lam: jnp.stack([2 * c @ (x @ w - y) + 2 * lam * v for c, v in zip(x.T, w)]),
            GRADIENT,
        ),
        Oracle("by singular values", lambda x, y, w, lam: _by_svd(x, y, lam), MINIMUM),
    ),
    point="X, shape (6, 3); y, shape (6,); any w, shape (3,); lambda > 0",
)


def _by_svd(x, y, lam):
    """V diag(s / (s^2 + lam)) U^T y."""
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    return vt.T @ (s / (s**2 + lam) * (u.T @ y))


DERIVATIONS = (NORMAL_EQUATIONS, RIDGE)
