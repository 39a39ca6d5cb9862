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

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array

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


def minimise(flat, x0, tolerance, limit) -> State:
    """Run the method; pure, under jit and vmap.  The multipliers are those of the functions as given (not scaled)."""
    of_f, of_h, of_g = _scales(flat, x0)
    f = lambda x: of_f * flat.objective(x)
    h = lambda x: of_h * flat.equalities(x)
    g = lambda x: of_g * flat.inequalities(x)
    lagrangian = lambda x, lam, mu: f(x) + lam @ h(x) + mu @ g(x)
    one = jnp.ones((), x0.dtype)

    def error(x, s, lam, mu, tau):
        slope = jax.grad(lagrangian)(x, lam, mu)
        mean = (jnp.sum(jnp.abs(lam)) + jnp.sum(jnp.abs(mu))) / max(lam.size + mu.size, 1)
        weight = jnp.maximum(mean, 100.0) / 100.0
        return jnp.maximum(
            jnp.maximum(_top(slope) / weight, _top(s * mu - tau) / weight), jnp.maximum(_top(h(x)), _top(g(x) + s))
        )

    def merit(x, s, tau, nu):
        violation = jnp.sum(jnp.abs(h(x))) + jnp.sum(jnp.abs(g(x) + s))
        value = f(x) - tau * jnp.sum(jnp.log(s)) + nu * violation
        return jnp.where(jnp.isfinite(value), value, jnp.inf)

    def body(state):
        x, s, lam, mu, tau, nu = state[:6]
        slope, hx, gx = jax.grad(f)(x), h(x), g(x)
        a, b = jax.jacrev(h)(x), jax.jacrev(g)(x)
        w = jax.hessian(lagrangian)(x, lam, mu) + b.T @ ((mu / s)[:, None] * b)
        values, vectors, shift = _factor(w, a, state.shift)
        solve = lambda top, low: _solve(values, vectors, top, low)
        top = slope + b.T @ ((tau + mu * (gx + s)) / s)
        dx, lam_new = solve(-top, -hx)
        ds = -(gx + s) - b @ dx
        dmu = (tau - mu * ds) / s - mu
        # The penalty exceeds every multiplier, so the step descends on the merit.
        nu = jnp.maximum(nu, 1.1 * jnp.maximum(_top(lam_new), _top(mu + dmu)) + 1e-3)
        nu = jnp.minimum(nu, 1e12)
        linear = slope @ dx - tau * jnp.sum(ds / s)
        descent = linear - nu * (jnp.sum(jnp.abs(hx)) + jnp.sum(jnp.abs(gx + s)))
        now = merit(x, s, tau, nu)
        slack = 10 * jnp.finfo(x.dtype).eps * (1 + jnp.abs(now))
        reach = jnp.maximum(0.99, 1 - tau)
        full = _fraction(s, ds, reach)
        good = lambda at, step: at <= now + ARMIJO * step * jnp.minimum(descent, 0.0) + slack

        # One correction: the constraints again, at the end of the full step.
        tried = x + full * dx
        fall_h = h(tried)
        fall_g = g(tried) + s + full * ds
        cx, _ = solve(-b.T @ (mu * fall_g / s), -fall_h)
        ex, es = full * dx + cx, full * ds - fall_g - b @ cx
        plain = merit(tried, s + full * ds, tau, nu)
        inside = jnp.all(s + es > (1 - reach) * s)
        curved = jnp.where(inside, merit(x + ex, jnp.where(inside, s + es, s), tau, nu), jnp.inf)
        corrected = ~good(plain, full) & good(curved, full)

        def shorter(carry):
            step, count = carry
            return step / 2, count + 1

        def unfit(carry):
            step, count = carry
            return ~good(merit(x + step * dx, s + step * ds, tau, nu), step) & (count < BACKTRACKS) & ~corrected

        step, count = lax.while_loop(unfit, shorter, (full, jnp.zeros((), int)))
        failed = (count >= BACKTRACKS) | ~jnp.all(jnp.isfinite(dx))
        stay = lambda new, old: jnp.where(failed, old, new)
        x_new = stay(jnp.where(corrected, x + ex, x + step * dx), x)
        s_new = stay(jnp.where(corrected, s + es, s + step * ds), s)
        s_new = jnp.where(
            failed, s_new, jnp.maximum(s_new, -g(x_new))
        )  # a slack may grow to what the constraint leaves
        mu_new = stay(mu + _fraction(mu, dmu, reach) * dmu, mu)
        mu_new = jnp.clip(mu_new, tau / (1e10 * s_new), 1e10 * tau / s_new)
        lam_new = stay(lam + jnp.where(corrected, full, step) * (lam_new - lam), lam)
        done = error(x_new, s_new, lam_new, mu_new, tau) <= 10 * tau
        tau_new = jnp.where(done, jnp.maximum(tolerance / 20, jnp.minimum(0.2 * tau, tau**1.5)), tau)
        nu_new = jnp.where(done, 1.0, nu)
        # A failed search asks for a more careful model; a good step lets go of it.
        shift = jnp.where(failed, jnp.maximum(10 * shift, 1e-4), jnp.where(shift < 1e-9, 0.0, shift / 4))
        total = error(x_new, s_new, lam_new, mu_new, 0.0 * tau)
        failures = jnp.where(failed, state.failures + 1, 0)
        return State(x_new, s_new, lam_new, mu_new, tau_new, nu_new, shift, total, state.iterations + 1, failures)

    def going(state):
        sound = jnp.isfinite(state.error) & (jnp.linalg.norm(state.x) < 1e15)
        return (state.error > tolerance) & (state.iterations < limit) & (state.failures < 12) & sound

    s = jnp.maximum(-g(x0), 1e-2 * one)
    mu = jnp.full_like(s, 0.1) / s
    mu = jnp.minimum(mu, 1.0)
    lam = _least_squares(jax.grad(f)(x0) + mu @ jax.jacrev(g)(x0), jax.jacrev(h)(x0))
    zero = jnp.zeros((), int)
    start = State(x0, s, lam, mu, 0.1 * one, one, 0 * one, error(x0, s, lam, mu, 0 * one), zero, zero)
    end = lax.while_loop(going, body, start)
    return end._replace(lam=end.lam * of_h / of_f, mu=end.mu * of_g / of_f)


def _scales(flat, x0):
    """Factors <= 1 that bring the gradients of f, h and g at the start to at most GRADIENT."""
    limit = lambda row: jnp.clip(GRADIENT / jnp.maximum(row, 1e-8), 1e-8, 1.0)
    rows = lambda fun: jnp.max(jnp.abs(jax.jacrev(fun)(x0)), axis=1, initial=0.0)
    return limit(_top(jax.grad(flat.objective)(x0))), limit(rows(flat.equalities)), limit(rows(flat.inequalities))


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
    return jnp.where(_top(lam) <= 1e3, lam, 0.0)


def _top(values):
    return jnp.max(jnp.abs(values), initial=0.0)
