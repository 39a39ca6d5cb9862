"""Many runs at once: seeds and settings as one compiled program."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from functional_dl import arguments, tree
from functional_dl.aliases import Array, Key, Params, PyTree
from functional_dl.training import mixed, step, validate


class Sweep(NamedTuple):
    """The runs of a sweep: each array has the axes (settings, keys) first.

    Attributes:
      params: at the end.
      history: "loss", "grad_norm" and "finite" of every step, (settings, keys, steps).
      carry: what the loss carries, after the last step.
    """

    params: Params
    history: dict[str, Array]
    carry: PyTree


def sweep(
    loss: Callable[..., Any],
    init: Callable[[Key], Params],
    data: PyTree,
    optimizer: Callable[[Any], optax.GradientTransformation],
    settings: PyTree,
    keys: Key,
    *,
    steps: int,
    batch_size: int | None,
    carry: PyTree = None,
    differentiate: Callable[..., Any] = jax.value_and_grad,
    precision: mixed.Precision | None = None,
    average: float | None = None,
) -> Sweep:
    """Trains from every key with every setting, all as one compiled program.

        params[i, j] = the run of optimizer(settings[i]) from init(keys[j]), in the order that keys[j] shuffles.

    A run's numbers are those of `fit` with the same key, parameters and optimiser, to rounding; one whose numbers are
    not finite goes on, and its history says so.

    Args:
      loss, data, steps, batch_size, carry, differentiate, precision, average: as of `fit`, data as arrays.
      init: key -> params.
      optimizer: a setting -> an optax optimiser, such as optax.adam; a setting is traced.
      settings: a pytree of arrays with one common leading axis, one entry a setting.
      keys: PRNG keys, one a seed.
    Returns:
      Sweep.
    Raises:
      ValueError, TypeError: as `fit`; settings without a common leading axis.
    Source: none; `jax.vmap` of `run_steps`.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from functional_dl import training
      >>> loss = lambda w, x: jnp.mean((w - x) ** 2)
      >>> init = lambda key: jax.random.normal(key, (), jnp.float32)
      >>> rates, keys = jnp.array([0.1, 0.5], jnp.float32), jax.random.split(jax.random.key(0), 3)
      >>> runs = training.sweep(loss, init, jnp.ones(8, jnp.float32), optax.sgd, rates, keys, steps=4, batch_size=None)
      >>> runs.history["loss"].shape
      (2, 3, 4)
    """
    for name, value in (("loss", loss), ("init", init), ("optimizer", optimizer), ("differentiate", differentiate)):
        arguments.function(name, value)
    steps = arguments.integer("steps", steps, 0)
    examples = validate.common_length(data)
    validate.finite_data(data)
    batch_size = validate.batch_size(batch_size, examples)
    leaves = zip(tree.path_names(settings), jax.tree.leaves(settings))
    shapes = {name or "settings": jnp.shape(leaf) for name, leaf in leaves}
    if () in shapes.values() or len({shape[:1] for shape in shapes.values()}) != 1:
        raise ValueError(f"settings: expected arrays with one common leading axis, got shapes {shapes}")
    dtype = getattr(keys, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key) or jnp.ndim(keys) == 0:
        raise TypeError(f"keys: expected an array of keys, as jax.random.split gives, got {arguments.described(keys)}")
    options = (steps, batch_size, examples, differentiate, precision, average)
    try:
        run = _program(loss, init, optimizer, options)
    except TypeError:  # something that cannot be hashed
        run = _new_program(loss, init, optimizer, options)
    return run(settings, keys, data, carry)


def _new_program(loss, init, optimizer, options):
    steps, batch_size, examples, differentiate, precision, average = options
    how = dict(differentiate=differentiate, precision=precision, average=average)

    def run(setting, key, data, carry):
        of_setting, params = optimizer(setting), init(key)
        state = step.start(
            params, of_setting, key, examples, batch_size, carry=carry, precision=precision, average=average
        )
        one_step = step.make_step(loss, of_setting, batch_size, **how)
        state, history = step.run_steps(one_step, state, data, steps)
        return Sweep(state.params, history, state.carry)

    over_keys = jax.vmap(run, in_axes=(None, 0, None, None))
    return jax.jit(jax.vmap(over_keys, in_axes=(0, None, None, None)))


_program = lru_cache(maxsize=8)(_new_program)
