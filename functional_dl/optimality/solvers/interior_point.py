r"""A primal-dual interior point method for problems that need not be convex.

Slacks s > 0 turn g(x) <= 0 into g(x) + s = 0; the barrier problem min f - tau sum log s has the conditions

    grad f + A' lambda + B' mu = 0,    h = 0,    g + s = 0,    s_i mu_i = tau        (A = h', B = g').

Newton's step, ds eliminated (ds = tau/mu - s - (s/mu) dmu), solves

    [ W + d I   A'   B'      ] [ dx      ]     [ grad f         ]
    [ A        -c I          ] [ lambda+ ] = - [ h              ],   W = hess L.
    [ B              -s/mu I ] [ mu+     ]     [ g + s + tau/mu ]

d grows until W + d I + B' diag(mu/s) B with the rows A has n positive eigenvalues (the inertia of a minimum).  The step
is cut by the rule of the fraction to the boundary, then until a filter takes it: either the violation
|h|_1 + |g + s|_1 or the barrier function falls below every pair seen for this tau, and the latter falls enough (Armijo)
where it is the aim; the second trial corrects the constraints.  tau follows the error (Fiacco and McCormick).
Source: Nocedal and Wright 2006, chapter 19; Waechter and Biegler 2006.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import lu_factor, lu_solve
from jax.typing import ArrayLike

from functional_dl.aliases import Array
from functional_dl.optimality.measures import backtrack, largest, longest_step
from functional_dl.optimality.units import Scaled, scale

BACKTRACKS = 30
ARMIJO = 1e-4
PAIRS = 40  # kept in the filter
MARGIN = 1e-5  # by which a trial must be better than a pair of the filter


class State(NamedTuple):
    """An iterate: point, slacks, multipliers, the functions there, barrier, regularisation, filter, error, counts."""

    x: Array
    s: Array
    lam: Array
    mu: Array
    values: Array  # f, h, g
    jacobian: Array  # its rows are their gradients
    tau: Array
    shift: Array
    filter: Array  # (PAIRS, 2): violation, barrier function; the first pair bounds the violation
    pairs: Array
    error: Array
    iterations: Array
    failures: Array


class Direction(NamedTuple):
    """Newton's step, the multiplier of h after it, and what is needed to correct it."""

    x: Array
    s: Array
    mu: Array
    lam_after: Array
    shift: Array
    solve: Callable[..., Any]  # right side -> (dx, lambda, mu), by the factored matrix
    descent: Array  # the directional derivative of the barrier function along it


def minimise(flat: Any, x0: Array, tolerance: Array, limit: ArrayLike) -> State:
    """Run the method; pure, under jit and vmap.  The multipliers are those of the functions as given (not scaled)."""
    scaled = scale(flat, x0)

    def going(state):
        sound = jnp.isfinite(state.error) & (jnp.linalg.norm(state.x) < 1e15)
        return (state.error > tolerance) & (state.iterations < limit) & (state.failures < 12) & sound

    end = lax.while_loop(going, lambda state: _iterate(scaled, state, tolerance), _start(scaled, x0))
    lam, mu = scaled.unscale(jnp.concatenate([end.lam, end.mu]))
    return end._replace(lam=lam, mu=mu)


def _start(scaled: Scaled, x0) -> State:
    one, zero, p = jnp.ones((), x0.dtype), jnp.zeros((), int), scaled.p
    values, jacobian = scaled.values_and_jacobian(x0)
    s = jnp.maximum(-values[1 + p :], 1e-2 * one)
    mu = jnp.minimum(jnp.full_like(s, 0.1) / s, 1.0)
    lam = _least_squares(jacobian[0] + mu @ jacobian[1 + p :], jacobian[1 : 1 + p])
    error = _error(scaled, values, jacobian, s, lam, mu, 0 * one)
    most = 1e4 * jnp.maximum(1.0, _violation(scaled, values, s))
    empty = jnp.full((PAIRS, 2), jnp.inf, x0.dtype).at[0].set(jnp.stack([most, -jnp.inf * one]))
    return State(x0, s, lam, mu, values, jacobian, 0.1 * one, 0 * one, empty, zero + 1, error, zero, zero)


def _error(scaled: Scaled, values, jacobian, s, lam, mu, tau):
    """The greatest violation of the barrier problem's conditions, stationarity relative to the multipliers."""
    p = scaled.p
    mean = (jnp.sum(jnp.abs(lam)) + jnp.sum(jnp.abs(mu))) / max(lam.size + mu.size, 1)
    weight = jnp.maximum(mean, 100.0) / 100.0
    gradient = jacobian[0] + jnp.concatenate([lam, mu]) @ jacobian[1:]
    off = largest(values[1 : 1 + p]), largest(values[1 + p :] + s)
    return jnp.max(jnp.stack([largest(gradient) / weight, largest(s * mu - tau) / weight, *off]))


