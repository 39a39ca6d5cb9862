"""Checks of what a caller hands to training: each names the argument, what was expected and what came."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from functional_dl import arguments, tree
from functional_dl.aliases import Params, PyTree


def learning_rate(value: ArrayLike) -> None:
    """A finite number that is not negative.  A traced value passes: its number is not known yet."""
    if isinstance(value, jax.core.Tracer):
        return
    number = float(np.asarray(arguments.number("learning_rate", value)))
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"learning_rate: expected a finite number >= 0, got {number}")


def floating_params(params: Params) -> Params:
    """The params as arrays; all must be floating or complex, for only those have a gradient."""
    leaves, structure = jax.tree_util.tree_flatten(params)
    if not leaves:
        raise ValueError("params: expected a pytree with at least one array, got an empty one")
    for name, leaf in zip(tree.path_names(params), leaves):
        arguments.floating_leaf(f"params{_at(name)}", leaf, complex_too=True)
    # a Python number becomes a NumPy one: it would be weakly typed itself, and slow to hand to jit as a jax one
    leaves = [leaf if hasattr(leaf, "shape") else np.asarray(leaf, jnp.result_type(leaf)) for leaf in leaves]
    return jax.tree_util.tree_unflatten(structure, leaves)


def finite_params(params: Params) -> None:
    for name, leaf in zip(tree.path_names(params), jax.tree_util.tree_leaves(params)):
        if not bool(jnp.all(jnp.isfinite(leaf))):
            raise ValueError(f"params{_at(name)}: expected finite numbers, got a NaN or an infinity")


def common_length(data: PyTree) -> int:
    """The number of examples: the leading axis that all leaves of `data` share."""
    names, leaves = tree.path_names(data), jax.tree_util.tree_leaves(data)
    if not leaves:
        raise ValueError("data: expected a pytree of arrays, got an empty one")
    for name, leaf in zip(names, leaves):
        arguments.array(f"data{_at(name)}", leaf)
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"data{_at(name)}: expected an array with a leading axis of examples, got a scalar")
    lengths = [jnp.shape(leaf)[0] for leaf in leaves]
    if len(set(lengths)) > 1:
        listed = ", ".join(f"{name or 'data'}: {length}" for name, length in zip(names, lengths))
        raise ValueError(f"data: expected one common leading axis, got lengths {listed}")
    if lengths[0] == 0:
        raise ValueError("data: expected at least one example, got a leading axis of length 0")
    return lengths[0]


def finite_data(data: PyTree, where: str = "") -> None:
    for name, leaf in zip(tree.path_names(data), jax.tree_util.tree_leaves(data)):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            bad = ~np.isfinite(np.asarray(leaf))
            if bad.any():
                first = tuple(int(i) for i in np.argwhere(bad)[0])
                raise ValueError(
                    f"data{_at(name)}: expected finite numbers, got {np.asarray(leaf)[first]} at index "
                    f"{first}{where} ({int(bad.sum())} of {bad.size} entries are not finite)"
                )


def host_array(name: str, leaf: Any) -> np.ndarray:
    """A batch's leaf as a NumPy array of numbers."""
    host = np.asarray(leaf)
    if host.dtype.kind not in "biufcV":  # V: bfloat16 and the other dtypes of JAX's own
        raise TypeError(f"{name}: expected batches of numbers, got {arguments.described(leaf)}")
    return host


def same_batch(batch: PyTree, first: PyTree, step: int) -> None:
    """Refuses a batch that differs in structure, shape or dtype from the run's first."""
    wanted, given = jax.tree_util.tree_structure(first), jax.tree_util.tree_structure(batch)
    if wanted != given:
        raise ValueError(f"data: expected batches of the structure {wanted}, got {given} for step {step}")
    for name, leaf, kind in zip(tree.path_names(first), jax.tree.leaves(batch), jax.tree.leaves(first)):
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
        if leaf.shape != kind.shape or dtype != kind.dtype:
            hint = ""
            if leaf.shape[1:] == kind.shape[1:] and leaf.shape[:1] < kind.shape[:1]:
                hint = "; an epoch's incomplete last batch has to be dropped"
            raise ValueError(
                f"data{_at(name)}: expected {kind.dtype}{list(kind.shape)} in every batch, as in the first, got "
                f"{dtype}{list(leaf.shape)} for step {step}{hint}"
            )


def batch_size(value: int | None, examples: int) -> int:
    """None means the whole data set."""
    if value is None:
        return examples
    size = arguments.integer("batch_size", value)
    if size > examples:
        raise ValueError(f"batch_size: expected at most the number of examples, {examples}, got {size}")
    return size


def scalar_loss(shape: jax.ShapeDtypeStruct) -> None:
    leaves, structure = jax.tree_util.tree_flatten(shape)
    one = jax.tree_util.treedef_is_leaf(structure) and leaves[0].shape == ()
    if not one or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise TypeError(f"loss: expected a function to one real floating number, it returns {shape}")


def same_carry(before: PyTree, after: PyTree) -> None:
    """What a loss carries goes in and comes out with one structure and the same shapes."""
    wanted, given = jax.tree_util.tree_structure(before), jax.tree_util.tree_structure(after)
    if wanted != given:
        raise TypeError(f"carry: expected the loss to return the structure {wanted}, it returns {given}")
    for name, old, new in zip(tree.path_names(before), jax.tree.leaves(before), jax.tree.leaves(after)):
        if old.shape != new.shape:
            raise ValueError(f"carry{_at(name)}: expected shape {old.shape} back from the loss, got {new.shape}")


def _at(name: str) -> str:
    return f"[{name}]" if name else ""
