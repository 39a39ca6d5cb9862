"""Linear maps that move entries: broadcasting, reshaping, transposing, joining, padding, casting.

Each is a 0-1 matrix A; its rule applies A^T.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import (
    broadcast_in_dim_p,
    concatenate_p,
    convert_element_type_p,
    copy_p,
    pad_p,
    reduce_precision_p,
    reshape_p,
    rev_p,
    squeeze_p,
    transpose_p,
)

from functional_dl.jaxprs import primitive_of
from functional_dl.reverse.latex import Terms, dims, listed, own_bar
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import reshape_as
from functional_dl.sharding import cotangent_sharding, permuted

ALL = FLOATS + COMPLEX


def _broadcast_bar_latex(terms: Terms) -> str:
    kept = terms.params["broadcast_dimensions"]
    inside, outside = terms.shapes[0], terms.out_shapes[0]
    summed = [
        axis
        for axis in range(len(outside))
        if axis not in kept or (inside[kept.index(axis)] == 1 and outside[axis] != 1)
    ]
    if not summed:
        return r"\operatorname{reshape}(<c>)"
    if len(summed) == len(outside):
        return r"\textstyle\sum <c>"
    return f"\\textstyle\\sum_{{\\text{{axis }}{', '.join(map(str, summed))}}} <c>"


@vjp_rule(
    broadcast_in_dim_p,
    Probe(lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (1,)), shapes=((3,),), dtypes=ALL),
    Probe(lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (0, 1)), shapes=((2, 1),), dtypes=ALL),
    Probe(lambda x: lax.broadcast_in_dim(x, (3, 2), (0, 1)), shapes=((3, 1),), dtypes=ALL),
    Probe(lambda x: lax.broadcast_in_dim(x, (2, 3), ()), shapes=((),), dtypes=ALL),
    Probe(lambda x: lax.broadcast_in_dim(x, (0, 3), (1,)), shapes=((3,),)),
    reads="",
    latex=(lambda t: f"\\operatorname{{broadcast}}_{{{dims(t.out_shapes[0])}}}(<x>)", _broadcast_bar_latex),
    explicit=True,
    reshapes=True,
)
def broadcast_in_dim_vjp(ct, out, x, *dynamic_shape, shape, broadcast_dimensions, **_):
    """y repeats x along new axes and along axes of length 1  =>  x_bar = sum of y_bar over these axes."""
    stretched = [axis for axis, length in zip(broadcast_dimensions, x.shape) if length == 1 and shape[axis] != 1]
    new = [axis for axis in range(len(shape)) if axis not in broadcast_dimensions]
    bar = lax.reduce_sum(ct, tuple(sorted(new + stretched))) if new or stretched else ct
    return (bar if bar.shape == x.shape else reshape_as(bar, x), *[None] * len(dynamic_shape))


@vjp_rule(
    reshape_p,
    Probe(lambda x: lax.reshape(x, (6,)), shapes=((2, 3),), dtypes=ALL),
    Probe(lambda x: lax.reshape(x, ()), shapes=((1, 1),), dtypes=ALL),
    Probe(lambda x: lax.reshape(x, (3, 0)), shapes=((0, 2),)),
    Probe(lambda x: lax.reshape(x, (4, 6), dimensions=(2, 0, 1)), shapes=((2, 3, 4),)),
    reads="",
    latex=(
        lambda t: f"\\operatorname{{reshape}}_{{{dims(t.out_shapes[0])}}}(<x>)",
        lambda t: f"\\operatorname{{reshape}}_{{{dims(t.shapes[0])}}}(<c>)",
    ),
    explicit=True,
    reshapes=True,
)
def reshape_vjp(ct, out, x, *dynamic_shape, dimensions=None, **_):
    """The entries keep their row-major order, after the axes are transposed if `dimensions` says so
    =>  x_bar is y_bar in the shape of x, the axes transposed back."""
    if dimensions is None:
        return (reshape_as(ct, x), *[None] * len(dynamic_shape))
    order = [x.shape[i] for i in dimensions]
    transposed = lax.reshape(ct, order, out_sharding=permuted(cotangent_sharding(x), dimensions))
    return (lax.transpose(transposed, np.argsort(dimensions)), *[None] * len(dynamic_shape))


@vjp_rule(
    squeeze_p,
    Probe(lambda x: lax.squeeze(x, (0, 2)), shapes=((1, 3, 1),), dtypes=ALL),
    reads="",
    latex=(
        lambda t: f"\\operatorname{{reshape}}_{{{dims(t.out_shapes[0])}}}(<x>)",
        lambda t: f"\\operatorname{{reshape}}_{{{dims(t.shapes[0])}}}(<c>)",
    ),
    explicit=True,
    reshapes=True,
)
def squeeze_vjp(ct, out, x, **_):
    """Axes of length 1 are dropped  =>  x_bar is y_bar in the shape of x."""
    return (reshape_as(ct, x),)


def _transposed_latex(name: str, order: Sequence[int]) -> str:
    return f"{name}^{{\\top}}" if tuple(order) == (1, 0) else f"{name}^{{({' '.join(map(str, order))})}}"


def _transpose_latex(terms: Terms) -> str:
    return _transposed_latex("<x>", terms.params["permutation"])


def _transpose_bar_latex(terms: Terms) -> str:
    return _transposed_latex("<c>", np.argsort(terms.params["permutation"]).tolist())


@vjp_rule(
    transpose_p,
    Probe(lambda x: lax.transpose(x, (2, 0, 1)), shapes=((2, 3, 4),), dtypes=ALL),
    reads="",
    latex=(_transpose_latex, _transpose_bar_latex),
    explicit=True,
)
def transpose_vjp(ct, out, x, *, permutation, **_):
    """y_{p(i)} = x_i  =>  x_bar is y_bar with the inverse permutation of axes."""
    return (lax.transpose(ct, np.argsort(permutation)),)


@vjp_rule(
    concatenate_p,
    Probe(lambda x, y: lax.concatenate([x, y], 1), shapes=((2, 3), (2, 1)), dtypes=ALL),
    Probe(lambda x, y: lax.concatenate([x, y, x], 0), shapes=((3,), (2,)), dtypes=ALL),
    Probe(lambda x, y: lax.concatenate([x, y], 0), shapes=((3,), (0,))),
    reads="",
    latex=(
        lambda t: f"\\operatorname{{concat}}({listed(t)})",
        lambda t: f"<c>[\\text{{the part of }} {t.xs[t.place]}]",
    ),
)
def concatenate_vjp(ct, out, *operands, dimension, **_):
    """y = (x_1, ..., x_n) joined along an axis  =>  x_i_bar is the part of y_bar where x_i stood."""
    ends = np.cumsum([x.shape[dimension] for x in operands]).tolist()

    def bar(start, end):
        return lambda: lax.slice_in_dim(ct, start, end, axis=dimension)

    return tuple(bar(start, end) for start, end in zip([0, *ends], ends))


@vjp_rule(
    pad_p,
    Probe(
        lambda x, y: lax.pad(x, lax.reduce_sum(y, (0,)), [(1, 2, 0), (0, 1, 2)]),
        shapes=((2, 3), (2,)),
        dtypes=ALL,
    ),
    Probe(
        lambda x, y: lax.pad(x, lax.reduce_sum(y, (0,)), [(-1, 2, 0), (1, -2, 1)]),
        shapes=((3, 4), (2,)),
        dtypes=ALL,
    ),
    reads="",
    latex=(r"\operatorname{pad}(<0>, <1>)", r"<c>[\text{inside}]", r"\textstyle\sum <c>[\text{padding}]"),
)
def pad_vjp(ct, out, x, value, *, padding_config, **_):
    """y is x between copies of a value (before, after, and between its entries; a negative width cuts)
    =>  x_bar = y_bar at x's places (0 where x was cut),  value_bar = sum of y_bar at the value's places."""

    def x_bar():
        zero = jnp.zeros((), ct.dtype)
        outward = lax.pad(ct, zero, [(-low, -high, 0) for low, high, _ in padding_config])
        strides = [interior + 1 for _, _, interior in padding_config]
        return lax.slice(outward, [0] * x.ndim, outward.shape, strides)

    def value_bar():
        axes = tuple(range(x.ndim))
        at_value = lax.pad(lax.full(x.shape, False), jnp.array(True), [tuple(widths) for widths in padding_config])
        return lax.reduce_sum(lax.select(at_value, ct, lax.full(ct.shape, 0, ct.dtype)), axes)

    return x_bar, value_bar


@vjp_rule(
    rev_p,
    Probe(lambda x: lax.rev(x, (0, 2)), shapes=((2, 3, 4),), dtypes=ALL),
    reads="",
    latex=(r"\operatorname{reverse}(<x>)", r"\operatorname{reverse}(<c>)"),
    explicit=True,
)
def rev_vjp(ct, out, x, *, dimensions, **_):
    """y reads x backwards along some axes  =>  x_bar reads y_bar backwards along them."""
    return (lax.rev(ct, dimensions),)


@vjp_rule(
    convert_element_type_p,
    Probe(lambda x: lax.convert_element_type(x, "float32"), dtypes=FLOATS, smooth=False),
    Probe(lambda x: lax.convert_element_type(x, "complex64"), dtypes=("complex128", "float32"), smooth=False),
    Probe(lambda x: lax.convert_element_type(x, "complex128"), dtypes=("float64", "complex64")),
    reads="",
    latex=(lambda t: f"\\operatorname{{{t.params.get('new_dtype', 'cast')!s}}}(<x>)", r"\operatorname{cast}(<c>)"),
    explicit=True,
)
def convert_element_type_vjp(ct, out, x, **_):
    """y = x in another dtype  =>  x_bar = y_bar in the dtype of x;  of a real x the real part."""
    if jnp.issubdtype(ct.dtype, jnp.complexfloating) and not jnp.issubdtype(x.dtype, jnp.complexfloating):
        ct = lax.real(ct)
    return (ct if ct.dtype == x.dtype else lax.convert_element_type(ct, x.dtype),)


@vjp_rule(
    reduce_precision_p,
    Probe(lambda x: lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7), order=1, smooth=False),
    reads="",
    latex=(r"\operatorname{round}(<x>)", r"\operatorname{round}(<c>)"),
    explicit=True,
)
def reduce_precision_vjp(ct, out, x, *, exponent_bits, mantissa_bits, **_):
    """y = x rounded to fewer bits, differentiated as the identity  =>  x_bar = y_bar, rounded alike."""
    return (lax.reduce_precision(ct, exponent_bits, mantissa_bits),)


@vjp_rule(copy_p, Probe(copy_p.bind, dtypes=ALL), reads="", latex=("<x>", "<c>"), explicit=True)
def copy_vjp(ct, out, x, **_):
    """y = x, a copy of its own in memory  =>  x_bar = y_bar, another: either may be given away."""
    return (copy_p.bind(ct),)


optimization_barrier_p = primitive_of(lax.optimization_barrier, 0.0)


@vjp_rule(
    optimization_barrier_p,
    Probe(lambda x, y: lax.optimization_barrier((x, y)), shapes=((3,), (2,)), dtypes=ALL),
    reads="",
    latex=(listed, own_bar),
    explicit=True,
)
def optimization_barrier_vjp(cts, outs, *operands, **_):
    """(y_1, ..., y_n) = (x_1, ..., x_n), which the compiler may not look through  =>  x_i_bar = y_i_bar, alike."""
    return tuple(lax.optimization_barrier(tuple(cts)))
