"""Layers as pure functions.

The convention, which every layer with parameters keeps:

    layer = dense(784, 10)                 # sizes and options, all static, give a Layer
    init, apply = dense(784, 10)           # ... which is a pair
    params = layer.init(key)               # a pytree of arrays with readable path names
    y = layer.apply(params, x)             # pure; x has any leading batch axes

- `init(key)` alone makes arrays; sizes are given, never guessed from an input.
- `apply(params, *inputs, **call)` takes what changes from call to call by keyword: `key=` where the layer is
  random, `deterministic=` where it acts differently once trained.
- What a layer carries from call to call (a recurrent cell's state, a normalisation's running moments) goes in
  as an input and comes out as an output: `apply(params, carry, x) -> (carry, y)`, with
  `initial(batch_shape) -> carry` beside the pair.  Nothing is kept in an object.
- A map without parameters is a plain function: `dropout(key, x, rate)`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Bool, Float

from functional_dl import arguments, initializers
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import array, entry, floating_dtype, integer, number, real, within

__all__ = ["Layer", "affine", "apply_mask", "dense", "dropout"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


class Layer(NamedTuple):
    """A layer: init(key) -> params, apply(params, *inputs) -> output."""

    init: Callable[..., Params]
    apply: Callable[..., Array]


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
    """
    shape = (integer("in_features", in_features), integer("out_features", out_features))
    make_weight = initializers.get(initializer)

    def init(key: Key) -> Params:
        weight = make_weight(arguments.key("key", key), shape, floating_dtype("dtype", dtype))
        bias = {"bias": jnp.zeros(out_features, weight.dtype)} if use_bias else {}
        return {"weight": weight, **bias}

    return Layer(init, affine)


def affine(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... k"]:
    """x W + b for params {"weight": W, "bias": b}, or x W for {"weight": W}: `dense`'s apply.

    Raises:
      ValueError: x's last axis is not W's first, or b's length not W's second; params lacks the weight.
      TypeError: params is no dictionary, or x no array of real numbers.
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
    y = jnp.dot(x.astype(weight.dtype) if from_integers else x, weight)
    bias = params.get("bias")
    if bias is None:
        return y
    if jnp.shape(bias) != weight.shape[1:]:
        raise ValueError(f"params['bias']: expected shape {weight.shape[1:]}, got {jnp.shape(bias)}")
    return y + jnp.broadcast_to(bias, y.shape)


def dropout(
    key: Key | None, x: Float[Array, "..."], rate: ArrayLike, deterministic: bool = False
) -> Float[Array, "..."]:
    """Inverted dropout, y = m x / (1 - rate), m_i independent with P(m_i = 1) = 1 - rate.

    E[y] = x;  x_bar = m y_bar / (1 - rate): the backward pass has the same mask.

    Args:
      key: randomness; the same key gives the same mask.  It may be None where nothing is dropped.
      x: any shape, floating.
      rate: in [0, 1), the probability that an entry is dropped; may be traced.
      deterministic: True returns x, for the use of a trained network.
    Returns:
      y, same shape and dtype.
    Raises:
      ValueError: rate (where concrete) lies outside [0, 1); there is no key and something is to be dropped.
      TypeError: key is no PRNG key (an integer is none), x no array of real numbers, rate no number.
    Kinks: none (linear in x).  Numerics: one rounding.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014.
    """
    within("rate", number("rate", rate), 0.0, 1.0, open_right=True)
    x = real("x", x)
    key = None if key is None else arguments.key("key", key)
    traced = isinstance(rate, jax.core.Tracer)
    if deterministic or (not traced and rate == 0):
        return x
    if key is None:
        raise ValueError(f"key: expected a random key for dropout at rate {rate}, got None")
    return apply_mask(jax.random.bernoulli(key, 1 - rate, x.shape), x, rate)


def apply_mask(mask: Bool[Array, "..."], x: Float[Array, "..."], rate: ArrayLike) -> Float[Array, "..."]:
    """y = m x / (1 - rate), dropout with its mask given.

    Raises:
      ValueError: mask and x differ in shape; rate (where concrete) lies outside [0, 1).
    """
    within("rate", number("rate", rate), 0.0, 1.0, open_right=True)
    mask, x = array("mask", mask), array("x", x)
    if mask.shape != x.shape:
        raise ValueError(f"mask: expected the shape of x, {x.shape}, got {mask.shape}")
    x = real("x", x)
    kept = (1 - jnp.asarray(rate)).astype(x.dtype)
    return jnp.where(mask, x / kept, 0.0)  # selected, not multiplied: a dropped inf gives 0, not NaN
