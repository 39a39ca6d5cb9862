"""Reading parts of an array by position (slices, gather), cutting it up (split), and overwriting a block of it.

Reading is a 0-1 matrix A with one 1 a row; its transpose adds each entry of y_bar where that entry was read.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import dynamic_slice_p, dynamic_update_slice_p, gather_p, slice_p

from functional_dl.jaxprs import primitive_of
from functional_dl.reverse.latex import Terms, bars
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import number, zeros_like
from functional_dl.reverse.values import Block

ALL = FLOATS + COMPLEX


def _slice_latex(terms: Terms) -> str:
    p = terms.params
    strides = p.get("strides") or [1] * len(p["start_indices"])
    parts = []
    for size, low, high, stride in zip(terms.shapes[0], p["start_indices"], p["limit_indices"], strides):
        whole = low == 0 and high == size and stride == 1
        parts.append(":" if whole else f"{low}{{:}}{high}" + (f"{{:}}{stride}" if stride != 1 else ""))
    return f"[{', '.join(parts)}]"


def _block_latex(terms: Terms) -> str:
    return f"[{', '.join(terms.xs[1 if terms.params.get('slice_sizes') else 2 :])}]"


@vjp_rule(
    slice_p,
    Probe(lambda x: lax.slice(x, (1, 0), (3, 2)), shapes=((4, 2),), dtypes=ALL),
    Probe(lambda x: lax.slice(x, (1,), (7,), (3,)), shapes=((8,),), dtypes=ALL),
    Probe(lambda x: lax.slice(x, (1,), (1,)), shapes=((3,),)),
    reads="",
    latex=(lambda t: f"<x>{_slice_latex(t)}", lambda t: f"\\operatorname{{pad}}(<c>) \\text{{ at }} {_slice_latex(t)}"),
)
def slice_vjp(ct, out, x, *, start_indices, limit_indices, strides, **_):
    """y_i = x_{start + i stride}  =>  x_bar is y_bar at these places and 0 elsewhere."""
    strides = strides or (1,) * x.ndim
    widths = []
    for start, stride, length, whole in zip(start_indices, strides, ct.shape, x.shape):
        last = start + (length - 1) * stride + 1 if length else start
        widths.append((start, whole - last, stride - 1))
    index = tuple(map(slice, start_indices, limit_indices, strides))
    return (Block(ct, index, lambda: lax.pad(ct, jnp.zeros((), ct.dtype), widths)),)


split_p = primitive_of(lambda x: lax.split(x, (1, 1)), np.zeros(2, np.float32))


@vjp_rule(
    split_p,
    Probe(lambda x: lax.split(x, (1, 3, 2)), shapes=((6,),), dtypes=ALL),
    Probe(lambda x: lax.split(x, (2, 0, 1), 1), shapes=((2, 3),), dtypes=ALL),
    Probe(lambda x: lax.split(x, (2, 1))[0], shapes=((3, 2),)),
    reads="",
    latex=(r"\operatorname{split}(<x>)", lambda t: f"\\operatorname{{concat}}({bars(t)})"),
)
def split_vjp(cts, outs, x, *, axis, **_):
    """(y_1, ..., y_n) = x cut along an axis  =>  x_bar = (y_1_bar, ..., y_n_bar) joined along it."""
    return (lax.concatenate(cts, axis),)


tile_p = primitive_of(lambda x: lax.tile(x, (2,)), np.zeros(2, np.float32)) if hasattr(lax, "tile") else None

if tile_p is not None and str(tile_p) == "tile":

    @vjp_rule(
        tile_p,
        Probe(lambda x: lax.tile(x, (2, 3)), shapes=((2, 3),), dtypes=ALL),
        Probe(lambda x: lax.tile(x, (1, 2)), shapes=((3, 0),)),
        Probe(lambda x: lax.tile(x, (0,)), shapes=((3,),)),
        reads="",
        latex=(r"\operatorname{tile}(<x>)", r"\textstyle\sum_{\text{copies}} <c>"),
    )
    def tile_vjp(ct, out, x, *, reps, **_):
        """y lays r_i copies of x side by side along axis i  =>  x_bar = sum of y_bar over the copies."""
        apart = [n for r, length in zip(reps, x.shape) for n in (r, length)]
        return (lax.reduce_sum(lax.reshape(ct, apart), tuple(range(0, 2 * x.ndim, 2))),)


@vjp_rule(
    dynamic_slice_p,
    Probe(lambda x: lax.dynamic_slice(x, (1, 0), (2, 2)), shapes=((4, 2),), dtypes=ALL),
    Probe(lambda x: lax.dynamic_slice(x, (9, -9), (2, 3)), shapes=((4, 5),), dtypes=ALL),  # clamped to (2, 0)
    Probe(lambda x: lax.dynamic_slice(x, (1,), (0,)), shapes=((3,),)),
    reads="indices",
    latex=(lambda t: f"<x>{_block_latex(t)}", lambda t: f"\\operatorname{{pad}}(<c>) \\text{{ at }} {_block_latex(t)}"),
)
def dynamic_slice_vjp(ct, out, x, *indices, **_):
    """y_i = x_{s + i}, with s moved until the block lies inside x
    =>  x_bar is y_bar at this block (moved alike) and 0 elsewhere."""

    def x_bar():
        return dynamic_update_slice_p.bind(zeros_like(x, ct.dtype), ct, *indices)

    none = [None] * len(indices)
    if any(1 < length < whole for length, whole in zip(ct.shape, x.shape)):
        return x_bar, *none
    index = tuple(_one_or_all(*parts) for parts in zip(indices, ct.shape, x.shape))
    return Block(ct, index, x_bar), *none


def _one_or_all(start, length, whole):
    """The index of an axis of which one entry or everything is read."""
    return slice(None) if length == whole else lax.clamp(number(0, start), start, number(whole - 1, start))


@vjp_rule(
    dynamic_update_slice_p,
    Probe(lambda x, u: lax.dynamic_update_slice(x, u, (1, 0)), shapes=((4, 2), (2, 1)), dtypes=ALL),
    Probe(lambda x, u: lax.dynamic_update_slice(x, u, (9, -9)), shapes=((4, 5), (2, 3)), dtypes=ALL),
    Probe(lambda x, u: lax.dynamic_update_slice(x, u, (1,)), shapes=((3,), (0,))),
    reads="indices",
    latex=(
        lambda t: f"<0> \\text{{ with }} <1> \\text{{ at }} {_block_latex(t)}",
        lambda t: f"<c> \\text{{ with }} 0 \\text{{ at }} {_block_latex(t)}",
        lambda t: f"<c>{_block_latex(t)}",
    ),
)
def dynamic_update_slice_vjp(ct, out, x, update, *indices, **_):
    """y is x with the block at s (moved until it lies inside x) replaced by u
    =>  x_bar is y_bar with 0 in that block,  u_bar is that block of y_bar."""
    return (
        lambda: dynamic_update_slice_p.bind(ct, zeros_like(update, ct.dtype), *indices),
        lambda: dynamic_slice_p.bind(ct, *indices, slice_sizes=update.shape),
        *[None] * len(indices),
    )


def scatter_numbers(gather_numbers: Any) -> Any:
    """The dimension numbers of the scatter that writes where a gather reads."""
    return lax.ScatterDimensionNumbers(
        update_window_dims=gather_numbers.offset_dims,
        inserted_window_dims=gather_numbers.collapsed_slice_dims,
        scatter_dims_to_operand_dims=gather_numbers.start_index_map,
        operand_batching_dims=gather_numbers.operand_batching_dims,
        scatter_indices_batching_dims=gather_numbers.start_indices_batching_dims,
    )


def _numbers(offset, collapsed, start, batching=(), indices_batching=()):
    return lax.GatherDimensionNumbers(
        offset_dims=offset,
        collapsed_slice_dims=collapsed,
        start_index_map=start,
        operand_batching_dims=batching,
        start_indices_batching_dims=indices_batching,
    )


def _gather(indices, numbers, sizes, **options):
    return lambda x: lax.gather(x, jnp.array(indices), numbers, sizes, **options)


_ROWS = _numbers((1,), (0,), (0,))
_WINDOWS = _numbers((0, 2), (), (1, 0))
_BATCHED = _numbers((2,), (1,), (1,), (0,), (0,))


@vjp_rule(
    gather_p,
    Probe(_gather([[2], [0], [2], [2]], _ROWS, (1, 3), mode="promise_in_bounds"), shapes=((4, 3),), dtypes=ALL),
    Probe(_gather([[2], [9], [-1], [2]], _ROWS, (1, 3), mode="clip"), shapes=((4, 3),), dtypes=ALL),
    Probe(_gather([[2], [9], [-1]], _ROWS, (1, 3), mode="fill", fill_value=7), shapes=((4, 3),), dtypes=ALL),
    Probe(_gather([[2, 1], [3, 2], [0, 9]], _WINDOWS, (2, 2), mode="clip"), shapes=((4, 5),), dtypes=ALL),
    Probe(_gather([[2, 1], [1, 3], [0, 9]], _WINDOWS, (2, 2), mode="fill", fill_value=0), shapes=((4, 5),), dtypes=ALL),
    Probe(_gather([[[1], [1]], [[3], [9]]], _BATCHED, (1, 1, 2), mode="clip"), shapes=((2, 4, 2),), dtypes=ALL),
    Probe(_gather([[[1], [1]], [[3], [9]]], _BATCHED, (1, 1, 2), mode="fill", fill_value=0), shapes=((2, 4, 2),)),
    Probe(
        _gather([[0], [2]], _ROWS, (1, 2), indices_are_sorted=True, unique_indices=True, mode="clip"), shapes=((4, 2),)
    ),
    Probe(_gather(np.zeros((0, 1), np.int32), _ROWS, (1, 3), mode="clip"), shapes=((4, 3),)),
    Probe(lambda x: jnp.take_along_axis(x, jnp.array([[0, 2, 2], [1, 1, -1]]), 1), shapes=((2, 3),), dtypes=ALL),
    Probe(lambda x: x[jnp.array([[1, -1], [1, 0]]), ::2, None], shapes=((3, 4),), dtypes=ALL),
    Probe(lambda x: jnp.take(x, jnp.array([0, 1, 1]), axis=1, mode="wrap"), shapes=((2, 3),), dtypes=ALL),
    reads="indices",
    latex=(r"<0>[<1>]", r"\textstyle\sum_{k :\, <1>_k = i} <c>_k \quad (\text{at each place } i)"),
)
def gather_vjp(
    ct, out, x, indices, *, dimension_numbers, slice_sizes, indices_are_sorted, unique_indices, mode, fill_value
):
    """y_i = x_{p(i)}, with p(i) moved inside or y_i a fixed value where p(i) lies outside, as the mode says
    =>  x_bar_j = sum of y_bar_i over the i with p(i) = j: a scatter that adds, with the same mode."""

    def x_bar():
        return lax.scatter_add(
            zeros_like(x, ct.dtype),
            indices,
            ct,
            scatter_numbers(dimension_numbers),
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            mode=mode,
        )

    return x_bar, None
