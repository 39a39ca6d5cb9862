"""Gradient descent as the textbook writes it, compiled into one loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from functional_dl import arguments, tree
from functional_dl.aliases import Array, Params, Scalar
from functional_dl.training import validate


def gradient_descent(
    loss: Callable[..., Scalar],
    params: Params,
    learning_rate: ArrayLike,
    steps: int,
    *,
    differentiate: Callable[..., Any] = jax.value_and_grad,
) -> tuple[Params, Array]:
    r"""Minimises J by `steps` steps against its gradient.

        theta_{t+1} = theta_t - alpha * grad J(theta_t),    t = 0, ..., steps - 1.

    The whole run is one compiled `lax.scan`; it is compiled anew for a new `loss` object or a new `steps`,
    not for new numbers.  Pure: it may be `jax.vmap`ped over `params` and `learning_rate`, and differentiated.

    Args:
      loss: J, params -> one real number.
      params: theta_0, a pytree of floating arrays.
      learning_rate: alpha, in units of params^2 / loss.
      steps: number of steps.
      differentiate: how to get J and its gradient; `functional_dl.reverse.value_and_grad` is the hand-written
        one.
    Returns:
      (theta_steps, losses): losses has shape (steps,), losses[t] = J(theta_t), so it holds the loss before
      each step.
    Raises:
      ValueError: a negative or non-finite learning rate, negative steps, empty params.
      TypeError: params that are not floating, a loss that does not return one real number.
    Numerics: all in the dtype of the params.  For a quadratic J with largest curvature L it converges for
      alpha < 2 / L; beyond that it diverges and the losses say so (inf, then nan): nothing is hidden or
      clipped.
    Source: Cauchy 1847; Goodfellow, Bengio, Courville 2016, section 4.3.
    Example:
      >>> theta, losses_seen = training.gradient_descent(lambda t: t**2, jnp.array(1.0), 0.25, 3)
      >>> theta.item(), losses_seen.tolist()
      (0.125, [1.0, 0.25, 0.0625])
    """
    arguments.function("loss", loss)
    arguments.function("differentiate", differentiate)
    validate.learning_rate(learning_rate)
    steps = arguments.integer("steps", steps, 0)
    params = validate.floating_params(params)
    return _descend(params, learning_rate, loss=loss, steps=steps, differentiate=differentiate)


@partial(jax.jit, static_argnames=("loss", "steps", "differentiate"))
def _descend(params, learning_rate, *, loss, steps, differentiate):
    validate.scalar_loss(jax.eval_shape(loss, params))
    value_and_gradient = differentiate(loss)

    def step(theta, _):
        value, gradient = value_and_gradient(theta)
        return tree.add_scaled(theta, jnp.negative(learning_rate), gradient), value

    return jax.lax.scan(step, params, length=steps)
