r"""The least eigenvalue of a symmetric matrix on a subspace, from products with it, and how sure that is.

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

import jax.numpy as jnp
import numpy as np
from jax import lax

CHANCE = 1e-6  # that a lower bound is wrong
CHUNK = 64  # products between two looks
PAIRS = 3  # directions given
LAST = 1e-12  # relative size of beta that ends the recurrence
WORK = 2e11  # numbers touched in a run, about
STEPS = 500, 20_000  # the least and the greatest limit of products


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
