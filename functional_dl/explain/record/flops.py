"""Floating-point operations of a program, counted as XLA counts them.

One operation an entry of an elementwise result; 2 m n k for a product of an (m, k) with a (k, n) matrix; one for each
entry that a reduction folds in; of a convolution the products that fall on padding are left out.  Functions that XLA
books as transcendental (exp, log, sin, ...) are none; moving numbers (reshape, transpose, gather, ...) is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from functional_dl.jaxprs import called, equations, programs
from functional_dl.reverse.values import is_reference

MOVES = {
    "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "concatenate", "pad", "rev", "slice",
    "dynamic_slice", "dynamic_update_slice", "gather", "scatter", "iota", "copy", "copy_p", "stop_gradient", "split",
    "tile", "stack", "unstack", "device_put", "optimization_barrier", "name", "bitcast_convert_type", "empty",
    "sharding_constraint", "reshard", "pvary", "new_ref", "get", "swap", "freeze", "random_bits", "random_seed",
    "random_wrap", "random_unwrap", "random_split", "random_fold_in", "threefry2x32", "sort", "top_k", "real", "imag",
    "complex", "conj", "all_gather", "all_to_all", "ppermute", "axis_index", "create_token", "after_all", "argsort",
}  # fmt: skip
TRANSCENDENTAL = {
    "exp", "exp2", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh",
    "tanh", "asinh", "acosh", "atanh", "rsqrt", "sqrt", "cbrt", "pow", "erf", "erfc", "erf_inv",
}  # fmt: skip
DECOMPOSITIONS = {
    "cholesky": 1 / 3,
    "lu": 2 / 3,
    "qr": 4 / 3,
    "eigh": 9.0,
    "svd": 22.0,
    "eig": 25.0,
    "householder_product": 4 / 3,
}


def count(jaxpr: Any) -> int:
    """Operations of a jaxpr (closed or open); a loop's body counts once per trip, a cond its most expensive branch."""
    return sum(of_equation(eqn) for eqn in equations(jaxpr))


