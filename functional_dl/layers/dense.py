"""Fully connected layers."""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import arguments, initializers
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import array, entry, floating_dtype, integer, real, shaped
from functional_dl.layers.layer import Layer
from functional_dl.sharding import broadcast_like, sharding_of


def dense(
    in_features: int,
    out_features: int,
    *,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    use_bias: bool = True,
    dtype: DTypeLike | None = None,
) -> Layer:
    """Fully connected layer, y = x W + b, rows as examples.

    y_bar given: x_bar = y_bar W^T,  W_bar = x^T y_bar,  b_bar = sum over examples of y_bar.

    Args:
      in_features, out_features: sizes.
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight.
      use_bias: whether there is b; it starts at 0.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      Layer with params {"weight": (in, out), "bias": (out,)} and apply(params, x) from (*batch, in) to
      (*batch, out).
      W is the transpose of the W of texts that write y = W x.
    Raises:
      ValueError: a size is not positive; no such initializer; x or the weight does not fit.
      TypeError: a size is no integer, dtype not floating; the key of `init` is no PRNG key (an integer is none).
    Source: Goodfellow, Bengio, Courville 2016, chapter 6.
    Example:
      >>> layer = layers.dense(3, 2)
      >>> params = layer.init(jax.random.key(0))
      >>> layer.apply(params, jnp.ones((4, 3))).shape
      (4, 2)
    """
    shape = (integer("in_features", in_features), integer("out_features", out_features))
    make_weight = initializers.get(initializer)

    def init(key: Key) -> Params:
        weight = make_weight(arguments.key("key", key), shape, floating_dtype("dtype", dtype))
        bias = {"bias": jnp.zeros(out_features, weight.dtype)} if use_bias else {}
        return {"weight": weight, **bias}

    def apply(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
        shaped("params['weight']", entry("params", params, "weight"), shape)
        if use_bias:
            shaped("params['bias']", entry("params", params, "bias"), shape[1:])
        return affine(params, x)

    return Layer(init, apply)


def affine(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
    """x W + b for params {"weight": W, "bias": b}, or x W for {"weight": W}, of whatever sizes.

    Raises:
      ValueError: x's last axis is not W's first, or b's length not W's second; params lacks the weight.
      TypeError: params is no dictionary, or x no array of real numbers.
    Example:
      >>> layers.affine(
      ...     {"weight": jnp.array([[1.0], [2.0]]), "bias": jnp.array([0.5])}, jnp.array([[3.0, 4.0]])
      ... ).tolist()
      [[11.5]]
    """
    weight = array("params['weight']", entry("params", params, "weight"))
    if jnp.ndim(weight) != 2:
        raise ValueError(f"params['weight']: expected shape (in, out), got {jnp.shape(weight)}")
    x = array("x", x)
    if x.ndim == 0 or x.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"x: expected last axis {weight.shape[0]} (the weight's shape is {weight.shape}), got shape {x.shape}"
        )
    from_integers = not jnp.issubdtype(x.dtype, jnp.floating)
    x = real("x", x)
    x = x.astype(weight.dtype) if from_integers else x
    bias = params.get("bias")
    if bias is not None and jnp.shape(bias) != weight.shape[1:]:
        raise ValueError(f"params['bias']: expected shape {weight.shape[1:]}, got {jnp.shape(bias)}")
    batch = x.shape[:-1]
    if len(batch) > 1 and sharding_of(x) is None:  # as rows: of more axes XLA copies x and y_bar to sum over them
        x = x.reshape(math.prod(batch), x.shape[-1])
    y = jnp.dot(x, weight)
    if bias is not None:
        y = y + broadcast_like(bias, y)
    return y.reshape(*batch, y.shape[-1])
