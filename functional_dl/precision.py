"""How a user's functions are evaluated where accurate values are needed: in double precision, NaN allowed."""

import contextlib
from collections.abc import Iterator

import jax

__all__ = ["double", "nan_allowed"]


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
