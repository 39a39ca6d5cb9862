"""One training step as a pure function, and many of them as one compiled loop."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from functional_dl import arguments, tree
from functional_dl.aliases import Array, Key, Params, PyTree, Scalar
from functional_dl.training import batches, mixed, optimizers
from functional_dl.training.layout import WHOLE, Layout


class State(NamedTuple):
    """Everything that a run carries from step to step."""

    params: Params
    opt_state: Any
    step: Array  # int32, number of steps done
    key: Key  # the run's key; it never changes: each step folds its number in
    order: Array | None = None  # the order of the examples in the current epoch; None if batches come from outside
    carry: PyTree = None  # what the loss carries beside the parameters, such as the moments of batch norms
    average: Params | None = None  # the exponential moving average of the parameters
    scale: mixed.Scale | None = None  # of the loss, in float16


Step: TypeAlias = Callable[[State, PyTree], tuple[State, dict[str, Array]]]  # (state, data) -> (state, metrics)


def start(
    params: Params,
    optimizer: optax.GradientTransformation,
    key: Key,
    examples: int | None,
    batch_size: int,
    step: int = 0,
    *,
    carry: PyTree = None,
    precision: mixed.Precision | None = None,
    average: float | None = None,
) -> State:
    """The state before step number `step`, with a fresh optimiser.

    Args:
      params, optimizer, key, batch_size, carry, precision, average: as of `fit`.
      examples: how many there are; None if batches come from outside.
    Example:
      >>> state = training.start(jnp.zeros(2), optax.sgd(0.1), jax.random.key(0), 8, 4)
      >>> int(state.step), state.params.tolist()
      (0, [0.0, 0.0])
    """
    key = arguments.key("key", key)
    return State(
        params=params,
        opt_state=optimizers.init(optimizer, params),
        step=jnp.asarray(step, jnp.int32),
        key=key,
        order=None if examples is None else batches.order_before(key, step, examples, batch_size),
        carry=carry,
        average=None if average is None else params,
        scale=mixed.first_scale(precision),
    )


def with_key(loss: Callable[..., Any], carried: bool = False) -> Callable[..., Any]:
    """The loss as a function (params, batch, key), or (params, carry, batch, key) if it carries something, whether it
    asks for the key or not.

    A loss gets a key if it has a parameter named `key`, or one more positional parameter without a default.
    """
    without = lambda *given: loss(*given[:-1])
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return without
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters.values() if p.kind in kinds and p.default is p.empty]
    if "key" in parameters and parameters["key"].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return lambda *given: loss(*given[:-1], key=given[-1])
    return loss if len(required) >= 3 + carried else without


def make_step(
    loss: Callable[..., Scalar],
    optimizer: optax.GradientTransformation,
    batch_size: int,
    *,
    differentiate: Callable[..., Any] = jax.value_and_grad,
    micro_batches: int = 1,
    precision: mixed.Precision | None = None,
    average: float | None = None,
) -> Step:
    """step(state, data) -> (state, metrics): differentiate the loss on the next batch, apply the update.

    metrics: "loss" and "grad_norm" at the parameters before the update, "finite": whether the gradient and
    the updated parameters are finite; in float16 "loss_scale".

    Args:
      loss, optimizer, batch_size, differentiate, micro_batches, precision, average: as of `fit`; the loss carries
        something if the state does.
    Example:
      >>> step = training.make_step(lambda w, batch: jnp.mean((w - batch) ** 2), optax.sgd(0.5), 4)
      >>> state = training.start(jnp.array(0.0), optax.sgd(0.5), jax.random.key(0), 4, 4)
      >>> state, metrics = step(state, jnp.full(4, 3.0))
      >>> state.params.item(), metrics["loss"].item()
      (3.0, 9.0)
    """
    update = make_update(
        loss, optimizer, differentiate=differentiate, micro_batches=micro_batches, precision=precision, average=average
    )

    def step(state: State, data: PyTree) -> tuple[State, dict[str, Array]]:
        assert state.order is not None
        indices, order = batches.batch_indices(state.key, state.step, state.order, batch_size)
        if micro_batches > 1:
            indices = indices.reshape(micro_batches, -1)
        batch = jax.tree_util.tree_map(lambda leaf: jnp.take(leaf, indices, axis=0, mode="clip"), data)
        return update(state._replace(order=order), batch)

    return step


def make_update(
    loss: Callable[..., Scalar],
    optimizer: optax.GradientTransformation,
    *,
    differentiate: Callable[..., Any] = jax.value_and_grad,
    micro_batches: int = 1,
    precision: mixed.Precision | None = None,
    average: float | None = None,
    layout: Layout | None = None,
) -> Step:
    """update(state, batch) -> (state, metrics), as `make_step`; of several micro-batches, along the batch's first axis,

        gradient = (1/k) sum_i grad J_i(theta),

    the gradient of the whole batch's mean, with the memory of one of them.
    """
    arguments.function("loss", loss)
    layout = Layout(None) if layout is None else layout
    low = mixed.caster(precision)

    def value_and_gradient(params, carry, batch, key, scale):
        """(value, carry, gradient) on one micro-batch."""
        keyed, carried = with_key(loss, carry is not None), carry is not None

        def scaled(params, *rest):
            *rest, batch, key = rest
            found = keyed(low(layout.whole(params)), *rest, low(batch), key)
            value, after = found if carried else (found, None)
            value = mixed.scaled(mixed.raised(value, params) if precision else value, scale)
            return (value, mixed.as_before(after, carry)) if carried else value

        of = lambda *given: differentiate(scaled, **({"has_aux": True} if carried else {}))(*given)
        given = (params, *((carry,) if carried else ()), batch, key)
        lies = lambda *given: (
            ((WHOLE, jax.tree.map(lambda _: WHOLE, carry)) if carried else WHOLE),
            layout.specs(given[0]),
        )
        found, gradient = layout.in_types(of, lies)(*given)
        value, carry = found if carried else (found, None)
        return mixed.unscaled(value, scale), carry, mixed.unscaled(gradient, scale)

    def numbers():
        return jnp.arange(micro_batches, dtype=jnp.int32)

    def accumulated(params, carry, batch, key, scale):
        if micro_batches == 1:
            return value_and_gradient(params, carry, batch, key, scale)

        def add(totals, at):
            total, carry, gradients = totals
            micro, number = at
            value, carry, gradient = value_and_gradient(params, carry, micro, jax.random.fold_in(key, number), scale)
            return (total + value, carry, tree.add(gradients, gradient)), None

        kind = jax.eval_shape(value_and_gradient, params, carry, jax.tree.map(lambda x: x[0], batch), key, scale)[0]
        first = jnp.zeros((), kind.dtype), carry, tree.zeros_like(params)
        (total, carry, gradients), _ = jax.lax.scan(add, first, (batch, numbers()))
        return total / micro_batches, carry, jax.tree.map(lambda g: g / micro_batches, gradients)

    def updated(state, batch, key, value, carry, gradient):
        keyed = with_key(loss, state.carry is not None)

        def value_of(params, batch, key):
            found = keyed(low(layout.whole(params)), *(() if state.carry is None else (state.carry,)), low(batch), key)
            value = found if state.carry is None else found[0]
            return mixed.raised(value, params) if precision else value

        def value_fn(params):  # for optax's line searches
            if micro_batches == 1:
                return value_of(params, batch, key)
            at = lambda at: value_of(params, at[0], jax.random.fold_in(key, at[1]))
            return jnp.mean(jax.lax.map(at, (batch, numbers())))

        # the extra arguments are those that optax's line searches ask for; other optimisers ignore them
        extra = {"value": value, "grad": gradient, "value_fn": value_fn}
        params, opt_state = optimizers.apply(optimizer, gradient, state.opt_state, state.params, **extra)
        followed = state.average
        if average is not None:
            followed = optimizers.moving_average(params, state.average, average)
        after = State(params, opt_state, state.step + 1, state.key, state.order, carry, followed, state.scale)
        finite = all_finite(gradient)
        metrics = {"loss": value, "grad_norm": _norm(gradient, value.dtype), "finite": finite & all_finite(params)}
        if state.scale is not None:
            after, metrics = mixed.skip_overflow(state, after, finite, metrics)
        return after, metrics

    def update(state: State, batch: PyTree) -> tuple[State, dict[str, Array]]:
        key = batches.noise_key(state.key, state.step)
        value, carry, gradient = accumulated(state.params, state.carry, batch, key, state.scale)

        def finish(state, batch, key, value, carry, gradient):
            gradient = layout.kept(gradient, layout.specs(state.params))  # summed over the devices here, and not later
            after, metrics = updated(state, batch, key, value, carry, gradient)
            return (after if layout.mesh is None else layout.kept(after, layout.state_specs(after))), metrics

        def lies(state, *_):
            specs = layout.state_specs(state)
            return specs, {name: WHOLE for name in metrics_names(state)}

        return layout.freely(finish, lies)(state, batch, key, value, carry, gradient)

    return update


def metrics_names(state: State) -> tuple[str, ...]:
    """What a step measures."""
    return ("loss", "grad_norm", "finite", *(() if state.scale is None else ("loss_scale",)))


def run_steps(step: Step, state: State, data: PyTree, steps: int) -> tuple[State, dict[str, Array]]:
    """`steps` steps as one `lax.scan`; metrics are stacked along a leading axis.

    Pure, so `jax.vmap` runs it over seeds and settings at once: that is what `sweep` does.

    Example:
      >>> step = training.make_step(lambda w, batch: jnp.mean((w - batch) ** 2), optax.sgd(0.25), 4)
      >>> state = training.start(jnp.array(0.0), optax.sgd(0.25), jax.random.key(0), 4, 4)
      >>> state, metrics = training.run_steps(step, state, jnp.full(4, 2.0), 3)
      >>> state.params.item(), metrics["loss"].tolist()
      (1.75, [4.0, 1.0, 0.25])
    """
    return jax.lax.scan(lambda carry, _: step(carry, data), state, length=steps)


def _norm(x: PyTree, dtype) -> Array:
    """tree.norm for leaves of several dtypes, in the loss's dtype."""
    return tree.norm([tree.norm(leaf).astype(dtype) for leaf in jax.tree_util.tree_leaves(x)])


def all_finite(x: PyTree) -> Array:
    """By the largest moduli, which `_norm` asks for as well: XLA computes them once."""
    leaves = [leaf for leaf in jax.tree_util.tree_leaves(x) if leaf.size]
    return jnp.all(jnp.stack([jnp.isfinite(jnp.max(jnp.abs(leaf))) for leaf in leaves]))
