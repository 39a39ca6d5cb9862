"""Products with groups of rows of given sizes: ragged_dot, the contraction of mixtures of experts.

g(m) is the group that row m falls into when rows are counted off in groups of the given sizes; rows past the last group
belong to none and contribute 0.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array
from functional_dl.jaxprs import primitive_of
from functional_dl.reverse.rule import FLOATS, Probe, vjp_rule
from functional_dl.reverse.values import of_dtype

_f32 = np.zeros((1, 1, 1), np.float32)
ragged_dot_general_p = primitive_of(lax.ragged_dot, _f32[0], _f32, np.ones(1, np.int32))


def _numbers(contract, batch, ragged, group):
    return lax.RaggedDotDimensionNumbers((contract, batch), lhs_ragged_dimensions=ragged, rhs_group_dimensions=group)


def ragged_product(x: Array, y: Array, sizes: Any, numbers: Any, **options: Any) -> Any:
    """lax.ragged_dot_general with constant group sizes."""
    return lax.ragged_dot_general(x, y, jnp.array(sizes, "int32"), numbers, **options)


def _probe(shapes, sizes, numbers, dtypes=FLOATS, **options):
    program = functools.partial(ragged_product, sizes=sizes, numbers=numbers, **options)
    return Probe(program, shapes=shapes, dtypes=dtypes)


_ROWS = _numbers(((1,), (1,)), ((), ()), (0,), (0,))


@vjp_rule(
    ragged_dot_general_p,
    _probe(((5, 3), (2, 3, 4)), [2, 3], _ROWS),
    _probe(((5, 3), (3, 3, 2)), [1, 0, 2], _ROWS),
    _probe(((2, 4, 3), (2, 2, 3, 2)), [1, 3], _numbers(((2,), (2,)), ((0,), (0,)), (1,), (1,))),
    _probe(((5, 3), (2, 3, 4)), [1, 2], _ROWS),  # two rows in no group
    _probe(((3, 2, 4), (2, 2, 3, 2)), [3, 1], _numbers(((0, 1), (2, 0)), ((), ()), (2,), (1,))),
    _probe(((3, 5), (5, 2)), [2, 3], _numbers(((1,), (0,)), ((), ()), (1,), ())),
    _probe(((2, 5, 3), (2, 3, 4)), [2, 3], _numbers(((2,), (1,)), ((), ()), (1,), (0,))),
    _probe(((2, 4, 3), (4, 2, 2)), [1, 2], _numbers(((1,), (0,)), ((0,), (1,)), (1,), ())),
    _probe(((5, 3), (2, 3, 4)), [2, 3], _ROWS, ("float32",), preferred_element_type=np.float64),
    reads=("y group_sizes", "x group_sizes", ""),
    latex=(
        r"\big[<0>^{(g)}\, <1>_g\big]_{g}",
        r"\big[<c>^{(g)}\, <1>_g^{\top}\big]_g",
        r"\big[{<0>^{(g)}}^{\top}\, <c>^{(g)}\big]_g",
    ),
)
def ragged_dot_general_vjp(
    ct, out, x, y, group_sizes, *, ragged_dot_dimension_numbers, precision, preferred_element_type, **_
):
    """Ragged rows:    z_{b m n} = sum_k x_{b m k} y_{g(m) b k n}
    =>  x_bar_{b m k} = sum_n z_bar_{b m n} y_{g(m) b k n},      y_bar_{g b k n} = sum_{m in g} x_{b m k} z_bar_{b m n}.

    Ragged sums:    z_{g b m n} = sum_{k in g} x_{b m k} y_{b k n}
    =>  x_bar_{b m k} = sum_n y_{b k n} z_bar_{g(k) b m n},      y_bar_{b k n} = sum_m x_{b m k} z_bar_{g(k) b m n}.

    Each form's cotangents are of the other form or of its own.
    """
    numbers = ragged_dot_dimension_numbers
    (x_contract, y_contract), (x_batch, y_batch) = numbers.dot_dimension_numbers
    [ragged], group = numbers.lhs_ragged_dimensions, list(numbers.rhs_group_dimensions)
    x_free = [i for i in range(x.ndim) if i not in (*x_contract, *x_batch)]
    y_free = [i for i in range(y.ndim) if i not in (*y_contract, *y_batch, *group)]
    sums = ragged in x_contract
    if ragged in x_batch or (sums and group_sizes.ndim > 1):
        raise NotImplementedError(
            "reverse: the derivative of ragged_dot_general with a ragged batch axis, or with a ragged contracted axis "
            "whose group sizes vary, is not supported; write it with lax.dot_general and a mask."
        )
    first = 1 if sums else 0  # the cotangent of a ragged sum has its groups in front
    b, m, n = len(x_batch), len(x_free), len(y_free)
    ct_batch, ct_m, ct_n = (list(range(first + i, first + j)) for i, j in ((0, b), (b, b + m), (b + m, b + m + n)))
    x_contract_as_y = [x_contract[i] for i in np.argsort(y_contract)]
    y_contract_as_x = [y_contract[i] for i in np.argsort(x_contract)]

    def contract(left, right, dimensions, axes, like):
        """The ragged product, whose axes are `axes` of `like`, put in like's own order."""
        bar = lax.ragged_dot_general(
            left,
            right,
            group_sizes,
            _numbers(*dimensions),
            precision=precision,
            preferred_element_type=preferred_element_type,
        )
        bar = lax.transpose(bar, sorted(range(like.ndim), key=axes.__getitem__))
        return of_dtype(bar, like.dtype)

    def x_bar():
        if sums:
            ragged_in_y = y_contract[list(x_contract).index(ragged)]
            dimensions = ((y_free, ct_n), (y_batch, ct_batch), [ragged_in_y], [0])
            return contract(y, ct, dimensions, [*x_batch, *x_contract_as_y, *x_free], x)
        dimensions = ((ct_n, y_free), (ct_batch, y_batch), [b + x_free.index(ragged)], group)
        return contract(ct, y, dimensions, [*x_batch, *x_free, *x_contract_as_y], x)

    def y_bar():
        dimensions = ((x_free, ct_m), (x_batch, ct_batch), [ragged], [0] if sums else [])
        return contract(x, ct, dimensions, [*group, *y_batch, *y_contract_as_x, *y_free], y)

    return x_bar, y_bar, None
