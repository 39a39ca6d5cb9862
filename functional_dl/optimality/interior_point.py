r"""A primal-dual interior point method for problems that need not be convex.

Slacks s > 0 turn g(x) <= 0 into g(x) + s = 0; the barrier problem min f - tau sum log s has the conditions

    grad f + A' lambda + B' mu = 0,    h = 0,    g + s = 0,    s_i mu_i = tau        (A = h', B = g').

Newton's step, ds and dmu eliminated (ds = -(g + s) - B dx, dmu = (tau - mu ds)/s - mu):

    [ W + B' diag(mu/s) B + d I    A'  ] [ dx      ]     [ grad f + B' (tau + mu (g + s))/s ]
    [ A                           -c I ] [ lambda+ ] = - [ h                                ],   W = hess L.

d grows until the matrix has n positive eigenvalues (the inertia of a minimum).  The step is cut by the rule of the
fraction to the border, then until the merit f - tau sum log s + nu (|h|_1 + |g + s|_1) falls enough (Armijo), with one
second-order correction of the constraints; tau follows the error (Fiacco and McCormick).  The functions are scaled by
their gradients at the start.  Source: Nocedal and Wright 2006, chapter 19; Waechter and Biegler 2006.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array
from functional_dl.optimality.measures import largest

GRADIENT = 100.0  # functions whose gradient at the start is greater are scaled down to this
BACKTRACKS = 30
ARMIJO = 1e-4


class State(NamedTuple):
    """An iterate: point, slacks, multipliers, barrier, penalty, regularisation, error, counts."""

    x: Array
    s: Array
    lam: Array
    mu: Array
    tau: Array
    nu: Array
    shift: Array
    error: Array
    iterations: Array
    failures: Array


class Scaled(NamedTuple):
    """The problem's functions with their gradients at the start brought to at most GRADIENT."""

    f: Callable[[Array], Array]
    h: Callable[[Array], Array]
    g: Callable[[Array], Array]

    def lagrangian(self, x, lam, mu):
        return self.f(x) + lam @ self.h(x) + mu @ self.g(x)

    def error(self, x, s, lam, mu, tau):
        """The greatest violation of the barrier problem's conditions, stationarity relative to the multipliers."""
        slope = jax.grad(self.lagrangian)(x, lam, mu)
        mean = (jnp.sum(jnp.abs(lam)) + jnp.sum(jnp.abs(mu))) / max(lam.size + mu.size, 1)
        weight = jnp.maximum(mean, 100.0) / 100.0
        conditions = largest(slope) / weight, largest(s * mu - tau) / weight, largest(self.h(x)), largest(self.g(x) + s)
        return jnp.max(jnp.stack(conditions))

    def merit(self, x, s, tau, nu):
        """f - tau sum log s + nu (|h|_1 + |g + s|_1), infinite where it is no number."""
        violation = jnp.sum(jnp.abs(self.h(x))) + jnp.sum(jnp.abs(self.g(x) + s))
        value = self.f(x) - tau * jnp.sum(jnp.log(s)) + nu * violation
        return jnp.where(jnp.isfinite(value), value, jnp.inf)


class Direction(NamedTuple):
    """Newton's step, the multiplier of h after it, and what is needed to correct it."""

    x: Array
    s: Array
    mu: Array
    lam_after: Array
    shift: Array
    solve: Callable  # (top, low) -> (dx, lambda), by the factored matrix
    rows: Array  # B = g'
    nu: Array  # the penalty that makes it descend on the merit
    descent: Array  # the slope of the merit along it


def minimise(flat, x0, tolerance, limit) -> State:
    """Run the method; pure, under jit and vmap.  The multipliers are those of the functions as given (not scaled)."""
    of_f, of_h, of_g = _scales(flat, x0)
    scaled = Scaled(
        lambda x: of_f * flat.objective(x), lambda x: of_h * flat.equalities(x), lambda x: of_g * flat.inequalities(x)
    )

    def going(state):
        sound = jnp.isfinite(state.error) & (jnp.linalg.norm(state.x) < 1e15)
        return (state.error > tolerance) & (state.iterations < limit) & (state.failures < 12) & sound

    end = lax.while_loop(going, lambda state: _iterate(scaled, state, tolerance), _start(scaled, x0))
    return end._replace(lam=end.lam * of_h / of_f, mu=end.mu * of_g / of_f)


