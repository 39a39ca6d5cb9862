"""Multilayer perceptron: dense layers with an activation between, logits at the end.

z^l = a^{l-1} W^l + b^l,    a^l = f(z^l),    a^0 = x.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias, cast

import jax
from jax.typing import DTypeLike
from jaxtyping import Float

from functional_dl import activations, arguments, initializers, layers
from functional_dl.activations import Activation
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import described, entry

__all__ = ["apply", "init", "per_layer"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


Function: TypeAlias = activations.Name | Activation | Callable[[Array], Array]


def init(
    key: Key,
    sizes: Sequence[int],
    *,
    initializer: initializers.Name | Callable[..., Array] = "he_normal",
    dtype: DTypeLike | None = None,
) -> Params:
    """Parameters of len(sizes) - 1 dense layers.

    Args:
      key: split, one key per layer.
      sizes: widths from input to output, (in, hidden, ..., out).
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight.
    Returns:
      {"layers": [{"weight": (in, out), "bias": (out,)}, ...]}; leaves are named layers/0/weight and so on.
    Raises:
      ValueError: fewer than two sizes, or one that is not positive; no such initializer.
      TypeError: key is no PRNG key, sizes no sequence of integers, dtype not floating.
    """
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise TypeError(f"sizes: expected a sequence of widths, got {arguments.described(sizes)}")
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected at least an input and an output width, got {tuple(sizes)}")
    keys = jax.random.split(arguments.key("key", key), len(sizes) - 1)
    dense = [layers.dense(d, k, initializer=initializer, dtype=dtype) for d, k in pairwise(sizes)]
    return {"layers": [layer.init(layer_key) for layer, layer_key in zip(dense, keys, strict=True)]}


def apply(
    params: Params,
    x: Float[Array, "... d"],
    activation: Function | Sequence[Function] = "relu",
    *,
    output: Function | None = None,
    dropout_rate: float = 0.0,
    key: Key | None = None,
    deterministic: bool = False,
) -> Float[Array, "... k"]:
    """The network's output, logits unless an output activation is given.

    Args:
      params: of `init`.
      x: shape (*batch, in).
      activation: a name of ACTIVATIONS, an Activation or a function: one for all hidden layers, or a sequence
        with one per hidden layer, or one per layer with the output's last.
      output: the last layer's; the identity by default.
      dropout_rate: of the hidden layers' activations, in [0, 1).
      key: for dropout.
      deterministic: True turns dropout off.
    Returns:
      Shape (*batch, out).
    Raises:
      ValueError: shapes do not fit; unknown activation, or a sequence of the wrong length; dropout without
        a key.
    """
    dense = entry("params", params, "layers")
    functions = [_function(f) for f in per_layer(activation, output, len(dense))]
    a = x
    for l, (layer, function) in enumerate(zip(dense, functions, strict=True)):
        a = function(layers.affine(layer, a))
        if l < len(functions) - 1:
            layer_key = None if key is None else jax.random.fold_in(arguments.key("key", key), l)
            a = layers.dropout(layer_key, a, dropout_rate, deterministic)
    return a


def per_layer(activation: Function | Sequence[Function], output: Function | None, depth: int) -> list[Function]:
    """One activation per layer from `apply`'s two arguments, the output's last.

    Raises:
      ValueError: a sequence that is neither one per layer nor one per hidden layer, or two activations for
        the output.
    """
    last: Function = "identity" if output is None else output
    if isinstance(activation, str | Activation) or callable(activation):
        one = cast(Function, activation)  # a str is a sequence, too
        return [*(one for _ in range(depth - 1)), last]
    if not isinstance(activation, Sequence):
        raise TypeError(f"activation: expected a name, an Activation or a function, got {described(activation)}")
    given = list(activation)
    if len(given) == depth and output is None:
        return given
    if len(given) == depth - 1:
        return [*given, last]
    raise ValueError(
        f"activation: expected one, or {depth - 1} (hidden layers), or {depth} without `output` (all "
        f"layers), got {len(given)}{'' if output is None else ' and an output'}"
    )


def _function(activation: Function) -> Callable[[Array], Array]:
    if callable(activation):
        return activation
    return activations.get(activation).fun
