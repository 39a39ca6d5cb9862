"""Recurrent networks: cells in layers over time, and a dense layer."""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from functional_dl import arguments, initializers, layers
from functional_dl.aliases import Array, Key, Params, PyTree
from functional_dl.arguments import entry, integer, real
from functional_dl.layers.layer import layer_path
from functional_dl.models.parts import keys_of, layers_of, listed, real_steps, zero_past
from functional_dl.sharding import laid_along

Cell: TypeAlias = Literal["gru", "lstm", "rnn"]
CELLS = {"gru": layers.gru_cell, "lstm": layers.lstm_cell, "rnn": layers.rnn_cell}


class RecurrentModel(NamedTuple):
    """A network over time: init(key) -> params, apply(params, x, lengths=None) -> output.

    For a sequence that comes piece by piece: initial(batch_shape) -> carry, extend(params, carry, x, lengths=None) ->
    (carry, output).
    """

    init: Callable[..., Params]
    apply: Callable[..., Array]
    initial: Callable[..., PyTree]
    extend: Callable[..., tuple[PyTree, Array]]


def recurrent(
    in_features: int,
    features: int,
    out_features: int,
    cell: Cell = "lstm",
    *,
    depth: int = 1,
    bidirectional: bool = False,
    every_step: bool = False,
    dropout_rate: float = 0.0,
    initializer: initializers.Name | Callable[..., Array] = "glorot_uniform",
    hidden_initializer: initializers.Name | Callable[..., Array] = "orthogonal",
    dtype: DTypeLike | None = None,
) -> RecurrentModel:
    """Cells over time, each layer reading the outputs of the one below, and a dense layer of the last one's:

    (h^l_t, y^l_t) = cell^l(h^l_{t-1}, y^{l-1}_t),  y^0 = x,   z = y^L_T W + b  (every_step: z_t = y^L_t W + b).

    z_bar given, y^L_T_bar = z_bar W^T; from there on back in time, h_{t-1}_bar = (d cell / d h)^T (h_t_bar, y_t_bar),
    and down the layers; a cell's parameters receive the sum over time.

    Args:
      in_features, features, out_features: of x_t, of each layer's state and of the output.
      cell: "rnn", "lstm" or "gru".
      depth: layers.
      bidirectional: each layer has a second cell that runs from the last step to the first; both outputs, side by side,
        are the layer's.
      every_step: an output for each step instead of one for the sequence.
      dropout_rate: of the outputs between layers, in [0, 1).
      initializer, hidden_initializer, dtype: as of the cells.
    Returns:
      RecurrentModel with params {"layers": [cell's params or {"forward", "backward"}, ...], "head": dense};
      apply(params, x, lengths=None, *, key=None, deterministic=False), x (*batch, time, in_features); the output
      (*batch, out_features) is of each sequence's last real step (and of the first one of the cells that run
      backwards), or, with every_step, (*batch, time, out_features), 0 past a sequence's length.
      initial(batch_shape=()) -> carry, a list with each layer's; extend(params, carry, x, lengths=None) ->
      (carry, output): the next steps of a sequence that comes piece by piece, the same as apply on the whole; a
      bidirectional network has no such steps.

      Number of parameters, with k gates of the cell (rnn 1, gru 3, lstm 4) and f features: k f (d + f + 2) for each
      cell, d = in_features in the first layer and f above (2 f if bidirectional, with twice as many cells), + (f or
      2 f) out + out.
    Raises:
      ValueError: no such cell; x, lengths, carry or params do not fit; a concrete length lies outside [0, time]; extend
        of a bidirectional network.
      TypeError: a size is no integer, lengths are none; x is no array of real numbers.
    Kinks: none.
    Source: Elman 1990; Hochreiter and Schmidhuber 1997; Cho et al. 2014; Schuster and Paliwal 1997; dropout: Zaremba,
      Sutskever, Vinyals 2014.

    Example:
      >>> model = models.recurrent(3, 4, 2, "gru")
      >>> model.apply(model.init(jax.random.key(0)), jnp.ones((5, 7, 3))).shape
      (5, 2)
    """
    arguments.choice("cell", cell, CELLS)
    arguments.within("dropout_rate", dropout_rate, 0.0, 1.0, open_right=True)
    integer("in_features", in_features)
    width = integer("features", features) * (2 if bidirectional else 1)
    options = {"initializer": initializer, "hidden_initializer": hidden_initializer, "dtype": dtype}
    stack = []
    for l in range(integer("depth", depth)):
        of = CELLS[cell](in_features if l == 0 else width, features, **options)
        stack.append(layers.bidirectional(of, of) if bidirectional else layers.recurrent(of))
    head = layers.dense(width, integer("out_features", out_features), initializer=initializer, dtype=dtype)

    def init(key: Key) -> Params:
        *keys, last = jax.random.split(arguments.key("key", key), depth + 1)
        return {"layers": [layer.init(k) for layer, k in zip(stack, keys)], "head": head.init(last)}

    def initial(batch_shape: tuple[int, ...] = (), dtype: DTypeLike | None = dtype) -> PyTree:
        return [layer.initial(batch_shape, dtype) for layer in stack]

    def forward(params, carry, x, lengths, key, deterministic):
        made, carry = layers_of("params", params, "layers", depth), listed("carry", carry, depth)
        keys, moved, ys = keys_of(key, depth), [], x
        for l, (layer, given, before) in enumerate(zip(stack, made, carry)):
            with layer_path(f"layers/{l}"):
                if l:
                    ys = layers.dropout(keys[l], ys, dropout_rate, deterministic)
                after, ys = layer.apply(given, before, ys, lengths)
            moved.append(after)
        top = ys if every_step else _states(moved[-1], cell, bidirectional)
        given = entry("params", params, "head")
        with layer_path("head"):
            y = head.apply(given, top)
        if every_step and lengths is not None:
            y = zero_past(y, real_steps(lengths, y))
        return moved, y

    def checked(x):
        x = real("x", x)
        if x.ndim < 2 or x.shape[-1] != in_features:
            with layer_path("layers/0"):
                raise ValueError(f"x: expected shape (*batch, time, {in_features}), got {x.shape}")
        return x

    def apply(
        params: Params,
        x: Array,
        lengths: Array | None = None,
        *,
        key: Key | None = None,
        deterministic: bool = False,
    ) -> Array:
        x = checked(x)
        carry = jax.tree.map(lambda h: laid_along(h, x), initial(x.shape[:-2], x.dtype))
        return forward(params, carry, x, lengths, key, deterministic)[1]

    def extend(
        params: Params,
        carry: PyTree,
        x: Array,
        lengths: Array | None = None,
        *,
        key: Key | None = None,
        deterministic: bool = False,
    ) -> tuple[PyTree, Array]:
        if bidirectional:
            raise ValueError("extend: expected a network that runs forwards, a bidirectional one reads the end first")
        return forward(params, carry, checked(x), lengths, key, deterministic)

    return RecurrentModel(init, apply, initial, extend)


def _states(carry: PyTree, cell: Cell, bidirectional: bool) -> Array:
    """h of a layer's carry, both directions' side by side."""
    states = [each[0] if cell == "lstm" else each for each in (carry if bidirectional else (carry,))]
    return jnp.concatenate(states, axis=-1) if bidirectional else states[0]
