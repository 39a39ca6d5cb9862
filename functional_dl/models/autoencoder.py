"""Autoencoder: a network to a code and a network back."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import arguments, initializers
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import entry
from functional_dl.layers.layer import layer_path
from functional_dl.models.mlp import mlp, widths
from functional_dl.models.parts import Function


class Autoencoder(NamedTuple):
    """A Model with its two halves besides: apply(params, x) = decode(params, encode(params, x))."""

    init: Callable[..., Params]
    apply: Callable[..., Array]
    encode: Callable[..., Array]
    decode: Callable[..., Array]


def autoencoder(
    sizes: Sequence[int],
    activation: Function = "relu",
    *,
    output: Function | None = None,
    initializer: initializers.Name | Callable[..., Array] = "he_normal",
    dtype: DTypeLike | None = None,
) -> Autoencoder:
    """Autoencoder, the code c = f(x) and the reconstruction g(c), each a multilayer perceptron, g's sizes f's reversed.

    x_hat_bar given:  c_bar and g's cotangents by the mlp's delta recurrence, then f's from c_bar by the same.
    Of sizes n_0, ..., n_L:  sum over l of 2 n_{l-1} n_l + n_{l-1} + n_l parameters.

        model = autoencoder((64, 32, 2))
        params = model.init(jax.random.key(0))
        loss = jnp.mean(losses.squared_error(model.apply(params, x), x))
        code = model.encode(params, x)            # (n, 64) -> (n, 2)

    Args:
      sizes: widths from input to code, (in, hidden, ..., code).
      activation: of the hidden layers of both halves; the code is linear.
      output: of the reconstruction; the identity by default.
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      Autoencoder with params {"encoder": {"layers": [...]}, "decoder": {"layers": [...]}}, each an mlp's;
      apply(params, x), (*batch, in) -> (*batch, in); encode(params, x) -> (*batch, code);
      decode(params, code) -> (*batch, in).
    Raises:
      ValueError: fewer than two sizes, or one that is not positive; no such activation or initializer; x or the code
        does not fit; the params are another model's.
      TypeError: sizes is no sequence of integers, dtype not floating; the key of `init` is no PRNG key.
    Kinks: the activations'.  Numerics: with identities for activations and squared error, the best code spans the
      first principal components (Baldi and Hornik 1989).
    Source: Hinton and Salakhutdinov 2006; Goodfellow, Bengio, Courville 2016, chapter 14.
    Example:
      >>> model = models.autoencoder([8, 4, 2])
      >>> params = model.init(jax.random.key(0))
      >>> model.apply(params, jnp.ones((5, 8))).shape
      (5, 8)
    """
    sizes = widths("sizes", sizes)
    encoder = mlp(sizes, activation, initializer=initializer, dtype=dtype)
    decoder = mlp(sizes[::-1], activation, output=output, initializer=initializer, dtype=dtype)

    def init(key: Key) -> Params:
        to_code, back = jax.random.split(arguments.key("key", key))
        return {"encoder": encoder.init(to_code), "decoder": decoder.init(back)}

    def encode(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... c"]:
        of = entry("params", params, "encoder")
        with layer_path("encoder"):
            return encoder.apply(of, x)

    def decode(params: Params, code: Float[Array, "... c"]) -> Float[Array, "... d"]:
        of = entry("params", params, "decoder")
        with layer_path("decoder"):
            return decoder.apply(of, code)

    def apply(params: Params, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        return decode(params, encode(params, x))

    return Autoencoder(init, apply, encode, decode)
