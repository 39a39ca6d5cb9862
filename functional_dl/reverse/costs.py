"""What it costs to compute a value again: operations for each entry of an equation's result.

One table for all primitives, by their names, those with derivative zero among them.  A primitive that is not in it
counts as expensive: its value is kept.  So do sums over axes and products of matrices, whose cost is not one of
entries, and whatever draws random numbers, calls a program or has an effect.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from jax.extend.core import Primitive

_MOVES = (  # entries change their places or their dtype
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "expand_dims", "iota", "pad", "reshape", "rev",
    "slice", "split", "squeeze", "stop_gradient", "transpose",
)  # fmt: skip
_SIMPLE = (  # one instruction for an entry
    "abs", "add", "add_any", "and", "ceil", "clamp", "complex", "conj", "eq", "floor", "ge", "gt", "imag",
    "integer_pow", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "real", "round", "select_n",
    "sign", "square", "sub", "xor",
)  # fmt: skip
_SLOW = ("div", "rem", "rsqrt", "sqrt")  # a few instructions
_SERIES = (  # a polynomial or a fraction for an entry
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "erf", "erf_inv", "erfc", "exp",
    "exp2", "expm1", "log", "log1p", "logistic", "pow", "sin", "sinh", "tan", "tanh",
)  # fmt: skip


COSTS: dict[str, float] = {
    **dict.fromkeys(_MOVES, 0.0),
    **dict.fromkeys(_SIMPLE, 1.0),
    **dict.fromkeys(_SLOW, 4.0),
    **dict.fromkeys(_SERIES, 20.0),
}


def total_cost(primitive: Primitive, params: Mapping[str, Any], operands: Sequence[Any], outs: Sequence[Any]) -> float:
    """Operations of any equation, for comparisons: a product of matrices by its formula, 0 where nothing is known."""
    if primitive.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2.0 * prod(outs[0].shape) * prod(operands[0].shape[i] for i in contracted)
    return cost_of(primitive, outs) or 0.0


def cost_of(primitive: Primitive, outs: Sequence[Any]) -> float | None:
    """Operations that primitive(...) = outs takes; None where the table does not say."""
    cost = COSTS.get(primitive.name)
    return None if cost is None else cost * sum(prod(out.shape) for out in outs)