def _start(scaled: Scaled, x0) -> State:
    one, zero = jnp.ones((), x0.dtype), jnp.zeros((), int)
    s = jnp.maximum(-scaled.g(x0), 1e-2 * one)
    mu = jnp.minimum(jnp.full_like(s, 0.1) / s, 1.0)
    lam = _least_squares(jax.grad(scaled.f)(x0) + mu @ jax.jacrev(scaled.g)(x0), jax.jacrev(scaled.h)(x0))
    return State(x0, s, lam, mu, 0.1 * one, one, 0 * one, scaled.error(x0, s, lam, mu, 0 * one), zero, zero)


def _iterate(scaled: Scaled, state: State, tolerance) -> State:
    lam, mu, tau = state.lam, state.mu, state.tau
    move = _direction(scaled, state)
    reach = jnp.maximum(0.99, 1 - tau)  # the share of the way to the border
    x_new, s_new, step, failed = _search(scaled, state, move, reach)
    # a slack may grow to what the constraint leaves
    s_new = jnp.where(failed, s_new, jnp.maximum(s_new, -scaled.g(x_new)))
    mu_new = jnp.where(failed, mu, mu + _fraction(mu, move.mu, reach) * move.mu)
    mu_new = jnp.clip(mu_new, tau / (1e10 * s_new), 1e10 * tau / s_new)
    lam_new = jnp.where(failed, lam, lam + step * (move.lam_after - lam))
    done = scaled.error(x_new, s_new, lam_new, mu_new, tau) <= 10 * tau
    tau_new = jnp.where(done, jnp.maximum(tolerance / 20, jnp.minimum(0.2 * tau, tau**1.5)), tau)
    nu_new = jnp.where(done, 1.0, move.nu)
    # a failed search asks for a more careful model; a good step lets go of it
    eased = jnp.where(move.shift < 1e-9, 0.0, move.shift / 4)
    shift = jnp.where(failed, jnp.maximum(10 * move.shift, 1e-4), eased)
    total = scaled.error(x_new, s_new, lam_new, mu_new, 0.0 * tau)
    failures = jnp.where(failed, state.failures + 1, 0)
    return State(x_new, s_new, lam_new, mu_new, tau_new, nu_new, shift, total, state.iterations + 1, failures)


def _direction(scaled: Scaled, state: State) -> Direction:
    x, s, lam, mu, tau, nu = state[:6]
    slope, hx, gx = jax.grad(scaled.f)(x), scaled.h(x), scaled.g(x)
    a, b = jax.jacrev(scaled.h)(x), jax.jacrev(scaled.g)(x)
    w = jax.hessian(scaled.lagrangian)(x, lam, mu) + b.T @ ((mu / s)[:, None] * b)
    values, vectors, shift = _factor(w, a, state.shift)
    solve = lambda top, low: _solve(values, vectors, top, low)
    dx, lam_after = solve(-(slope + b.T @ ((tau + mu * (gx + s)) / s)), -hx)
    ds = -(gx + s) - b @ dx
    dmu = (tau - mu * ds) / s - mu
    # the penalty exceeds every multiplier, so the step descends on the merit
    nu = jnp.maximum(nu, 1.1 * jnp.maximum(largest(lam_after), largest(mu + dmu)) + 1e-3)
    nu = jnp.minimum(nu, 1e12)
    violation = jnp.sum(jnp.abs(hx)) + jnp.sum(jnp.abs(gx + s))
    descent = slope @ dx - tau * jnp.sum(ds / s) - nu * violation
    return Direction(dx, ds, dmu, lam_after, shift, solve, b, nu, descent)