def _violation(scaled: Scaled, values, s):
    p = scaled.p
    return jnp.sum(jnp.abs(values[1 : 1 + p])) + jnp.sum(jnp.abs(values[1 + p :] + s))


def _iterate(scaled: Scaled, state: State, tolerance) -> State:
    lam, mu, tau = state.lam, state.mu, state.tau
    move = _direction(scaled, state)
    reach = jnp.maximum(0.99, 1 - tau)  # the fraction of the way to the boundary
    x, s, step, failed, pair = _search(scaled, state, move, reach)
    values, jacobian = scaled.values_and_jacobian(x)
    # a slack may grow to what the constraint leaves
    s = jnp.where(failed, s, jnp.maximum(s, -values[1 + scaled.p :]))
    mu_new = jnp.where(failed, mu, mu + _fraction(mu, move.mu, reach) * move.mu)
    mu_new = jnp.clip(mu_new, tau / (1e10 * s), 1e10 * tau / s)
    lam_new = jnp.where(failed, lam, lam + step * (move.lam_after - lam))
    gradient = jacobian[0] + mu_new @ jacobian[1 + scaled.p :]
    wild = largest(lam_new) > 1e6 * (1 + largest(gradient))  # the gradients of h depend on each other
    lam_new = jnp.where(wild, _least_squares(gradient, jacobian[1 : 1 + scaled.p]), lam_new)
    done = _error(scaled, values, jacobian, s, lam_new, mu_new, tau) <= 10 * tau
    tau_new = jnp.where(done, jnp.maximum(tolerance / 20, jnp.minimum(0.2 * tau, tau**1.5)), tau)
    # a failed search asks for a more careful model; a good step lets go of it
    eased = jnp.where(move.shift < 1e-9, 0.0, move.shift / 4)
    shift = jnp.where(failed, jnp.maximum(10 * move.shift, 1e-4), eased)
    # the filter is emptied with every new tau
    place = 1 + (state.pairs - 1) % (PAIRS - 1)
    add = jnp.all(jnp.isfinite(pair)) & ~failed
    pairs = jnp.where(done, 1, state.pairs + jnp.where(add, 1, 0))
    kept = jnp.where(add, state.filter.at[place].set(pair), state.filter)
    kept = jnp.where(done & (jnp.arange(PAIRS) > 0)[:, None], jnp.inf, kept)
    total = _error(scaled, values, jacobian, s, lam_new, mu_new, 0.0 * tau)
    failures = jnp.where(failed, state.failures + 1, 0)
    return State(
        x, s, lam_new, mu_new, values, jacobian, tau_new, shift, kept, pairs, total, state.iterations + 1, failures
    )


def _direction(scaled: Scaled, state: State) -> Direction:
    x, s, lam, mu, values, jacobian, tau = state[:7]
    n, p = x.size, scaled.p
    gradient, a, b = jacobian[0], jacobian[1 : 1 + p], jacobian[1 + p :]
    hx, gx = values[1 : 1 + p], values[1 + p :]
    hessian = scaled.lagrangian_hessian(x, jnp.concatenate([lam, mu]))
    shift = _convexify(hessian + b.T @ ((mu / s)[:, None] * b), a, state.shift)
    solve = _factor(hessian + shift * jnp.eye(n, dtype=x.dtype), a, b, s / mu)
    dx, lam_after, _ = solve(-gradient, -hx, -(gx + s + tau / mu))
    ds = -(gx + s) - b @ dx
    dmu = (tau - mu * ds) / s - mu
    return Direction(dx, ds, dmu, lam_after, shift, solve, gradient @ dx - tau * jnp.sum(ds / s))


