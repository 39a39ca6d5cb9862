r"""Mehrotra's predictor and corrector for one convex quadratic program: a start, an iteration, a verdict.

    minimise x' P x / 2 + q . x   subject to   A x = b,   E x <= e,      E = [G; -I; I] (bounds are rows of E).

With slacks s = e - E x > 0 and multipliers z > 0 each iteration solves Newton's equations of the conditions

    P x + q + A' y + E' z = 0,    A x = b,    E x + s = e,    s_i z_i = tau

twice with one factored matrix: for tau = 0 (how far can the gap fall?), then for tau = (gap after / gap before)^3 of
the mean of s z, with the second-order term ds dz of the first.  That term belongs to a full step; where only short ones
are possible it can lead the iterates round in a cycle.  An iteration that follows on some without progress is careful:
no second order, tau at least half of the mean, and steps of four fifths of the way to the boundary bring the iterates
back to the middle.  ds and dz are eliminated, and what is left,

    [ K  A' ] [ dx ]   [ r ]
    [ A  0  ] [ dy ] = [ t ],      K = P + E' diag(z / s) E   (n x n; a bound adds to its diagonal),

is solved through K + A' A = L L' (the same dx, dy with r + A' t for r; regular where the problem's solution is) and the
Schur complement W' W with W = L^-1 A'.  Relative ridges carry repeated rows, and one refinement takes them out.

The program comes equilibrated (equilibrate.py): 1 is the natural size of x, of the objective and of each row.  Each
condition is measured against its own terms and not against 1, so a small solution is as exact as a large one.
Source: Mehrotra 1992; Nocedal and Wright 2006, section 16.6; Cartis 2009 (the cycles).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality.certificate.verdict import Status
from functional_dl.optimality.measures import largest, predictor_corrector
from functional_dl.optimality.qp.cholesky import inverse_factor

CONVERGED, INFEASIBLE, UNBOUNDED, STUCK = (
    status.value for status in (Status.CONVERGED, Status.INFEASIBLE, Status.UNBOUNDED, Status.STUCK)
)
HASTE = 3  # iterations without progress that end the quick part of the search
PATIENCE = 12  # such iterations that end the search
DOUBT = 2  # iterations without progress after which they are careful
ROUNDING = 64  # units in the last place of the greatest term, to which a condition can be met
ENOUGH = 0.1  # of the tolerance: what the gap is brought to
FLOOR = 1e-12  # of the natural size 1: what is smaller is measured as if it were of this size


class Program(NamedTuple):
    """The data, rows of A and E of length 1 where x has the natural size 1.

    Fields:
      P, q, A, b, G; PA = P + A' A and GT = G' are kept, because every iteration forms P + A' A + G' D G.
      limit: e; present: 1.0 where it is finite, 0.0 for a row that is not there (its limit is then 0).
      low, high: whether E has the rows -I and I (zero-size arrays stand for no).
      tolerance.
    """

    P: Array
    q: Array
    A: Array
    b: Array
    G: Array
    PA: Array
    GT: Array
    limit: Array
    present: Array
    low: Array
    high: Array
    tolerance: Array

    def rows(self, x: Array) -> Array:
        """E x."""
        return jnp.concatenate([self.G @ x, -x[: self.low.size], x[: self.high.size]])

    def columns(self, z: Array) -> Array:
        """E' z."""
        of_rows, of_low, of_high = self.split(z)
        total = self.GT @ of_rows
        total = total - of_low if self.low.size else total
        return total + of_high if self.high.size else total

    def gram(self, w: Array) -> Array:
        """E' diag(w) E."""
        of_rows, of_low, of_high = self.split(w)
        matrix = (self.GT * of_rows[None]) @ self.G
        for of_bound in (of_low, of_high):
            if of_bound.size:
                matrix = matrix + jnp.diag(of_bound)
        return matrix

    def split(self, z: Array) -> tuple[Array, Array, Array]:
        m, low = len(self.G), self.low.size
        return z[:m], z[m : m + low], z[m + low :]


class Point(NamedTuple):
    """x, multipliers of equalities and inequalities, slacks."""

    x: Array
    y: Array
    z: Array
    s: Array


class Products(NamedTuple):
    """The data times the point: P x, A' y, E' z, A x, E x."""

    Px: Array
    Ay: Array
    Ez: Array
    Ax: Array
    Ex: Array


class State(NamedTuple):
    """An iterate with its products, the best one so far (by `error`; `gap` is the least where the conditions hold) and
    how many iterations ago it was, the objective's size, the verdict, the count."""

    point: Point
    products: Products
    best: Point
    error: Array
    gap: Array
    unit: Array
    waited: Array
    status: Array
    iterations: Array


def multiply(program: Program, point: Point) -> Products:
    """The data times the point."""
    x, y, z, _ = point
    return Products(program.P @ x, program.A.T @ y, program.columns(z), program.A @ x, program.rows(x))


def residuals(program: Program, point: Point, products: Products) -> tuple[Array, Array, Array]:
    """(P x + q + A' y + E' z, A x - b, E x + s - e)."""
    dual = products.Px + program.q + products.Ay + products.Ez
    return dual, products.Ax - program.b, program.present * (products.Ex + point.s - program.limit)


