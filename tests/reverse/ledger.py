"""Exceptions of the tests of the rules, each with its reason.  test_ledger.py fails on one that is no longer needed.

REFUSED_BY_JAX: program of a probe -> the reason, and a program of equal value that JAX does differentiate.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.reverse.rules import (
    decompositions,
    folds,
    identities,
    piecewise,
    ragged,
    scattering,
    special,
    while_loop,
    windows,
)

NO_TRANSPOSE = "jax.vjp of a reduce_window with a reducer other than +, max, min: it has no transpose rule in JAX"


def _windows(reduce, initial):
    """The windowed reduction by arithmetic on slices alone, of operands(x)."""

    def program(x, window_dimensions, window_strides, padding, base_dilation=None, window_dilation=None):
        window = window_dimensions
        ones = (1,) * x.ndim
        base_dilation, window_dilation = base_dilation or ones, window_dilation or ones
        padding = [(0, 0)] * x.ndim if padding == "VALID" else padding
        widths = [(low, high, b - 1) for (low, high), b in zip(padding, base_dilation)]
        padded = [lax.pad(y, y.dtype.type(i), widths) for y, i in zip(initial[1](x), initial[0])]
        spans = [(w - 1) * t + 1 for w, t in zip(window, window_dilation)]
        counts = [max(0, (n - s) // stride + 1) for n, s, stride in zip(padded[0].shape, spans, window_strides)]
        if 0 in counts:
            return lax.full(counts, initial[0][0], x.dtype)
        entries = []
        for place in itertools.product(*map(range, window)):
            start = [k * t for k, t in zip(place, window_dilation)]
            limit = [a + (m - 1) * s + 1 for a, m, s in zip(start, counts, window_strides)]
            entries.append([lax.slice(z, start, limit, window_strides) for z in padded])
        total = functools.reduce(reduce, entries)
        return total[0] if len(total) == 1 else tuple(total)

    return program


_product = _windows(lambda a, b: [a[0] * b[0]], ((1,), lambda x: (x,)))
_complex_product = _windows(
    lambda a, b: [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]], ((1, 0), lambda x: (x, x * x))
)

_largest = _windows(lambda a, b: [lax.max(a[0], b[0])], ((-np.inf,), lambda x: (x,)))
_smallest = _windows(lambda a, b: [lax.min(a[0], b[0])], ((np.inf,), lambda x: (x,)))

NO_RULE = "JAX has no derivative of the primitive at all"


def _spread(x, shape):
    return x if shape is None else jnp.broadcast_to(x, shape)


def _zeta_of_three(q, shape=None):
    """psi^(2)(q) = -2! zeta(3, q)."""
    q = _spread(q, shape)
    return -0.5 * lax.polygamma(lax.full(q.shape, 2, q.dtype), q)


def _igamma_slope(x, shape=None):
    """d/da of P(a, x) = sum_k x^(a+k) e^-x / Gamma(a + k + 1), term by term, at a = 2.5."""
    x = _spread(x, shape)
    total = 0.0 * x
    for k in range(60):
        a = 2.5 + k
        term = math.exp(-math.lgamma(a + 1)) * lax.exp(a * lax.log(x) - x)
        total += term * (lax.log(x) - lax.digamma(lax.full(x.shape, a + 1, x.dtype)))
    return total


def _dense_ragged_product(x, y, sizes, numbers, **_):
    """ragged_dot_general as a sum, or for ragged sums a stack, of one masked dot_general a group."""
    ((x_contract, y_contract), batch) = numbers.dot_dimension_numbers
    [axis], group = numbers.lhs_ragged_dimensions, list(numbers.rhs_group_dimensions)
    ends = np.cumsum([0, *sizes])
    parts = []
    for g, (start, end) in enumerate(itertools.pairwise(ends)):
        inside = (np.arange(x.shape[axis]) >= start) & (np.arange(x.shape[axis]) < end)
        mask = lax.broadcast_in_dim(jnp.asarray(inside), x.shape, (axis,))
        masked = jnp.where(mask, x, jnp.zeros_like(x))
        if not group:
            parts.append(lax.dot_general(masked, y, ((x_contract, y_contract), batch)))
            continue
        rest = [i - (i > group[0]) for i in y_contract], [i - (i > group[0]) for i in batch[1]]
        own = lax.index_in_dim(y, g, group[0], keepdims=False)
        parts.append(lax.dot_general(masked, own, ((x_contract, rest[0]), (batch[0], rest[1]))))
    return jnp.stack(parts) if not group else sum(parts[1:], parts[0])


def _scanned_newton(a):
    def step(x, _):
        near = lax.reduce_max(lax.abs(x * x - a), (0,)) <= x.dtype.type(1e-2)
        return jnp.where(near, x, (x + a / x) * x.dtype.type(0.5)), None

    return lax.scan(step, a, length=12)[0]


def _scanned_sines(weight, x):
    return lax.scan(lambda y, _: (lax.sin(y * weight), None), x, length=5)[0]


def _scaled_at(x, factors, rows):
    for i, row in enumerate(rows):
        here = lax.broadcast_in_dim(jnp.arange(len(x)) == row % len(x), x.shape, (0,)) & (row < len(x))
        x = lax.select(here, x * lax.expand_dims(factors[i], (0,)), x)
    return x


def _bent_at(x, rows, **_):
    times = np.bincount([row % len(x) for row in rows if row < len(x)], minlength=len(x))
    for k in range(times.max()):
        again = lax.broadcast_in_dim(jnp.asarray(times > k), x.shape, (0,))
        x = lax.select(again, scattering.bent(x), x)
    return x


NO_DILATION = "jax.vjp of a maximum or minimum over windows is not implemented where they are dilated"
UNKNOWN_LENGTH = "jax.vjp refuses while_loop: it would have to keep a state for each of an unknown number of steps"

REFUSED_BY_JAX = {
    while_loop.newton: (UNKNOWN_LENGTH, _scanned_newton),
    while_loop.counted_sines: (UNKNOWN_LENGTH, _scanned_sines),
    identities.named_product: (NO_RULE, lambda x: x * lax.sin(x)),
    identities.mapped_sine: ("jax.vjp of custom_vmap: its derivative is again a custom_vmap, never linear", lax.sin),
    identities.tripled: ("linear_call has no batching rule in JAX, which the judges need", lambda x: 3.0 * x),
    identities.rematerialised_sine: ("jax.vjp of a forward pass that JAX has optimised already", lax.sin),
    special.zeta_of_three: (NO_RULE, _zeta_of_three),
    special.igamma_slope: (NO_RULE, _igamma_slope),
    scattering.scaled_at: ("jax.vjp of scatter_mul wants places that are promised to be unique", _scaled_at),
    scattering.bent_at: ("jax.jvp of a scatter that applies a function is not implemented", _bent_at),
    piecewise.clamped_between: (
        "jax.jvp of lax.clamp with bounds that are numbers selects between arrays of unlike shapes",
        lambda a, x, b: lax.min(lax.max(x, lax.neg(lax.square(a))), lax.square(b)),
    ),
    windows.largest_of_windows: (NO_DILATION, _largest),
    windows.smallest_of_windows: (NO_DILATION, _smallest),
    folds.window_product: (NO_TRANSPOSE, _product),
    folds.window_complex_product: (NO_TRANSPOSE, _complex_product),
    ragged.ragged_product: (
        "jax.vjp of ragged_dot_general: not of ragged sums, so not twice; nor is it vmapped, as the judges need",
        _dense_ragged_product,
    ),
}
if jax.__version_info__ < (0, 12):
    REFUSED_BY_JAX[piecewise.only_case] = ("jax.vjp of select_n looks for a second case: IndexError", lambda x: 1.0 * x)
    REFUSED_BY_JAX[special.next_up] = (NO_RULE, lambda x, shape=None: _spread(x * (1.0 + 0.0 * x), shape))

# Programs that jax.vmap refuses -> the reason.
UNBATCHED_BY_JAX = {
    identities.named_product: "composite has no batching rule in JAX",
    identities.tripled: "linear_call has no batching rule in JAX",
    ragged.ragged_product: "jax.vmap of ragged_dot_general is not implemented for constant group sizes",
}

# Programs whose batch jax.vmap maps but whose batch's derivative JAX fails at -> the reason.
UNDIFFERENTIATED_BATCHES_OF_JAX = {
    decompositions.pivoted_qr: "jax.jvp of a batch of pivoted qr: its triangular_solve gets batches of two ranks",
}

# Programs whose cotangents, as ours has them, jax.vjp refuses -> the reason.
UNDIFFERENTIATED_BY_JAX = {
    while_loop.newton: UNKNOWN_LENGTH,
    while_loop.counted_sines: UNKNOWN_LENGTH,
    ragged.ragged_product: "y_bar is a ragged sum, of which JAX has no transpose: jax.vjp of jax.vjp fails alike",
}


def _holds(table, fun):
    return isinstance(fun, functools.partial) and fun.func in table


def batches(fun):
    """Whether jax.vmap maps the program."""
    return not _holds(UNBATCHED_BY_JAX, fun)


def differentiates_batches(fun):
    """Whether JAX differentiates the mapped program."""
    return batches(fun) and not _holds(UNDIFFERENTIATED_BATCHES_OF_JAX, fun)


def differentiates(fun):
    """Whether jax.vjp differentiates the program's cotangents."""
    return not _holds(UNDIFFERENTIATED_BY_JAX, fun)


def for_jax(fun):
    """fun, or what stands in for it where JAX refuses."""
    if _holds(REFUSED_BY_JAX, fun):
        return functools.partial(REFUSED_BY_JAX[fun.func][1], *fun.args, **fun.keywords)
    return fun
