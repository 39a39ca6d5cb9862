"""Logistic regression's model: log-odds linear in x."""

from collections.abc import Callable
from typing import NamedTuple

from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import initializers, layers
from functional_dl.activations import sigmoid, softmax
from functional_dl.aliases import Array, Params


class LogisticModel(NamedTuple):
    """A Model with probabilities(params, x) besides: those of the classes, where apply gives logits."""

    init: Callable[..., Params]
    apply: Callable[..., Array]
    probabilities: Callable[..., Array]


def logistic(
    in_features: int,
    classes: int = 1,
    *,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    dtype: DTypeLike | None = None,
) -> LogisticModel:
    """Logistic regression: logits z = x W + b, P(class 1) = sigmoid(z) of one, P = softmax(z) of several.

    in * classes + classes parameters.  With the cross-entropy of the logits against targets t, z_bar = P - t, and as of
    a dense layer  W_bar = x^T z_bar,  b_bar = sum over examples of z_bar.

        model = logistic(4, 3)
        params = model.init(jax.random.key(0))
        loss = losses.softmax_cross_entropy(model.apply(params, x), labels)

    Args:
      in_features: of x.
      classes: 1 for a binary model (its one logit is the log-odds of class 1), k for k classes.
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      LogisticModel with params {"weight": (in, classes), "bias": (classes,)}, bias 0; apply(params, x), logits of shape
      (*batch, classes) for sigmoid_cross_entropy or softmax_cross_entropy; probabilities(params, x), of that shape:
      P(class 1) of a binary model, rows that sum to 1 otherwise.
    Raises:
      ValueError: a size is not positive; no such initializer; x does not fit; the params are another model's.
      TypeError: a size is no integer, dtype not floating; the key of `init` is no PRNG key.
    Kinks: none.  Numerics: losses take the logits, for probabilities round to 0 and 1.
    Source: Hastie, Tibshirani, Friedman 2009, section 4.4.
    Example:
      >>> model = models.logistic(3)
      >>> model.probabilities(model.init(jax.random.key(0)), jnp.zeros((1, 3))).tolist()
      [[0.5]]
    """
    init, apply = layers.dense(in_features, classes, initializer=initializer, dtype=dtype)

    def probabilities(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
        logits = apply(params, x)
        return sigmoid(logits) if classes == 1 else softmax(logits)

    return LogisticModel(init, apply, probabilities)
