"""Mixed precision: the loss in 16 bits, the parameters and their updates in 32."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from functional_dl import arguments
from functional_dl.aliases import Array, Params, PyTree

Precision: TypeAlias = Literal["bfloat16", "float16"]
PRECISIONS = ("bfloat16", "float16")
FIRST, PATIENCE = 2.0**15, 2000  # the first factor of the loss, and how many good steps double it


class Scale(NamedTuple):
    """The factor that lifts float16's gradients over its smallest number: J is differentiated as factor * J.

    It is halved after a step whose gradient overflows, which changes nothing else, and doubled after 2000 good ones.
    """

    factor: Array  # a power of two, so that multiplying by it and dividing are exact
    good: Array  # int32, steps since it last changed


def checked(precision: Precision | None) -> None:
    if precision is not None:
        arguments.choice("precision", precision, PRECISIONS)


def first_scale(precision: Precision | None) -> Scale | None:
    checked(precision)
    return Scale(jnp.float32(FIRST), jnp.int32(0)) if precision == "float16" else None


def caster(precision: Precision | None) -> Callable[[PyTree], PyTree]:
    """x -> x with its floating arrays in that dtype; integers, keys and narrower floats stay."""
    checked(precision)
    if precision is None:
        return lambda x: x
    dtype = jnp.dtype(precision)

    def low(leaf):
        floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return jnp.asarray(leaf).astype(dtype) if floating and jnp.dtype(leaf.dtype).itemsize > 2 else leaf

    return lambda x: jax.tree.map(low, x)


def raised(value: Any, params: Params) -> Array:
    """A loss in the widest dtype of the parameters."""
    widest = max((leaf.dtype for leaf in jax.tree.leaves(params)), key=lambda d: jnp.finfo(d).bits)
    return jnp.asarray(value).astype(jnp.finfo(widest).dtype)


def as_before(after: PyTree, before: PyTree) -> PyTree:
    """What the loss carries, in the dtypes in which it came."""
    return jax.tree.map(lambda new, old: jnp.asarray(new).astype(jnp.result_type(old)), after, before)


def scaled(value: Any, scale: Scale | None) -> Any:
    return value if scale is None else value * scale.factor.astype(value.dtype)


def unscaled(x: PyTree, scale: Scale | None) -> PyTree:
    return x if scale is None else jax.tree.map(lambda leaf: leaf / scale.factor.astype(leaf.dtype), x)


def skip_overflow(before: Any, after: Any, finite: Array, metrics: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """The state after a step: as before it, with half the factor, if the gradient overflowed."""
    factor, good = before.scale
    grown = good + 1 >= PATIENCE
    scale = Scale(
        jnp.where(finite, jnp.where(grown, 2 * factor, factor), factor / 2),
        jnp.where(finite & ~grown, good + 1, 0),
    )
    kept = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), after._replace(key=None), before._replace(key=None)
    )
    kept = kept._replace(key=before.key, step=after.step, scale=scale, order=after.order)
    # an overflow that no smaller factor cures is none of float16
    return kept, metrics | {"finite": metrics["finite"] | (~finite & (factor > 1)), "loss_scale": factor}
