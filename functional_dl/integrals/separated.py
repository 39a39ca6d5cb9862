r"""A function of several variables as a chain of matrices, each of one variable: cheap to integrate and to evaluate.

    f(x_1, ..., x_d)  ~  A_1(x_1) A_2(x_2) ... A_d(x_d),      A_k of shape (r_{k-1}, r_k), r_0 = r_d = 1,

    int f  ~  (int A_1) (int A_2) ... (int A_d).

The factors are made of the function's values on crosses: with r_k rows (places of x_1 ... x_k) and r_k columns (places
of x_{k+1} ... x_d) chosen for a large determinant, the approximation equals f there.  The ranks grow by the points at
which it is worst.  Source: Oseledets and Tyrtyshnikov 2010; Goreinov and others 1997 for the choice of rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from functional_dl.integrals.panels import ORDER, Panels

RANK = 1e-14  # singular values below this share of the greatest are noise
ENOUGH = 2e-14  # of the greatest value: where the search for more rank ends
SWEEPS = 14
GROWTH = 6  # ranks that a sweep may add
LARGEST_RANK = 48
POOL = 2048


class Separated(NamedTuple):
    """The factors at the nodes of each axis's panels, of shape (r_{k-1}, nodes, r_k)."""

    axes: list[Panels]
    factors: list[np.ndarray]

    @property
    def rank(self) -> int:
        return max(factor.shape[2] for factor in self.factors)

    def integral(self) -> float:
        row = np.ones(1)
        for panels, factor in zip(self.axes, self.factors):
            row = row @ np.einsum("anb,n->ab", factor, panels.weights)
        return float(row[0])

    def __call__(self, points: Any) -> np.ndarray:
        """Values at points (n, d)."""
        row = np.ones((len(points), 1))
        for k, (panels, factor) in enumerate(zip(self.axes, self.factors)):
            panel, weights = panels.locate(points[:, k])
            a, _, b = factor.shape
            by_panel = factor.reshape(a, -1, ORDER, b).transpose(1, 2, 0, 3)
            new = np.empty((len(points), b))
            for p in np.unique(panel):
                here = panel == p
                matrices = (weights[here] @ by_panel[p].reshape(ORDER, a * b)).reshape(-1, a, b)
                new[here] = np.einsum("na,nab->nb", row[here], matrices)
            row = new
        return row[:, 0]

    def at(self, index: Any) -> np.ndarray:
        """Values at nodes: index (n, d) counts them on each axis."""
        row = np.ones((len(index), 1))
        for k, factor in enumerate(self.factors):
            row = np.einsum("na,nab->nb", row, factor[:, index[:, k]].transpose(1, 0, 2))
        return row[:, 0]


def separate(fun: Callable[..., Any], axes: list[Panels], starts: Any, evaluations: int) -> Separated:
    """The chain for fun: points (n, d) -> (n,); `starts` (n, d) are points at which it is large."""
    nodes = [panels.nodes for panels in axes]
    sizes = [len(x) for x in nodes]
    dimension = len(axes)
    at = lambda index: fun(np.stack([nodes[k][index[:, k]] for k in range(dimension)], axis=1))
    rng = np.random.default_rng(11)
    pool = np.stack([rng.integers(n, size=POOL) for n in sizes], axis=1)
    near = np.stack([_nearest(x, starts[:, k]) for k, x in enumerate(nodes)], axis=1)
    pool = np.concatenate([near, _crossed(near, pool, rng), pool])
    exact = at(pool)
    best = pool[np.argsort(-np.abs(exact))[:GROWTH]]
    columns = [_distinct(best[:, k + 1 :]) for k in range(dimension - 1)]
    used, least = len(pool), np.inf
    idle, kept = 0, Separated(axes, [])
    for _ in range(SWEEPS):
        made, rows, count = _forward(at, sizes, columns)
        chain, used = Separated(axes, made), used + count
        fault = np.abs(chain.at(pool) - exact)
        worst = float(np.max(fault))
        idle = 0 if worst < 0.5 * least else idle + 1
        if not kept.factors or worst < least:
            kept, least = chain, worst
        if worst <= ENOUGH * np.max(np.abs(exact)) or idle > 2 or chain.rank >= LARGEST_RANK or used > evaluations:
            break
        columns, count = _backward(at, sizes, rows)
        used += count
        chosen = pool[np.argsort(-fault)[:GROWTH]]
        columns = [_distinct(np.concatenate([c, chosen[:, k + 1 :]])) for k, c in enumerate(columns)]
    return kept


def _forward(at, sizes, columns):
    """(factors, the rows chosen behind each axis, evaluations), first axis to last."""
    factors, rows, count = [], [], 0
    left = np.zeros((1, 0), int)
    for k, n in enumerate(sizes[:-1]):
        block = _block(at, left, n, columns[k])
        count += block.size
        basis = _basis(block.reshape(len(left) * n, -1))
        chosen = _large_determinant(basis)
        factor = np.linalg.solve(basis[chosen].T, basis.T).T
        factors.append(factor.reshape(len(left), n, -1))
        left = np.concatenate([left[chosen // n], (chosen % n)[:, None]], axis=1)
        rows.append(left)
    last = _block(at, left, sizes[-1], np.zeros((1, 0), int))
    return [*factors, last], rows, count + last.size


def _backward(at, sizes, rows):
    """(columns before each axis, evaluations), last axis to first."""
    right, count, columns = np.zeros((1, 0), int), 0, []
    for k in range(len(sizes) - 1, 0, -1):
        block = _block(at, rows[k - 1], sizes[k], right)
        count += block.size
        basis = _basis(block.reshape(len(rows[k - 1]), -1).T)
        chosen = _large_determinant(basis)
        right = np.concatenate([(chosen // len(right))[:, None], right[chosen % len(right)]], axis=1)
        columns.append(right)
    return columns[::-1], count


def _block(at, left, n, right):
    """f on left x nodes x right, (left, n, right)."""
    a, i, b = np.meshgrid(np.arange(len(left)), np.arange(n), np.arange(len(right)), indexing="ij")
    index = np.concatenate([left[a.ravel()], i.ravel()[:, None], right[b.ravel()]], axis=1)
    return at(index).reshape(len(left), n, len(right))


def _basis(matrix):
    """An orthonormal basis of the columns, as far as they stand out of the noise."""
    vectors, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    rank = max(1, int(np.sum(singular > RANK * singular[0])))
    return vectors[:, : min(rank, LARGEST_RANK)]


def _large_determinant(basis):
    """Rows whose square submatrix has a determinant that no exchange of a row makes 5 % larger."""
    from scipy.linalg import qr  # heavy to load, and seldom needed

    rank = basis.shape[1]
    chosen = np.asarray(qr(basis.T, mode="r", pivoting=True)[-1])[:rank]
    for _ in range(4 * rank):
        share = np.linalg.solve(basis[chosen].T, basis.T).T
        row, place = np.unravel_index(np.argmax(np.abs(share)), share.shape)
        if abs(share[row, place]) <= 1.05:
            break
        chosen[place] = row
    return chosen


def _nearest(nodes, places):
    """For each place the index of the nearest node."""
    right = np.clip(np.searchsorted(nodes, places), 1, len(nodes) - 1)
    return np.where(places - nodes[right - 1] < nodes[right] - places, right - 1, right)


def _crossed(near, pool, rng):
    """Points with some coordinates of a large value's, and the others anywhere."""
    mask = rng.random(pool.shape) < 0.5
    return np.where(mask, near[rng.integers(len(near), size=len(pool))], pool)


def _distinct(index):
    return np.unique(index, axis=0)
