"""What a caller integrates, as a function to one real vector; and its values back in the caller's structure."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from functional_dl import arguments
from functional_dl.aliases import PyTree
from functional_dl.integrals import rules


class Integrand(NamedTuple):
    """A function of a number as a function to a vector: complex entries are two real ones, pytrees are raveled."""

    vector: Callable[..., Any]  # (x, *args) -> (K,) float64
    restore: Callable[..., Any]  # (K,) -> the structure of the function's value
    restore_error: Callable[..., Any]  # (K,) of errors >= 0 -> the same structure, moduli for complex entries
    size: int
    eps: float  # rounding unit of the least precise of the values


def integrand(name: str, f: Callable[..., Any], args: tuple[Any, ...], ndim: int = 0) -> Integrand:
    """f(x, *args) made a vector function; x a number (ndim = 0) or, split up, ndim numbers.

    Raises:
      TypeError: f is not callable, or does not return numbers.
    """
    arguments.function(name, f)
    promotion = rules.strictness()
    number = jax.ShapeDtypeStruct((), jnp.float64)

    def call(*operands):
        with promotion():
            return f(*operands)

    try:
        shape = jax.eval_shape(call, *[number] * max(1, ndim), *args)
    except TypeError as error:
        message = str(error).splitlines()[0]
        if "positional argument" in message:
            wanted = max(1, ndim) + len(args)
            raise TypeError(f"{name}: expected a function of {wanted} argument(s): {message}") from error
        if "not a valid JAX type" in message:
            raise TypeError(f"{name}: expected a function that returns numbers: {message}") from error
        raise
    leaves, structure = jax.tree_util.tree_flatten(shape)
    if not leaves:
        raise TypeError(f"{name}: expected a function that returns numbers, it returns {shape}")
    for leaf in leaves:
        if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == jnp.bool_):
            raise TypeError(f"{name}: expected a function that returns numbers, it returns dtype {leaf.dtype}")
    is_complex = [jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves]
    sizes = [int(leaf.size) * (2 if c else 1) for leaf, c in zip(leaves, is_complex)]

    def vector(*operands):
        parts = []
        for leaf, c in zip(jax.tree_util.tree_leaves(call(*operands)), is_complex):
            flat = jnp.ravel(leaf)
            parts += [jnp.real(flat), jnp.imag(flat)] if c else [flat]
        return jnp.concatenate([part.astype(jnp.float64) for part in parts])

    def split(flat):
        bounds = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        return [flat[bounds[k] : bounds[k + 1]] for k in range(len(sizes))]

    def restore(flat):
        found = []
        for part, leaf, c in zip(split(flat), leaves, is_complex):
            part = jax.lax.complex(part[: leaf.size], part[leaf.size :]) if c else part
            found.append(part.reshape(leaf.shape))
        return jax.tree_util.tree_unflatten(structure, found)

    def restore_error(flat):
        found = []
        for part, leaf, c in zip(split(flat), leaves, is_complex):
            part = jnp.hypot(part[: leaf.size], part[leaf.size :]) if c else part
            found.append(part.reshape(leaf.shape))
        return jax.tree_util.tree_unflatten(structure, found)

    return Integrand(vector, restore, restore_error, sum(sizes), rounding_unit(shape))


def rounding_unit(shape: PyTree) -> float:
    """The eps of the least precise floating leaf."""
    kinds = [leaf.dtype for leaf in jax.tree_util.tree_leaves(shape) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return max((float(jnp.finfo(kind).eps) for kind in kinds), default=float(jnp.finfo(jnp.float64).eps))
