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
    """x + y, leaf by leaf.  Raises ValueError where the trees differ in structure.

    Example:
      >>> tree.add({"w": jnp.array([1.0])}, {"w": jnp.array([2.0])})["w"].tolist()
      [3.0]
    """
    return tree_map(jnp.add, x, y)


def subtract(x: PyTree, y: PyTree) -> PyTree:
    """x - y, leaf by leaf.

    Example:
      >>> tree.subtract({"w": jnp.array([1.0])}, {"w": jnp.array([2.0])})["w"].tolist()
      [-1.0]
    """
    return tree_map(jnp.subtract, x, y)


def scale(alpha: ArrayLike, x: PyTree) -> PyTree:
    """alpha x for a number alpha, each leaf in its own dtype.

    Example:
      >>> tree.scale(2.0, {"w": jnp.array([1.0])})["w"].tolist()
      [2.0]
    """
    return tree_map(lambda leaf: jnp.asarray(alpha, jnp.result_type(leaf)) * leaf, x)


def add_scaled(x: PyTree, alpha: ArrayLike, y: PyTree) -> PyTree:
    """x + alpha y: one step of length alpha from x along y.

    Example:
      >>> tree.add_scaled({"w": jnp.array([1.0])}, 2.0, {"w": jnp.array([2.0])})["w"].tolist()
      [5.0]
    """
    return add(x, scale(alpha, y))


def zeros_like(x: PyTree) -> PyTree:
    """The zero of the space that x lives in.

    Example:
      >>> tree.zeros_like({"w": jnp.array([1.0])})["w"].tolist()
      [0.0]
    """
    return tree_map(jnp.zeros_like, x)


def vdot(x: PyTree, y: PyTree) -> Array:
    """Inner product <x, y>, summed over all leaves; x is conjugated where it is complex.

    Example:
      >>> tree.vdot({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 4.0])}).item()
      11.0
    """
    terms = tree_leaves(tree_map(jnp.vdot, x, y))
    return functools.reduce(jnp.add, terms) if terms else jnp.zeros(())


def norm(x: PyTree) -> Array:
    """Euclidean norm over all leaves, safe from overflow: the largest modulus is factored out first.

    Example:
      >>> tree.norm({"w": jnp.array([3.0]), "b": jnp.array([4.0])}).item()
      5.0
    """
    leaves = [leaf for leaf in tree_leaves(x) if jnp.size(leaf)]
    if not leaves:
        return jnp.zeros(())
    largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]).max()
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, jnp.ones_like(largest))
    total = sum((jnp.sum(jnp.square(jnp.abs(leaf) / unit)) for leaf in leaves), start=jnp.zeros_like(unit))
    return unit * jnp.sqrt(total)


def size(x: PyTree) -> int:
    """Number of entries in all leaves; leaves may be shapes alone, as jax.eval_shape gives them.

    Example:
      >>> tree.size({"w": jnp.zeros((2, 3)), "b": jnp.zeros(3)})
      9
    """
    return sum(int(leaf.size if hasattr(leaf, "size") else jnp.size(leaf)) for leaf in tree_leaves(x))


def path_names(x: PyTree) -> list[str]:
    """One readable name per leaf, in leaf order: {"layer": [w, b]} -> ["layer/0", "layer/1"].

    Example:
      >>> tree.path_names({"w": 1.0, "b": [2.0]})
      ['b/0', 'w']
    """
    paths, _ = tree_flatten_with_path(x)
    return [path_name(path) for path, _ in paths]


def path_name(path: tuple[Any, ...]) -> str:
    """A key path of jax.tree_util as text: (DictKey("w"), SequenceKey(0)) -> "w/0".

    Example:
      >>> [tree.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path({"w": 1.0, "b": [2.0]})]
      ['b/0', 'w']
    """
    return keystr(path, simple=True, separator="/")


def map_with_name(fun: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """tree_map whose function is told the leaf's path name first: fun(name, leaf, *leaves).

    Example:
      >>> tree.map_with_name(lambda name, leaf: name, {"w": 1.0, "b": [2.0]})
      {'b': ['b/0'], 'w': 'w'}
    """
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: fun(path_name(path), *leaves), tree, *rest)
