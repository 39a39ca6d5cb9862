"""Reductions over sliding windows with a rule of their own: sum, maximum, minimum, and what pooling goes back through.

In one dimension, with stride s, window of w entries t apart, x dilated to entries b apart and padded by (low, high):

    y_o = reduction over k < w of z_{o s + k t},      z_{i b + low} = x_i, and the reduction's identity elsewhere.
"""

import functools
import itertools
from collections.abc import Iterator
from math import prod
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core.primitives import (
    ge_p,
    le_p,
    reduce_window_max_p,
    reduce_window_min_p,
    reduce_window_sum_p,
    select_and_gather_add_p,
    select_and_scatter_add_p,
    select_and_scatter_p,
)

from functional_dl.aliases import Array
from functional_dl.kinks import first_best
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, unsupported, vjp_rule
from functional_dl.reverse.rules.algebra import number, zeros_like

ALL = FLOATS + COMPLEX
FEW = 16  # entries of a window that are compared one by one where windows are blocks


def dilate_and_pad(x: Array, fill: Any, padding: Any, base_dilation: Any) -> Any:
    """z: x with its entries b apart, between copies of a value."""
    return lax.pad(x, fill, [(low, high, b - 1) for (low, high), b in zip(padding, base_dilation)])


def window_entries(z: Array, shape: Any, window: Any, strides: Any, window_dilation: Any) -> Iterator[Any]:
    """For every place k of the window, the entries z_{o s + k t} for all o: an array of y's shape."""
    if 0 in shape:
        return
    for place in itertools.product(*map(range, window)):
        start = [k * t for k, t in zip(place, window_dilation)]
        limit = [first + (m - 1) * s + 1 for first, m, s in zip(start, shape, strides)]
        yield lax.slice(z, start, limit, strides)


def _probe(fun, initial, shape, window, *, dtypes=FLOATS, **options):
    options = {"window_strides": (1,) * len(shape), "padding": "VALID"} | options

    def program(x):
        return lax.reduce_window(x, number(initial, x), fun, window, **options)

    return Probe(program, shapes=(shape,), dtypes=dtypes, distinct=0.0 if fun is lax.add else 0.05)


def _probes(fun, initial, dtypes=FLOATS):
    return (
        _probe(fun, initial, (6,), (3,), dtypes=dtypes),
        _probe(fun, initial, (2, 5, 4), (1, 2, 2), window_strides=(1, 2, 2), padding="SAME", dtypes=dtypes),
        _probe(fun, initial, (7,), (2,), window_strides=(3,), padding=[(1, 2)], dtypes=dtypes),
        _probe(fun, initial, (4, 6), (2, 2), window_strides=(2, 2)),
        _probe(fun, initial, (5, 3), (2, 3), window_strides=(2, 3), dtypes=dtypes),
    )


def _dilated_probes(fun, initial):
    return (
        _probe(fun, initial, (7,), (3,), window_strides=(2,), window_dilation=(2,), padding=[(2, 1)]),
        _probe(fun, initial, (4,), (3,), base_dilation=(2,), window_strides=(2,), padding=[(1, 2)]),
        _probe(fun, initial, (3, 4), (2, 2), base_dilation=(2, 1), window_dilation=(1, 2), padding=[(0, 1), (1, 0)]),
        _probe(fun, initial, (2,), (3,)),
    )


def _are_blocks(x, window_dimensions, window_strides, padding, base_dilation, window_dilation, **_):
    """Whether the windows lie side by side: then each axis is cut in two, (windows, places), and none is searched."""
    one = (1,) * x.ndim
    return (
        tuple(base_dilation) == one == tuple(window_dilation)
        and tuple(window_dimensions) == tuple(window_strides)
        and not any(low or high for low, high in padding)
        and all(n >= w > 0 for n, w in zip(x.shape, window_dimensions))
    )


def _places(window):
    """The axes of places inside the windows, where each axis that windows cut is (windows, places)."""
    cut = [axis for axis, w in enumerate(window) if w > 1]
    return cut, tuple(axis + 1 + k for k, axis in enumerate(cut))


