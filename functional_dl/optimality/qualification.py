r"""Constraint qualifications where the active bounds are eliminated: rows restricted to the variables that are free.

The unit vectors of the active bounds and rows a_1 ... a_r are linearly independent exactly if no variable is at both of
its bounds and the a_i, restricted to the free variables, are: a factorisation a' = QR of r columns decides.
"""

from typing import NamedTuple

import numpy as np

from functional_dl.optimality.lanczos import Subspace

RANK = 1e-9  # singular values of normalised rows below it count as zero
FLAT = 1e-7  # a gradient of an active constraint below this counts as zero
SECONDS = 30.0  # for a linear program


class Held(NamedTuple):
    """What is active: rows of the equalities and of general inequalities, and the variables at their bounds."""

    equalities: np.ndarray
    inequalities: np.ndarray
    at_lower: np.ndarray  # (n,) booleans
    at_upper: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate([self.equalities, self.inequalities])

    @property
    def free(self) -> np.ndarray:
        return ~(self.at_lower | self.at_upper)


def singular(rows: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of the normalised rows restricted to free variables, and the right vectors, as rows (r, n)."""
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    columns = (rows / np.maximum(size, 1e-300) * free).T
    if not len(rows):
        return np.zeros(0), np.zeros((0, free.size))
    q, r = np.linalg.qr(columns)
    left, values, _ = np.linalg.svd(r, full_matrices=False)
    return values, (q @ left).T


def null_space(held: Held, values=None, right=None) -> Subspace:
    """The directions along which nothing that is held changes."""
    if values is None:
        values, right = singular(held.rows, held.free)
    kept = values > RANK * max(1.0, np.max(values, initial=0))
    return Subspace(held.free.astype(float), right[kept])


def licq(held: Held, values: np.ndarray, least: float = RANK) -> bool:
    """Independent gradients; `values` are the singular values of `rows`."""
    rows = held.rows
    if np.any(held.at_lower & held.at_upper) or np.any(np.linalg.norm(rows, axis=1) < FLAT):
        return False
    count = np.sum(values > least * max(1.0, np.max(values, initial=0)))
    return bool(count == len(rows))


def mfcq(held: Held, least: float = FLAT) -> bool | None:
    """A d with grad h d = 0 and grad g d < 0 by linear programming (max t, |d| <= 1); None: not decided in time."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, hstack, vstack

    if np.any(held.at_lower & held.at_upper):
        return False
    all_free = np.ones(held.free.size, bool)
    if not licq(
        Held(held.equalities, held.inequalities[:0], ~all_free, ~all_free), singular(held.equalities, all_free)[0]
    ):
        return False
    size = np.linalg.norm(held.inequalities, axis=1, keepdims=True)
    if np.any(size < FLAT):
        return False
    n, unit = held.free.size, held.inequalities / size
    low, high = np.flatnonzero(held.at_lower), np.flatnonzero(held.at_upper)
    one = lambda indices, sign: csr_array(
        (np.full(indices.size, sign), (np.arange(indices.size), indices)), shape=(indices.size, n)
    )
    above = vstack([csr_array(unit), one(low, -1.0), one(high, 1.0)])
    if above.shape[0] == 0:
        return True
    answer = linprog(
        np.r_[np.zeros(n), -1.0],
        hstack([above, csr_array(np.ones((above.shape[0], 1)))]),
        np.zeros(above.shape[0]),
        hstack([csr_array(held.equalities), csr_array((len(held.equalities), 1))]) if len(held.equalities) else None,
        np.zeros(len(held.equalities)) if len(held.equalities) else None,
        bounds=[(-1, 1)] * n + [(None, 1)],
        options={"time_limit": SECONDS},
    )
    return bool(-answer.fun > least) if answer.status == 0 else None
