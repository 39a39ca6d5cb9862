"""Linear regression's model."""

from collections.abc import Callable

from jax.typing import DTypeLike

from functional_dl import initializers, layers
from functional_dl.aliases import Array
from functional_dl.models.model import Model


def linear(
    in_features: int,
    out_features: int = 1,
    *,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    dtype: DTypeLike | None = None,
) -> Model:
    """Linear regression, y = x W + b: in * out + out parameters.

    y_bar given: x_bar = y_bar W^T,  W_bar = x^T y_bar,  b_bar = sum over examples of y_bar.

        model = linear(4)
        params = model.init(jax.random.key(0))
        y = model.apply(params, x)                # (n, 4) -> (n, 1)

    Args:
      in_features, out_features: sizes.
      initializer: a name of functional_dl.initializers ("zeros": at the origin), or (key, shape, dtype) -> weight.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      Model with params {"weight": (in, out), "bias": (out,)}, bias 0, and apply(params, x) from (*batch, in) to
      (*batch, out).
    Raises:
      ValueError: a size is not positive; no such initializer; x does not fit; the params are another model's.
      TypeError: a size is no integer, dtype not floating; the key of `init` is no PRNG key.
    Kinks: none.
    Source: Hastie, Tibshirani, Friedman 2009, chapter 3.
    Example:
      >>> model = models.linear(3)
      >>> model.apply(model.init(jax.random.key(0)), jnp.ones((4, 3))).shape
      (4, 1)
    """
    return Model(*layers.dense(in_features, out_features, initializer=initializer, dtype=dtype))
