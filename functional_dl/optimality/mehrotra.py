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
Source: Mehrotra 1992; Nocedal and Wright 2006, section 16.6; Vandenberghe 2010 (the start); Cartis 2009 (the cycles).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality.cholesky import inverse_factor
from functional_dl.optimality.measures import largest, longest_step

CONVERGED, INFEASIBLE, UNBOUNDED, STUCK = range(4)
HASTE = 3  # quick iterations without progress that end them
PATIENCE = 12  # careful ones that end the search
DOUBT = 2  # iterations without progress after which they are careful
ROUNDING = 64  # units in the last place of the greatest term, to which a condition can be met
ENOUGH = 0.1  # of the tolerance: what the gap is brought to
FLOOR = 1e-6  # of the natural size 1: what is smaller is measured as if it were of this size


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
    """An iterate with its products, the best one so far (by `error`) and how many iterations ago it was, the most
    nearly proved ray and proof of infeasibility (x with 1 / x's ratio; (y, z) with theirs), the verdict, the count."""

    point: Point
    products: Products
    best: Point
    error: Array
    unit: Array
    waited: Array
    ray: tuple[Array, Array]
    proof: tuple[Array, Array, Array]
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
    M = inverse_factor(regular + jnp.diag(ridge * _or_one(jnp.diag(regular))))
    W = M @ A.T
    schur = lax.optimization_barrier(W.T) @ W
    N = inverse_factor(schur + jnp.diag(1e3 * ridge * _or_one(jnp.diag(schur))))

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


def _or_one(diagonal):
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


def _newton_apart(program, point, errors):
    """The same with multipliers of nearly active rows among the unknowns, as those of equalities are.

    Their z / s is large, and in K it would drown P: a row with more than 1 keeps 1 there, the rest is a row

        G dx - dz / (z / s - 1) = -slack + center / z    (dz less by the share s / z)

    of the Schur complement.  Costs more: m more rows of it.
    """
    (_, _, z, s), (dual, equal, slack) = point, errors
    m, p, w, A, G = len(program.G), len(program.A), z / s, program.A, program.G
    strong = jnp.concatenate([jnp.where(w[:m] > 1, 1.0, 0.0).astype(w.dtype), jnp.zeros_like(w[m:])])
    held, share = strong[:m], jnp.where(strong > 0, 1 - 1 / jnp.maximum(w, 1), 1.0)
    kept = jnp.where(strong > 0, 1.0, w)
    regular = program.PA + program.gram(kept)
    ridge = 8 * jnp.finfo(w.dtype).eps * len(program.q)
    M = inverse_factor(regular + jnp.diag(ridge * _or_one(jnp.diag(regular))))
    B = jnp.concatenate([A, held[:, None] * G])
    W = M @ B.T
    schur = lax.optimization_barrier(W.T) @ W
    rest = jnp.where(held > 0, 1 / jnp.maximum(w[:m] - 1, 1e-3), 1.0)
    lower = jnp.concatenate([jnp.zeros(p, w.dtype), rest])
    N = inverse_factor(schur + jnp.diag(lower + 4 * ridge * _or_one(jnp.diag(schur))))

    def once(r, t, of_rows):
        """(dx, dy, dz of strong rows)."""
        v = M @ (r + A.T @ t + program.GT @ of_rows)
        d = N.T @ (N @ (W.T @ v - jnp.concatenate([t, of_rows])))
        return M.T @ (v - W @ d), d[:p], held * d[p:] / share[:m]

    def step(center, refined=True):
        of_rows = strong * (center / z - slack)
        r = -dual + program.columns((1 - strong) * (center - z * slack) / s)
        dx, dy, du = once(r, -equal, of_rows[:m])
        pad = lambda u: jnp.concatenate([u, jnp.zeros_like(z[m:])])

        def slacks(dx, du):
            ds = -slack - program.rows(dx)
            dz = jnp.where(strong > 0, pad(du), (-center - z * ds) / s)
            return program.present * dz, program.present * jnp.where(strong > 0, -(center + s * dz) / z, ds)

        dz, ds = slacks(dx, du)
        if refined:
            left = -dual - program.P @ dx - A.T @ dy - program.columns(dz)
            short = strong * (center / z - slack - program.rows(dx) + dz / w)
            more_x, more_y, more_u = once(left, -equal - A @ dx, short[:m])
            more_s = -program.rows(more_x)
            dx, dy = dx + more_x, dy + more_y
            dz = program.present * (dz + jnp.where(strong > 0, pad(more_u), -w * more_s))
            ds = program.present * jnp.where(strong > 0, -(center + s * dz) / z, ds + more_s)
        return dx, dy, dz, ds

    return step


