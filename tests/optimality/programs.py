"""Convex quadratic and linear programs of one shape (6 variables, 2 equalities, 5 inequalities, bounds).

Infinite limits stand for rows that are not there, so that one compiled call solves them all.
"""

from typing import NamedTuple

import clarabel
import numpy as np
from scipy import sparse

N, EQUALITIES, INEQUALITIES = 6, 2, 5
INF = np.inf


class Quadratic(NamedTuple):
    """x' P x / 2 + q . x  subject to  A x = b, G x <= h, lower <= x <= upper."""

    P: np.ndarray
    q: np.ndarray
    A: np.ndarray
    b: np.ndarray
    G: np.ndarray
    h: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Known(NamedTuple):
    """A program, and whether its multipliers are unique; of one without solution, which of the two ways."""

    name: str
    program: Quadratic
    unique: bool = True
    status: str = "solved"


def program(P=0.0, q=0.0, A=None, b=None, G=None, h=None, lower=-INF, upper=INF) -> Quadratic:
    """Fewer rows are filled up: zero rows of A, rows of G with an infinite limit."""
    A = np.zeros((0, N)) if A is None else np.atleast_2d(np.asarray(A, float))
    G = np.zeros((0, N)) if G is None else np.atleast_2d(np.asarray(G, float))
    fill = lambda rows, count: np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]))])
    b, h = np.zeros(0) if b is None else np.ravel(b), np.zeros(0) if h is None else np.ravel(h)
    h = np.concatenate([h, np.full(INEQUALITIES - len(h), INF)]).astype(float)
    spread = lambda v: np.array(np.broadcast_to(np.asarray(v, float), N))
    return Quadratic(
        np.array(np.broadcast_to(np.asarray(P, float), (N, N))), spread(q), fill(A, EQUALITIES),
        fill(b.astype(float), EQUALITIES), fill(G, INEQUALITIES), h, spread(lower), spread(upper),
    )  # fmt: skip


def random(seed, rank=N, scale=1.0) -> Quadratic:
    """Feasible (x0 is inside) and bounded; `rank` of P, 0 for a linear program."""
    rng = np.random.default_rng(seed)
    x0, root = rng.normal(size=N), rng.normal(size=(N, rank))
    A, G = rng.normal(size=(EQUALITIES, N)), rng.normal(size=(INEQUALITIES, N))
    q = 3 * rng.normal(size=N)
    return program(scale * root @ root.T, scale * q, A, A @ x0, G, G @ x0 + rng.uniform(0, 1, 5), x0 - 1, x0 + 2)


def rescaled(known: Quadratic, units) -> Quadratic:
    """The same program with x_i counted in other units."""
    d = np.asarray(units, float)
    return Quadratic(
        known.P * d[:, None] * d, known.q * d, known.A * d, known.b, known.G * d, known.h, known.lower / d,
        known.upper / d,
    )  # fmt: skip


def badly_scaled(seed) -> tuple[Quadratic, np.ndarray]:
    """A program, and a solution of it: P of condition up to 1e8 or singular, x of size 1e-6 to 1e8, and variables, rows
    and objective in units up to 1e3 apart.  q makes the conditions of Karush, Kuhn and Tucker hold."""
    rng = np.random.default_rng(seed)
    size, far = 10 ** rng.uniform(-6, 8), rng.integers(0, 4)
    root = np.linalg.qr(rng.normal(size=(N, N)))[0] * np.logspace(0, -rng.uniform(0, 4), N)
    root = root * (rng.random(N) < rng.choice([0, 0.7, 1], p=[0.1, 0.2, 0.7]))
    P, A, G = root @ root.T, rng.normal(size=(EQUALITIES, N)), rng.normal(size=(INEQUALITIES, N))
    x, kind = rng.normal(size=N), rng.random(N)
    low, high, row = kind < 0.2, kind > 0.8, rng.random(INEQUALITIES) < 0.4
    room = lambda held, n: np.where(held, 0, rng.exponential(size=n))
    h, lower, upper = G @ x + room(row, INEQUALITIES), x - room(low, N), x + room(high, N)
    lower, upper = np.where((kind > 0.4) & ~low, -INF, lower), np.where((kind < 0.6) & ~high, INF, upper)
    pull = np.where(low, -1, np.where(high, 1, 0)) * rng.exponential(size=N)
    q = -(P @ x + A.T @ rng.normal(size=EQUALITIES) + G.T @ (row * rng.exponential(size=INEQUALITIES)) + pull)
    units, of_a, of_g, cost = (10 ** rng.uniform(-far, far, n) for n in (N, EQUALITIES, INEQUALITIES, 1))
    found = Quadratic(P, q * size, A, A @ x * size, G, h * size, lower * size, upper * size)
    P, q, A, b, G, h, lower, upper = rescaled(found, 1 / units)
    A, b, G, h = A * of_a[:, None], b * of_a, G * of_g[:, None], h * of_g
    return Quadratic(P * cost, q * cost, A, b, G, h, lower, upper), x * size * units


