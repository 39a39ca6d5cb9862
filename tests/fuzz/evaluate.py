"""Evaluation of a jaxpr one equation at a time, loops and branches in Python.

How a program is read is the package's (functional_dl.jaxprs); what its primitives mean is said here anew.  To compile a
program costs a hundred times what it costs to run it.  Here the common primitives run in NumPy, and the others through
JAX, which compiles each once for the few shapes that there are.
"""

import jax
import numpy as np

from functional_dl.jaxprs import Interpreter, solver_of, staged

FAST = {np.dtype(name) for name in ("float64", "float32", "complex128", "int32", "int64", "bool")}


def _broadcast(x, *_, shape, broadcast_dimensions, **__):
    return np.broadcast_to(
        x.reshape(
            [x.shape[broadcast_dimensions.index(i)] if i in broadcast_dimensions else 1 for i in range(len(shape))]
        ),
        shape,
    )


def _dot(x, y, *, dimension_numbers, **_):
    (x_contract, y_contract), (x_batch, y_batch) = dimension_numbers
    names = iter(range(52))
    x_names, y_names = [next(names) for _ in x.shape], [next(names) for _ in y.shape]
    for i, j in [*zip(x_contract, y_contract), *zip(x_batch, y_batch)]:
        y_names[j] = x_names[i]
    free = [n for i, n in enumerate(x_names) if i not in x_contract and i not in x_batch]
    free += [n for i, n in enumerate(y_names) if i not in y_contract and i not in y_batch]
    return np.einsum(x, x_names, y, y_names, [x_names[i] for i in x_batch] + free)


def _block(x, indices, sizes):
    """Where dynamic_slice reads: moved until it lies inside."""
    starts = [min(max(int(i), 0), n - size) for i, n, size in zip(indices, x.shape, sizes)]
    return tuple(slice(s, s + size) for s, size in zip(starts, sizes))


def _dynamic_update_slice(x, update, *indices):
    x = x.copy()
    x[_block(x, indices, update.shape)] = update
    return x


def _pad(x, value, *, padding_config):
    lows, highs, interiors = zip(*padding_config) if padding_config else ((), (), ())
    wide = np.full([max(n, 0) + max(n - 1, 0) * k for n, k in zip(x.shape, interiors)], value, x.dtype)
    wide[tuple(slice(None, None, k + 1) for k in interiors)] = x
    wide = np.pad(wide, [(max(low, 0), max(high, 0)) for low, high in zip(lows, highs)], constant_values=value)
    return wide[tuple(slice(max(-low, 0), n - max(-high, 0)) for low, high, n in zip(lows, highs, wide.shape))]


def _select(which, *cases):
    which = np.broadcast_to(which, cases[0].shape).astype(np.int32)
    return np.choose(np.clip(which, 0, len(cases) - 1), cases)


def _along(fun):
    return lambda x, *, axis, reverse: np.flip(fun(np.flip(x, axis), axis), axis) if reverse else fun(x, axis)


def _function(fun):
    return lambda *operands, **_: fun(*operands)


def _reduction(fun):
    return lambda x, *, axes, **_: fun(x, axis=tuple(axes))


NUMPY = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "max": np.maximum,
    "min": np.minimum,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "floor": np.floor,
    "pow": np.power,
    "square": np.square,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "not": np.invert,
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "copy": np.array,
    "copy_p": np.array,
    "atan2": np.arctan2,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "is_finite": np.isfinite,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "complex": lambda x, y: x + 1j * y,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "div": lambda x, y: np.trunc(x / y) if x.dtype.kind == "i" else x / y,
}
NUMPY = {name: _function(fun) for name, fun in NUMPY.items()} | {
    "integer_pow": lambda x, y, **_: x**y if y >= 0 else 1 / x**-y,
    "reduce_sum": _reduction(np.sum),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
    "reduce_prod": _reduction(np.prod),
    "reduce_or": _reduction(np.any),
    "reduce_and": _reduction(np.all),
    "reshape": lambda x, new_sizes, dimensions, **_: (x.transpose(dimensions) if dimensions else x).reshape(new_sizes),
    "transpose": lambda x, permutation: x.transpose(permutation),
    "squeeze": lambda x, dimensions: np.squeeze(x, tuple(dimensions)),
    "broadcast_in_dim": _broadcast,
    "select_n": _select,
    "dot_general": _dot,
    "pad": _pad,
    "convert_element_type": lambda x, new_dtype, **_: (x.real if new_dtype != np.complex128 else x).astype(new_dtype),
    "slice": lambda x, start_indices, limit_indices, strides: x[
        tuple(map(slice, start_indices, limit_indices, strides or [1] * x.ndim))
    ],
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension),
    "rev": lambda x, dimensions: np.flip(x, dimensions),
    "cumsum": _along(np.cumsum),
    "cumprod": _along(np.cumprod),
    "cummax": _along(np.maximum.accumulate),
    "cummin": _along(np.minimum.accumulate),
    "dynamic_slice": lambda x, *indices, slice_sizes: x[_block(x, indices, slice_sizes)],
    "dynamic_update_slice": _dynamic_update_slice,
}


def stepwise(fun):
    """fun, traced once for arguments of each type, and evaluated equation by equation."""
    traced = {}

    def evaluated(*args):
        leaves = jax.tree.leaves(args)
        kind = tuple(jax.typeof(x) for x in leaves)
        if kind not in traced:
            traced[kind] = staged(fun, *args)
        jaxpr, tree = traced[kind]
        with np.errstate(all="ignore"):
            return jax.tree.unflatten(tree, EVALUATION.run(jaxpr, leaves))

    return evaluated


class Evaluation(Interpreter):
    """Values are arrays of NumPy's or JAX's."""

    def apply(self, eqn, operands):
        name, params = eqn.primitive.name, eqn.params
        if name == "custom_linear_solve":
            return self.run(*solver_of(params, operands))
        if name in NUMPY and all(v.aval.dtype in FAST for v in (*eqn.invars, eqn.outvars[0])):
            return [np.asarray(NUMPY[name](*map(np.asarray, operands), **params), eqn.outvars[0].aval.dtype)]
        return super().apply(eqn, operands)


EVALUATION = Evaluation()
