r"""The conditions of Karush, Kuhn and Tucker as residuals: all of them, the sign of mu and feasibility included.

    grad f + lambda . grad h + mu . grad g = 0,    h = 0,    g <= 0,    mu >= 0,    mu_i g_i = 0.

Gradients of constraints come as a matrix or, where variables are many, by products: one backward pass, rows a few at a
time; the row of a bound is + or - a unit vector and never formed.  A point without multipliers gets lambda and mu >= 0
on the active inequalities by non-negative least squares, min |grad f + lambda . grad h + mu . grad g_active|.
Source: Lawson and Hanson 1974, chapter 23; Karush 1939; Kuhn and Tucker 1951; Nocedal and Wright 2006, theorem 12.1.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality.measures import largest
from functional_dl.optimality.problem import FlatProblem, Problem, check_problem, flatten, point
from functional_dl.optimality.units import BLOCK, at_point, each_row, rescaled

KEPT = 32  # problems whose program is kept


class KKTResiduals(NamedTuple):
    """How far each condition is from holding; all are 0 at a KKT point.

    Functions and variables count in the problem's own units (units.py): 1 is the size of the objective's changes over
    the sizes of the variables, and of each row's.

    Fields:
      stationarity: max |grad L| / (1 + the greatest entry of |grad f|, |lambda . grad h|, |mu . grad g|).
      eq_residual: max |h_i| / (1 + |grad h_i|).
      ineq_residual: max (g_i)+ / (1 + |grad g_i|).
      dual_residual: max (-mu_i)+ / (1 + max |mu|).
      slackness: max |mu_i g_i| / ((1 + |mu_i|) (1 + |grad g_i|)).
    """

    stationarity: Scalar
    eq_residual: Scalar
    ineq_residual: Scalar
    dual_residual: Scalar
    slackness: Scalar


def residuals(flat: FlatProblem, x: Array, lam: Array, mu: Array) -> KKTResiduals:
    """kkt_residuals over vectors."""
    if flat.large:
        return measured(flat, x, lam, mu, *norms(flat, x))
    dh, dg = jax.jacrev(flat.equalities)(x), jax.jacrev(flat.inequalities)(x)
    sizes = jnp.linalg.norm(dh, axis=1), jnp.linalg.norm(dg, axis=1)
    return _residuals(flat, x, mu, lam @ dh, mu @ dg, *sizes)


def measured(flat: FlatProblem, x: Array, lam: Array, mu: Array, norms_h: Array, norms_g: Array) -> KKTResiduals:
    """residuals with the lengths of the gradients given: no matrix is formed."""
    return _residuals(flat, x, mu, *combined(flat, x, lam, mu), norms_h, norms_g)


def _residuals(flat, x, mu, of_h, of_g, norms_h, norms_g):
    gradient, h, g = jax.grad(flat.objective)(x), flat.equalities(x), flat.inequalities(x)
    scale = 1 + jnp.maximum(largest(gradient), jnp.maximum(largest(of_h), largest(of_g)))
    rows_h, rows_g = 1 + norms_h, 1 + norms_g
    return KKTResiduals(
        largest(gradient + of_h + of_g) / scale,
        largest(h / rows_h),
        largest(jnp.maximum(g, 0) / rows_g),
        largest(jnp.maximum(-mu, 0)) / (1 + largest(mu)),
        largest(mu * g / (1 + jnp.abs(mu)) / rows_g),
    )


def kkt_residuals(problem: Problem, x: PyTree, lam: PyTree = None, mu: PyTree = None) -> KKTResiduals:
    """The five residuals of (x, lambda, mu), scaled so that units matter little.

    Args:
      x: the point; lam, mu: multipliers like equalities(x), inequalities(x); None where there is no such constraint.
    Returns:
      KKTResiduals.  Runs under jit and vmap.  NaN stays NaN.  Compiled once for each problem, as `solve` is.
    Raises:
      ValueError: multipliers of another size than the constraints.
    Source: Nocedal and Wright 2006, (12.34).
    Example:
      >>> wall = optimality.Problem(lambda x: (x - 2) ** 2, inequalities=lambda x: x - 1)
      >>> float(optimality.kkt_residuals(wall, jnp.array(1.0), mu=jnp.array(2.0)).stationarity)
      0.0
    """
    check_problem(problem)
    return _compiled(problem)(problem.args, point(x), lam, mu)


@lru_cache(maxsize=KEPT)
def _compiled(problem: Problem) -> Callable[..., KKTResiduals]:
    """One program instead of some two hundred small ones."""

    @jax.jit
    def run(args, x, lam, mu):
        flat = flatten(replace(problem, args=args), x)
        flat = rescaled(flat, at_point(flat, flat.x0))
        return residuals(flat, flat.x0, flat.pack_equality(lam), flat.pack_inequality(mu))

    return run


# ---- gradients of constraints, multipliers ---------------------------------------------------------------------------


def norms(flat: Any, x: Array) -> tuple[Array, Array]:
    """The lengths of the gradients of h and of g, bounds included."""
    of_h, of_own = (each_row(fun, x, jnp.linalg.norm) for fun in (flat.equalities, flat.general))
    return of_h, jnp.concatenate([of_own, jnp.ones(sum(side.size for side in flat.bounded), x.dtype)])


def combined(flat: Any, x: Array, lam: Array, mu: Array) -> tuple[Array, Array]:
    """lam . grad h and mu . grad g, each by one backward pass."""
    return jax.vjp(flat.equalities, x)[1](lam)[0], jax.vjp(flat.inequalities, x)[1](mu)[0]


def formed(block: Callable[[Array, Array], Array], x: Array, indices: np.ndarray) -> np.ndarray:
    """The rows with the given indices; block(x, BLOCK indices) is a compiled function."""
    rows = np.zeros((len(indices), x.size))
    for begin in range(0, len(indices), BLOCK):
        chosen = indices[begin : begin + BLOCK]
        padded = np.concatenate([chosen, np.zeros(BLOCK - len(chosen), chosen.dtype)])
        rows[begin : begin + BLOCK] = np.asarray(block(x, jnp.asarray(padded)), float)[: len(chosen)]
    return rows


def rows_of(flat: Any) -> Callable[[Array, Array], Array]:
    """(x, indices) -> those rows of the gradients of (h, general inequalities)."""

    def block(x, indices):
        value, pull = jax.vjp(lambda x: jnp.concatenate([flat.equalities(x), flat.general(x)]), x)
        return jax.vmap(lambda i: pull(jnp.zeros_like(value).at[i].set(1))[0])(indices)

    return block


def estimate(
    gradient: np.ndarray, eq_rows: np.ndarray, ineq_rows: np.ndarray, active: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(lambda, mu) that leave the least gradient of the Lagrangian.

    Args:
      gradient (n,), eq_rows (p, n), ineq_rows (m, n): gradients at the point; active (m,): booleans.
    """
    from scipy.optimize import nnls

    mu = np.zeros(len(ineq_rows))
    columns = np.concatenate([eq_rows, -eq_rows, ineq_rows[active]]).T
    if columns.shape[1] == 0:
        return np.zeros(0), mu
    scale = np.maximum(np.linalg.norm(columns, axis=0), np.finfo(float).tiny)
    solution = nnls(columns / scale, -gradient, maxiter=30 * columns.shape[1] + 300)[0] / scale
    count = len(eq_rows)
    mu[active] = solution[2 * count :]
    return solution[:count] - solution[count : 2 * count], mu