def _blocks(x, window):
    """x with each axis that windows cut as (windows, places)."""
    whole = tuple(n // w * w for n, w in zip(x.shape, window))
    x = x if whole == x.shape else lax.slice(x, (0,) * x.ndim, whole)
    for axis in reversed(_places(window)[0]):  # one at a time, as arrays can be reshaped that are split over devices
        x = lax.reshape(x, (*x.shape[:axis], whole[axis] // window[axis], window[axis], *x.shape[axis + 1 :]))
    return x


def _from_blocks(blocks, x, window):
    """The transpose of `_blocks`."""
    for axis in _places(window)[0]:
        windows, places, *rest = blocks.shape[axis:]
        blocks = lax.reshape(blocks, (*blocks.shape[:axis], windows * places, *rest))
    if blocks.shape == x.shape:
        return blocks
    return lax.pad(blocks, number(0, blocks), [(0, n - m, 0) for n, m in zip(x.shape, blocks.shape)])


def _over(y, window):
    """y, an entry a window, for all places of it."""
    cut, places = _places(window)
    shape = [m for axis, n in enumerate(y.shape) for m in ((n, window[axis]) if axis in cut else (n,))]
    return lax.broadcast_in_dim(y, shape, [i for i in range(len(shape)) if i not in places])


def _over_blocks(primitive, reduce):
    """The reduction, over axes where windows are blocks of x."""

    def value(x, **params):
        if not _are_blocks(x, **params):
            return primitive.bind(x, **params)
        window = params["window_dimensions"]
        return reduce(_blocks(x, window), _places(window)[1])

    return value


@vjp_rule(
    reduce_window_sum_p,
    *_probes(lax.add, 0, ALL),
    *_dilated_probes(lax.add, 0),
    _probe(lax.add, 0, (3,), (2,), padding=[(3, 0)]),
    _probe(lax.add, 0, (0,), (2,), padding=[(1, 2)]),
    reads="",
    latex=(r"\textstyle\sum_{\text{window}} <x>", r"\textstyle\sum_{\text{windows over it}} <c>"),
    value=_over_blocks(reduce_window_sum_p, lax.reduce_sum),
)
def reduce_window_sum_vjp(ct, out, x, **params):
    """y_o = sum_k z_{o s + k t}  =>  x_i_bar = sum_k y_o_bar over the o with o s + k t = i b + low:
    a sum over windows of y_bar with the two strides exchanged, the entries of y_bar being s apart and windows b apart.
    Where windows are blocks of x, each y_o_bar goes to all of its block.
    """
    window_dimensions, window_strides, padding, base_dilation, window_dilation = (
        params[name] for name in ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    )
    if _are_blocks(x, **params):
        return (_from_blocks(_over(ct, window_dimensions), x, window_dimensions),)
    reach = [(w - 1) * t for w, t in zip(window_dimensions, window_dilation)]
    widths = []
    for m, n, s, b, r, (low, _high) in zip(ct.shape, x.shape, window_strides, base_dilation, reach, padding):
        before = r - low
        apart = (m - 1) * s + 1 if m else 0
        whole = (n - 1) * b + 1 + r if n else 0
        widths.append((before, whole - apart - before, s - 1))
    spread = lax.pad(ct, number(0, ct), widths)
    one = (1,) * x.ndim
    return (
        reduce_window_sum_p.bind(
            spread,
            window_dimensions=window_dimensions,
            window_strides=base_dilation,
            padding=((0, 0),) * x.ndim,
            base_dilation=one,
            window_dilation=window_dilation,
        )
        if x.size
        else zeros_like(x),
    )


def _to_the_chosen(ct, x, select_prim, window_dimensions, window_strides, padding, base_dilation, window_dilation):
    """x_bar: every y_o_bar added to the entry that its window chose, the first of those that tie."""
    one = (1,) * x.ndim
    blocks = _are_blocks(x, window_dimensions, window_strides, padding, base_dilation, window_dilation)
    if blocks and prod(window_dimensions) <= FEW:
        better, spread = jnp.greater if select_prim is ge_p else jnp.less, _over(ct, window_dimensions)
        chosen = first_best(_blocks(x, window_dimensions), _places(window_dimensions)[1], better)
        return _from_blocks(lax.select(chosen, spread, zeros_like(spread)), x, window_dimensions)
    plain = tuple(base_dilation) == one == tuple(window_dilation) and all(min(widths) >= 0 for widths in padding)
    if plain and ct.size:
        return select_and_scatter_add_p.bind(
            ct,
            x,
            select_prim=select_prim,
            window_dimensions=window_dimensions,
            window_strides=window_strides,
            padding=padding,
        )
    highest = select_prim is ge_p
    z = dilate_and_pad(x, number(float("-inf" if highest else "inf"), x), padding, base_dilation)
    entries = list(window_entries(z, ct.shape, window_dimensions, window_strides, window_dilation))
    if not entries:
        return zeros_like(x)
    best = entries[0]
    for entry in entries[1:]:
        best = lax.max(best, entry) if highest else lax.min(best, entry)
    z_bar, free = zeros_like(z), lax.full(ct.shape, True)
    places = itertools.product(*map(range, window_dimensions))
    for place, entry in zip(places, entries):
        chosen = lax.bitwise_and(free, lax.eq(entry, best))
        free = lax.bitwise_and(free, lax.bitwise_not(chosen))
        widths = []
        for k, t, m, s, n in zip(place, window_dilation, ct.shape, window_strides, z.shape):
            widths.append((k * t, n - k * t - ((m - 1) * s + 1), s - 1))
        z_bar = lax.add(z_bar, lax.pad(lax.select(chosen, ct, zeros_like(ct)), number(0, ct), widths))
    inner = lax.pad(z_bar, number(0, ct), [(-low, -high, 0) for low, high in padding])
    return lax.slice(inner, (0,) * x.ndim, inner.shape, base_dilation)


def largest_of_windows(x: Array, **options: Any) -> Any:
    return lax.reduce_window(x, number(-jnp.inf, x), lax.max, **options)


def smallest_of_windows(x: Array, **options: Any) -> Any:
    return lax.reduce_window(x, number(jnp.inf, x), lax.min, **options)


def _dilated_extrema(fun):
    def probe(shape, window, **options):
        options = {"window_strides": (1,) * len(shape), "padding": "VALID"} | options
        program = functools.partial(fun, window_dimensions=window, **options)
        return Probe(program, shapes=(shape,), distinct=0.05, forward=False)

    return (
        probe((7,), (3,), window_strides=(2,), window_dilation=(2,), padding=[(2, 1)]),
        probe((4,), (3,), base_dilation=(2,), window_strides=(2,), padding=[(1, 2)]),
        probe((3, 4), (2, 2), base_dilation=(2, 1), window_dilation=(1, 2), padding=[(0, 1), (1, 0)]),
        probe((6,), (3,), padding=[(-1, 2)]),
        probe((2,), (3,), window_dilation=(2,)),
    )


@vjp_rule(
    reduce_window_max_p,
    *_probes(lax.max, -jnp.inf),
    *_dilated_extrema(largest_of_windows),
    reads="x",
    latex=(r"\max_{\text{window}} <x>", r"\textstyle\sum_{\text{windows whose maximum it is}} <c>"),
    value=_over_blocks(reduce_window_max_p, lax.reduce_max),
)
def reduce_window_max_vjp(ct, out, x, **params):
    """y_o = max_k z_{o s + k t}  =>  y_o_bar is added to the cotangent of the entry that is the largest of its window;
    the first one where several tie (a convention)."""
    return (_to_the_chosen(ct, x, ge_p, **params),)


@vjp_rule(
    reduce_window_min_p,
    *_probes(lax.min, jnp.inf),
    *_dilated_extrema(smallest_of_windows),
    reads="x",
    latex=(r"\min_{\text{window}} <x>", r"\textstyle\sum_{\text{windows whose minimum it is}} <c>"),
    value=_over_blocks(reduce_window_min_p, lax.reduce_min),
)
def reduce_window_min_vjp(ct, out, x, **params):
    """y_o = min_k z_{o s + k t}  =>  y_o_bar is added to the cotangent of the entry that is the smallest of its window;
    the first one where several tie (a convention)."""
    return (_to_the_chosen(ct, x, le_p, **params),)


def _chosen(select_prim, **options):
    options = {"window_dimensions": (2,), "window_strides": (2,), "padding": ((1, 0),)} | options
    return {"select_prim": select_prim} | options


_UNDILATED = {"base_dilation": (1,), "window_dilation": (1,)}


@vjp_rule(
    select_and_gather_add_p,
    Probe(
        lambda v, x: select_and_gather_add_p.bind(v, lax.stop_gradient(x), **_chosen(ge_p), **_UNDILATED),
        shapes=((5,), (5,)),
        distinct=0.1,
    ),
    Probe(
        lambda v, x: select_and_gather_add_p.bind(
            v, lax.stop_gradient(x), **_chosen(le_p, window_dimensions=(3,)), **_UNDILATED
        ),
        shapes=((6,), (6,)),
        distinct=0.1,
    ),
    reads="x",
    latex=(r"<0>[\text{place of each window's extreme of } <1>]", r"\text{add } <c> \text{ at these places}", "0"),
)
def select_and_gather_add_vjp(ct, out, v, x, **params):
    """y_o = v at the place that window o of x chooses  =>  v_bar_i = sum of y_o_bar over the windows that chose i.
    x is only compared: x_bar = 0."""
    return lambda: _to_the_chosen(ct, x, **params), None


@vjp_rule(
    select_and_scatter_add_p,
    Probe(
        lambda v, x: select_and_scatter_add_p.bind(v, lax.stop_gradient(x), **_chosen(ge_p)),
        shapes=((3,), (5,)),
        distinct=0.1,
    ),
    Probe(
        lambda v, x: select_and_scatter_add_p.bind(v, lax.stop_gradient(x), **_chosen(le_p, window_dimensions=(3,))),
        shapes=((3,), (6,)),
        distinct=0.1,
    ),
    reads="x",
    latex=(r"\text{add } <0> \text{ at each window's extreme of } <1>", r"<c>[\text{these places}]", "0"),
)
def select_and_scatter_add_vjp(ct, out, v, x, *, window_dimensions, **params):
    """y_i = sum of v_o over the windows o of x that choose i  =>  v_o_bar = y_bar at the place that window o chose.
    x is only compared: x_bar = 0."""
    one = (1,) * x.ndim
    dilations = {"base_dilation": one, "window_dilation": one}
    return (
        lambda: select_and_gather_add_p.bind(ct, x, window_dimensions=window_dimensions, **params, **dilations),
        None,
    )


unsupported(
    "its selection and its reduction are programs of the user, which need not be smooth, nor name what they chose; "
    "use lax.reduce_window with lax.max or lax.min, or wrap the function in jax.custom_vjp",
    select_and_scatter_p,
)