def _search(scaled: Scaled, state: State, move: Direction, reach):
    """(x, s, length of the step, whether none was found): the longest of 1, 1/2, 1/4, ... of the way to the border
    that lowers the merit enough, or the full one corrected."""
    x, s, mu, tau, nu = state.x, state.s, state.mu, state.tau, move.nu
    now = scaled.merit(x, s, tau, nu)
    slack = 10 * jnp.finfo(x.dtype).eps * (1 + jnp.abs(now))
    good = lambda at, step: at <= now + ARMIJO * step * jnp.minimum(move.descent, 0.0) + slack
    full = _fraction(s, move.s, reach)

    # one correction: the constraints again, at the end of the full step
    tried_x, tried_s = x + full * move.x, s + full * move.s
    fall_h, fall_g = scaled.h(tried_x), scaled.g(tried_x) + tried_s
    cx, _ = move.solve(-move.rows.T @ (mu * fall_g / s), -fall_h)
    ex, es = full * move.x + cx, full * move.s - fall_g - move.rows @ cx
    inside = jnp.all(s + es > (1 - reach) * s)
    curved = jnp.where(inside, scaled.merit(x + ex, jnp.where(inside, s + es, s), tau, nu), jnp.inf)
    corrected = ~good(scaled.merit(tried_x, tried_s, tau, nu), full) & good(curved, full)

    def unfit(carry):
        step, count = carry
        bad = ~good(scaled.merit(x + step * move.x, s + step * move.s, tau, nu), step)
        return bad & (count < BACKTRACKS) & ~corrected

    halve = lambda carry: (carry[0] / 2, carry[1] + 1)
    step, count = lax.while_loop(unfit, halve, (full, jnp.zeros((), int)))
    failed = (count >= BACKTRACKS) | ~jnp.all(jnp.isfinite(move.x))
    x_new = jnp.where(failed, x, jnp.where(corrected, x + ex, x + step * move.x))
    s_new = jnp.where(failed, s, jnp.where(corrected, s + es, s + step * move.s))
    return x_new, s_new, jnp.where(corrected, full, step), failed


def _scales(flat, x0):
    """Factors <= 1 that bring the gradients of f, h and g at the start to at most GRADIENT."""
    limit = lambda row: jnp.clip(GRADIENT / jnp.maximum(row, 1e-8), 1e-8, 1.0)
    rows = lambda fun: jnp.max(jnp.abs(jax.jacrev(fun)(x0)), axis=1, initial=0.0)
    return limit(largest(jax.grad(flat.objective)(x0))), limit(rows(flat.equalities)), limit(rows(flat.inequalities))


def _factor(w, a, shift):
    """Eigenvalues and -vectors of the KKT matrix, shifted until as many are positive as x has entries."""
    n, p = w.shape[0], a.shape[0]

    def spectrum(shift):
        low = -1e-10 * jnp.eye(p, dtype=w.dtype)
        matrix = jnp.block([[w + shift * jnp.eye(n, dtype=w.dtype), a.T], [a, low]])
        return jnp.linalg.eigh(jnp.where(jnp.isfinite(matrix), matrix, 0.0))

    def wrong(carry):
        shift, (values, _) = carry
        floor = 1e-14 * jnp.max(jnp.abs(values))
        return (jnp.sum(values > floor) != n) & (shift < 1e20)

    def more(carry):
        shift = jnp.maximum(1e-4, 8 * carry[0])
        return shift, spectrum(shift)

    shift, (values, vectors) = lax.while_loop(wrong, more, (shift, spectrum(shift)))
    return values, vectors, shift


def _solve(values, vectors, top, low):
    """Solve by the eigenvectors; entries along a vanishing eigenvalue are left out."""
    small = jnp.abs(values) <= 1e-300
    right = vectors.T @ jnp.concatenate([top, low])
    solution = vectors @ jnp.where(small, 0.0, right / jnp.where(small, 1.0, values))
    return solution[: top.size], solution[top.size :]


def _fraction(s, ds, reach):
    """The greatest step in [0, 1] that keeps s + step ds >= (1 - reach) s."""
    return jnp.minimum(1.0, jnp.min(jnp.where(ds < 0, -reach * s / jnp.where(ds < 0, ds, -1.0), 1.0), initial=1.0))


def _least_squares(slope, rows):
    """lambda of the least |slope + rows' lambda|, 0 where that is too great to help."""
    n = rows.shape[0]
    lam = jnp.linalg.solve(rows @ rows.T + 1e-10 * jnp.eye(n, dtype=rows.dtype), -rows @ slope) if n else rows[:, 0]
    return jnp.where(largest(lam) <= 1e3, lam, 0.0)
