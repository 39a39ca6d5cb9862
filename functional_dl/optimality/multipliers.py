r"""Multipliers for a point that has none: lambda free, mu >= 0 on the active inequalities, 0 elsewhere.

    min |grad f + lambda . grad h + mu . grad g_active|  subject to  mu >= 0:

non-negative least squares, lambda = lambda+ - lambda-.  Source: Lawson and Hanson 1974, chapter 23.
"""

import numpy as np


def estimate(slope, eq_rows, ineq_rows, active):
    """(lambda, mu) that leave the least gradient of the Lagrangian.

    Args:
      slope (n,), eq_rows (p, n), ineq_rows (m, n): gradients at the point; active (m,): booleans.
    """
    from scipy.optimize import nnls

    mu = np.zeros(len(ineq_rows))
    columns = np.concatenate([eq_rows, -eq_rows, ineq_rows[active]]).T
    if columns.shape[1] == 0:
        return np.zeros(0), mu
    scale = np.maximum(np.linalg.norm(columns, axis=0), np.finfo(float).tiny)
    solution = nnls(columns / scale, -slope, maxiter=30 * columns.shape[1] + 300)[0] / scale
    count = len(eq_rows)
    mu[active] = solution[2 * count :]
    return solution[:count] - solution[count : 2 * count], mu