def estimate_bounded(gradient: Any, held: Any) -> Any:
    """The same where variables are at bounds, whose multipliers are what remains of the gradient with the right sign.

    Args:
      gradient (n,); held: qualification.Held, the rows of equalities and of active inequalities and what is at bounds.
    Returns:
      lambda, mu of the active general inequalities, of the lower bounds (n,), of the upper bounds (n,).
    """
    rows, count = held.rows, len(held.equalities)
    pull = lambda y: gradient + y @ rows if len(rows) else gradient
    y, counted = np.zeros(len(rows)), held.free
    for _ in range(20 if len(rows) else 0):
        # variables at bounds count where no multiplier of the right sign takes up their gradient
        q, r = np.linalg.qr(rows.T * counted[:, None])
        lam, mu = estimate(q.T @ gradient, r.T[:count], r.T[count:], np.ones(len(rows) - count, bool))
        y, before = np.concatenate([lam, mu]), counted
        left = pull(y)
        counted = held.free | ~((held.at_lower & (left >= 0)) | (held.at_upper & (left <= 0)))
        if np.array_equal(counted, before):
            break
    left = pull(y)
    low, high = np.where(held.at_lower, np.maximum(left, 0), 0.0), np.where(held.at_upper, np.maximum(-left, 0), 0.0)
    return y[:count], y[count:], low, high
