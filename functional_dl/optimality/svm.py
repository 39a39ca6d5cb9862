r"""Support vector machines: the dual solved by an interior point method, its gap to the primal certified.

    primal   min_{w, b, xi}  |w|^2 / 2 + C sum xi_i   s.t.  y_i (w . phi(x_i) + b) >= 1 - xi_i,  xi >= 0,
    dual     max_alpha  sum alpha_i - alpha' Q alpha / 2   s.t.  0 <= alpha <= C,  y . alpha = 0

with Q_ij = y_i y_j k(x_i, x_j).  Stationarity in w, b and xi gives w = sum alpha_i y_i phi(x_i), y . alpha = 0 and
alpha <= C; put into the Lagrangian they leave the dual.  Slater's condition holds (xi large), so the gap at the optimum
is 0, and at any dual point the gap bounds how far both objectives are from it:

    gap = |w|^2 / 2 + C sum max(0, 1 - y_i f(x_i)) - (sum alpha_i - |w|^2 / 2) >= 0.

Source: Cortes and Vapnik 1995; Boyd and Vandenberghe 2004, chapters 5 and 11.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import register_pytree_node_class
from jax.typing import ArrayLike
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import predictor_corrector, reachable

__all__ = ["KERNELS", "SVM", "KernelName", "fit_dual", "fit_primal", "linear", "polynomial", "rbf"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def linear(x: Float[Array, "n features"], z: Float[Array, "m features"]) -> Float[Array, "n m"]:
    """x . z

    Example:
      >>> optimality.svm.linear(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])).tolist()
      [[11.0]]
    """
    return x @ z.T


def rbf(
    x: Float[Array, "n features"], z: Float[Array, "m features"], gamma: float | None = None
) -> Float[Array, "n m"]:
    """exp(-gamma |x - z|^2); gamma is 1 / (number of features) unless given.

    Example:
      >>> print(np.asarray(optimality.svm.rbf(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 3.0]]), 0.5)).round(4))
      [[0.6065]]
    """
    gamma = 1 / x.shape[-1] if gamma is None else gamma
    square = jnp.sum(x**2, -1)[:, None] + jnp.sum(z**2, -1)[None] - 2 * x @ z.T
    return jnp.exp(-gamma * jnp.maximum(square, jnp.zeros((), square.dtype)))


def polynomial(
    x: Float[Array, "n features"],
    z: Float[Array, "m features"],
    degree: float = 3,
    gamma: float | None = None,
    offset: float = 1.0,
) -> Float[Array, "n m"]:
    """(gamma x . z + offset)^degree; gamma is 1 / (number of features) unless given.

    Example:
      >>> optimality.svm.polynomial(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]]), 2, 1.0, 1.0).tolist()
      [[144.0]]
    """
    gamma = 1 / x.shape[-1] if gamma is None else gamma
    return (gamma * (x @ z.T) + offset) ** degree


KernelName: TypeAlias = Literal["linear", "rbf", "polynomial"]
KERNELS: dict[str, Callable[..., Array]] = {"linear": linear, "rbf": rbf, "polynomial": polynomial}


@register_pytree_node_class
@dataclass(frozen=True, repr=False)
class SVM:
    """A trained machine.

    Fields:
      alpha: the dual variables, shape (n,), in [0, C].
      bias: b.
      dual_value, primal_value, gap: the two objectives and their difference, which bounds the error of both.
      support: where alpha is not at 0, shape (n,), bool: alpha_i k(x_i, x_i), by which alpha_i moves the margin of its
        own example, outweighs what that margin has beyond 1, whatever C.
      iterations, converged: of the interior point method; converged means gap <= tolerance |dual_value|.
      x, y: the training data.
      kernel: (a, b) -> matrix of k(a_i, b_j).
    """

    alpha: Array
    bias: Scalar
    dual_value: Scalar
    primal_value: Scalar
    gap: Scalar
    support: Array
    iterations: Array
    converged: Array
    x: Array
    y: Array
    kernel: Callable[..., Any]

    def __repr__(self) -> str:
        name = getattr(self.kernel, "__name__", type(self.kernel).__name__)
        figures = f"dual_value={self.dual_value}, gap={self.gap}, converged={self.converged}"
        return f"SVM({name} kernel, examples of shape {jnp.shape(self.x)}, {figures})"

    def decision(self, x: Float[Array, "m features"]) -> Float[Array, " m"]:
        """f(x) = sum_i alpha_i y_i k(x_i, x) + b."""
        x = arguments.real("x", x).astype(self.x.dtype)
        if x.ndim != 2 or x.shape[1] != self.x.shape[1]:
            raise ValueError(f"x: expected shape (m, {self.x.shape[1]}), got {x.shape}")
        return self.kernel(x, self.x) @ (self.alpha * self.y) + self.bias

    def predict(self, x: Float[Array, "m features"]) -> Float[Array, " m"]:
        """The sign of f(x), -1 or 1."""
        return jnp.where(self.decision(x) >= 0, 1, -1)

    @property
    def weights(self) -> Array:
        """w = sum_i alpha_i y_i x_i, of a linear kernel.

        Raises:
          ValueError: the kernel is not linear: its w lives in another space.
        """
        if self.kernel is not linear:
            raise ValueError("weights: expected a machine with a linear kernel")
        return (self.alpha * self.y) @ self.x

    def tree_flatten(self) -> Any:
        names = [f.name for f in fields(self) if f.name != "kernel"]
        return [getattr(self, name) for name in names], self.kernel

    @classmethod
    def tree_unflatten(cls, kernel: Any, children: Any) -> Any:
        return cls(*children, kernel=kernel)


def fit_dual(
    x: Float[Array, "n features"], y: Float[Array, " n"], c: ArrayLike = 1.0,
    kernel: KernelName | Callable[..., Array] = "linear", *, tolerance: float = 1e-10, iterations: int = 100,
) -> SVM:  # fmt: skip
    """The machine that solves the dual.

    Args:
      x: examples; features of similar size are assumed, as for every kernel machine.
      y: labels, -1 or 1, shape (n,); both must occur.
      c: C > 0, the penalty on a unit of violation; may be traced.
      kernel: "linear", "rbf", "polynomial", or a function (a, b) -> matrix of k(a_i, b_j), positive semidefinite.
      tolerance: of the gap, relative to the dual value.
      iterations: the largest number that is made.
    Returns:
      SVM.  Runs under jit and vmap (over c, or over data of one shape).
    Raises:
      ValueError: shapes do not fit, labels are not -1 and 1, c <= 0, or the kernel's matrix is not symmetric and
      positive semidefinite (where concrete; else converged is False).
    Numerics: one Cholesky decomposition of an (n, n) matrix per iteration; about 15 iterations.
    Example:
      >>> x, y = jnp.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]]), jnp.array([-1.0, -1.0, 1.0, 1.0])
      >>> machine = optimality.svm.fit_dual(x, y, 10.0)
      >>> round(float(machine.dual_value), 3), round(float(machine.bias), 3)
      (0.5, -1.0)
    """
    x, y, c = _data(x, y, c)
    kernel = kernel if callable(kernel) else arguments.lookup("kernel", kernel, KERNELS)
    matrix = kernel(x, x)
    if matrix.shape != (len(x), len(x)):
        raise ValueError(f"kernel: expected values of shape ({len(x)}, {len(x)}), got {matrix.shape}")
    sound = True if kernel in (linear, rbf) else _semidefinite(matrix)
    q = matrix * y[:, None] * y[None]

    def decompose(diagonal):
        factor = jax.scipy.linalg.cho_factor(q + jnp.diag(diagonal), lower=True)
        of_y = jax.scipy.linalg.cho_solve(factor, y)

        def solve(right, excess):
            step = jax.scipy.linalg.cho_solve(factor, right)
            d_b = (y @ step + excess) / (y @ of_y)
            return step - of_y * d_b, d_b

        return solve

    alpha, k = _interior_point(lambda a: q @ a, decompose, y, c, tolerance, iterations)
    return _machine(alpha, k, matrix @ (alpha * y), jnp.diag(matrix), x, y, c, kernel, tolerance, sound)


def fit_primal(
    x: Float[Array, "n features"], y: Float[Array, " n"], c: ArrayLike = 1.0, *, tolerance: float = 1e-10,
    iterations: int = 100,
) -> SVM:  # fmt: skip
    """The linear machine, by the primal's matrices: with few features each iteration costs O(n features^2).

    With Z = diag(y) X and w = Z' alpha, d_alpha = (right - Z d_w - y d_b) / D, and (d_w, d_b) solve

        (I + Z' Z / D) d_w + (Z' y / D) d_b = Z' right / D,    (y' Z / D) d_w + (y' y / D) d_b = y' right / D + excess.

    Arguments, result and errors as for `fit_dual`.

    Example:
      >>> x, y = jnp.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]]), jnp.array([-1.0, -1.0, 1.0, 1.0])
      >>> machine = optimality.svm.fit_primal(x, y, 10.0)
      >>> round(float(machine.dual_value), 3), round(float(machine.bias), 3)
      (0.5, -1.0)
    """
    x, y, c = _data(x, y, c)
    z = x * y[:, None]

    both = jnp.concatenate([z, y[:, None]], axis=1)
    weight = jnp.eye(both.shape[1], dtype=z.dtype).at[-1, -1].set(0)

    def decompose(diagonal):
        factor = jax.scipy.linalg.cho_factor(weight + (both / diagonal[:, None]).T @ both, lower=True)

        def solve(right, excess):
            known = (both.T @ (right / diagonal)).at[-1].add(excess)
            step = jax.scipy.linalg.cho_solve(factor, known)
            return (right - both @ step) / diagonal, step[-1]

        return solve

    alpha, k = _interior_point(lambda a: z @ (z.T @ a), decompose, y, c, tolerance, iterations)
    return _machine(alpha, k, x @ (z.T @ alpha), jnp.sum(x**2, -1), x, y, c, linear, tolerance)


def _machine(alpha, k, scores, diagonal, x, y, c, kernel, tolerance, sound=True) -> SVM:
    bias = _best_bias(scores, y)
    quadratic = jnp.sum(alpha * y * scores)
    dual = jnp.sum(alpha) - quadratic / 2
    primal = quadratic / 2 + c * jnp.sum(jnp.maximum(1 - y * (scores + bias), jnp.zeros((), x.dtype)))
    own = diagonal + 1e-3 * jnp.mean(diagonal)  # an example at 0 has none
    support = alpha * own > jnp.maximum(y * (scores + bias) - 1, jnp.zeros((), x.dtype))
    gap = primal - dual
    return SVM(
        alpha,
        bias,
        dual,
        primal,
        gap,
        support,
        k,
        (gap <= reachable(tolerance, dual) * jnp.abs(dual)) & sound,
        x,
        y,
        kernel,
    )


def _semidefinite(matrix):
    """Whether the matrix has no eigenvalue that is negative beyond rounding.  Raises ValueError where that is known."""
    eps, size = jnp.finfo(matrix.dtype).eps, jnp.max(jnp.abs(matrix))
    least = jnp.linalg.eigvalsh((matrix + matrix.T) / 2)[0]
    skew = jnp.max(jnp.abs(matrix - matrix.T))
    sound = (least >= -64 * len(matrix) * eps * size) & (skew <= 64 * eps * size)
    if arguments.concrete(sound) is not None and not sound:
        raise ValueError(
            "kernel: expected a symmetric, positive semidefinite matrix of values, got one with the least eigenvalue "
            f"{float(least):.3g} beside entries up to {float(size):.3g}, symmetric to {float(skew):.3g}"
        )
    return sound


def _best_bias(scores, y):
    """argmin_b sum max(0, 1 - y_i (scores_i + b)): piecewise linear with kinks at t_i = y_i - scores_i and the slope
    #(y = -1, t_i < b) - #(y = 1, t_i > b), so the first kink from which on the slope is not negative."""
    kinks = y - scores
    order = jnp.argsort(kinks)
    positive = jnp.cumsum(y[order] > 0)
    negative = jnp.cumsum(y[order] < 0)
    return kinks[order][jnp.argmax(negative >= positive[-1] - positive)]


