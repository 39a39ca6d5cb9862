"""Programs to differentiate: small networks of the usual kinds, each a loss of parameters and a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from experiments.workloads import convolutional, dense, products, recurrent, transformer


@dataclass(frozen=True)
class Workload:
    """A scalar function and its arguments; the first is differentiated.

    Attributes:
      build: key -> arguments.
      about: one line.
    """

    fun: Callable[..., Any]
    build: Callable[..., tuple]
    about: str


WORKLOADS = {
    "mlp": Workload(dense.loss, dense.build, "three dense layers, ReLU, softmax cross-entropy"),
    "cnn": Workload(convolutional.loss, convolutional.build, "two convolutions with max pooling, two dense layers"),
    "transformer": Workload(transformer.loss, transformer.build, "four blocks of causal attention and GELU"),
    "lstm": Workload(recurrent.loss, recurrent.build, "an LSTM scanned over 32 steps"),
    "product": Workload(products.loss, products.build, "the product of 1000 numbers"),
}
