"""Pytrees as Python source: how a leaf is reached, how a container is written."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.tree_util import (
    DictKey,
    GetAttrKey,
    SequenceKey,
    tree_leaves,
)

from functional_dl.aliases import Key
from functional_dl.explain.source.literals import plain, show


class Text:
    """A leaf that prints as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def access(key: Key) -> str:
    if isinstance(key, DictKey):
        return f"[{show(key.key) if isinstance(key.key, str) else repr(key.key)}]"
    if isinstance(key, SequenceKey):
        return f"[{key.idx}]"
    if isinstance(key, GetAttrKey):
        return f".{key.name}"
    raise NotImplementedError(f"to_python: a leaf at {key!r}, in a container that is no dict, list, tuple or dataclass")


def display(tree: Any, source: str) -> str:
    """A container as source; `source` is an expression of the same structure, for those that have no display."""
    if isinstance(tree, Text):
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
