"""What several networks need: activations by name, the parts of their parameters."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl import activations, arguments
from functional_dl.activations import Activation
from functional_dl.aliases import Array, Key, PyTree
from functional_dl.arguments import array, described, entry
from functional_dl.layers.recurrent import checked_lengths
from functional_dl.sharding import laid_along

Function: TypeAlias = activations.Name | Activation | Callable[[Array], Array]


def function_of(activation: Function) -> Callable[[Array], Array]:
    """The function of that name; a function is returned as it is.

    Raises:
      ValueError: no activation has that name.  TypeError: it is none of these.
    """
    if callable(activation):
        return activation
    return activations.get(activation).fun


def listed(name: str, found: Any, count: int) -> list[Any]:
    """What is found in params, a list of so many layers' parameters.

    Raises:
      ValueError: there are more or fewer: params are another network's.  TypeError: it is no list.
    """
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise TypeError(f"{name}: expected a list of {count}, got {described(found)}")
    if len(found) != count:
        raise ValueError(f"{name}: expected a list of {count}, got {len(found)}")
    return list(found)


def layers_of(name: str, params: PyTree, of: str, count: int) -> list[Any]:
    """params[of], a list of so many layers' parameters; `name` is what an error calls params.

    Raises:
      ValueError: there is no such entry, or another number of them.  TypeError: it is no list, params no dictionary.
    """
    return listed(f"{name}[{of!r}]", entry(name, params, of), count)


def keys_of(key: Key | None, count: int) -> list[Any]:
    """A key for each of so many places of randomness; None for each without a key.

    Raises:
      TypeError: key is no PRNG key.
    """
    return [None] * count if key is None else list(jax.random.split(arguments.key("key", key), count))


def present(x: Array, weights: Any) -> Array:
    """x, 0 in rows that count for nothing: should they be NaN, they reach no derivative of the layers before a norm."""
    if weights is None:
        return x
    weights = array("weights", weights)
    if weights.ndim >= x.ndim or weights.shape != x.shape[: weights.ndim]:
        raise ValueError(f"weights: expected the first axes of x, whose shape is {x.shape}, got {weights.shape}")
    there = laid_along(weights, x) != 0
    there = jnp.broadcast_to(jnp.expand_dims(there, tuple(range(there.ndim, x.ndim))), x.shape)
    return jnp.where(there, x, jnp.zeros_like(x))


def real_steps(lengths: Any, like: Array) -> Array:
    """Which steps of `like`, (*batch, time, features), lie within the sequences' lengths: booleans (*batch, time).

    Raises:
      ValueError: lengths do not fit, or a concrete one lies outside [0, time].  TypeError: they are no integers.
    """
    *batch, time, _ = like.shape
    ends = checked_lengths(lengths, tuple(batch), time)[..., None]
    return laid_along(
        lax.broadcasted_iota(jnp.int32, (*batch, time), len(batch)) < jnp.broadcast_to(ends, (*batch, time)), like
    )


def zero_past(y: Array, real: Array | None) -> Array:
    """y (*batch, time, features), 0 where a step is not real."""
    return y if real is None else jnp.where(jnp.broadcast_to(real[..., None], y.shape), y, jnp.zeros_like(y))
