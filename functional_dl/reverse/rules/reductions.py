"""Reductions over axes: sum, product, maximum, minimum."""

from math import prod
from typing import Any

from jax import lax
from jax.extend.core.primitives import reduce_max_p, reduce_min_p, reduce_prod_p, reduce_sum_p

from functional_dl.aliases import Array
from functional_dl.reverse.latex import along_axes
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import zeros_like
from functional_dl.sharding import cotangent_sharding

ALL = FLOATS + COMPLEX


def expand(y: Array, x: Array, axes: Any) -> Array:
    """Repeats y along the axes that were reduced, to the shape of x: the transpose of a sum over them."""
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    return lax.broadcast_in_dim(y, x.shape, kept, out_sharding=cotangent_sharding(x))


@vjp_rule(
    reduce_sum_p,
    Probe(lambda x: lax.reduce_sum(x, (0,)), shapes=((4,),), dtypes=ALL),
    Probe(lambda x: lax.reduce_sum(x, (0, 2)), shapes=((2, 3, 4),), dtypes=ALL),
    Probe(lambda x: lax.reduce_sum(x, (1,)), shapes=((2, 0),)),
    reads="",
    latex=(along_axes(r"\sum"), r"\mathbf{1} \odot <c>"),
    explicit=True,
)
def reduce_sum_vjp(ct, out, x, *, axes, **_):
    """y = sum_i x_i,  dy = sum_i dx_i  =>  x_i_bar = y_bar for every i."""
    return (expand(ct, x, axes),)


def _product_tree(x: Array, axes: tuple[int, ...]) -> tuple[list[Array], Array]:
    """The factors of each product, in the last axis, and the products of their pairs, of pairs of those, ...; the root.

    A level of the tree is a reduction over an axis of length 2.  As a multiplication of two halves XLA would fuse it
    into each of its readers, and compute it again in each: n log n multiplications.  A reduction it computes once.
    """
    kept = [i for i in range(x.ndim) if i not in axes]
    lead = tuple(x.shape[i] for i in kept)
    factors = lax.reshape(lax.transpose(x, [*kept, *axes]), (*lead, prod(x.shape[i] for i in axes)))
    axis = len(lead)
    levels = []
    while factors.shape[-1] > 1:
        factors = _padded(factors, factors.shape[-1] % 2)
        levels.append(factors)
        half = factors.shape[-1] // 2
        factors = lax.reduce_prod(lax.reshape(factors, (*lead, 2, half)), (axis,))
    return levels, lax.reduce_prod(factors, (axis,))


def reduce_prod_value(x, *, axes, **_):
    """y is the root of the tree that its derivative forms too: together n - 1 multiplications."""
    return _product_tree(x, axes)[1]


@vjp_rule(
    reduce_prod_p,
    Probe(lambda x: lax.reduce_prod(x, (0,)), shapes=((5,),), dtypes=ALL),
    Probe(lambda x: lax.reduce_prod(x, (0, 2)), shapes=((2, 3, 2),), dtypes=ALL),
    Probe(lambda x: lax.reduce_prod(lax.mul(x, lax.round(x)), (0,)), shapes=((5,),), low=-1.0, high=1.0),
    Probe(lambda x: lax.reduce_prod(x, (1,)), shapes=((3, 1),)),
    Probe(lambda x: lax.reduce_prod(x, (0, 1)), shapes=((1, 1),)),
    Probe(lambda x: lax.reduce_prod(x, (1,)), shapes=((3, 0),)),
    reads="x",
    latex=(along_axes(r"\prod"), r"<c> \odot \textstyle\prod_{j \ne i} <x>_j"),
    value=reduce_prod_value,
)
def reduce_prod_vjp(ct, out, x, *, axes, **_):
    """y = prod_i x_i  =>  x_i_bar = y_bar prod_{j != i} x_j, without a division, so that zeros are no exception.

    The products without one factor come from a tree of pairs: with p = l r at a node, l_bar = r p_bar and
    r_bar = l p_bar, from the root (p_bar = y_bar) to the leaves.  With the tree that costs 3 n multiplications.
    """
    levels, _ = _product_tree(x, axes)
    axis = x.ndim - len(axes)
    order = [*(i for i in range(x.ndim) if i not in axes), *axes]
    moved = [x.shape[i] for i in order]
    if x.size == 0:
        return (zeros_like(x),)
    bar = lax.reshape(ct, (*moved[:axis], 1))
    for factors in reversed(levels):
        half = factors.shape[-1] // 2
        bar = _first(bar, half)  # without that of a 1 that was put in
        left, right = lax.split(factors, (half, half), axis)
        bar = lax.concatenate([lax.mul(bar, right), lax.mul(bar, left)], axis)
    bar = _first(bar, prod(moved[axis:]))
    inverse = sorted(range(x.ndim), key=order.__getitem__)
    return (lax.transpose(lax.reshape(bar, moved), inverse),)


def _first(x, count):
    """The first entries of the last axis."""
    return x if count == x.shape[-1] else lax.slice_in_dim(x, 0, count, axis=-1)


def _padded(x, count):
    """With so many ones at the end of the last axis."""
    return lax.pad(x, x.dtype.type(1), [(0, 0, 0)] * (x.ndim - 1) + [(0, count, 0)]) if count else x


def _chosen_bar(ct, out, x, axes):
    """The cotangent goes to the entries that equal the extremum, in equal shares."""
    chosen = lax.convert_element_type(lax.eq(x, expand(out, x, axes)), ct.dtype)
    share = lax.div(ct, lax.reduce_sum(chosen, axes))
    return lax.mul(chosen, expand(share, x, axes))


@vjp_rule(
    reduce_max_p,
    Probe(lambda x: lax.reduce_max(x, (0,)), shapes=((5,),), distinct=0.1),
    Probe(lambda x: lax.reduce_max(x, (0, 2)), shapes=((2, 3, 2),), distinct=0.1),
    Probe(lambda x: lax.reduce_max(lax.concatenate([x, x], 0), (0,)), shapes=((3,),), distinct=0.1),
    reads="out x",
    compares=True,
    latex=(along_axes(r"\max"), r"<c> \odot [<x> = <y>] \,/\, \#\{<x> = <y>\}"),
    explicit=True,
)
def reduce_max_vjp(ct, out, x, *, axes, **_):
    """y = max_i x_i  =>  x_i_bar = 1(x_i = y) y_bar;  entries that tie share y_bar equally (a convention)."""
    return (_chosen_bar(ct, out, x, axes),)


@vjp_rule(
    reduce_min_p,
    Probe(lambda x: lax.reduce_min(x, (0,)), shapes=((5,),), distinct=0.1),
    Probe(lambda x: lax.reduce_min(x, (0, 2)), shapes=((2, 3, 2),), distinct=0.1),
    Probe(lambda x: lax.reduce_min(lax.concatenate([x, x], 0), (0,)), shapes=((3,),), distinct=0.1),
    reads="out x",
    compares=True,
    latex=(along_axes(r"\min"), r"<c> \odot [<x> = <y>] \,/\, \#\{<x> = <y>\}"),
    explicit=True,
)
def reduce_min_vjp(ct, out, x, *, axes, **_):
    """y = min_i x_i  =>  x_i_bar = 1(x_i = y) y_bar;  entries that tie share y_bar equally (a convention)."""
    return (_chosen_bar(ct, out, x, axes),)
