r"""A quadratic program in units of its own, whatever the units that its data come in.

    minimise x' P x / 2 + q . x   subject to   A x = b,  G x <= h,  lower <= x <= upper

becomes the program of w with x = sigma D w, rows of A D and G D of length 1, and the objective over c sigma:

    sigma D P D / c,    D q / c,    A D / a,    b / (a sigma),    G D / g,    h / (g sigma),    lower / (sigma D), ...

D: 1 / sqrt(P_jj), or, where that is 0, such that entries of rows and columns of [A; G] have the geometric mean 1; then
passes of Ruiz over the columns of [P; A; G].  sigma, the size of x: that of
the limits which x = 0 violates, or of the unconstrained minimum and of the other limits, the smaller of the two, where
that is more.  c makes the objective's greatest coefficient 1.  Units are powers of two: the change of units is exact.
Multipliers of rows are c / a, c / g times those found, of bounds c / D.
Source: Ruiz 2001; Stellato et al. 2020 (OSQP), section 5.1.
"""

from typing import NamedTuple

import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.optimality.measures import largest

PASSES = 2
MEANS = 6
ENDLESS = 1e30  # bounds from here on are as good as none where sizes are compared


class Units(NamedTuple):
    """x counts in sigma * of_x, rows in of_a and of_g, the objective in cost * sigma."""

    of_x: Array
    of_a: Array
    of_g: Array
    sigma: Array
    cost: Array


def units_of(data: tuple[Array, ...]) -> Units:
    """The units of (P, q, A, b, G, h, lower, upper), P symmetric, bounds of size 0 where there are none."""
    P, q, A, b, G, h, lower, upper = data
    sizes = [jnp.where(jnp.isfinite(bound), jnp.abs(bound), 0.0) for bound in (lower, upper) if bound.size]
    of_x, of_a, of_g = of_matrices(P, q, A, G, sum(sizes, jnp.zeros_like(q)))
    one = jnp.ones((), q.dtype)
    P, q, A, b, G, h, lower, upper = in_units(data, Units(of_x, of_a, of_g, one, one))
    limit, present = limits(h, lower, upper)
    sigma = natural_size(P, q, b, limit, present)
    cost = power_of_two(jnp.maximum(largest(P * sigma), largest(q)))
    return Units(of_x, of_a, of_g, sigma, cost)


def in_units(data: tuple[Array, ...], units: Units) -> tuple[Array, ...]:
    """The same program in these units."""
    P, q, A, b, G, h, lower, upper = data
    of_x, of_a, of_g, sigma, cost = units
    P, q, b, h = P * of_x[:, None] * of_x[None] * sigma / cost, q * of_x / cost, b / of_a / sigma, h / of_g / sigma
    A, G = A * of_x[None] / of_a[:, None], G * of_x[None] / of_g[:, None]
    lower, upper = (bound / of_x / sigma if bound.size else bound for bound in (lower, upper))
    return P, q, A, b, G, h, lower, upper


def limits(h: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Limits of the rows [G; -I; I], 0 where there is none; 1.0 where there is one, else 0.0."""
    limit = jnp.concatenate([h, -lower, upper])
    present = jnp.where(limit == jnp.inf, 0.0, 1.0).astype(limit.dtype)
    return jnp.where(present > 0, limit, 0.0), present


def power_of_two(size: Array) -> Array:
    """The next power of two above `size`; 1 where that is 0 or not finite."""
    usable = (size > 0) & jnp.isfinite(size)
    return jnp.where(usable, jnp.ldexp(jnp.ones_like(size), jnp.frexp(size)[1]), 1.0)


def of_matrices(P: Array, q: Array, A: Array, G: Array, bounds: Array) -> tuple[Array, Array, Array]:
    """(D, a, g); `bounds` (n,) are sizes of the variables' finite bounds, 0 where there is none."""
    P, B = jnp.abs(P), jnp.abs(jnp.concatenate([A, G]))
    P = P / _or_one(jnp.max(P, initial=0.0))  # the units of the objective must not count against those of the rows
    curved = jnp.diag(P) > 0
    d = jnp.where(curved, 1 / jnp.sqrt(_or_one(jnp.diag(P))), jnp.exp2(_by_means(B, q, curved, jnp.diag(P))))
    for _ in range(PASSES):
        curved, rows = P * d[None], B * d[None]
        curved = jnp.max(curved, axis=1, initial=0.0) * d
        curved = curved / _or_one(jnp.max(curved, initial=0.0))
        rows = rows / _or_one(jnp.max(rows, axis=1, initial=0.0))[:, None]
        d = d / jnp.sqrt(_or_one(jnp.maximum(curved, jnp.max(rows, axis=0, initial=0.0))))
    # a variable that is in nothing is no larger beside its bounds than the others are
    alone = jnp.maximum(jnp.max(P, axis=0, initial=0.0), jnp.max(B, axis=0, initial=0.0)) + jnp.abs(q) == 0
    usual = _or_one(jnp.max(jnp.where(alone | (bounds == 0), 0.0, d / _or_one(bounds)), initial=0.0))
    d = power_of_two(jnp.where(alone, _or_one(bounds) * usual, d))
    of_a, of_g = (power_of_two(jnp.linalg.norm(rows * d[None], axis=1)) for rows in (A, G))
    return d, of_a, of_g


def _by_means(B, q, known, diagonal):
    """log2 of D with which the nonzero entries of each row of [B; q'], and of each column where D is not known, have
    the geometric mean 1.  q ties together variables that share no row."""
    B = jnp.concatenate([B, jnp.abs(q)[None]])
    there = jnp.where(B > 0, 1.0, 0.0).astype(B.dtype)
    logs = jnp.where(B > 0, jnp.log2(_or_one(B)), 0.0)
    in_row, in_column = _or_one(jnp.sum(there, axis=1)), _or_one(jnp.sum(there, axis=0))
    of_rows, of_columns = jnp.sum(logs, axis=1), jnp.sum(logs, axis=0)
    fixed = -jnp.log2(_or_one(diagonal)) / 2
    d = jnp.where(known, fixed, 0.0)
    for _ in range(MEANS):
        row = (of_rows + there @ d) / in_row
        d = jnp.where(known, fixed, (there.T @ row - of_columns) / in_column)
    return d


def natural_size(P: Array, q: Array, b: Array, limit: Array, present: Array) -> Array:
    """sigma."""
    needed = jnp.maximum(largest(b), jnp.max(-limit * present, initial=0.0))
    room = jnp.where((limit > 0) & (limit < ENDLESS), present, 0.0)
    usual = jnp.exp(jnp.sum(room * jnp.log(jnp.where(room > 0, limit, 1.0))) / jnp.maximum(jnp.sum(room), 1.0))
    usual = jnp.where(jnp.sum(room) > 0, usual, jnp.inf)
    curved, pulled = largest(P), largest(q)
    free = jnp.where(pulled > 0, jnp.where(curved > 0, pulled / _or_one(curved), jnp.inf), 0.0)
    other = jnp.minimum(usual, free)
    size = jnp.maximum(needed, jnp.where(jnp.isfinite(other), other, 0.0))
    return power_of_two(jnp.where(size > 0, size, usual))


def _or_one(values):
    return jnp.where(values > 0, values, 1.0)
