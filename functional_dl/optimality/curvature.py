r"""What a certificate reads at a point: values, rows of constraints, and the Hessian H of the Lagrangian.

Two ways that answer the same questions: with matrices, or, where variables are many, by products.  Without matrices the
lengths of gradients and multiplied rows come from backward passes, only rows of active general constraints are formed,
and the least curvature comes from Lanczos' method with a bound from below (lanczos.py).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.optimality import lanczos
from functional_dl.optimality.kkt import combined, formed, measured, norms, residuals, rows_of
from functional_dl.optimality.lanczos import Least, Subspace

DRAWS = 16  # random signs by which the size of the Hessian's rows is estimated


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
            jax.jit(lanczos.recurrence(product)),
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
        return lanczos.least(self.programs.advance, self.point, space, zero, wanted, self.x.dtype)

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
