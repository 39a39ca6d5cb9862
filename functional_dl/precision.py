"""Precision: how a user's functions are evaluated where accurate values are needed, and in what sums are taken."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

__all__ = ["double", "handed_out", "nan_allowed", "of_sums"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


@contextlib.contextmanager
def double() -> Iterator[None]:
    """float64, also where x64 is off; and a NaN is an answer (f is not defined there), also under jax_debug_nans."""
    with jax.enable_x64(True), nan_allowed():
        yield


@contextlib.contextmanager
def nan_allowed() -> Iterator[None]:
    """For a computation that expects NaN: jax_debug_nans, which raises at the first one, is off."""
    with jax.debug_nans(False):
        yield


def handed_out(found: Any) -> Any:
    """What was computed in `double`, safe to compute with where the caller's x64 is off: JAX warns there at arithmetic
    with its own float64 arrays.  Numbers known become NumPy's, with all digits, which JAX takes in its own precision;
    traced ones become the program's float32, complex64 and int32.  With x64 on all stays as it is."""
    if jax.config.jax_enable_x64:
        return found
    narrow = {"float64": jnp.float32, "complex128": jnp.complex64, "int64": jnp.int32}

    def one(leaf):
        if isinstance(leaf, jax.core.Tracer):
            with double():
                return leaf.astype(narrow.get(str(leaf.dtype), leaf.dtype))
        return np.asarray(leaf)[()] if isinstance(leaf, jax.Array) else leaf

    return jax.tree.map(one, found)


def of_sums(dtype: DTypeLike) -> DTypeLike:
    """The dtype in which long sums of a floating dtype are taken: float32 for half precision, else the same."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
