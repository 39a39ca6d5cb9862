r"""A convex quadratic program whose constraints may be violated for a penalty: it always has a solution.

    min_d  d' W d / 2 + q . d + nu sum_eq |r + J d| + nu sum_ineq (r + J d)+,      W positive definite.

Its multipliers are bounded, y_i in [-nu, nu] for an equality and [0, nu] for an inequality, and the conditions are

    W d + q + J' y = 0,    r + J d = t - s,    s_i (y_i - low_i) = 0,    t_i (nu - y_i) = 0,    s, t >= 0:

a violation t_i > 0 needs y_i = nu.  With every product equal to tau instead of 0, Newton's equations in (dd, dy) have
the matrix [W, J'; J, -D], D = s / (y - low) + t / (nu - y); it is factored once for predictor and corrector.
Source: Fletcher 1987, section 14.3 (S l1 QP); Mehrotra 1992.
"""

import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import lu_factor, lu_solve

from functional_dl.aliases import Array
from functional_dl.optimality.measures import largest, longest_step

LIMIT = 40


def solve(W: Array, q: Array, r: Array, J: Array, low: Array, nu: Array) -> tuple[Array, Array]:
    """(d, y); `low` is -nu where a row is an equality, 0 where it is an inequality.  Pure, under jit and vmap."""
    n, k = q.size, r.size
    dtype = q.dtype
    least = jnp.maximum(1e-12, 8 * jnp.finfo(dtype).eps).astype(dtype)
    size_q, size_r = 1 + largest(q), 1 + largest(r)

    def errors(d, y, s, t):
        return W @ d + q + J.T @ y, r + J @ d - t + s

    def step(factors, wide, a, b, s, t, dual, primal, of_s, of_t):
        """Newton's step that brings s a to of_s more, and t b to of_t more."""
        right = jnp.concatenate([-dual, -primal + of_t / b - of_s / a])
        move = lu_solve(factors, right)
        move = move + lu_solve(factors, right - wide @ move)
        dd, dy = move[:n], move[n:]
        return dd, dy, (of_s - s * dy) / a, (of_t + t * dy) / b

    def reach(a, b, s, t, dy, ds, dt, most):
        lengths = longest_step(a, dy, most), longest_step(b, -dy, most), longest_step(s, ds, most)
        return jnp.minimum(jnp.minimum(lengths[0], lengths[1]), jnp.minimum(lengths[2], longest_step(t, dt, most)))

    def body(carry):
        d, y, s, t, _, count = carry
        a, b = y - low, nu - y
        wide = jnp.block([[W, J.T], [J, -jnp.diag(s / a + t / b)]])
        factors = lu_factor(wide)
        dual, primal = errors(d, y, s, t)
        mean = (s @ a + t @ b) / max(2 * k, 1)
        _, dy, ds, dt = step(factors, wide, a, b, s, t, dual, primal, -s * a, -t * b)
        far = reach(a, b, s, t, dy, ds, dt, 1.0)
        after = ((s + far * ds) @ (a + far * dy) + (t + far * dt) @ (b - far * dy)) / max(2 * k, 1)
        target = mean * (after / jnp.where(mean > 0, mean, 1.0)) ** 3
        of_s, of_t = target - s * a - ds * dy, target - t * b + dt * dy
        dd, dy, ds, dt = step(factors, wide, a, b, s, t, dual, primal, of_s, of_t)
        far = jnp.minimum(1.0, 0.995 * reach(a, b, s, t, dy, ds, dt, 2.0))
        new = d + far * dd, y + far * dy, s + far * ds, t + far * dt
        sound = jnp.all(jnp.isfinite(jnp.concatenate(new))) & jnp.all(new[1] > low) & jnp.all(new[1] < nu)
        d, y, s, t = (jnp.where(sound, fresh, old) for fresh, old in zip(new, (d, y, s, t), strict=True))
        dual, primal = errors(d, y, s, t)
        mean = (s @ (y - low) + t @ (nu - y)) / max(2 * k, 1)
        solved = (largest(dual) <= 10 * least * size_q) & (largest(primal) <= 10 * least * size_r) & (mean <= least)
        return d, y, s, t, solved, jnp.where(sound, count + 1, LIMIT)

    s, t = jnp.maximum(-r, 0) + 1, jnp.maximum(r, 0) + 1
    y = jnp.where(low < 0, 0.0, jnp.minimum(1 / s, nu / 2)).astype(dtype)
    start = jnp.zeros_like(q), y, s, t, jnp.zeros((), bool), jnp.zeros((), int)
    d, y, _, _, _, _ = lax.while_loop(lambda c: ~c[4] & (c[5] < LIMIT), body, start)
    return d, y
