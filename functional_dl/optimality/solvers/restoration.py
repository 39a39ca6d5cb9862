"""Feasibility restoration: Levenberg and Marquardt's method on the violation of the constraints.

A step solves  (J'J + damping I) d = -J'r,  by a factorisation, or by conjugate gradients where variables are many.
Source: Nocedal and Wright 2006, section 10.3.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import cg

from functional_dl.aliases import Array

PRODUCTS = 300  # of conjugate gradients in a step


def restore(flat: Any, x0: Array) -> tuple[Array, Array, Array]:
    """Minimise |h|^2 + |(g)+|^2 from x0: the point, the norm of the violation, the norm of its gradient."""

    def violation(x):
        return jnp.concatenate([flat.equalities(x), jnp.maximum(flat.inequalities(x), 0)])

    step_of = _by_products if flat.large else _by_factors

    def body(carry):
        x, damping, count = carry
        r, step = step_of(violation, x, damping)
        tried = violation(x + step)
        better = jnp.sum(tried**2) < jnp.sum(r**2)
        damping = jnp.clip(jnp.where(better, damping / 5, damping * 4), 1e-14, 1e14)
        return jnp.where(better, x + step, x), damping, count + 1

    def going(carry):
        x, damping, count = carry
        return (count < 300) & (damping < 1e13) & (jnp.linalg.norm(violation(x)) > 1e-9)

    x, _, _ = lax.while_loop(going, body, (x0, jnp.full((), 1e-3, x0.dtype), jnp.zeros((), int)))
    r, pull = jax.vjp(violation, x)
    return x, jnp.linalg.norm(r), jnp.linalg.norm(pull(r)[0])


def _by_factors(violation, x, damping):
    """The violation and the step, with the matrix J'J."""
    r, rows = violation(x), jax.jacrev(violation)(x)
    square = rows.T @ rows
    scale = jnp.maximum(jnp.max(jnp.diag(square), initial=0.0), 1e-12)
    return r, jnp.linalg.solve(square + damping * scale * jnp.eye(x.size, dtype=x.dtype), -rows.T @ r)


def _by_products(violation, x, damping):
    """The same by products with J and J'; the size of J'J is that along its gradient."""
    r, push = jax.linearize(violation, x)
    pull = jax.linear_transpose(push, x)
    gradient = pull(r)[0]
    along = push(gradient)
    scale = jnp.maximum(jnp.sum(along**2) / jnp.maximum(jnp.sum(gradient**2), jnp.finfo(x.dtype).tiny), 1e-12)
    product = lambda v: pull(push(v))[0] + damping * scale * v
    return r, cg(product, -gradient, tol=1e-10, maxiter=PRODUCTS)[0]