def start(program: Program) -> State:
    """x minimises x' P x / 2 + q . x + |E x - e|^2 / 2 on A x = b; s and z are its residual, shifted to be positive."""
    ones = program.present
    x, y = factor(program, ones)(-program.q + program.columns(program.limit), program.b)
    left = program.present * (program.limit - program.rows(x))

    def inside(v):
        """v itself where it is positive enough, else shifted."""
        short = jnp.max(jnp.where(ones > 0, -v, -jnp.inf), initial=-jnp.inf)
        return jnp.where(ones > 0, jnp.where(short < -1e-8 * (1 + jnp.linalg.norm(v)), v, v + 1 + short), 1.0)

    z, s = program.present * inside(-left), inside(left)
    zero, far, point = jnp.zeros((), int), jnp.full((), jnp.inf, x.dtype), Point(x, y, z, s)
    products = multiply(program, point)
    state = State(point, products, point, far, far, zero, (x, 0 * far + 0), (y, z, far), zero + STUCK, zero)
    return _judged(program, state._replace(ray=(x, far)), point)


def iterate(program: Program, state: State) -> State:
    """One iteration, as quick as can be."""
    return _iterate(program, state, _newton)


def iterate_apart(program: Program, state: State) -> State:
    """One iteration where rounding in the quick one leaves no progress."""
    return _iterate(program, state, _newton_apart)


def _iterate(program, state, newton):
    x, y, z, s = state.point
    count = jnp.maximum(jnp.sum(program.present), 1)
    newton = newton(program, state.point, residuals(program, state.point, state.products))
    _, _, dz, ds = newton(s * z, refined=False)
    reach = jnp.minimum(longest_step(s, ds), longest_step(z, dz))
    mean = s @ z / count
    after = (s + reach * ds) @ (z + reach * dz) / count
    target = mean * (after / jnp.where(mean > 0, mean, 1.0)) ** 3
    careful = state.waited >= DOUBT
    target, second = jnp.where(careful, jnp.maximum(target, mean / 2), target), jnp.where(careful, 0.0, ds * dz)
    # below the tolerance nothing is gained, and rounding grows with z / s
    target = jnp.maximum(target, ENOUGH * program.tolerance * state.unit / count)
    dx, dy, dz, ds = newton(program.present * (s * z + second - target))
    furthest = jnp.minimum(longest_step(s, ds, 2.0), longest_step(z, dz, 2.0))
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
        jnp.maximum(
            largest(equal / (size + jnp.abs(program.b) + FLOOR)), largest(slack / (limits + FLOOR))
        ),
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
    nearly = infeasible_ratio(program, point.y, point.z, products.Ay + products.Ez)
    falling = unbounded_ratio(program, point.x, products.Px, products.Ax, products.Ex)
    infeasible, unbounded = nearly <= sure(point.x), falling <= sure(point.x)
    status = jnp.where(infeasible, INFEASIBLE, jnp.where(unbounded, UNBOUNDED, STUCK))
    status = jnp.where(error <= program.tolerance, CONVERGED, jnp.where(sound, status, STUCK))
    better = error < 0.9 * state.error
    pick = lambda chosen, new, old: tuple(jnp.where(chosen, a, b) for a, b in zip(new, old, strict=True))
    waited = jnp.where(sound, jnp.where(better, 0, state.waited + 1), PATIENCE)
    return State(
        point, products, Point(*pick(better, point, state.best)), jnp.where(better, error, state.error), unit, waited,
        pick(falling < state.ray[-1], (point.x, falling), state.ray),
        pick(nearly < state.proof[-1], (point.y, point.z, nearly), state.proof), status, state.iterations,
    )  # fmt: skip


def quick(state: State) -> Array:
    """Whether another quick iteration may help."""
    return (state.status == STUCK) & (state.waited < HASTE)


def unfinished(state: State) -> Array:
    """Whether another iteration may help."""
    return (state.status == STUCK) & (state.waited < PATIENCE)


def unproved(state: State) -> Array:
    """Whether it is open why there is no solution; `sharpened` decides it once."""
    return state.status == STUCK


# ---- proofs that there is no solution ---------------------------------------------------------------------


def sure(like: Array) -> float:
    """The ratio below which a proof holds: no solution of less than 1 / sure times the data's natural size."""
    return 1e-10 if jnp.finfo(like.dtype).eps < 1e-10 else 3e-6


