r"""Linear models with penalties, solved to a certified duality gap: lasso, ridge, logistic regression.

    primal  P(w, b) = sum_i phi_i(x_i . w + b) + g(w),
    dual    D(u) = -sum_i phi_i*(u_i) - g*(-X' u)   with   sum_i u_i = 0.

By Fenchel and Young phi_i(z_i) + phi_i*(u_i) >= u_i z_i and g(w) + g*(-X' u) >= -u . X w; their sum is
P(w, b) >= D(u), the term in b being b sum u_i = 0.  Any u certifies: P - D bounds how far P is from its optimum.  There
u_i = phi_i'(z_i), so that is the u that is tried, moved into the domain of g* where it lies outside.

    squared error   phi(z) = (z - y)^2 / (2 n)       phi*(u) = n u^2 / 2 + u y
    logistic        phi(z) = log(1 + e^(-y z)) / n   phi*(u) = (p log p + (1 - p) log(1 - p)) / n, p = -n y u in [0, 1]
    L1              g(w) = s |w|_1                   g*(v) = 0 where max |v_j| <= s, else inf
    L2              g(w) = s |w|^2                   g*(v) = |v|^2 / (4 s)

Source: Boyd and Vandenberghe 2004, section 5.7; Kim, Koh, Lustig, Boyd, Gorinevsky 2007 (the gap of the lasso).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import xlogy
from jax.typing import ArrayLike
from jaxtyping import Float

from functional_dl import arguments, penalties
from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import backtrack, reachable

__all__ = ["LinearFit", "lasso", "logistic", "ridge"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


class LinearFit(NamedTuple):
    """A fitted linear model x -> x . weights + bias.

    Fields:
      weights, bias.
      primal_value, dual_value, gap: P, D and P - D >= 0, which bounds how far P is from its optimum.
      iterations, converged: gap <= tolerance P(0, mean of y), the value where every weight is 0: whatever y is
        counted in.  False where a value is not finite.
    """

    weights: Array
    bias: Scalar
    primal_value: Scalar
    dual_value: Scalar
    gap: Scalar
    iterations: Array
    converged: Array

    def predict(self, x: Float[Array, "m features"]) -> Float[Array, " m"]:
        """x . weights + bias."""
        return arguments.real("x", x).astype(self.weights.dtype) @ self.weights + self.bias


def lasso(
    x: Float[Array, "n features"],
    y: Float[Array, " n"],
    strength: ArrayLike,
    *,
    tolerance: float = 1e-10,
    sweeps: int = 10_000,
) -> LinearFit:
    r"""min_{w, b}  |X w + b - y|^2 / (2 n) + s |w|_1, by cyclic coordinate descent.

    With centred data (which takes b out) and G = X' X / n, c = X' y / n each coordinate's minimum is

        w_j <- S(c_j - sum_{k != j} G_jk w_k, s) / G_jj,    S(v, s) = sign(v) max(|v| - s, 0),

    S the proximal map of s |.|: 0 in G_jj w_j - v + s d|w_j|.

    Args:
      x, y: data.
      strength: s >= 0; may be traced (vmap over it gives the path).
      tolerance, sweeps: of the gap, and how many times at most all coordinates are visited.
    Returns:
      LinearFit; scikit-learn's Lasso(alpha=strength).
    Raises:
      ValueError: shapes do not fit, or strength < 0 (where concrete).
    Source: Friedman, Hastie, Tibshirani 2010.
    Example:
      >>> x = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
      >>> optimality.regression.lasso(x, x[:, 0], 0.25).weights.round(4).tolist()
      [0.75, 0.0]
    """
    x, y, strength = _data(x, y, strength)
    n = len(y)
    centred, target = x - x.mean(0, keepdims=True), y - y.mean()
    gram, moment = centred.T @ centred / n, centred.T @ target / n
    diagonal = jnp.diag(gram)
    limit, unit = reachable(tolerance, x), target @ target / (2 * n)

    def sweep(w):
        def visit(j, w):
            others = moment[j] - gram[j] @ w + diagonal[j] * w[j]
            moved = penalties.prox_l1(others, strength) / jnp.where(diagonal[j] > 0, diagonal[j], 1)
            return w.at[j].set(jnp.where(diagonal[j] > 0, moved, 0))

        return lax.fori_loop(0, len(w), visit, w)

    def values(w):
        residual = target - centred @ w
        primal = residual @ residual / (2 * n) + strength * jnp.sum(jnp.abs(w))
        slope = jnp.max(jnp.abs(centred.T @ residual)) / n
        share = jnp.where(slope > strength, strength / jnp.where(slope > 0, slope, 1), 1)  # -u inside of g*'s domain
        # D(-share r / n), by (|y|^2 - |y - share r|^2) / (2 n) without its cancellation
        dual = share * (target @ residual) / n - share**2 * (residual @ residual) / (2 * n)
        return primal, dual

    def unfinished(state):
        k, w = state
        primal, dual = values(w)
        return (k < sweeps) & (primal - dual > limit * unit)

    k, w = lax.while_loop(unfinished, lambda s: (s[0] + 1, sweep(s[1])), (jnp.zeros((), int), jnp.zeros_like(moment)))
    primal, dual = values(w)
    return _fit(w, y.mean() - x.mean(0) @ w, primal, dual, k, limit * unit)


def ridge(x: Float[Array, "n features"], y: Float[Array, " n"], strength: ArrayLike) -> LinearFit:
    r"""min_{w, b}  |X w + b - y|^2 / (2 n) + s |w|^2, in closed form.

    The gradient is 0 where (X' X / n + 2 s) w = X' y / n, with centred data; b = mean(y) - mean(x) . w.

    Args, errors: as `lasso`; strength > 0.
    Returns:
      LinearFit; scikit-learn's Ridge(alpha=2 n strength).
    Example:
      >>> x = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
      >>> optimality.regression.ridge(x, x[:, 0], 0.5).weights.round(4).tolist()
      [0.5, 0.0]
    """
    x, y, strength = _data(x, y, strength, positive=True)
    n = len(y)
    centred, target = x - x.mean(0, keepdims=True), y - y.mean()
    system = centred.T @ centred / n + 2 * strength * jnp.eye(x.shape[1], dtype=x.dtype)
    w = jax.scipy.linalg.solve(system, centred.T @ target / n, assume_a="pos")
    residual = target - centred @ w
    primal = residual @ residual / (2 * n) + strength * (w @ w)
    pull = centred.T @ residual / n
    dual = target @ residual / n - residual @ residual / (2 * n) - pull @ pull / (4 * strength)
    return _fit(
        w, y.mean() - x.mean(0) @ w, primal, dual, jnp.ones((), int), reachable(1e-10, x) * (target @ target) / (2 * n)
    )


def logistic(
    x: Float[Array, "n features"], y: Float[Array, " n"], strength: ArrayLike, *, tolerance: float = 1e-10,
    steps: int = 100,
) -> LinearFit:  # fmt: skip
    r"""min_{w, b}  sum_i log(1 + exp(-y_i (x_i . w + b))) / n + s |w|^2, by Newton's method.

    With p_i = sigmoid(-y_i z_i): gradient -X' (y p) / n + 2 s w, Hessian X' diag(p (1 - p)) X / n + 2 s; the step is
    halved until the value falls by a ten-thousandth of what the directional derivative predicts.

    Args:
      y: labels, -1 or 1, both of them.
      strength: s > 0.
      tolerance, steps: of the gap, and of Newton's method.
    Returns:
      LinearFit; the sign of `predict` is the class.  scikit-learn's LogisticRegression(C = 1 / (2 n strength)).
    Example:
      >>> x, y = (
      ...     jnp.array([[-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [1.0, -1.0]]),
      ...     jnp.array([-1.0, -1.0, 1.0, 1.0]),
      ... )
      >>> fit = optimality.regression.logistic(x, y, 0.1)
      >>> bool(fit.converged), round(abs(float(fit.bias)), 4)
      (True, 0.0)
    """
    x, y, strength = _data(x, y, strength, positive=True)
    labels = arguments.concrete(y)
    if labels is not None and set(labels.tolist()) != {-1.0, 1.0}:
        raise ValueError(f"y: expected the labels -1 and 1, both of them, got {sorted(set(labels.tolist()))[:5]}")
    n, limit = len(y), reachable(tolerance, x)
    share = jnp.mean(jnp.where(y > 0, jnp.ones((), x.dtype), 0))
    unit = -xlogy(share, share) - xlogy(1 - share, 1 - share)  # the loss where every weight is 0
    rows = jnp.concatenate([x, jnp.ones((n, 1), x.dtype)], axis=1)
    ridge_part = 2 * strength * jnp.ones((rows.shape[1],), x.dtype).at[-1].set(0)

    def value(v):
        return jnp.mean(jax.nn.softplus(-y * (rows @ v))) + strength * (v[:-1] @ v[:-1])

    def step(state):
        k, v, _ = state
        p = jax.nn.sigmoid(-y * (rows @ v))
        gradient = -rows.T @ (y * p) / n + ridge_part * v
        hessian = (rows * (p * (1 - p))[:, None]).T @ rows / n + jnp.diag(ridge_part)
        move = -jax.scipy.linalg.solve(hessian, gradient, assume_a="pos")
        now, slope = value(v), gradient @ move
        rounding = 8 * jnp.finfo(v.dtype).eps * (1 + jnp.abs(now))
        enough = lambda t, _, __: (None, value(v + t * move) <= now + 1e-4 * t * slope + rounding)
        _, length, _ = backtrack(enough, None, jnp.ones((), v.dtype), 35)
        v = v + length * move
        primal, dual = values(v)
        return k + 1, v, primal - dual <= limit * unit

    def values(v):
        p = jax.nn.sigmoid(-y * (rows @ v))
        balanced = _balanced(p, y)
        pull = x.T @ (y * balanced) / n
        entropy = -(xlogy(balanced, balanced) + xlogy(1 - balanced, 1 - balanced))
        return value(v), jnp.mean(entropy) - pull @ pull / (4 * strength)

    start = (jnp.zeros((), int), jnp.zeros((rows.shape[1],), x.dtype), jnp.zeros((), bool))
    k, v, _ = lax.while_loop(lambda state: (state[0] < steps) & ~state[2], step, start)
    primal, dual = values(v)
    return _fit(v[:-1], v[-1], primal, dual, k, limit * unit)


def _balanced(p, y):
    """p scaled down in the heavier class so that sum y p = 0, as the bias asks of a dual point."""
    up, down = jnp.sum(jnp.where(y > 0, p, 0)), jnp.sum(jnp.where(y < 0, p, 0))
    share = jnp.where(y > 0, jnp.minimum(down / up, 1), jnp.minimum(up / down, 1))
    return p * share


def _fit(w, b, primal, dual, k, limit) -> LinearFit:
    gap = primal - dual
    return LinearFit(w, b, primal, dual, gap, k, gap <= limit)


def _data(x, y, strength, positive: bool = False):
    x, y, strength = arguments.real("x", x), arguments.real("y", y), arguments.real("strength", strength)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x, y: expected shapes (n, features) and (n,), got {x.shape} and {y.shape}")
    if not x.size:
        raise ValueError(f"x: expected at least one example and one feature, got shape {x.shape}")
    known = arguments.concrete(strength)
    if strength.ndim or (known is not None and not (known > 0 if positive else known >= 0)):
        raise ValueError(f"strength: expected a number {'> 0' if positive else '>= 0'}, got {strength}")
    return x, y.astype(x.dtype), strength.astype(x.dtype)
