"""Multilayer perceptron: dense layers with an activation between, logits at the end."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import jax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Float

from functional_dl import arguments, initializers, layers
from functional_dl.activations import Activation
from functional_dl.aliases import Array, Key, Params
from functional_dl.arguments import described, integer, number, within
from functional_dl.layers.layer import layer_path
from functional_dl.models.model import Model
from functional_dl.models.parts import Function, function_of, layers_of


def mlp(
    sizes: Sequence[int],
    activation: Function | Sequence[Function] = "relu",
    *,
    output: Function | None = None,
    dropout_rate: ArrayLike = 0.0,
    initializer: initializers.Name | Callable[..., Array] = "he_normal",
    dtype: DTypeLike | None = None,
) -> Model:
    """Multilayer perceptron, z^l = a^{l-1} W^l + b^l,  a^l = f_l(z^l),  a^0 = x,  the output a^L.

    Backward, with delta^l = dJ/dz^l:  delta^L = a^L_bar * f_L'(z^L),  delta^l = (delta^{l+1} W^{l+1}^T) * f_l'(z^l),
    W^l_bar = a^{l-1}^T delta^l,  b^l_bar = sum over examples of delta^l  (functional_dl.backprop spells them out).
    Of sizes n_0, ..., n_L:  sum over l of (n_{l-1} + 1) n_l parameters.

        model = mlp((64, 32, 10), dropout_rate=0.2)
        params = model.init(jax.random.key(0))
        logits = model.apply(params, x, key=jax.random.key(1))       # as trained
        logits = model.apply(params, x, deterministic=True)          # as used

    Args:
      sizes: widths from input to output, (in, hidden, ..., out).
      activation: a name of ACTIVATIONS, an Activation or a function: one for all hidden layers, or a sequence
        with one per hidden layer, or one per layer with the output's last.
      output: the last layer's; the identity by default, so that outputs are logits.
      dropout_rate: of the hidden layers' activations, in [0, 1); may be traced.
      initializer: a name of functional_dl.initializers, or (key, shape, dtype) -> weight.
      dtype: of the parameters; JAX's default float if not given.
    Returns:
      Model with params {"layers": [{"weight": (in, out), "bias": (out,)}, ...]}, leaves named layers/0/weight and so
      on, biases 0; apply(params, x, *, key=None, deterministic=False) from (*batch, in) to (*batch, out): key is
      dropout's, deterministic=True turns dropout off.
    Raises:
      ValueError: fewer than two sizes, or one that is not positive; no such activation or initializer, or a sequence of
        activations of the wrong length; x does not fit; the params are another model's; dropout without a key.
      TypeError: sizes is no sequence of integers, dtype not floating; a key is no PRNG key.
    Kinks: the activations'.
    Source: Goodfellow, Bengio, Courville 2016, chapter 6.
    Example:
      >>> model = models.mlp([2, 8, 1], "tanh")
      >>> params = model.init(jax.random.key(0))
      >>> model.apply(params, jnp.ones((4, 2))).shape, tree.size(params)
      ((4, 1), 33)
    """
    sizes = widths("sizes", sizes)
    dense = [layers.dense(d, k, initializer=initializer, dtype=dtype) for d, k in pairwise(sizes)]
    functions = [function_of(f) for f in per_layer(activation, output, len(dense))]
    within("dropout_rate", number("dropout_rate", dropout_rate), 0.0, 1.0, open_right=True)

    def init(key: Key) -> Params:
        keys = jax.random.split(arguments.key("key", key), len(dense))
        return {"layers": [layer.init(layer_key) for layer, layer_key in zip(dense, keys, strict=True)]}

    def apply(
        params: Params, x: Float[Array, "... d"], *, key: Key | None = None, deterministic: bool = False
    ) -> Float[Array, "... k"]:
        a = x
        of_layers = layers_of("params", params, "layers", len(dense))
        for l, (layer, of_layer, function) in enumerate(zip(dense, of_layers, functions, strict=True)):
            with layer_path(f"layers/{l}"):
                a = function(layer.apply(of_layer, a))
                if l < len(functions) - 1:
                    layer_key = None if key is None else jax.random.fold_in(arguments.key("key", key), l)
                    a = layers.dropout(layer_key, a, dropout_rate, deterministic)
        return a

    return Model(init, apply)


def widths(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """Layer sizes from input to output, checked.

    Raises:
      ValueError: fewer than two, or one that is not positive.  TypeError: no sequence of integers.
    """
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise TypeError(f"{name}: expected a sequence of widths, got {described(sizes)}")
    if len(sizes) < 2:
        raise ValueError(f"{name}: expected at least an input and an output width, got {tuple(sizes)}")
    return tuple(integer(f"{name}[{i}]", size) for i, size in enumerate(sizes))


def per_layer(activation: Function | Sequence[Function], output: Function | None, depth: int) -> list[Function]:
    """One activation per layer from `mlp`'s two arguments, the output's last.

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
