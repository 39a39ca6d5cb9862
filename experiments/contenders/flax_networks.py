"""The networks in Flax: name -> (module, an input)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from flax import linen as nn  # pyright: ignore[reportMissingImports]


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in (16, 32):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1))))


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(nn.OptimizedLSTMCell(64))(x)[:, -1])


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        place = self.param("positions", nn.initializers.normal(0.2), (64, 32))
        x = 32**0.5 * nn.Embed(17, 32)(tokens) + place[: tokens.shape[1]]
        mask = nn.make_causal_mask(tokens)
        for _ in range(2):
            x = x + nn.SelfAttention(4)(nn.LayerNorm()(x), mask)
            x = x + nn.Dense(32)(nn.gelu(nn.Dense(128)(nn.LayerNorm()(x)), approximate=False))
        return nn.Dense(17)(nn.LayerNorm()(x))


NETWORKS = {
    "perceptron": (nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)]), np.zeros((1, 64), np.float32)),
    "convolutional": (Convolutional(), np.zeros((1, 8, 8, 1), np.float32)),
    "LSTM": (LSTM(), np.zeros((1, 8, 8), np.float32)),
    "transformer": (Transformer(), np.zeros((1, 63), np.int32)),
}


def init(task: str) -> Callable[[Any], Any]:
    """init(key) of a network: Flax asks for an input."""
    network, x = NETWORKS[task]
    return lambda key: network.init(key, x)