def factor(program: Program, w: Array) -> Callable[..., Any]:
    """What solves with K = P + E' diag(w) E: a function (r, t) -> (dx, dy)."""
    A, eps = program.A, jnp.finfo(w.dtype).eps
    ridge = 8 * eps * len(program.q)
    regular = program.PA + program.gram(w)
    M = inverse_factor(regular + jnp.diag(ridge * or_one(jnp.diag(regular))))
    W = M @ A.T
    schur = lax.optimization_barrier(W.T) @ W
    N = inverse_factor(schur + jnp.diag(1e3 * ridge * or_one(jnp.diag(schur))))

    def once(r, t):
        v = M @ r
        dy = N.T @ (N @ (W.T @ v - t))
        return M.T @ (v - W @ dy), dy

    def solve(r, t, refined=True):
        r = r + A.T @ t
        dx, dy = once(r, t)
        if not refined:
            return dx, dy
        curved = program.PA @ dx + program.columns(w * program.rows(dx))
        more_x, more_y = once(r - curved - A.T @ dy, t - A @ dx)
        return dx + more_x, dy + more_y

    return solve


def or_one(diagonal: Array) -> Array:
    """The diagonal, 1 where it is 0."""
    return jnp.where(diagonal > 0, diagonal, 1.0)


def _newton(program, point, errors):
    """center -> Newton's step; `center` is what s z + z ds + s dz shall be brought to 0 by.

    The refinement is one of the whole system: dz is E dx times z / s, which is as large as rounding is small, and what
    that leaves of the first equation would stay in the iterates.
    """
    (_, _, z, s), (dual, equal, slack) = point, errors
    solve = factor(program, z / s)

    def step(center, refined=True):
        dx, dy = solve(-dual + program.columns((center - z * slack) / s), -equal, refined=False)
        ds = program.present * (-slack - program.rows(dx))
        dz = program.present * (-center - z * ds) / s
        if refined:
            left = -dual - program.P @ dx - program.A.T @ dy - program.columns(dz)
            more_x, more_y = solve(left, -equal - program.A @ dx, refined=False)
            more_s = -program.present * program.rows(more_x)
            dx, dy, ds, dz = dx + more_x, dy + more_y, ds + more_s, dz - z / s * more_s
        return dx, dy, dz, ds

    return step


def start(program: Program) -> State:
    """x minimises x' P x / 2 + q . x + |E x - e|^2 / 2 on A x = b; s - z = e - E x and s z = 1/4: every row centred."""
    ones = program.present
    x, y = factor(program, ones)(-program.q + program.columns(program.limit), program.b)
    left = ones * (program.limit - program.rows(x))
    wide = jnp.hypot(left, jnp.ones_like(left))
    # of (wide + left) / 2 and (wide - left) / 2 the greater has no cancellation, the other is 1/4 over it
    greater = (wide + jnp.abs(left)) / 2
    z, s = (
        ones * jnp.where(left > 0, 0.25 / greater, greater),
        jnp.where((ones > 0) & (left < 0), 0.25 / greater, greater),
    )
    zero, far, point = jnp.zeros((), int), jnp.full((), jnp.inf, x.dtype), Point(x, y, z, s)
    products = multiply(program, point)
    state = State(point, products, point, far, far, far, zero, zero + STUCK, zero)
    return _judged(program, state, point)


def iterate(program: Program, state: State, newton: Callable[..., Any] | None = None) -> State:
    """One iteration; `newton(program, point, residuals)` gives what solves Newton's equations, center -> step."""
    x, y, z, s = state.point
    count = jnp.maximum(jnp.sum(program.present), 1)
    errors = residuals(program, state.point, state.products)
    step = (_newton if newton is None else newton)(program, state.point, errors)
    careful = state.waited >= DOUBT

    def direction(aims, refined):
        dx, dy, dz, ds = step(-program.present * aims[0], refined=refined)
        return [(ds, dz)], (dx, dy, ds, dz)

    def centred(target, mean):
        target = jnp.where(careful, jnp.maximum(target, mean / 2), target)
        # below the tolerance nothing is gained, and rounding grows with z / s
        return jnp.maximum(target, ENOUGH * program.tolerance * state.unit / count)

    second = jnp.where(careful, 0.0, 1.0).astype(x.dtype)
    _, (dx, dy, ds, dz), furthest, mean = predictor_corrector(direction, [(s, z)], count, centred, second, 2.0)
    reach = jnp.minimum(1.0, jnp.where(careful, 0.8, jnp.clip(1 - mean, 0.99, 1 - 1e-6)) * furthest)
    new = Point(x + reach * dx, y + reach * dy, z + reach * dz, s + reach * ds)
    return _judged(program, state._replace(iterations=state.iterations + 1), new)