def _search(scaled: Scaled, state: State, move: Direction, reach):
    """(x, s, length of the step, whether none was found, the pair for the filter): the full way to the boundary, the
    same corrected, then 1/2, 1/4, ... of it, until the filter takes it."""
    x, s, tau, p = state.x, state.s, state.tau, scaled.p
    rows = state.jacobian[1 + p :]
    barrier = lambda values, s: values[0] - tau * jnp.sum(jnp.log(s))
    violation, now = _violation(scaled, state.values, s), barrier(state.values, s)
    slack = 10 * jnp.finfo(x.dtype).eps * (1 + jnp.abs(now))
    full = _fraction(s, move.s, reach)
    fall = jnp.maximum(-move.descent, 0.0)

    def takes(step, off, after):
        """Whether a trial of that violation and barrier function is taken, and whether it is for the latter's sake."""
        aim = (step * fall**2.3 > violation**1.1) & (violation <= 1e-8 * state.filter[0, 0])
        enough = after <= now - ARMIJO * step * fall + slack
        better = (off <= (1 - MARGIN) * violation) | (after <= now - MARGIN * violation + slack)
        new = jnp.all((off < state.filter[:, 0]) | (after < state.filter[:, 1] + slack))
        sound = jnp.isfinite(off) & jnp.isfinite(after)
        return sound & new & jnp.where(aim, enough, better), aim

    def attempt(step, count, last):
        _, _, _, (cx, cs) = last
        used = jnp.where(count == 1, 1.0, 0.0).astype(x.dtype)
        x_new, s_new = x + step * move.x + used * cx, s + step * move.s + used * cs
        inside = jnp.all(s_new >= (1 - reach) * 0.99 * s)
        values = scaled.values(x_new)
        good, aim = takes(step, _violation(scaled, values, s_new), barrier(values, jnp.where(inside, s_new, s)))
        # the correction: the constraints again, at the end of the full step
        fall_h, fall_g = values[1 : 1 + p], values[1 + p :] + s_new
        cx, _, _ = move.solve(jnp.zeros_like(x), -fall_h, -fall_g)
        sound = jnp.all(jnp.isfinite(cx))
        correction = jnp.where(sound, cx, 0.0), jnp.where(sound, -fall_g - rows @ cx, 0.0)
        return (x_new, s_new, aim, correction), good & inside

    begin = x, s, jnp.zeros((), bool), (jnp.zeros_like(x), jnp.zeros_like(s))
    (x_new, s_new, aim, _), step, good = backtrack(attempt, begin, full, BACKTRACKS, full=2)
    failed = ~good | ~jnp.all(jnp.isfinite(move.x))
    pair = jnp.stack([(1 - MARGIN) * violation, now - MARGIN * violation])
    pair = jnp.where(aim, jnp.inf, pair)
    return jnp.where(failed, x, x_new), jnp.where(failed, s, s_new), step, failed, pair


def _convexify(w, a, shift):
    """The shift with which as many eigenvalues of [w + shift I, a'; a, -c I] are positive as x has entries."""
    n, p = w.shape[0], a.shape[0]

    def wrong(shift):
        low = -1e-10 * jnp.eye(p, dtype=w.dtype)
        matrix = jnp.block([[w + shift * jnp.eye(n, dtype=w.dtype), a.T], [a, low]])
        values = jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(matrix), matrix, 0.0))
        return (jnp.sum(values > 1e-14 * largest(values)) != n) & (shift < 1e20)

    return lax.while_loop(wrong, lambda shift: jnp.maximum(1e-4, 8 * shift), shift)


def _factor(w, a, b, weights):
    """Factor [w, a', b'; a, -c I, 0; b, 0, -diag(weights)]; the solutions are refined once, without c."""
    n, p, m = w.shape[0], a.shape[0], b.shape[0]
    matrix = jnp.block(
        [
            [w, a.T, b.T],
            [a, jnp.zeros((p, p + m), w.dtype)],
            [b, jnp.zeros((m, p), w.dtype), -jnp.diag(weights)],
        ]
    )
    low = jnp.concatenate([jnp.zeros(n), jnp.full(p, 1e-10), jnp.zeros(m)]).astype(w.dtype)
    factors = lu_factor(matrix - jnp.diag(low))

    def solve(top, middle, bottom):
        right = jnp.concatenate([top, middle, bottom])
        first = lu_solve(factors, right)
        move = first + lu_solve(factors, right - matrix @ first)
        return move[:n], move[n : n + p], move[n + p :]

    return solve


def _fraction(s, ds, reach):
    """The greatest step in [0, 1] that keeps s + step ds >= (1 - reach) s."""
    return longest_step(reach * s, ds)


def _least_squares(gradient, rows):
    """lambda of the least |gradient + rows' lambda|, 0 where that is too great to help."""
    n = rows.shape[0]
    lam = jnp.linalg.solve(rows @ rows.T + 1e-10 * jnp.eye(n, dtype=rows.dtype), -rows @ gradient) if n else rows[:, 0]
    return jnp.where(largest(lam) <= 1e3, lam, 0.0)