def infeasible_ratio(program: Program, y: Array, z: Array, left: Array) -> Array:
    r"""How nearly (y, z >= 0) prove that nothing is feasible; infinite where they do not even point that way.

    A feasible x has  left . x = (A' y + E' z) . x <= b . y + e . z,  so none has |x|_inf < -(b . y + e . z) / |left|_1.
    Rounding of left and of the products counts against the proof.
    """
    eps = jnp.finfo(y.dtype).eps
    value = -(program.b @ y + program.limit @ z)
    rounding = 16 * eps * (jnp.abs(program.b) @ jnp.abs(y) + jnp.abs(program.limit) @ z)
    return jnp.where(value > rounding, jnp.sum(jnp.abs(left)) / jnp.where(value > rounding, value - rounding, 1.0), jnp.inf)


def unbounded_ratio(program: Program, x: Array, Px: Array, Ax: Array, Ex: Array) -> Array:
    r"""How nearly x is a ray along which the objective falls for ever; infinite where it does not fall.

    An optimum x*, y, z gives  -q . x = x* . P x + y . A x + z . E x,  so none has |x*|_inf, |y|_inf and |z|_inf all below
    -q . x / (|P x|_1 + |A x|_1 + |(E x)+|_1).
    """
    eps = jnp.finfo(x.dtype).eps
    fall = -(program.q @ x)
    rounding = 16 * eps * (jnp.abs(program.q) @ jnp.abs(x))
    off = jnp.sum(jnp.abs(Px)) + jnp.sum(jnp.abs(Ax)) + jnp.sum(jnp.maximum(program.present * Ex, 0))
    return jnp.where(fall > rounding, off / jnp.where(fall > rounding, fall - rounding, 1.0), jnp.inf)


def sharpened(program: Program, state: State) -> State:
    """The state with its two nearest proofs brought nearer, and the verdict if one of them holds.

    A ray x: proximal steps on  x' P x + |A x|^2 + |E_v x|^2  keep what costs nothing.  E_v: rows that x leaves through,
    and those that it nearly does, which are how many?  Several answers are tried, each on the best ray so far.
    A proof (y, z): the least change, relative to z, that makes A' y + E' z = 0.
    """
    eps, tiny = jnp.finfo(program.q.dtype).eps, jnp.finfo(program.q.dtype).tiny
    rho = eps**0.75 * jnp.eye(len(program.q), dtype=program.q.dtype)
    none = jnp.zeros_like(program.limit)
    x, falling = state.ray
    x = x / jnp.maximum(largest(x), tiny)
    for near in (1e3 * eps, 0.0, 30 * jnp.minimum(falling, 3e-3), 0.1):
        tried = x
        for _ in range(2):
            leaving = program.present * jnp.where(program.rows(tried) > -near, 1.0, 0.0)
            M = inverse_factor(program.PA + program.gram(leaving) + rho)
            for _ in range(2):
                tried = M.T @ (M @ tried)
                tried = tried / jnp.maximum(largest(tried), tiny)
        of = multiply(program, Point(tried, state.point.y, none, none))
        ratio = unbounded_ratio(program, tried, of.Px, of.Ax, of.Ex)
        x, falling = jnp.where(ratio < falling, tried, x), jnp.minimum(ratio, falling)
    y, z, nearly = state.proof
    unit = jnp.maximum(jnp.maximum(largest(y), largest(z)), tiny)
    now_y, now_z = y / unit, z / unit
    for _ in range(4):
        M = inverse_factor(program.A.T @ program.A + program.gram(now_z) + rho)
        for _ in range(2):
            move = M.T @ (M @ (program.A.T @ now_y + program.columns(now_z)))
            now_y, now_z = now_y - program.A @ move, jnp.maximum(now_z - now_z * program.rows(move), 0.0)
        ratio = infeasible_ratio(program, now_y, now_z, program.A.T @ now_y + program.columns(now_z))
        y, z = jnp.where(ratio < nearly, now_y, y), jnp.where(ratio < nearly, now_z, z)
        nearly = jnp.minimum(ratio, nearly)
    infeasible, unbounded = nearly <= sure(x), falling <= sure(x)
    status = jnp.where(infeasible, INFEASIBLE, jnp.where(unbounded, UNBOUNDED, STUCK))
    return state._replace(ray=(x, falling), proof=(y, z, nearly), status=status, waited=state.waited + 1)
