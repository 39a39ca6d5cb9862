"""Products summed over shared axes: dot_general with every layout of batch, contracted and free axes."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import dot_general_p

from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule

ALL = FLOATS + COMPLEX


def _dot(dimension_numbers):
    return lambda x, y: lax.dot_general(x, y, dimension_numbers)


def _wider(dtype):
    return "float64" if dtype == jnp.float64 else "float32"


@vjp_rule(
    dot_general_p,
    Probe(_dot((((1,), (0,)), ((), ()))), shapes=((2, 3), (3, 4)), dtypes=ALL),
    Probe(_dot((((0,), (1,)), ((), ()))), shapes=((3, 2), (4, 3)), dtypes=ALL),
    Probe(_dot((((0,), (0,)), ((), ()))), shapes=((3,), (3,)), dtypes=ALL),
    Probe(_dot((((), ()), ((), ()))), shapes=((2,), (3,)), dtypes=ALL),
    Probe(_dot((((2,), (1,)), ((0,), (0,)))), shapes=((2, 3, 4), (2, 4, 5))),
    Probe(_dot((((1, 3), (2, 0)), ((2,), (1,)))), shapes=((2, 3, 4, 5), (5, 4, 3))),
    Probe(_dot((((0,), (1,)), ((1, 2), (2, 0)))), shapes=((2, 3, 4), (4, 2, 3))),
    Probe(
        lambda x, y: lax.dot(x, y, preferred_element_type=_wider(x.dtype)),
        shapes=((2, 3), (3, 4)),
    ),
    reads=("y", "x"),
)
def dot_general_vjp(ct, out, x, y, *, dimension_numbers, precision, preferred_element_type, **_):
    """z_{b m n} = sum_k x_{b m k} y_{b k n},  with b batch, k contracted, m and n free axes
    =>  x_bar_{b m k} = sum_n z_bar_{b m n} y_{b k n},   y_bar_{b k n} = sum_m x_{b m k} z_bar_{b m n}.

    For matrices: X_bar = Z_bar Y^T and Y_bar = X^T Z_bar.
    """
    (x_contract, y_contract), (x_batch, y_batch) = dimension_numbers
    x_free = [i for i in range(x.ndim) if i not in x_contract and i not in x_batch]
    y_free = [i for i in range(y.ndim) if i not in y_contract and i not in y_batch]
    b, m, n = len(x_batch), len(x_free), len(y_free)
    ct_batch, ct_m, ct_n = list(range(b)), list(range(b, b + m)), list(range(b + m, b + m + n))

    def contract(left, right, dimensions, axes, like, precision):
        """left . right, whose result has its axes in the order `axes` of `like`, put in like's own order."""
        bar = lax.dot_general(
            left, right, dimensions, precision=precision, preferred_element_type=preferred_element_type
        )
        order = sorted(range(like.ndim), key=axes.__getitem__)
        bar = bar if order == list(range(like.ndim)) else lax.transpose(bar, order)
        return bar if bar.dtype == like.dtype else lax.convert_element_type(bar, like.dtype)

    def x_bar():
        # the result's axes: b, m, and k in the order of y's own axes
        k = [x_contract[i] for i in np.argsort(y_contract)]
        dimensions = ((ct_n, y_free), (ct_batch, y_batch))
        return contract(ct, y, dimensions, [*x_batch, *x_free, *k], x, precision)

    def y_bar():
        # the result's axes: b, k in the order of x's own axes, and n
        k = [y_contract[i] for i in np.argsort(x_contract)]
        dimensions = ((x_free, ct_m), (x_batch, ct_batch))
        return contract(x, ct, dimensions, [*y_batch, *k, *y_free], y, precision)

    return x_bar, y_bar
