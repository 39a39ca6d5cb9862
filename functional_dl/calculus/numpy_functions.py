"""Functions written with NumPy, handed JAX's tracers: their ufuncs and functions are read as those of jax.numpy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """A tracer that NumPy takes for an array of its own kind: numpy.sin(Traced(x)) is Traced(jax.numpy.sin(x))."""

    __slots__ = ("value",)
    value: Any

    def __init__(self, value: Any) -> None:
        self.value = value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        fun = getattr(jnp, ufunc.__name__, None)
        if fun is None or method != "__call__" or kwargs.keys() - {"where"}:
            return NotImplemented
        return _applied(fun, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        fun = getattr(jnp, func.__name__, None)
        return NotImplemented if fun is None else _applied(fun, args, kwargs)

    def _number(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a function that JAX traces has no numbers yet")

    __array__ = __bool__ = __float__ = __int__ = __index__ = __len__ = __iter__ = __complex__ = _number

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.value, name)
        return (lambda *args, **kwargs: _applied(found, args, kwargs)) if callable(found) else found

    def __getitem__(self, index: Any) -> "Traced":
        return Traced(self.value[_unwrapped(index)])


def _applied(fun, args, kwargs):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        out = fun(*_unwrapped(args), **_unwrapped(kwargs))
    return jax.tree_util.tree_map(Traced, out)


def _is_traced(x):
    return isinstance(x, Traced)


def _unwrapped(tree):
    return jax.tree_util.tree_map(lambda x: x.value if _is_traced(x) else x, tree, is_leaf=_is_traced)


def of_jax(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy as one of JAX: what it computes with NumPy's functions is traced."""

    def traced(*args):
        return jax.tree_util.tree_map(jnp.asarray, _unwrapped(f(*jax.tree_util.tree_map(Traced, args))))

    return traced


def readable(f: Callable[..., Any], *args: Any) -> Callable[..., Any] | None:
    """f, or f read as a function of JAX, whichever JAX can trace at arguments of these types; None where neither."""
    for g in (f, of_jax(f)):
        try:
            jax.eval_shape(lambda *xs, g=g: g(*xs), *args)
        except Exception:  # whatever a function of Python or NumPy says to a tracer
            continue
        return g
    return None
