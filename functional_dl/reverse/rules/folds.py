"""Reductions with a reducer of the user's: lax.reduce and lax.reduce_window, of one or several operands at a time.

y = r(x_1, r(x_2, ...)) for an associative program r with its identity as initial value.  It is taken as a tree of
pairs, and the tree's nodes are recorded: what flows back is the chain rule through them.
"""

import functools
from math import prod
from typing import Any

import jax
from jax import lax
from jax.extend.core.primitives import reduce_p, reduce_window_p

from functional_dl.aliases import Array
from functional_dl.jaxprs import open_jaxpr
from functional_dl.reverse import sweep
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe
from functional_dl.reverse.rules.algebra import number
from functional_dl.reverse.rules.windows import dilate_and_pad, window_entries
from functional_dl.reverse.sweep import call_rule
from functional_dl.sharding import laid_out_freely

ALL = FLOATS + COMPLEX


def _pairwise(jaxpr, consts):
    """r as a function of two lists of arrays of one shape, entry by entry."""
    consts = [*open_jaxpr(jaxpr)[1], *consts]

    def numbers(left, right):
        outs, _ = sweep.forward_jaxpr(jaxpr, [*left, *right], [False] * len([*left, *right]), consts=consts)
        return outs

    def arrays(left, right):
        shape = left[0].shape
        left, right = ([lax.reshape(x, (prod(shape),)) for x in side] for side in (left, right))
        return [lax.reshape(y, shape) for y in jax.vmap(numbers)(left, right)]

    return arrays


def _spread(initial, shape):
    return [lax.broadcast_in_dim(x, shape, ()) for x in initial]


def _refuse_initial(slots, name):
    if any(slot is not None for slot in slots):
        raise NotImplementedError(
            f"reverse: {name} is not differentiated with respect to init_value, which is the identity of its reducer "
            "and may be applied any number of times; pass a constant, or lax.stop_gradient of it."
        )


def _product(x, y):
    return lax.mul(y, x)


def _complex_product(left, right):
    (a, b), (c, d) = left, right
    return lax.sub(lax.mul(a, c), lax.mul(b, d)), lax.add(lax.mul(a, d), lax.mul(b, c))


def _larger_pair(left, right):
    first = lax.ge(left[0], right[0])
    return lax.select(first, left[0], right[0]), lax.select(first, left[1], right[1])


def _reduce_pair(reducer, initial, axes):
    return lambda x, y: lax.reduce((x, y), tuple(number(i, x) for i in initial), reducer, axes)


