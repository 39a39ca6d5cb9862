"""Numbers, dtypes and parameters as Python source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


def typed(value: Any, dtype: Any) -> str:
    """A number with its dtype, as source."""
    if dtype == np.bool_:
        return f"jnp.bool_({bool(value)})"
    if dtype == jax.float0:
        return "np.zeros((), jax.float0)"
    return f"{dtype_text(dtype)}({plain(value)})"


def plain(value: Any) -> str:
    """A number, as source."""
    item = np.asarray(value)
    if item.dtype.kind == "b":
        return str(bool(item))
    if item.dtype.kind in "iu":
        return str(int(item))
    if item.dtype.kind == "c":
        number = complex(item)
        return f"({plain(number.real)} + {plain(number.imag)} * 1j)"
    number = float(item)
    if number != number:
        return "jnp.nan"
    if number in (float("inf"), float("-inf")):
        return "jnp.inf" if number > 0 else "-jnp.inf"
    if item.dtype == np.float32:
        return repr(float(str(item)))
    return repr(number)


def dtype_text(dtype: Any) -> str:
    """jnp.float32."""
    name = np.dtype(dtype).name
    return f"jnp.{name}" if name != "bool" else "jnp.bool_"


def show(value: Any) -> str:
    """A parameter's value, as source."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Source):
        return value.text
    if isinstance(value, bool | type(None)):
        return str(value)
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, tuple):
        inside = ", ".join(show(v) for v in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, list):
        return f"[{', '.join(show(v) for v in value)}]"
    if isinstance(value, np.dtype | type):
        return dtype_text(value)
    if hasattr(value, "name") and type(value).__module__.startswith("jax"):
        return f"lax.{type(value).__name__}.{value.name}"
    raise NotImplementedError(f"to_python: the parameter {value!r} cannot be written as source")


@dataclass(frozen=True)
class Source:
    """Text that is source already."""

    text: str
