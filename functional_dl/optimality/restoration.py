r"""The way back to feasible points: least |h(x)|^2 + |(g(x))+|^2, by Levenberg's and Marquardt's method.

Source: Nocedal and Wright 2006, section 10.3.
"""

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array


def restore(flat, x0) -> tuple[Array, Array, Array]:
    """The point where the descent from x0 ends, the norm of the violation, the norm of its gradient."""

    def violation(x):
        return jnp.concatenate([flat.equalities(x), jnp.maximum(flat.inequalities(x), 0)])

    def body(carry):
        x, damping, count = carry
        r, rows = violation(x), jax.jacrev(violation)(x)
        square = rows.T @ rows
        scale = jnp.maximum(jnp.max(jnp.diag(square), initial=0.0), 1e-12)
        step = jnp.linalg.solve(square + damping * scale * jnp.eye(x.size, dtype=x.dtype), -rows.T @ r)
        tried = violation(x + step)
        better = jnp.sum(tried**2) < jnp.sum(r**2)
        damping = jnp.clip(jnp.where(better, damping / 5, damping * 4), 1e-14, 1e14)
        return jnp.where(better, x + step, x), damping, count + 1

    def going(carry):
        x, damping, count = carry
        return (count < 300) & (damping < 1e13) & (jnp.linalg.norm(violation(x)) > 1e-9)

    x, _, _ = lax.while_loop(going, body, (x0, jnp.full((), 1e-3, x0.dtype), jnp.zeros((), int)))
    r = violation(x)
    return x, jnp.linalg.norm(r), jnp.linalg.norm(jax.jacrev(violation)(x).T @ r)