@call_rule(
    reduce_p,
    Probe(lambda x: lax.reduce(x, number(1, x), _product, (0,)), shapes=((5,),), dtypes=ALL),
    Probe(lambda x: lax.reduce(x, number(1, x), _product, (0, 2)), shapes=((2, 2, 3),)),
    Probe(_reduce_pair(_complex_product, (1, 0), (1,)), shapes=((2, 5), (2, 5))),
    Probe(_reduce_pair(_larger_pair, (-10, 0), (0,)), shapes=((4,), (4,)), distinct=0.1),
    Probe(lambda x: lax.reduce(x, number(1, x), _product, (0,)), shapes=((0, 2),)),
    latex=(r"\operatorname{fold}(<x>)", r"<c> \odot \partial \operatorname{fold}(<x>) / \partial <s>"),
)
def reduce_forward(tape: Any, values: Any, slots: Any, *, jaxpr: Any, dimensions: Any, **rest: Any) -> Any:
    """y = r(r(x_1, x_2), r(x_3, x_4))  =>  (x_1_bar, x_2_bar) = (dr/d(x_1, x_2))^T m_bar, with m_bar the cotangent of
    the node m = r(x_1, x_2), and so on from the root, whose cotangent is y_bar."""
    half = len(values) // 2
    _refuse_initial(slots[half:], "lax.reduce")
    reducer = _pairwise(jaxpr, [])

    def tree(*operands):
        kept = [i for i in range(operands[0].ndim) if i not in dimensions]
        lead = tuple(operands[0].shape[i] for i in kept)
        count = prod(operands[0].shape[i] for i in dimensions)
        level = [lax.reshape(lax.transpose(x, (*dimensions, *kept)), (count, *lead)) for x in operands]
        while count > 1:
            ends = 2 * (count // 2)
            left = [lax.slice_in_dim(x, 0, ends, 2) for x in level]
            right = [lax.slice_in_dim(x, 1, ends, 2) for x in level]
            paired = reducer(left, right)
            if count % 2:
                last = [lax.slice_in_dim(x, ends, count) for x in level]
                paired = [lax.concatenate(pair, 0) for pair in zip(paired, last)]
            level, count = paired, (count + 1) // 2
        initial = _spread(values[half:], lead)
        return reducer(initial, [lax.squeeze(x, (0,)) for x in level]) if count else initial

    bound = functools.partial(reduce_p.bind, jaxpr=jaxpr, dimensions=dimensions, **rest)
    return tape.run(laid_out_freely(tree, bound, values), values[:half], slots[:half])


def _window_probe(fun, shape, window, **options):
    options = {"window_strides": (1,) * len(shape), "padding": "VALID"} | options
    return Probe(functools.partial(fun, window_dimensions=window, **options), shapes=(shape,))


def window_product(x: Array, window_dimensions: Any, **options: Any) -> Any:
    """A reducer that lax.reduce_window has no primitive of its own for."""
    return lax.reduce_window(x, number(1, x), _product, window_dimensions, **options)


def window_complex_product(x: Array, window_dimensions: Any, **options: Any) -> Any:
    """Two operands reduced together: the real and the imaginary part of products of x + i x^2."""
    pair = x, lax.mul(x, x)
    return lax.reduce_window(pair, (number(1, x), number(0, x)), _complex_product, window_dimensions, **options)


@call_rule(
    reduce_window_p,
    _window_probe(window_product, (5,), (3,)),
    _window_probe(window_product, (3, 5), (2, 2), window_strides=(1, 2), padding=[(1, 0), (0, 2)]),
    _window_probe(window_product, (5,), (3,), base_dilation=(2,), window_dilation=(2,), padding=[(-1, 3)]),
    _window_probe(window_complex_product, (6,), (3,), window_strides=(2,)),
    _window_probe(window_product, (2,), (3,)),
    latex=(
        r"\operatorname{fold}_{\text{window}}(<x>)",
        r"\textstyle\sum_{\text{windows over it}} <c> \odot \partial \operatorname{fold} / \partial <s>",
    ),
)
def reduce_window_forward(
    tape: Any,
    values: Any,
    slots: Any,
    *,
    jaxpr: Any,
    consts: Any,
    window_dimensions: Any,
    window_strides: Any,
    padding: Any,
    base_dilation: Any,
    window_dilation: Any,
    **rest: Any,
) -> Any:
    """y_o = r(z_{o s}, r(z_{o s + t}, ...)) over the window's places  =>  as for lax.reduce, from y_o_bar
    at the root to z_bar, whose part at x's places is x_bar."""
    half = len(values) // 2
    _refuse_initial(slots[half:], "lax.reduce_window")
    reducer = _pairwise(jaxpr, consts)

    def tree(*operands):
        padded = [dilate_and_pad(x, i, padding, base_dilation) for x, i in zip(operands, values[half:])]
        spans = [(w - 1) * t + 1 for w, t in zip(window_dimensions, window_dilation)]
        shape = [max(0, (n - span) // s + 1) for n, span, s in zip(padded[0].shape, spans, window_strides)]
        entries = [list(window_entries(z, shape, window_dimensions, window_strides, window_dilation)) for z in padded]
        level = [list(entry) for entry in zip(*entries)]
        while len(level) > 1:
            last = level[len(level) // 2 * 2 :]
            level = [reducer(left, right) for left, right in zip(level[::2], level[1::2])] + last
        initial = _spread(values[half:], shape)
        return reducer(initial, level[0]) if level else initial

    bound = functools.partial(
        reduce_window_p.bind,
        jaxpr=jaxpr,
        consts=consts,
        window_dimensions=window_dimensions,
        window_strides=window_strides,
        padding=padding,
        base_dilation=base_dilation,
        window_dilation=window_dilation,
        **rest,
    )
    return tape.run(laid_out_freely(tree, bound, values), values[:half], slots[:half])
