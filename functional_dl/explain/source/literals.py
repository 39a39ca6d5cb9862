"""Numbers, dtypes, parameters and pytrees as Python source."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.tree_util import DictKey, GetAttrKey, tree_leaves


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


# --- pytrees: how a leaf is reached, how a container is written


def reached(name: str, tree: Any, path: Sequence[Any], number: int) -> str:
    """The expression that takes a leaf out of the tree called name: by its path, where that leads to it without a
    warning; by its number, where a container is of another kind."""
    places, value = [], tree
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an attribute that its library does without one day
            for key in path:
                if isinstance(key, GetAttrKey):
                    places.append(f".{key.name}")
                    value = getattr(value, key.name)
                else:
                    index = key.key if isinstance(key, DictKey) else key.idx
                    places.append(f"[{show(index) if isinstance(index, str) else repr(index)}]")
                    value = value[index]
    except Exception:
        value = None
    return name + "".join(places) if value is tree_leaves(tree)[number] else f"jax.tree.leaves({name})[{number}]"


def display(tree: Any, source: str) -> str:
    """A container as source; `source` is an expression of the same structure, for those that have no display."""
    if isinstance(tree, Source):
        return tree.text
    if tree is None:
        return "None"
    if type(tree) is dict:
        inside = [
            f"{show(k) if isinstance(k, str) else repr(k)}: {display(v, f'{source}[{k!r}]')}" for k, v in tree.items()
        ]
        return f"{{{', '.join(inside)}}}"
    if type(tree) is list:
        return f"[{', '.join(display(v, f'{source}[{i}]') for i, v in enumerate(tree))}]"
    if type(tree) is tuple:
        inside = [display(v, f"{source}[{i}]") for i, v in enumerate(tree)]
        return f"({inside[0]},)" if len(inside) == 1 else f"({', '.join(inside)})"
    leaves = ", ".join(leaf.text for leaf in tree_leaves(tree))
    if source == "out":
        return f"[{leaves}]"
    return f"jax.tree.unflatten(jax.tree.structure({source}), [{leaves}])"


def nested(array: np.ndarray) -> str:
    if array.ndim == 0:
        return plain(array)
    return f"[{', '.join(nested(part) for part in array)}]"
