"""Pytrees as vectors: the operations of a vector space, and a readable name for every leaf."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import keystr, tree_flatten_with_path, tree_leaves, tree_map
from jax.typing import ArrayLike

from functional_dl.aliases import Array, PyTree

__all__ = [
    "add",
    "add_scaled",
    "map_with_name",
    "norm",
    "path_name",
    "path_names",
    "scale",
    "size",
    "subtract",
    "vdot",
    "zeros_like",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def add(x: PyTree, y: PyTree) -> PyTree:
    """x + y, leaf by leaf.  Raises ValueError where the trees differ in structure."""
    return tree_map(jnp.add, x, y)


def subtract(x: PyTree, y: PyTree) -> PyTree:
    """x - y, leaf by leaf."""
    return tree_map(jnp.subtract, x, y)


def scale(alpha: ArrayLike, x: PyTree) -> PyTree:
    """alpha x for a number alpha, each leaf in its own dtype."""
    return tree_map(lambda leaf: jnp.asarray(alpha, jnp.result_type(leaf)) * leaf, x)


def add_scaled(x: PyTree, alpha: ArrayLike, y: PyTree) -> PyTree:
    """x + alpha y: one step of length alpha from x along y."""
    return add(x, scale(alpha, y))


def zeros_like(x: PyTree) -> PyTree:
    """The zero of the space that x lives in."""
    return tree_map(jnp.zeros_like, x)


def vdot(x: PyTree, y: PyTree) -> Array:
    """Inner product <x, y>, summed over all leaves; x is conjugated where it is complex."""
    terms = tree_leaves(tree_map(jnp.vdot, x, y))
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros(())


def norm(x: PyTree) -> Array:
    """Euclidean norm over all leaves, safe from overflow: the largest modulus is factored out first."""
    leaves = [leaf for leaf in tree_leaves(x) if jnp.size(leaf)]
    if not leaves:
        return jnp.zeros(())
    largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]).max()
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, jnp.ones_like(largest))
    total = sum((jnp.sum(jnp.square(jnp.abs(leaf) / unit)) for leaf in leaves), start=jnp.zeros_like(unit))
    return unit * jnp.sqrt(total)


def size(x: PyTree) -> int:
    """Number of entries in all leaves; leaves may be shapes alone, as jax.eval_shape gives them."""
    return sum(int(leaf.size if hasattr(leaf, "size") else jnp.size(leaf)) for leaf in tree_leaves(x))


def path_names(x: PyTree) -> list[str]:
    """One readable name per leaf, in leaf order: {"layer": [w, b]} -> ["layer/0", "layer/1"]."""
    paths, _ = tree_flatten_with_path(x)
    return [path_name(path) for path, _ in paths]


def path_name(path: tuple[Any, ...]) -> str:
    """A key path of jax.tree_util as text: (DictKey("w"), SequenceKey(0)) -> "w/0"."""
    return keystr(path, simple=True, separator="/")


def map_with_name(fun: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """tree_map whose function is told the leaf's path name first: fun(name, leaf, *leaves)."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: fun(path_name(path), *leaves), tree, *rest)
