"""One training step as a pure function, and many of them as one compiled loop."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from functional_dl import arguments, tree
from functional_dl.aliases import Array, Key, Params, PyTree, Scalar
from functional_dl.training import batches, optimizers


class State(NamedTuple):
    """Everything that a run carries from step to step."""

    params: Params
    opt_state: Any
    step: Array  # int32, number of steps done
    key: Key  # the run's key; it never changes: each step folds its number in
    order: Array  # the order of the examples in the current epoch


Step: TypeAlias = Callable[[State, PyTree], tuple[State, dict[str, Array]]]  # (state, data) -> (state, metrics)


def start(
    params: Params, optimizer: optax.GradientTransformation, key: Key, examples: int, batch_size: int, step: int = 0
) -> State:
    """The state before step number `step`, with a fresh optimiser."""
    key = arguments.key("key", key)
    return State(
        params=params,
        opt_state=optimizers.init(optimizer, params),
        step=jnp.asarray(step, jnp.int32),
        key=key,
        order=batches.order_before(key, step, examples, batch_size),
    )


def with_key(loss: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """The loss as a function (params, batch, key), whether it asks for the key or not.

    A loss gets a key if it has a parameter named `key`, or a third positional parameter without a default.
    """
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return lambda params, batch, key: loss(params, batch)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters.values() if p.kind in kinds and p.default is p.empty]
    if "key" in parameters and parameters["key"].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return lambda params, batch, key: loss(params, batch, key=key)
    if len(required) >= 3:
        return loss
    return lambda params, batch, key: loss(params, batch)


def make_step(
    loss: Callable[..., Scalar],
    optimizer: optax.GradientTransformation,
    batch_size: int,
    *,
    differentiate: Callable[..., Any] = jax.value_and_grad,
    place: Callable[[Array], Array] = lambda indices: indices,
) -> Step:
    """step(state, data) -> (state, metrics): differentiate the loss on the next batch, apply the update.

    metrics: "loss" and "grad_norm" at the parameters before the update, "finite": whether the gradient and
    the updated parameters are finite.  `place` may lay the batch's indices out over devices.
    """
    arguments.function("loss", loss)
    keyed_loss = with_key(loss)
    value_and_gradient = differentiate(keyed_loss)

    def step(state: State, data: PyTree) -> tuple[State, dict[str, Array]]:
        indices, order = batches.batch_indices(state.key, state.step, state.order, batch_size)
        indices = place(indices)
        batch = jax.tree_util.tree_map(lambda leaf: jnp.take(leaf, indices, axis=0, mode="clip"), data)
        key = batches.noise_key(state.key, state.step)
        value, gradient = value_and_gradient(state.params, batch, key)
        # the extra arguments are those that optax's line searches ask for; other optimisers ignore them
        params, opt_state = optimizers.apply(
            optimizer,
            gradient,
            state.opt_state,
            state.params,
            value=value,
            grad=gradient,
            value_fn=lambda params: keyed_loss(params, batch, key),
        )
        metrics = {
            "loss": value,
            "grad_norm": _norm(gradient, value.dtype),
            "finite": _all_finite(gradient) & _all_finite(params),
        }
        return State(params, opt_state, state.step + 1, state.key, order), metrics

    return step


def run_steps(step: Step, state: State, data: PyTree, steps: int) -> tuple[State, dict[str, Array]]:
    """`steps` steps as one `lax.scan`; metrics are stacked along a leading axis.

    Pure, so `jax.vmap` runs it over seeds and settings at once: that is what the experiments do.
    """
    return jax.lax.scan(lambda carry, _: step(carry, data), state, length=steps)


def _norm(x: PyTree, dtype) -> Array:
    """tree.norm for leaves of several dtypes, in the loss's dtype."""
    return tree.norm([tree.norm(leaf).astype(dtype) for leaf in jax.tree_util.tree_leaves(x)])


def _all_finite(x: PyTree) -> Array:
    leaves = jax.tree_util.tree_leaves(x)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
