r"""Newton's method on the KKT conditions written as equations: it polishes a rough method's result.

    grad L = 0,    h = 0,    min(mu_i, -g_i) = 0:    g_i = 0 where mu_i + g_i > 0 (active), mu_i = 0 elsewhere.

The active set is guessed anew at each step (a semismooth Newton method); a step is halved until the greatest residual
falls, and the point with the least KKT error is kept.  Where constraints repeat each other, the step is the least-norm
one.
Source: Hintermueller, Ito and Kunisch 2003.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.scaled import Scaled, kkt_error

STEPS = 20


def polish(scaled: Scaled, x: Array, y: Array, tolerance: Any) -> tuple[Array, Array, Scalar]:
    """(x, y, KKT error) no worse than what came; pure, under jit and vmap."""
    n, p, k = x.size, scaled.p, y.size
    equality = jnp.arange(k) < p

    def conditions(x, y):
        values, jacobian = scaled.values_and_jacobian(x)
        active = equality | (y + values[1:] > 0)
        residual = jnp.concatenate([jacobian[0] + y @ jacobian[1:], jnp.where(active, values[1:], y)])
        return residual, active, values, jacobian

    def size(x, y):
        residual = conditions(x, y)[0]
        return jnp.where(jnp.all(jnp.isfinite(residual)), jnp.linalg.norm(residual), jnp.inf)

    def error(x, y):
        found = kkt_error(scaled, *scaled.values_and_jacobian(x), y)
        return jnp.where(jnp.isfinite(found), found, jnp.inf)

    def body(carry):
        x, y, best, count = carry
        residual, active, _, jacobian = conditions(x, y)
        rows = jnp.where(active[:, None], jacobian[1:], 0.0)
        low = jnp.concatenate([rows, jnp.diag(jnp.where(active, 0.0, 1.0)).astype(x.dtype)], axis=1)
        matrix = jnp.concatenate([jnp.concatenate([scaled.lagrangian_hessian(x, y), jacobian[1:].T], axis=1), low])
        sound = jnp.all(jnp.isfinite(matrix)) & jnp.all(jnp.isfinite(residual))
        matrix, right = jnp.where(sound, matrix, 0.0), jnp.where(sound, residual, 0.0)
        move = -jnp.linalg.pinv(matrix, rtol=1e-11) @ right
        now = jnp.linalg.norm(right)

        def unfit(carry):
            step, halves = carry
            return (size(x + step * move[:n], y + step * move[n:]) > (1 - 1e-4 * step) * now) & (halves < 12)

        step, _ = lax.while_loop(unfit, lambda c: (c[0] / 2, c[1] + 1), (jnp.ones((), x.dtype), jnp.zeros((), int)))
        x, y = x + step * move[:n], y + step * move[n:]
        cut = jnp.where(equality, y, jnp.maximum(y, 0))
        found = error(x, cut)
        better = found < best[2]
        best = jnp.where(better, x, best[0]), jnp.where(better, cut, best[1]), jnp.where(better, found, best[2])
        return x, y, best, jnp.where(sound, count + 1, STEPS)

    begin = x, y, (x, y, error(x, y)), jnp.zeros((), int)
    _, _, best, _ = lax.while_loop(lambda c: (c[2][2] > tolerance) & (c[3] < STEPS), body, begin)
    return best
