r"""Sequential quadratic programming with exact second derivatives and the exact l1 penalty.

Each iteration minimises the model of the Lagrangian over the linearised constraints; where these contradict each other,
a violation costs nu, the penalty parameter (no restoration phase is needed to have a step),

    d = argmin  d' W d / 2 + grad f . d + nu |h + A d|_1 + nu |(g + B d)+|_1,      W = hess L made positive definite,

and takes the longest of d, d corrected, d/2, d/4, ... that lowers  f + nu |h|_1 + nu |g+|_1  enough (Armijo).  The
correction is of second order: the least step that brings the active constraints, as they are at x + d, back to zero.
W gets sigma J_a' J_a of the active rows first, which leaves steps along them alone, and only then larger eigenvalues.

The multipliers of that program (elastic_qp, with r and J the rows of h and g) are bounded, y_i in [-nu, nu] for an
equality and [0, nu] for an inequality, and the conditions are

    W d + q + J' y = 0,    r + J d = t - s,    s_i (y_i - low_i) = 0,    t_i (nu - y_i) = 0,    s, t >= 0:

a violation t_i > 0 needs y_i = nu.  With every product equal to tau instead of 0, Newton's equations in (dd, dy) have
the matrix [W, J'; J, -D], D = s / (y - low) + t / (nu - y); it is factored once for predictor and corrector.
Source: Nocedal and Wright 2006, chapter 18; Fletcher 1987, chapter 14; Mehrotra 1992.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import lu_factor, lu_solve

from functional_dl.aliases import Array
from functional_dl.optimality.measures import backtrack, largest, predictor_corrector
from functional_dl.optimality.units import Scaled, kkt_error, scale

BACKTRACKS = 30
ARMIJO = 1e-4
MAX_PENALTY = 1e10
INNER = 40  # iterations of a quadratic program


class State(NamedTuple):
    """An iterate: point, values (f, h, g), Jacobian, multipliers, penalty parameters, shift, error, counts."""

    x: Array
    values: Array
    jacobian: Array
    y: Array
    nu: Array  # of the quadratic program
    merit_nu: Array  # of the merit function
    shift: Array
    error: Array
    iterations: Array
    failures: Array


class SolverResult(NamedTuple):
    """What a solver returns: point, multipliers of the functions as given, error, iterations."""

    x: Array
    lam: Array
    mu: Array
    error: Array
    iterations: Array


def minimise(flat: Any, x0: Any, tolerance: Any, limit: Any) -> SolverResult:
    """Run the method; pure, under jit and vmap."""
    scaled = scale(flat, x0)
    begin = _start(scaled, x0)

    def going(state):
        sound = jnp.isfinite(state.error) & (jnp.linalg.norm(state.x) < 1e15)
        return (state.error > tolerance) & (state.iterations < limit) & (state.failures < 12) & sound

    end = lax.while_loop(going, lambda state: _iterate(scaled, state), begin)
    lam, mu = scaled.unscale(end.y)
    return SolverResult(end.x, lam, mu, end.error, end.iterations)


def _start(scaled: Scaled, x0) -> State:
    values, jacobian = scaled.values_and_jacobian(x0)
    y = jnp.zeros(values.size - 1, x0.dtype)
    penalty = jnp.full((), 10.0, x0.dtype)
    zero = jnp.zeros((), int)
    return State(
        x0, values, jacobian, y, penalty, penalty, 0 * penalty, kkt_error(scaled, values, jacobian, y), zero, zero
    )


def _iterate(scaled: Scaled, state: State) -> State:
    x, r, J, gradient = state.x, state.values[1:], state.jacobian[1:], state.jacobian[0]
    p, nu = scaled.p, state.nu
    low = jnp.where(jnp.arange(r.size) < p, -nu, 0.0).astype(x.dtype)
    W, shift = _model(scaled, state)
    d, y = elastic_qp(W, gradient, r, J, low, nu)
    left = _violation(r + J @ d, p)
    biggest = largest(y)
    # the penalty grows where a row stays violated although its multiplier has reached it
    too_low = (left > 1e-9 * (1 + largest(r))) & (biggest > 0.99 * nu)
    nu_new = jnp.where(
        too_low, jnp.minimum(10 * nu, MAX_PENALTY), jnp.maximum(nu, jnp.minimum(3 * biggest, MAX_PENALTY))
    )
    merit_nu = jnp.minimum(nu, jnp.maximum(1.5 * biggest, state.merit_nu / 4))
    descent = gradient @ d - merit_nu * (_violation(r, p) - left)
    x_new, found, step = _search(scaled, state, d, y, low, merit_nu, descent)
    values, jacobian = scaled.values_and_jacobian(x_new)
    y_new = jnp.where(found, state.y + jnp.minimum(1.0, 2 * step) * (y - state.y), state.y)
    eased = jnp.where(shift < 1e-9, 0.0, shift / 4)
    shift = jnp.where(found, jnp.where(step < 0.05, jnp.maximum(4 * shift, 1e-4), eased), jnp.maximum(10 * shift, 1e-4))
    best = kkt_error(scaled, values, jacobian, y_new)
    failures = jnp.where(found, 0, state.failures + 1)
    return State(x_new, values, jacobian, y_new, nu_new, merit_nu, shift, best, state.iterations + 1, failures)


def _violation(r, p):
    return jnp.sum(jnp.abs(r[:p])) + jnp.sum(jnp.maximum(r[p:], 0))


def _model(scaled: Scaled, state: State):
    """W: the Hessian of the Lagrangian, bent up along the active rows, then its eigenvalues made positive."""
    rows, p = state.jacobian[1:], scaled.p
    hessian = scaled.lagrangian_hessian(state.x, state.y)
    hessian = jnp.where(jnp.isfinite(hessian), hessian, 0.0)
    size = largest(hessian)
    equality = jnp.arange(state.y.size) < p
    active = equality | (state.y > 1e-6 * (1 + largest(state.y)))
    unit = rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    unit = jnp.where(active[:, None], unit, 0.0)
    least = jnp.linalg.eigvalsh(hessian)[0]
    bent = hessian + jnp.where(least < 1e-8 * size, 10 * size, 0.0) * (unit.T @ unit)
    values, vectors = jnp.linalg.eigh(bent)
    floor = 1e-8 * (1 + size)
    values = jnp.maximum(jnp.abs(values), floor) + state.shift * (1 + 0 * size)
    return (vectors * values[None, :]) @ vectors.T, state.shift


def _search(scaled: Scaled, state: State, d, y, low, nu, descent):
    """(x, found, step): the full step, the corrected one, then ever shorter ones."""
    x, p = state.x, scaled.p
    merit = lambda values: values[0] + nu * _violation(values[1:], p)
    now = merit(state.values)
    slack = 10 * jnp.finfo(x.dtype).eps * (1 + jnp.abs(state.values[0]) + nu * _violation(state.values[1:], p))
    full = jnp.minimum(1.0, 1e3 * (1 + jnp.linalg.norm(x)) / jnp.maximum(jnp.linalg.norm(d), 1e-300))
    rows = state.jacobian[1:]
    active = (y - low > 1e-7 * nu) & (nu - y > 1e-7 * nu)
    kept = jnp.where(active[:, None], rows, 0.0)
    square = kept @ kept.T
    ridge = jnp.where(active, 1e-12 * (1 + largest(square)), 1.0)

    def corrected(values):
        off = jnp.where(active, values[1:], 0.0)
        return -kept.T @ jnp.linalg.solve(square + jnp.diag(ridge), off)

    def attempt(step, count, last):
        _, values = last
        move = step * d + jnp.where(count == 1, corrected(values), 0.0)
        tried = scaled.values(x + move)
        after = merit(tried)
        good = jnp.isfinite(after) & (after <= now + ARMIJO * step * jnp.minimum(descent, 0.0) + slack)
        return (x + move, jnp.where(jnp.isfinite(tried), tried, 0.0)), good

    (x_new, _), step, found = backtrack(attempt, (x, state.values), full, BACKTRACKS, full=2)
    found = found & jnp.all(jnp.isfinite(d))
    return jnp.where(found, x_new, x), found, step


def elastic_qp(W: Array, q: Array, r: Array, J: Array, low: Array, nu: Array) -> tuple[Array, Array]:
    """(d, y); `low` is -nu where a row is an equality, 0 where it is an inequality.  Pure, under jit and vmap."""
    n, k = q.size, r.size
    dtype = q.dtype
    least = jnp.maximum(1e-12, 8 * jnp.finfo(dtype).eps).astype(dtype)
    size_q, size_r = 1 + largest(q), 1 + largest(r)

    def errors(d, y, s, t):
        return W @ d + q + J.T @ y, r + J @ d - t + s

    def body(carry):
        d, y, s, t, _, count = carry
        a, b = y - low, nu - y
        wide = jnp.block([[W, J.T], [J, -jnp.diag(s / a + t / b)]])
        factors = lu_factor(wide)
        dual, primal = errors(d, y, s, t)

        def direction(aims, _):
            """Newton's step that brings s a to the first aim more, and t b to the second more."""
            of_s, of_t = aims
            right = jnp.concatenate([-dual, -primal + of_t / b - of_s / a])
            move = lu_solve(factors, right)
            move = move + lu_solve(factors, right - wide @ move)
            dd, dy = move[:n], move[n:]
            ds, dt = (of_s - s * dy) / a, (of_t + t * dy) / b
            return [(ds, dy), (dt, -dy)], (dd, dy, ds, dt)

        _, moves, furthest, _ = predictor_corrector(direction, [(s, a), (t, b)], max(2 * k, 1), most=2.0)
        far = jnp.minimum(1.0, 0.995 * furthest)
        new = tuple(old + far * move for old, move in zip((d, y, s, t), moves, strict=True))
        sound = jnp.all(jnp.isfinite(jnp.concatenate(new))) & jnp.all(new[1] > low) & jnp.all(new[1] < nu)
        d, y, s, t = (jnp.where(sound, fresh, old) for fresh, old in zip(new, (d, y, s, t), strict=True))
        dual, primal = errors(d, y, s, t)
        mean = (s @ (y - low) + t @ (nu - y)) / max(2 * k, 1)
        solved = (largest(dual) <= 10 * least * size_q) & (largest(primal) <= 10 * least * size_r) & (mean <= least)
        return d, y, s, t, solved, jnp.where(sound, count + 1, INNER)

    s, t = jnp.maximum(-r, 0) + 1, jnp.maximum(r, 0) + 1
    y = jnp.where(low < 0, 0.0, jnp.minimum(1 / s, nu / 2)).astype(dtype)
    start = jnp.zeros_like(q), y, s, t, jnp.zeros((), bool), jnp.zeros((), int)
    d, y, _, _, _, _ = lax.while_loop(lambda c: ~c[4] & (c[5] < INNER), body, start)
    return d, y
