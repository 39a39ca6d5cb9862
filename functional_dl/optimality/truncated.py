r"""A truncated Newton direction: H d = -gradient on the free variables by conjugate gradients, from products with H.

It ends where the residual is small, after MOST products, or where a direction has no positive curvature: with what was
found before it, which descends.
Source: Nocedal and Wright 2006, algorithm 7.1.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array

SHARE = 1e-4  # of the gradient, that the residual may keep
MOST = 5000


def direction(product: Callable[[Array], Array], gradient: Array, free: Array) -> tuple[Array, Array]:
    """The direction, 0 where free is 0, and how many products it took."""
    begin = -free * gradient
    square = begin @ begin

    def body(carry):
        d, r, p, rr, count, _ = carry
        turned = free * product(p)
        bend = p @ turned
        straight = bend > 10 * jnp.finfo(p.dtype).eps * (p @ p)
        step = jnp.where(straight, rr / jnp.where(straight, bend, 1), jnp.where(count == 0, 1.0, 0.0)).astype(p.dtype)
        d, r = d + step * p, r - step * turned
        after = r @ r
        p = r + after / jnp.maximum(rr, jnp.finfo(p.dtype).tiny) * p
        return d, r, p, after, count + 1, straight

    def going(carry):
        return (carry[3] > SHARE**2 * square) & (carry[4] < MOST) & carry[5]

    start = jnp.zeros_like(begin), begin, begin, square, jnp.zeros((), int), jnp.ones((), bool)
    d, _, _, _, count, _ = lax.while_loop(going, body, start)
    return d, count
