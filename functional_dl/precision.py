"""Precision: how a user's functions are evaluated where accurate values are needed, and in what sums are taken."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

__all__ = ["double", "nan_allowed", "of_sums"]


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


def of_sums(dtype: DTypeLike) -> DTypeLike:
    """The dtype in which long sums of a floating dtype are taken: float32 for half precision, else the same."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
