"""Linear regression's model, y = x W + b."""

from collections.abc import Callable

from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import initializers, layers
from functional_dl.aliases import Array, Key, Params

__all__ = ["apply", "init"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


def init(
    key: Key,
    in_features: int,
    out_features: int = 1,
    *,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    dtype: DTypeLike | None = None,
) -> Params:
    """Params {"weight": (in, out), "bias": (out,)}, bias 0; initializer="zeros" starts at the origin.

    Raises:
      ValueError: a size is not positive; no such initializer.
      TypeError: key is no PRNG key, a size no integer, dtype not floating.
    """
    return layers.dense(in_features, out_features, initializer=initializer, dtype=dtype).init(key)


def apply(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
    """y = x W + b.

    Args:
      params: of `init`.
      x: shape (*batch, in).
    Returns:
      Shape (*batch, out).
    Raises:
      ValueError: x's last axis is not `in`.
    """
    return layers.affine(params, x)
