r"""The derivative of an integral's value: Leibniz's rule, as a rule of custom differentiation.

    d int_a^b f(x, theta) dx = f(b, theta) db - f(a, theta) da + int_a^b <df/dtheta(x, theta), dtheta> dx

The last integral is taken with the nodes that the value ended with; `leibniz` takes it afresh, with its own error.
Derivatives of all orders come out right because what is differentiated is

    sum_i w_i f(x_i, theta) + int_{b0}^b f(x, theta) dx - int_{a0}^a f(x, theta) dx       at b0 = b, a0 = a held fixed:

integrals over no length at all, by a rule of Gauss, whose derivatives are those of the integral; and so are what jumps
of f add whose places move with theta (`jumps`).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.integrals import core, jumps, rules

BATCH = 1024
ORDERS = 4  # nodes on the interval of no length: derivatives are exact up to order 2 ORDERS


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def value_of(
    values_at: Callable[..., Any],
    moves: tuple[bool, bool],
    value: Array,
    nodes: Array,
    weights: Array,
    bounds: tuple[Array, Array],
    operands: tuple[Any, ...],
) -> Array:
    """`value`, whose derivative is Leibniz's.

    Args:
      values_at: (x, *operands) -> (K,).
      moves: (bool, bool): whether the lower and the upper bound may be differentiated.
      value: (K,) the integral.
      nodes, weights: (N,) each, a rule for it.
      bounds: (lower, upper).
      operands: what the integrand depends on.
    """
    return value


@value_of.defjvp
def _jvp(values_at, moves, primals, tangents):
    value, nodes, weights, bounds, operands = primals
    weights = jax.lax.stop_gradient(_without_overflow(values_at, nodes, weights, operands))

    def moving(bounds, operands):
        total = rule(lambda x: values_at(x, *operands), nodes, weights)
        for free, sign, bound in zip(moves, (-1.0, 1.0), bounds):
            if free:
                total += sign * _no_length(lambda x: values_at(x, *operands), bound, nodes, weights)
        jumping = jumps.contribution(values_at, primals[3], operands)
        return total if jumping is None else total + jumping

    return value, jax.jvp(moving, (bounds, operands), tangents[3:])[1]


def rule(values_at: Any, nodes: Any, weights: Any) -> Any:
    """sum_i w_i f(x_i), a batch of nodes at a time; nodes of weight 0 count nothing, whatever f is there."""
    # a node of weight 0 may lie where the integrand has no derivative: it is moved onto one that counts
    safe = jnp.where(weights != 0, nodes, nodes[core.largest(jnp, jnp.abs(weights))])
    nodes, weights = _batches(safe, safe[0]), _batches(weights, 0.0)
    return jnp.sum(
        jax.lax.map(lambda xw: jnp.sum(xw[1][:, None] * jax.vmap(values_at)(xw[0]), axis=0), (nodes, weights)), axis=0
    )


def _batches(x, fill):
    """x (N,) as rows of a batch each, filled up."""
    batch = min(BATCH, x.shape[0])
    return jnp.concatenate([x, jnp.full((-x.shape[0] % batch,), fill)]).reshape(-1, batch)


def _without_overflow(values_at, nodes, weights, operands):
    """Weights, 0 where the integrand has died out but its derivative is inf * 0, as of exp(-p x^2) at x = 1e160."""
    nodes, operands = jax.lax.stop_gradient((nodes, operands))
    ones = jax.tree_util.tree_map(_one, operands)

    def lost(x):
        y, y_dot = jax.jvp(lambda *operands: values_at(x, *operands), operands, ones)
        return jnp.all(y == 0) & jnp.any(jnp.isnan(y_dot))

    out = jax.lax.map(jax.vmap(lost), _batches(nodes, nodes[0])).reshape(-1)[: nodes.shape[0]]
    return jnp.where(out, 0.0, weights)


def _one(x):
    """A tangent of ones."""
    if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        return jnp.ones_like(x)
    return np.zeros(jnp.shape(x), jax.dtypes.float0)


def _no_length(values_at, bound, nodes, weights):
    """int_{b0}^b f at b0 = b held fixed: 0, with the derivatives of the integral; an infinite bound has none."""
    start = jax.lax.stop_gradient(bound)
    good = jnp.isfinite(start)
    elsewhere = nodes[core.largest(jnp, jnp.abs(weights))]
    there = jax.lax.stop_gradient(values_at(jnp.where(good, start, elsewhere)))
    finite = good & jnp.all(jnp.isfinite(there))
    length = jnp.where(good, bound, start) - start
    length = jnp.where(good, length, 0.0)
    unit, weight = map(jnp.asarray, rules.gauss(ORDERS))
    places = jnp.where(finite, jnp.where(finite, start, 0.0) + length * unit, elsewhere)
    total = jnp.sum(weight[:, None] * jax.vmap(values_at)(places), axis=0)
    # where the integrand is infinite at the bound, so is the derivative with respect to it
    return length * jnp.where(good & ~finite, jnp.abs(there), jnp.where(finite, total, 0.0))