EYE, ONES = np.eye(N), np.ones(N)
RETURNS = np.array([0.03, 0.05, 0.08, 0.02, 0.11, 0.07])
SPREAD = np.random.default_rng(7).normal(size=(N, N)) / 5
# supplies of 3 and 4 go to three places that ask for 2, 2 and 3; the last balance follows from the others
SHIPPING = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]), [3, 4]
DEMANDS = -np.array([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]]), [-2, -2, -3]
CUBE = np.array([[1, 0, 0, 0, 0, 0], [4, 1, 0, 0, 0, 0], [8, 4, 1, 0, 0, 0], [16, 8, 4, 1, 0, 0], [32, 16, 8, 4, 1, 0]])
TIES = random(21)

SOLVED = [
    *(Known(f"strictly convex {seed}", random(seed)) for seed in range(5)),
    *(Known(f"semidefinite of rank 2, {seed}", random(seed, rank=2)) for seed in (10, 11)),
    *(Known(f"linear {seed}", random(seed, rank=0)) for seed in (12, 13, 14)),
    # without careful iterations where progress ends, predictor and corrector go round in a cycle here
    *(Known(f"badly centred {seed}", random(seed)) for seed in (327, 6286, 7198)),
    Known("large objective", random(15, scale=1e6)),
    Known("small objective", random(16, scale=1e-4)),
    Known("other units", rescaled(random(17), [1e3, 1e-2, 1, 10, 1e-1, 1])),
    Known("portfolio", program(SPREAD @ SPREAD.T, -RETURNS, ONES, 1, lower=0)),
    Known("nearest point of the simplex", program(EYE, -np.array([0.9, 0.4, -1, 0.1, 0.3, -0.2]), ONES, 1, lower=0)),
    Known("nearest point of a box", program(EYE, -np.array([3, -2, 0.5, 0.2, -4, 1.5]), lower=-1, upper=1)),
    Known("least norm", program(EYE, 0, [[1, 2, 3, 4, 5, 6], [1, -1, 1, -1, 1, -1]], [1, 2])),
    Known("free of constraints", program(EYE + 0.5 * np.ones((N, N)), np.arange(6))),
    Known("shipping", program(0, [4, 6, 9, 5, 3, 8], *SHIPPING, *DEMANDS, lower=0), unique=False),
    Known("Klee and Minty", program(0, [-16, -8, -4, -2, -1, 0], G=CUBE, h=5.0 ** np.arange(1, 6), lower=0, upper=1e4)),
    Known("an inequality twice", TIES._replace(G=TIES.G[[0, 1, 2, 0, 1]], h=TIES.h[[0, 1, 2, 0, 1]]), unique=False),
    Known("an equality twice", TIES._replace(A=TIES.A[[0, 0]] * [[1], [2]], b=TIES.b[[0, 0]] * [1, 2]), unique=False),
    Known("more active limits than variables",
          program(0, -ONES, G=[ONES, 2 * ONES, ONES + EYE[0], EYE[0] + EYE[1], ONES - EYE[5]], h=[6, 12, 7, 2, 5],
                  upper=1), unique=False),
    Known("every objective value the same", program(0, 0, ONES, 1, lower=0), unique=False),
]  # fmt: skip

UNSOLVED = [
    Known("x <= 0 and x >= 1", program(EYE, ONES, G=[EYE[0], -EYE[0]], h=[0, -1]), status="infeasible"),
    Known("equalities that contradict each other", program(EYE, 0, [ONES, 2 * ONES], [1, 3]), status="infeasible"),
    Known("an equality outside of the bounds", program(0, ONES, ONES, 13, lower=-2, upper=2), status="infeasible"),
    Known("a falling line", program(0, [1, -1, 0, 0, 0, 0], G=[EYE[0], -EYE[0], -EYE[1]], h=[1, 1, 1]),
          status="unbounded"),
    Known("a valley without end", program(np.diag([1, 1, 1, 0, 0, 0]), [1, 0, 0, 0, -1, 1], lower=-1),
          status="unbounded"),
    Known("a ray inside equalities", program(0, -EYE[2], [ONES, EYE[0] - EYE[1]], [0, 0], lower=[*[-INF] * 5, 0]),
          status="unbounded"),
]  # fmt: skip


def reference(known: Quadratic):
    """(status, objective, y, z, z_lower, z_upper) by Clarabel, to 1e-11."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    below, above, there = np.isfinite(known.lower), np.isfinite(known.upper), np.isfinite(known.h)
    A = np.concatenate([known.A, known.G[there], -EYE[below], EYE[above]])
    b = np.concatenate([known.b, known.h[there], -known.lower[below], known.upper[above]])
    cones = [clarabel.ZeroConeT(len(known.b)), clarabel.NonnegativeConeT(len(b) - len(known.b))]
    P = sparse.csc_matrix(np.triu(known.P))
    found = clarabel.DefaultSolver(P, known.q, sparse.csc_matrix(A), b, cones, settings).solve()
    parts = np.split(np.array(found.z), np.cumsum([len(known.b), there.sum(), below.sum()]))
    full = [np.zeros(len(mask)) for mask in (there, below, above)]
    for whole, mask, part in zip(full, (there, below, above), parts[1:], strict=True):
        whole[mask] = part
    return str(found.status), found.obj_val, parts[0], *full
