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

from functional_dl.layers.attention import AttentionLayer, attention, dot_product_attention
from functional_dl.layers.convolution import conv, conv_transpose
from functional_dl.layers.dense import affine, dense
from functional_dl.layers.dropout import apply_mask, dropout
from functional_dl.layers.embedding import embedding, rotary, sinusoidal_positions
from functional_dl.layers.layer import Layer, StatefulLayer
from functional_dl.layers.normalisation import (
    batch_norm,
    group_norm,
    layer_norm,
    rms_norm,
    rms_normalize,
    standardize,
)
from functional_dl.layers.pooling import average_pool, global_average_pool, max_pool
from functional_dl.layers.recurrent import bidirectional, gru_cell, lstm_cell, recurrent, rnn_cell

__all__ = [
    "AttentionLayer",
    "Layer",
    "StatefulLayer",
    "affine",
    "apply_mask",
    "attention",
    "average_pool",
    "batch_norm",
    "bidirectional",
    "conv",
    "conv_transpose",
    "dense",
    "dot_product_attention",
    "dropout",
    "embedding",
    "global_average_pool",
    "group_norm",
    "gru_cell",
    "layer_norm",
    "lstm_cell",
    "max_pool",
    "recurrent",
    "rms_norm",
    "rms_normalize",
    "rnn_cell",
    "rotary",
    "sinusoidal_positions",
    "standardize",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
