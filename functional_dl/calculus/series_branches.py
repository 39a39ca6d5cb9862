"""How functions with branches act on power series: at a branch point, the branch that holds for small t > 0.

The first coefficient that tells two series apart decides which one is larger.
"""

import jax.numpy as jnp
from jax import lax

from functional_dl.calculus import series
from functional_dl.calculus.series import Series
from functional_dl.calculus.series_rules import BRANCHES as BRANCHES
from functional_dl.calculus.series_rules import ROOTS as ROOTS
from functional_dl.calculus.series_rules import RULES as RULES
from functional_dl.calculus.series_rules import coefficients, rule


@rule("sign", branches=True)
def _sign(primitive, operands, params, n):
    return [series.leading_sign(operands[0].c)]


@rule("abs", branches=True)
def _abs(primitive, operands, params, n):
    x = operands[0].c
    return [Series(x * series.leading_sign(x)[None])]


def _aligned(operands, n):
    """The coefficients of two operands, one of which may be a number among arrays."""
    found = [coefficients(v, n) for v in operands]
    most = max(c.ndim for c in found)
    return [c.reshape(len(c), *[1] * (most - c.ndim), *c.shape[1:]) for c in found]


def _chosen(a, b, first):
    return Series(jnp.where(first[None], a, b))


@rule("max", branches=True)
def _max(primitive, operands, params, n):
    a, b = _aligned(operands, n)
    return [_chosen(a, b, series.leading_sign(a - b) >= 0)]


@rule("min", branches=True)
def _min(primitive, operands, params, n):
    a, b = _aligned(operands, n)
    return [_chosen(a, b, series.leading_sign(b - a) >= 0)]


@rule("clamp", branches=True)
def _clamp(primitive, operands, params, n):
    low, x, high = (coefficients(v, n) for v in operands)
    low, high = (
        jnp.broadcast_to(v.reshape(n + 1, *[1] * (x.ndim - v.ndim), *v.shape[1:]), x.shape) for v in (low, high)
    )
    raised = _chosen(x, low, series.leading_sign(x - low) >= 0).c
    return [_chosen(raised, high, series.leading_sign(high - raised) >= 0)]


COMPARISONS = {
    "lt": lambda s: s < 0,
    "le": lambda s: s <= 0,
    "gt": lambda s: s > 0,
    "ge": lambda s: s >= 0,
    "eq": lambda s: s == 0,
    "ne": lambda s: s != 0,
}


@rule(*COMPARISONS, branches=True)
def _compare(primitive, operands, params, n):
    a, b = jnp.broadcast_arrays(*_aligned(operands, n))
    ordered = COMPARISONS[primitive.name](series.leading_sign(a - b))
    unordered = primitive.bind(a[0], b[0], **params)  # of NaN and of infinities
    return [jnp.where(jnp.isfinite(a[0]) & jnp.isfinite(b[0]), ordered, unordered)]


@rule("floor", "ceil", "round", branches=True)
def _floor(primitive, operands, params, n):
    """Constant near x_0, where it does not jump there; at a jump, its value to the right."""
    x = operands[0].c
    aside = series.leading_sign(x.at[0].set(jnp.zeros_like(x[0])))
    at = primitive.bind(x[0], **params)
    half = jnp.full_like(x[0], 0.5)
    low, high = lax.floor(x[0]), lax.ceil(x[0])
    if primitive.name == "floor":
        return [jnp.where((low == x[0]) & (aside < 0), low - 1, at)]
    if primitive.name == "ceil":
        return [jnp.where((high == x[0]) & (aside > 0), high + 1, at)]
    return [jnp.where((x[0] - low == half) & (aside != 0), jnp.where(aside > 0, high, low), at)]


@rule("rem", branches=True)
def _rem(primitive, operands, params, n):
    """a - b trunc(a / b)."""
    a, b = (coefficients(v, n) for v in operands)
    ratio = series.div(a, b)
    sign = series.leading_sign(ratio)
    size = ratio * sign[None]
    aside = series.leading_sign(size.at[0].set(jnp.zeros_like(size[0])))
    whole = lax.floor(size[0])
    whole = jnp.where((whole == size[0]) & (aside < 0), whole - 1, whole) * sign
    return [Series(a - b * whole[None])]


@rule("reduce_max", "reduce_min", branches=True)
def _extreme(primitive, operands, params, n):
    return [Series(series.extreme(operands[0].c, tuple(params["axes"]), primitive.name == "reduce_max"))]


@rule("sort", branches=True)
def _sort(primitive, operands, params, n):
    """In the order that holds for small t > 0: by all coefficients of the keys, one after the other."""
    keys = params["num_keys"]
    flat = [c for v in operands for c in coefficients(v, n)]
    outs = lax.sort(tuple(flat), dimension=params["dimension"], is_stable=True, num_keys=keys * (n + 1))
    return [Series(jnp.stack(outs[i * (n + 1) : (i + 1) * (n + 1)])) for i in range(len(operands))]