def measure(program: Program, point: Point, products: Products) -> tuple[Array, Array, Array]:
    """(violation of the linear conditions, gap, the objective's size), the first two relative to the terms they are of.

    A condition counts relative to its own terms, or to what rounding of the greatest terms leaves where that is more.
    """
    (x, _, z, s), (Px, Ay, Ez, _, Ex) = point, products
    dual, equal, slack = residuals(program, point, products)
    noise = jnp.minimum(ROUNDING * jnp.finfo(x.dtype).eps / program.tolerance, 1.0)
    own = jnp.abs(Px) + jnp.abs(program.q) + jnp.abs(Ay) + jnp.abs(Ez)
    size, rows = largest(x), len(program.G)
    bounds = noise * size + jnp.abs(Ex[rows:]) + jnp.abs(program.limit[rows:])
    limits = jnp.concatenate([size + jnp.abs(program.limit[:rows]), bounds])
    violation = jnp.maximum(
        largest(dual / (own + noise * largest(own) + FLOOR)),
        jnp.maximum(largest(equal / (size + jnp.abs(program.b) + FLOOR)), largest(slack / (limits + FLOOR))),
    )
    quadratic, linear = x @ Px / 2, program.q @ x
    terms = jnp.abs(x) @ (jnp.abs(Px) / 2 + jnp.abs(program.q))
    unit = jnp.abs(quadratic + linear) + 1e-3 * terms + FLOOR
    return violation, s @ z / unit, unit


def _judged(program: Program, state: State, point: Point) -> State:
    """The state at a new point, with its verdict, and the best iterate and proofs renewed."""
    products = multiply(program, point)
    violation, gap, unit = measure(program, point, products)
    error = jnp.maximum(violation, gap)
    sound = jnp.isfinite(error)
    status = verdict(*ratios(program, point, products))
    status = jnp.where(error <= program.tolerance, CONVERGED, status)
    # where the optimum is 0 the gap stays a share of the objective as both fall to it, and may rise beside it
    left = jnp.where(violation <= program.tolerance, gap * unit, jnp.inf)
    better = (error < 0.9 * state.error) | (left < 0.5 * state.gap)
    best = Point(*(jnp.where(better, new, old) for new, old in zip(point, state.best, strict=True)))
    waited = jnp.where(sound, jnp.where(better, 0, state.waited + 1), PATIENCE)
    error, left = jnp.where(better, error, state.error), jnp.minimum(left, state.gap)
    return State(point, products, best, error, left, unit, waited, status, state.iterations)


def quick(state: State) -> Array:
    """Whether another iteration may help; what takes longer is for doubtful.py."""
    return (state.status == STUCK) & (state.waited < HASTE)


# ---- proofs that there is no solution ---------------------------------------------------------------------


def sure(like: Array) -> float:
    """The ratio below which a proof holds: no solution of less than 1 / sure times the data's natural size."""
    return 1e-10 if jnp.finfo(like.dtype).eps < 1e-10 else 3e-6


def ratios(program: Program, point: Point, products: Products) -> tuple[Array, Array]:
    """How nearly the point proves that nothing is feasible, and that there is no lower end."""
    return (
        infeasible_ratio(program, point.y, point.z, products.Ay + products.Ez),
        unbounded_ratio(program, point.x, products.Px, products.Ax, products.Ex),
    )


def verdict(infeasible: Array, unbounded: Array) -> Array:
    """The status by the two ratios."""
    limit = sure(unbounded)
    return jnp.where(infeasible <= limit, INFEASIBLE, jnp.where(unbounded <= limit, UNBOUNDED, STUCK))


def infeasible_ratio(program: Program, y: Array, z: Array, left: Array) -> Array:
    r"""How nearly (y, z >= 0) prove that nothing is feasible; infinite where they do not even point that way.

    A feasible x has  left . x = (A' y + E' z) . x <= b . y + e . z,  so none has |x|_inf < -(b . y + e . z) / |left|_1.
    Rounding of left and of the products counts against the proof.
    """
    eps = jnp.finfo(y.dtype).eps
    value = -(program.b @ y + program.limit @ z)
    rounding = 16 * eps * (jnp.abs(program.b) @ jnp.abs(y) + jnp.abs(program.limit) @ z)
    return jnp.where(
        value > rounding, jnp.sum(jnp.abs(left)) / jnp.where(value > rounding, value - rounding, 1.0), jnp.inf
    )


def unbounded_ratio(program: Program, x: Array, Px: Array, Ax: Array, Ex: Array) -> Array:
    r"""How nearly x is a ray along which the objective falls for ever; infinite where it does not fall.

    An optimum x*, y, z gives  -q . x = x* . P x + y . A x + z . E x,  so in none are |x*|, |y|, |z| all below
    -q . x / (|P x|_1 + |A x|_1 + |(E x)+|_1).
    """
    eps = jnp.finfo(x.dtype).eps
    fall = -(program.q @ x)
    rounding = 16 * eps * (jnp.abs(program.q) @ jnp.abs(x))
    off = jnp.sum(jnp.abs(Px)) + jnp.sum(jnp.abs(Ax)) + jnp.sum(jnp.maximum(program.present * Ex, 0))
    return jnp.where(fall > rounding, off / jnp.where(fall > rounding, fall - rounding, 1.0), jnp.inf)
