r"""Multipliers for a point that has none: lambda free, mu >= 0 on the active inequalities, 0 elsewhere.

    min |grad f + lambda . grad h + mu . grad g_active|  subject to  mu >= 0:

non-negative least squares, lambda = lambda+ - lambda-.  Source: Lawson and Hanson 1974, chapter 23.
"""

from typing import Any

import numpy as np


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
