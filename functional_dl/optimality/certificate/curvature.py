r"""What a certificate reads at a point: values, rows of constraints, and the Hessian H of the Lagrangian.

Two ways that answer the same questions: with matrices, or, where variables are many, by products.  Without matrices the
lengths of gradients and multiplied rows come from backward passes, only rows of active general constraints are formed,
and the least curvature comes from Lanczos' method with a bound from below.

Lanczos' method from a random start v_1 in the subspace S (dimension d), P the projection to S:

    beta_k v_(k+1) = P H v_k - alpha_k v_k - beta_(k-1) v_(k-1),    T_k = tridiag(beta, alpha, beta).

The least eigenvalue theta of T_k is the curvature along a direction that is at hand: lambda_min <= theta.  Below,

    theta - lambda_min <= e (lambda_max - lambda_min)    but with probability  1.648 sqrt(d) exp(-(2k - 1) sqrt(e)),

which gives a bound from below that fails with the probability CHANCE, whatever the spectrum.  The vectors are not kept,
nor made orthogonal again: the extreme values stand, copies of them appear.  Directions come from a second, equal pass.
Source: Kuczynski and Wozniakowski 1992, theorem 4.2; Greenbaum 1989 (why rounding leaves the values right).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality.kkt import combined, formed, measured, norms, residuals, rows_of

CHANCE = 1e-6  # that a lower bound is wrong
CHUNK = 64  # products between two looks
PAIRS = 3  # directions given
LAST = 1e-12  # relative size of beta that ends the recurrence
WORK = 2e11  # numbers touched in a run, about
STEPS = 500, 20_000  # the least and the greatest limit of products
DRAWS = 16  # random signs by which the size of the Hessian's rows is estimated


class Subspace(NamedTuple):
    """{v: v_i = 0 where free_i = 0, basis v = 0}: free (n,) of 0 and 1, basis (r, n) orthonormal, 0 where not free."""

    free: np.ndarray
    basis: np.ndarray

    @property
    def dimension(self) -> int:
        return int(np.sum(self.free)) - len(self.basis)

    def project(self, vector: np.ndarray) -> np.ndarray:
        vector = self.free * vector
        return vector - (self.basis @ vector) @ self.basis


class Least(NamedTuple):
    """lower <= the least eigenvalue <= upper; directions (k, n) of the lowest that were found; how many products."""

    lower: float
    upper: float
    directions: np.ndarray
    products: int


class Evaluated(NamedTuple):
    """What is compiled for a problem of few variables, as functions of x and multipliers."""

    values: Callable[..., Any]  # x -> f, h, g, each followed by its gradients
    residuals: Callable[..., Any]
    hessian: Callable[..., Any]


class Programs(NamedTuple):
    """What is compiled for a problem of many variables: values, derivatives, and products."""

    values_and_gradients: Callable[..., Any]  # x -> f, its gradient, h, g, lengths of the gradients of h and g
    values: Callable[..., Any]  # x -> f, h, g
    residuals: Callable[..., Any]
    combined: Callable[..., Any]
    block: Callable[..., Any]
    product: Callable[..., Any]
    advance: Callable[..., Any]


def evaluate(flat: Any) -> Any:
    """The programs of a problem."""

    def lagrangian(x, lam, mu):
        return flat.objective(x) + lam @ flat.equalities(x) + mu @ flat.inequalities(x)

    if flat.large:

        def values_and_gradients(x):
            f, gradient = jax.value_and_grad(flat.objective)(x)
            return f, gradient, flat.equalities(x), flat.inequalities(x), *norms(flat, x)

        def product(point, v):
            return jax.jvp(jax.grad(lambda x: lagrangian(x, *point[1:])), point[:1], (v,))[1]

        return Programs(
            jax.jit(values_and_gradients),
            jax.jit(lambda x: (flat.objective(x), flat.equalities(x), flat.inequalities(x))),
            jax.jit(lambda *point_and_norms: measured(flat, *point_and_norms)),
            jax.jit(lambda x, lam, mu: combined(flat, x, lam, mu)),
            jax.jit(rows_of(flat)),
            jax.jit(product),
            jax.jit(recurrence(product)),
        )

    def values(x):
        f, gradient = jax.value_and_grad(flat.objective)(x)
        h, g = flat.equalities, flat.inequalities
        return f, gradient, h(x), jax.jacrev(h)(x), g(x), jax.jacrev(g)(x)

    of_residuals = jax.jit(lambda x, lam, mu: residuals(flat, x, lam, mu))
    return Evaluated(jax.jit(values), of_residuals, jax.jit(jax.hessian(lagrangian)))


def read(flat: Any, x: Array, compiled: Any = None) -> Any:
    """Dense or MatrixFree; `compiled` is what evaluate(flat) returned."""
    return (MatrixFree if flat.large else Dense)(compiled or evaluate(flat), x)


class Dense:
    """With matrices."""

    def __init__(self, programs: Evaluated, x: Array) -> None:
        self.programs, self.x = programs, x
        self.f, self.gradient, self.h, self.h_rows, self.g, self.g_rows = self._values(x)
        self.norms_h, self.norms_g = (np.linalg.norm(rows, axis=1) for rows in (self.h_rows, self.g_rows))
        self.hessian = np.zeros((0, 0))

    def _values(self, x):
        return tuple(np.asarray(v, float) for v in self.programs.values(x))

    def rows(self, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the equalities and of the inequalities with the indices `own`."""
        return self.h_rows, self.g_rows[own]

    def set_multipliers(self, lam: np.ndarray, mu: np.ndarray) -> Any:
        """The multipliers that are examined from now on; returns the residuals."""
        self.lam, self.mu = lam, mu
        self.point = tuple(jnp.asarray(part, self.x.dtype) for part in (lam, mu))
        return self.programs.residuals(self.x, *self.point)

    def size(self) -> float:
        """Of the Hessian's rows; not finite where it is not."""
        self.hessian = np.asarray(self.programs.hessian(self.x, *self.point), float)
        return float(np.max(np.abs(self.hessian), initial=0.0))

    def least(self, space: Subspace, zero: float, wanted: float) -> Least:
        """The least curvature on a subspace, and directions: here all of the reduced Hessian's, the lowest first."""
        free = np.flatnonzero(space.free)
        basis = np.eye(len(space.free))[:, free]
        if len(space.basis):
            basis = basis @ np.linalg.qr(space.basis[:, free].T, mode="complete")[0][:, len(space.basis) :]
        if not basis.shape[1]:
            return Least(np.inf, np.inf, basis.T, 0)
        values, vectors = np.linalg.eigh(basis.T @ self.hessian @ basis)
        return Least(values[0], values[0], (basis @ vectors).T, 0)

    def along(self, direction: np.ndarray) -> float:
        """d' H d."""
        return float(direction @ self.hessian @ direction)

    def remaining(self) -> np.ndarray:
        """The gradient of the Lagrangian."""
        return self.gradient + self.lam @ self.h_rows + self.mu @ self.g_rows

    def lagrangian(self, step: np.ndarray) -> float:
        """Its value at x + step; infinite clearly beyond an inequality, and where it is not finite."""
        f, _, h, _, g, _ = self._values(self.x + jnp.asarray(step, self.x.dtype))
        return _within(f, h, g, self.lam, self.mu, step)

    def bend(self, clear: np.ndarray, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """step -> Newton's step from there in directions of clearly positive curvature, rows of `clear`."""
        here = self.remaining()

        def bent(step):
            _, gradient, _, dh, _, dg = self._values(self.x + jnp.asarray(step, self.x.dtype))
            at = gradient + self.lam @ dh + self.mu @ dg - here
            corrected = step - clear.T @ ((clear @ at) / values)
            return corrected if np.all(np.isfinite(corrected)) else step

        return bent


class MatrixFree:
    """By products; see Dense."""

    def __init__(self, programs: Programs, x: Array) -> None:
        self.programs, self.x = programs, x
        values = (np.asarray(v, float) for v in programs.values_and_gradients(x))
        self.f, self.gradient, self.h, self.g, self.norms_h, self.norms_g = values

    def rows(self, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = self.h.size
        rows = formed(self.programs.block, self.x, np.concatenate([np.arange(p), p + own]))
        return rows[:p], rows[p:]

    def set_multipliers(self, lam: np.ndarray, mu: np.ndarray) -> Any:
        self.lam, self.mu = lam, mu
        self.point = self.x, *(jnp.asarray(part, self.x.dtype) for part in (lam, mu))
        lengths = (jnp.asarray(part, self.x.dtype) for part in (self.norms_h, self.norms_g))
        return self.programs.residuals(*self.point, *lengths)

    def _product(self, v: np.ndarray) -> np.ndarray:
        return np.asarray(self.programs.product(self.point, jnp.asarray(v, self.x.dtype)), float)

    def size(self) -> float:
        """The length of the longest row of H, about: E |H s|_i^2 = |row i|^2 for random signs s."""
        signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(DRAWS, self.x.size))
        square = sum(self._product(sign) ** 2 for sign in signs)
        return float(np.sqrt(np.max(square, initial=0.0) / DRAWS))

    def least(self, space: Subspace, zero: float, wanted: float) -> Least:
        return least(self.programs.advance, self.point, space, zero, wanted, self.x.dtype)

    def along(self, direction: np.ndarray) -> float:
        return float(direction @ self._product(direction))

    def remaining(self) -> np.ndarray:
        return self.gradient + sum(np.asarray(part, float) for part in self.programs.combined(*self.point))

    def lagrangian(self, step: np.ndarray) -> float:
        f, h, g = (np.asarray(v, float) for v in self.programs.values(self.x + jnp.asarray(step, self.x.dtype)))
        return _within(f, h, g, self.lam, self.mu, step)

    def bend(self, clear: np.ndarray, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda step: step


def _within(f, h, g, lam, mu, step) -> float:
    beyond = np.any(g > 0.1 * np.linalg.norm(step))
    return np.inf if beyond or not np.isfinite(f) else float(f + lam @ h + mu @ g)


# ---- the least eigenvalue, from products ---------------------------------------------------------------------------


def recurrence(product: Callable[..., Any]) -> Callable[..., Any]:
    """CHUNK steps, to be compiled: product(point, v) is H v.

    (point, free, basis, state, weights (CHUNK, PAIRS)) -> state, alphas, betas;  state = v_(k-1), v_k, beta_(k-1), and
    the sums of weights v_k.
    """

    def chunk(point, free, basis, state, weights):
        def project(v):
            v = free * v
            return v - (basis @ v) @ basis

        def step(state, weight):
            before, v, beta, sums = state
            sums = sums + weight[:, None] * v[None]
            w = product(point, v) - beta * before
            alpha = v @ w
            w = project(w - alpha * v)
            beta = jnp.linalg.norm(w)
            return (v, w / jnp.where(beta > 0, beta, 1), beta, sums), (alpha, beta)

        state, (alphas, betas) = lax.scan(step, state, weights)
        return state, alphas, betas

    return chunk


def least(
    advance: Callable[..., Any], point: Any, space: Subspace, zero: float, wanted: Any = np.inf, dtype: Any = np.float64
) -> Least:
    """Bounds of the least eigenvalue, close enough to tell it from -zero and zero where the limit of work allows.

    Args:
      advance: the compiled recurrence(product); point: its first argument.
      wanted: directions are given where the least eigenvalue is below it.
    """
    none = np.zeros((0, space.free.size))
    if space.dimension <= 0:
        return Least(np.inf, np.inf, none, 0)
    run = _Run(advance, point, space, dtype)
    limit = np.clip(WORK / (space.free.size * (100 + 8 * len(space.basis))), *STEPS)
    alphas, betas, steps = np.zeros(0), np.zeros(0), 0
    state, lower, theta = run.begin(), -np.inf, np.inf
    while True:
        state, more = run.on(state, np.zeros((CHUNK, PAIRS)))
        alphas, betas = np.append(alphas, more[0]), np.append(betas, more[1])
        if not np.all(np.isfinite(alphas)):
            return Least(-np.inf, np.inf, none, alphas.size)
        ended = _ended(alphas, betas)
        if ended is None and alphas.size < min(1.2 * steps, limit):
            continue
        steps = ended or alphas.size
        alphas, betas = alphas[:steps], betas[:steps]
        theta, lower = _bounds(alphas, betas, space.dimension, ended is not None)
        told = theta < -zero or lower > zero or (abs(theta) <= zero and lower >= -zero)
        if told or ended or steps >= limit:
            break
    directions = run.directions(_weights(alphas, betas)) if theta < wanted else none
    return Least(lower, theta, directions, steps)


class _Run(NamedTuple):
    """One start, passed twice."""

    advance: Callable[..., Any]
    point: tuple[Any, ...]
    space: Subspace
    dtype: type

    def begin(self) -> Any:
        n = self.space.free.size
        start = self.space.project(np.random.default_rng(0).normal(size=n))
        start = jnp.asarray(start / np.linalg.norm(start), self.dtype)
        return jnp.zeros_like(start), start, jnp.zeros((), self.dtype), jnp.zeros((PAIRS, n), self.dtype)

    def on(self, state: Any, weights: Any) -> tuple[Any, ...]:
        # the number of rows is rounded up, so that few programs are compiled
        basis = self.space.basis
        unit = 1 << max(len(basis).bit_length() - 3, 0)
        rows = -(-len(basis) // unit) * unit
        basis = np.concatenate([basis, np.zeros((rows - len(basis), self.space.free.size))])
        parts = (jnp.asarray(part, self.dtype) for part in (self.space.free, basis))
        state, alphas, betas = self.advance(self.point, *parts, state, jnp.asarray(weights, self.dtype))
        return state, (np.asarray(alphas, float), np.asarray(betas, float))

    def directions(self, weights: Any) -> np.ndarray:
        state = self.begin()
        padded = np.zeros((-(-len(weights) // CHUNK) * CHUNK, PAIRS))
        padded[: len(weights), : weights.shape[1]] = weights
        for begin in range(0, len(padded), CHUNK):
            state, _ = self.on(state, padded[begin : begin + CHUNK])
        found = np.asarray(state[3], float)[: weights.shape[1]]
        found = np.stack([self.space.project(vector) for vector in found])
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def _ended(alphas, betas) -> int | None:
    """After how many steps the subspace of all that the start reaches was complete."""
    size = np.maximum.accumulate(np.abs(alphas) + betas)
    small = np.flatnonzero(betas <= LAST * size)
    return int(small[0]) + 1 if small.size else None


def _extreme(alphas, betas, first, last, vectors=False):
    from scipy.linalg import eigh_tridiagonal

    return eigh_tridiagonal(alphas, betas[:-1], eigvals_only=not vectors, select="i", select_range=(first, last))


def _bounds(alphas, betas, dimension, complete) -> tuple[float, float]:
    """theta and the lower bound."""
    k = alphas.size
    low, high = float(_extreme(alphas, betas, 0, 0)[0]), float(_extreme(alphas, betas, k - 1, k - 1)[0])
    if complete:
        return low, low
    share = (np.log(1.648 * np.sqrt(dimension) / CHANCE) / (2 * k - 1)) ** 2
    return low, low - share / (1 - 2 * share) * (high - low) if share < 0.25 else -np.inf


def _weights(alphas, betas) -> np.ndarray:
    """Coefficients (k, up to PAIRS) of the directions of the lowest values, without copies."""
    values, vectors = _extreme(alphas, betas, 0, min(alphas.size, 4 * PAIRS) - 1, vectors=True)
    size = np.max(np.abs(alphas)) + np.max(betas)
    apart = np.append(True, np.diff(values) > 1e-8 * size)
    return vectors[:, np.flatnonzero(apart)[:PAIRS]]
