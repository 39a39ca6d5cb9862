"""Reading and writing parts of an array by position."""

import jax.numpy as jnp
from jax import lax
from jax.extend.core.primitives import slice_p

from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule

ALL = FLOATS + COMPLEX


@vjp_rule(
    slice_p,
    Probe(lambda x: lax.slice(x, (1, 0), (3, 2)), shapes=((4, 2),), dtypes=ALL),
    Probe(lambda x: lax.slice(x, (1,), (7,), (3,)), shapes=((8,),), dtypes=ALL),
    Probe(lambda x: lax.slice(x, (1,), (1,)), shapes=((3,),)),
    reads="",
)
def slice_vjp(ct, out, x, *, start_indices, limit_indices, strides, **_):
    """y_i = x_{start + i stride}  =>  x_bar is y_bar at these places and 0 elsewhere."""
    strides = strides or (1,) * x.ndim
    widths = []
    for start, stride, length, whole in zip(start_indices, strides, ct.shape, x.shape):
        last = start + (length - 1) * stride + 1 if length else start
        widths.append((start, whole - last, stride - 1))
    return (lax.pad(ct, jnp.zeros((), ct.dtype), widths),)
