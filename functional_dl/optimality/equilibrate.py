r"""A quadratic program in units of its own, whatever the units that its data come in.

    minimise x' P x / 2 + q . x   subject to   A x = b,  G x <= h,  lower <= x <= upper

becomes the program of w with x = sigma D w, rows of A D and G D of length 1, and the objective over c sigma:

    sigma D P D / c,    D q / c,    A D / a,    b / (a sigma),    G D / g,    h / (g sigma),    lower / (sigma D), ...

D: passes of Ruiz over the columns of [P; A; G], of which the first takes 1 / sqrt(P_jj).  sigma, the size of x: that of
the limits which x = 0 violates, or of the unconstrained minimum and of the other limits, the smaller of the two, where
that is more.  c makes the objective's greatest coefficient 1.  Units are powers of two: the change of units is exact.
Multipliers of rows are c / a, c / g times those found, of bounds c / D.
Source: Ruiz 2001; Stellato et al. 2020 (OSQP), section 5.1.
"""

from typing import NamedTuple

import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.optimality.measures import largest

PASSES = 5
ENDLESS = 1e30  # bounds from here on are as good as none where sizes are compared


class Units(NamedTuple):
    """x counts in sigma * of_x, rows in of_a and of_g, the objective in cost * sigma."""

    of_x: Array
    of_a: Array
    of_g: Array
    sigma: Array
    cost: Array


def power_of_two(size: Array) -> Array:
    """The next power of two above `size`; 1 where that is 0 or not finite."""
    usable = (size > 0) & jnp.isfinite(size)
    return jnp.where(usable, jnp.ldexp(jnp.ones_like(size), jnp.frexp(size)[1]), 1.0)


def of_matrices(P: Array, A: Array, G: Array, bounds: Array) -> tuple[Array, Array, Array]:
    """(D, a, g); `bounds` (n,) is the size of a variable that is in no row."""
    d = 1 / jnp.sqrt(_or_one(jnp.diag(P)))
    P, A, G = jnp.abs(P), jnp.abs(A), jnp.abs(G)
    for _ in range(PASSES):
        of_a, of_g = (_or_one(jnp.max(rows * d, axis=1, initial=0.0)) for rows in (A, G))
        curved = P * d * d[:, None]
        curved = jnp.max(curved, axis=0, initial=0.0) / _or_one(jnp.max(curved, initial=0.0))
        in_a, in_g = ((jnp.max(rows * d / of[:, None], axis=0, initial=0.0)) for rows, of in ((A, of_a), (G, of_g)))
        d = d / jnp.sqrt(_or_one(jnp.maximum(curved, jnp.maximum(in_a, in_g))))
    alone = (jnp.max(P, axis=0, initial=0.0) + jnp.max(A, axis=0, initial=0.0) + jnp.max(G, axis=0, initial=0.0)) == 0
    d = power_of_two(jnp.where(alone, _or_one(bounds), d))
    return d, *(power_of_two(jnp.linalg.norm(rows * d, axis=1)) for rows in (A, G))


def natural_size(P: Array, q: Array, b: Array, limit: Array, present: Array) -> Array:
    """sigma."""
    needed = jnp.maximum(largest(b), jnp.max(-limit * present, initial=0.0))
    room = jnp.where((limit > 0) & (limit < ENDLESS), present, 0.0)
    usual = jnp.exp(jnp.sum(room * jnp.log(jnp.where(room > 0, limit, 1.0))) / jnp.maximum(jnp.sum(room), 1.0))
    usual = jnp.where(jnp.sum(room) > 0, usual, jnp.inf)
    curved, pulled = largest(P), largest(q)
    free = jnp.where(pulled > 0, jnp.where(curved > 0, pulled / _or_one(curved), jnp.inf), 0.0)
    size = jnp.maximum(needed, jnp.minimum(usual, free))
    return power_of_two(jnp.where(size > 0, size, usual))


def _or_one(values):
    return jnp.where(values > 0, values, 1.0)
