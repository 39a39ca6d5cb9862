"""Logistic regression's model: log-odds linear in x.  One output is binary, more are one a class."""

from collections.abc import Callable

from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import initializers, layers
from functional_dl.activations import sigmoid, softmax
from functional_dl.aliases import Array, Key, Params

__all__ = ["apply", "init", "probabilities"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def init(
    key: Key,
    in_features: int,
    classes: int = 1,
    *,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    dtype: DTypeLike | None = None,
) -> Params:
    """Params {"weight": (in, classes), "bias": (classes,)}, bias 0.

    Args:
      classes: 1 for a binary model (its one logit is the log-odds of class 1), k for k classes.
    Raises:
      ValueError: a size is not positive; no such initializer.
      TypeError: key is no PRNG key, a size no integer, dtype not floating.
    """
    return layers.dense(in_features, classes, initializer=initializer, dtype=dtype).init(key)


def apply(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
    """Logits z = x W + b, shape (*batch, classes), for sigmoid_cross_entropy or softmax_cross_entropy.

    Raises:
      ValueError: x's last axis is not the weight's first.
    """
    return layers.affine(params, x)


def probabilities(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
    """sigmoid(z) for a binary model: P(class 1), shape (*batch, 1); softmax(z) for k classes, (*batch, k)."""
    logits = apply(params, x)
    return sigmoid(logits) if logits.shape[-1] == 1 else softmax(logits)
