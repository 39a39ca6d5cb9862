"""optax's optimisers as training calls them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax

from functional_dl import tree
from functional_dl.aliases import Params, PyTree


@contextmanager
def plain_promotion() -> Iterator[Any]:
    """JAX's usual dtype and rank promotion, which optax counts on; a user may have asked for stricter rules."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def init(optimizer: optax.GradientTransformation, params: Params) -> PyTree:
    with plain_promotion():
        return optimizer.init(params)


def apply(
    optimizer: optax.GradientTransformation, gradient: PyTree, opt_state: PyTree, params: Params, **extra: Any
) -> tuple[Params, PyTree]:
    """(updated params, new optimiser state).  `extra` is for optax's line searches; others ignore it."""
    with plain_promotion():
        update = optax.with_extra_args_support(optimizer).update
        updates, opt_state = update(gradient, opt_state, params, **extra)
        return optax.apply_updates(params, updates), opt_state


def moving_average(params: Params, average: Params, decay: float) -> Params:
    """average <- decay average + (1 - decay) params."""
    with plain_promotion():
        return optax.incremental_update(params, average, 1 - decay)


def check(optimizer: optax.GradientTransformation, params: Params, steps: int) -> None:
    """Refuses what is not an optax optimiser, one that climbs, and one whose schedule ends before the run.

    Arrays of one entry stand for the parameters: their structure and ranks decide how an optimiser treats them, and
    its steps are few operations on few shapes.  What has passed is not asked again.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimizer: expected an optax optimiser such as optax.adam(1e-3), got {optimizer!r}")
    leaves, structure = jax.tree_util.tree_flatten(params)
    kinds = tuple((jnp.ndim(leaf), jnp.result_type(leaf)) for leaf in leaves)
    try:
        hash(optimizer)
    except TypeError:
        return _descends(optimizer, structure, kinds, steps)
    return _remembered_descends(optimizer, structure, kinds, steps)


def _descends(optimizer, structure, kinds, steps: int) -> None:
    """A learning rate is out of sight inside optax's closures, so its sign is felt: from zero params, a gradient
    of ones must not give a step that is positive everywhere while a gradient of minus ones gives one that is
    negative everywhere.  (Both are asked for, so that added noise or weight decay cannot look like a climb.)
    """
    origin = structure.unflatten([jnp.zeros((1,) * rank, dtype) for rank, dtype in kinds])

    def moved(sign, count=0):
        gradient = jax.tree_util.tree_map(lambda leaf: jnp.full_like(leaf, sign), origin)
        return jax.tree_util.tree_leaves(apply(optimizer, gradient, at_count(count), origin)[0])

    def at_count(count):
        """A fresh state, of which the steps that it counts are set: schedules read them."""
        set_to = lambda name, leaf: jnp.full_like(leaf, count) if name.split("/")[-1] == "count" else leaf
        return tree.map_with_name(set_to, init(optimizer, origin))

    def moves_along(sign):
        return jnp.stack([jnp.all(jnp.real(leaf) * sign > 0) for leaf in moved(sign)]).all()

    def rests(count):
        return not any(bool(jnp.any(leaf != 0)) for leaf in moved(1.0, count))

    try:
        climbs = bool(moves_along(1.0)) and bool(moves_along(-1.0))
        ended = steps > 3 and rests(steps - 2) and not rests(1)
    except Exception:  # one that wants more than a gradient (a line search) cannot be felt like this
        return
    if climbs:
        raise ValueError(
            "optimizer: expected steps against the gradient, got steps along it: its learning rate is "
            "negative (to maximise, negate the loss)"
        )
    if ended:
        low, high = 1, steps - 2  # it moves at the one and rests at the other
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if rests(middle) else (middle, high)
        raise ValueError(
            f"optimizer: expected a schedule for all of the run's {steps} steps, got one whose updates are 0 from "
            f"step {high} on"
        )


_remembered_descends = lru_cache(maxsize=64)(_descends)
