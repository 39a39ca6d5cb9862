r"""Constraint qualifications where the active bounds are eliminated: rows restricted to the variables that are free.

The unit vectors of the active bounds and rows a_1 ... a_r are linearly independent exactly if no variable is at both of
its bounds and the a_i, restricted to the free variables, are: a factorisation a' = QR of r columns decides.
"""

from typing import NamedTuple

import numpy as np

from functional_dl.optimality.certificate.curvature import Subspace

RANK = 1e-9  # singular values of normalised rows below it count as zero
FLAT = 1e-7  # a gradient of an active constraint below this, or ten times the tolerance, counts as zero
MANY = 300  # rows, from which clearly independent ones are not taken apart
CLEAR = 1e-3  # a least singular value of this share of the greatest is no doubtful case
SECONDS = 10.0  # for a linear program


class Held(NamedTuple):
    """What is active: rows of the equalities and of general inequalities, and the variables at their bounds."""

    equalities: np.ndarray
    inequalities: np.ndarray
    at_lower: np.ndarray  # (n,) booleans
    at_upper: np.ndarray
    flat: float = FLAT  # a gradient below it counts as zero

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([self.equalities, self.inequalities])

    @property
    def free(self) -> np.ndarray:
        return ~(self.at_lower | self.at_upper)


def singular(rows: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of the normalised rows restricted to free variables, and orthonormal vectors, as rows (r, n),
    that span their span in that order; of MANY rows that are clearly independent, bounds in place of the values."""
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    columns = (rows / np.maximum(size, 1e-300) * free).T
    if not len(rows):
        return np.zeros(0), np.zeros((0, free.size))
    q, r = np.linalg.qr(columns)
    if len(rows) > MANY:
        bounds = _bounds(r)
        if bounds is not None:
            return bounds, q.T
    left, values, _ = np.linalg.svd(r, full_matrices=False)
    return values, (q @ left).T


def _bounds(r) -> np.ndarray | None:
    """One upper bound of the singular values of a square triangle and, for the others, a lower one; None if far apart.

    |r|_2^2 <= |r|_1 |r|_inf, and so for the inverse.
    """
    from scipy.linalg import solve_triangular

    if r.shape[0] != r.shape[1] or np.min(np.abs(np.diag(r))) < 1e-6:
        return None
    length = lambda a: np.sqrt(np.max(np.sum(np.abs(a), axis=0)) * np.max(np.sum(np.abs(a), axis=1)))
    greatest, least = length(r), 1 / length(solve_triangular(r, np.eye(len(r))))
    return np.append(greatest, np.full(len(r) - 1, least)) if least > CLEAR * greatest else None


def null_space(held: Held, values: np.ndarray, right: np.ndarray) -> Subspace:
    """The directions along which nothing that is held changes; values and right as singular(rows, free) gives them."""
    kept = values > RANK * max(1.0, np.max(values, initial=0))
    return Subspace(held.free.astype(float), right[kept])


def licq(held: Held, values: np.ndarray, least: float = RANK) -> bool:
    """Independent gradients; `values` are the singular values of `rows`."""
    rows = held.rows
    if np.any(held.at_lower & held.at_upper) or np.any(np.linalg.norm(rows, axis=1) < held.flat):
        return False
    count = np.sum(values > least * max(1.0, np.max(values, initial=0)))
    return bool(count == len(rows))


def mfcq(held: Held, least: float = FLAT) -> bool | None:
    """Whether a d has grad h d = 0 and grad g d < 0: max t by linear programming.  None: not decided in time.

    At a lower bound d_i = t + s_i, at an upper one d_i = -t - s_i with 0 <= s_i <= 1, so that only the general rows are
    left as constraints; free variables have |d_i| <= 1.
    """
    from scipy.optimize import linprog

    if np.any(held.at_lower & held.at_upper):
        return False
    everywhere = np.zeros(held.free.size, bool)
    alone = Held(held.equalities, held.inequalities[:0], everywhere, everywhere, held.flat)
    if not licq(alone, singular(alone.rows, alone.free)[0]):
        return False
    size = np.linalg.norm(held.inequalities, axis=1, keepdims=True)
    if np.any(size < held.flat):
        return False
    sign = np.where(held.at_upper, -1.0, 1.0)
    bound = lambda rows: (rows * sign, (rows * sign)[:, ~held.free].sum(axis=1, keepdims=True))
    unit, unit_t = bound(held.inequalities / size)
    row, row_t = bound(held.equalities / np.linalg.norm(held.equalities, axis=1, keepdims=True))
    answer = linprog(
        np.r_[np.zeros(held.free.size), -1.0],
        np.hstack([unit, unit_t + 1]) if len(unit) else None,
        np.zeros(len(unit)) if len(unit) else None,
        np.hstack([row, row_t]) if len(row) else None,
        np.zeros(len(row)) if len(row) else None,
        bounds=[*((-1.0, 1.0) if free else (0.0, 1.0) for free in held.free), (None, 1.0)],
        options={"time_limit": SECONDS},
    )
    return bool(-answer.fun > least) if answer.status == 0 else None