def _interior_point(product, decompose, y, c, tolerance, iterations):
    """min alpha' Q alpha / 2 - sum alpha, 0 <= alpha <= C, y . alpha = 0, by Mehrotra's predictor and corrector.

        Q alpha - 1 + y b - l + u = 0,   alpha l = mu,   (C - alpha) u = mu,   y . alpha = 0.

    Newton's step, l and u eliminated:  (Q + l / alpha + u / (C - alpha)) d_alpha + y d_b = right.
    """
    n, dtype = len(y), y.dtype

    def residuals(state):
        alpha, _, b, low, up = state
        return product(alpha) - 1 + y * b - low + up, y @ alpha

    def complementarity(state):
        alpha, room, _, low, up = state
        return (alpha @ low + room @ up) / (2 * n)

    def body(loop):
        k, state, _ = loop
        alpha, room, _, low, up = state
        diagonal = low / alpha + up / room
        solve = decompose(diagonal)
        dual, primal = residuals(state)

        def direction(aims, _):
            comp_low, comp_up = aims
            right = -dual + comp_low / alpha - comp_up / room
            d_alpha, d_b = solve(right, primal)
            # once refined: the decomposition loses digits where the diagonal spans many orders
            left = right - product(d_alpha) - diagonal * d_alpha - y * d_b
            more_alpha, more_b = solve(left, primal + y @ d_alpha)
            d_alpha, d_b = d_alpha + more_alpha, d_b + more_b
            d_low, d_up = (comp_low - low * d_alpha) / alpha, (comp_up + up * d_alpha) / room
            return [(d_alpha, d_low), (-d_alpha, d_up)], (d_alpha, -d_alpha, d_b, d_low, d_up)

        _, move, length, _ = predictor_corrector(direction, [(alpha, low), (room, up)], 2 * n)
        # one length for all: Q couples them
        moved = jax.tree.map(lambda v, d: v + 0.995 * length * d, state, move)
        sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in moved]))
        state = jax.tree.map(lambda new, old: jnp.where(sound, new, old), moved, state)
        return k + 1, state, done(state) | ~sound

    def done(state):
        dual, primal = residuals(state)
        alpha = state[0]
        objective = jnp.abs(jnp.sum(alpha) - alpha @ product(alpha) / 2)
        reached = reachable(tolerance, y) / 8
        small = (jnp.max(jnp.abs(dual)) <= 10 * reached) & (jnp.abs(primal) <= reached * jnp.max(alpha))
        return (2 * n * complementarity(state) <= reached * objective) & small

    half = jnp.full((n,), 0.5, dtype) * c
    multiplier = jnp.full((n,), 1.0, dtype) + jnp.max(jnp.abs(product(half) - 1))
    start = (half, half, jnp.zeros((), dtype), multiplier, multiplier)
    k, (alpha, *_), _ = lax.while_loop(
        lambda loop: (loop[0] < iterations) & ~loop[2], body, (jnp.zeros((), int), start, jnp.zeros((), bool))
    )
    return jnp.clip(alpha, jnp.zeros((), dtype), c), k


def _data(x, y, c):
    x, y = arguments.real("x", x), arguments.real("y", y)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x, y: expected shapes (n, features) and (n,), got {x.shape} and {y.shape}")
    if not x.size:
        raise ValueError(f"x: expected at least one example and one feature, got shape {x.shape}")
    labels = arguments.concrete(y)
    if labels is not None and set(labels.tolist()) != {-1.0, 1.0}:
        raise ValueError(f"y: expected the labels -1 and 1, both of them, got {sorted(set(labels.tolist()))[:5]}")
    c = arguments.real("c", c)
    penalty = arguments.concrete(c)
    if c.ndim or (penalty is not None and not penalty > 0):
        raise ValueError(f"c: expected a number > 0, got {c}")
    return x, y.astype(x.dtype), c.astype(x.dtype)