class Counter:
    """Counts operations of entries' equations; what was counted once is found again."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def of(self, entry: Any) -> int:
        """Operations of an entry; none where it works on references."""
        if any(is_reference(jax.typeof(x)) for x in (*entry.operands, *entry.outs) if hasattr(x, "shape")):
            return 0
        types = tuple((jnp.shape(x), str(jnp.result_type(x))) if hasattr(x, "dtype") else None for x in entry.operands)
        key: Any = (entry.primitive, types, tuple(sorted((k, repr(v)) for k, v in entry.params.items())))
        key = entry if entry.body_is_in_params else key
        if key not in self.known:
            self.known[key] = count(jax.make_jaxpr(entry.apply)(*entry.operands))
        return self.known[key]


def of_equation(eqn: Any) -> int:
    """Operations of one equation."""
    name = eqn.primitive.name
    if name in MOVES or name in TRANSCENDENTAL:
        return 0
    special = SPECIAL.get(name)
    if special is not None:
        return int(special(eqn))
    call = called(eqn.primitive, eqn.params)
    inner = programs(eqn.params) if call is None else [call]
    if inner:
        return sum(count(jaxpr) for jaxpr in inner)
    return sum(_size(var) for var in eqn.outvars)


def size(aval: Any) -> int:
    """Entries of an array of this type."""
    return math.prod(d for d in getattr(aval, "shape", ()) if isinstance(d, int))


def _size(var) -> int:
    return size(var.aval)


def _dot(eqn) -> int:
    (contracting, _), _ = eqn.params["dimension_numbers"]
    terms = math.prod(eqn.invars[0].aval.shape[d] for d in contracting)
    return 2 * terms * _size(eqn.outvars[0])


def _convolution(eqn) -> int:
    """2 x pairs of a window's place and a kernel's entry that meet within the image, not its padding or holes."""
    p = eqn.params
    lhs, rhs, out = p["dimension_numbers"]
    image, kernel, result = (var.aval.shape for var in (*eqn.invars, eqn.outvars[0]))
    pairs = 1
    for axis in range(len(lhs) - 2):
        pairs *= _meetings(
            image[lhs[axis + 2]],
            kernel[rhs[axis + 2]],
            result[out[axis + 2]],
            p["window_strides"][axis],
            p["padding"][axis][0],
            p["lhs_dilation"][axis],
            p["rhs_dilation"][axis],
        )
    return 2 * pairs * result[out[0]] * result[out[1]] * kernel[rhs[1]] // p["batch_group_count"]


def _meetings(image, kernel, result, stride, low, image_dilation, kernel_dilation) -> int:
    found = 0
    for place in range(result):
        for k in range(kernel):
            at = place * stride - low + k * kernel_dilation
            found += at >= 0 and at % image_dilation == 0 and at // image_dilation < image
    return found


def _fold(eqn) -> int:
    inputs = [v for v in eqn.invars if getattr(v.aval, "shape", ())]
    return max(_size(inputs[0]) - _size(eqn.outvars[0]), 0) if inputs else 0


def _arg_fold(eqn) -> int:
    return 4 * _fold(eqn)  # a comparison of values, one of places, two choices


def _window(eqn) -> int:
    size = math.prod(eqn.params["window_dimensions"])
    return (size - 1) * _size(eqn.outvars[0])


def _window_scatter(eqn) -> int:
    """For each window: its extreme and where it is, by comparisons of values and places, and one addition there."""
    window = eqn.params["window_dimensions"]
    return (1 + (math.prod(window) - 1) * (7 + len(window))) * _size(eqn.invars[0])


def _integer_pow(eqn) -> int:
    n = abs(eqn.params["y"])
    products = max(n.bit_length() - 1 + bin(n).count("1") - 1, 0)
    return (products + (eqn.params["y"] < 0)) * _size(eqn.outvars[0])


def _scan(eqn) -> int:
    return eqn.params["length"] * count(eqn.params["jaxpr"])


def _while(eqn) -> int:
    """One trip: how many there are only the run tells."""
    return count(eqn.params["body_jaxpr"]) + count(eqn.params["cond_jaxpr"])


def _cond(eqn) -> int:
    return max(count(branch) for branch in eqn.params["branches"])


def _scatter(eqn) -> int:
    return _size(eqn.invars[2])


def _triangular_solve(eqn) -> int:
    a, b = eqn.invars[0].aval.shape, _size(eqn.invars[1])
    return a[-1] * b


def _decomposition(eqn) -> int:
    shape = eqn.invars[0].aval.shape
    batch, (m, n) = math.prod(shape[:-2]), shape[-2:]
    return int(DECOMPOSITIONS[eqn.primitive.name] * batch * max(m, n) * min(m, n) ** 2)


def _fft(eqn) -> int:
    points = math.prod(eqn.params["fft_lengths"])
    batch = _size(eqn.invars[0]) // max(points, 1)
    return int(5 * batch * points * math.log2(max(points, 2)))


def _linear_solve(eqn) -> int:
    return count(eqn.params["jaxprs"].solve)


def _cumulative(eqn) -> int:
    return _size(eqn.outvars[0])


SPECIAL: dict[str, Callable[..., Any]] = {
    "dot_general": _dot,
    "ragged_dot_general": lambda eqn: 2 * eqn.invars[0].aval.shape[-1] * _size(eqn.outvars[0]),
    "conv_general_dilated": _convolution,
    "reduce_window_sum": _window, "reduce_window_max": _window, "reduce_window_min": _window, "reduce_window": _window,
    "select_and_scatter_add": _window_scatter, "select_and_gather_add": _window,
    "integer_pow": _integer_pow,
    "square": lambda eqn: _size(eqn.outvars[0]),
    "logistic": lambda eqn: 3 * _size(eqn.outvars[0]),
    "scan": _scan, "while": _while, "cond": _cond,
    "scatter-add": _scatter, "scatter-sub": _scatter, "scatter-mul": _scatter, "scatter-min": _scatter,
    "scatter-max": _scatter, "scatter_add": _scatter, "scatter_mul": _scatter,
    "triangular_solve": _triangular_solve, "fft": _fft, "custom_linear_solve": _linear_solve,
    **{name: _fold for name in ("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or")},
    "argmax": _arg_fold, "argmin": _arg_fold,
    **{name: _cumulative for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")},
    **{name: _decomposition for name in DECOMPOSITIONS},
}  # fmt: skip
