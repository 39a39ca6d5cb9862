"""What a network is: the one form of every file of this room."""

from collections.abc import Callable
from typing import NamedTuple

from functional_dl.aliases import Array, Params, PyTree

NAMES = (
    "linear", "logistic", "mlp", "cnn", "resnet", "recurrent", "transformer", "autoencoder", "vae", "gan",
)  # fmt: skip


class Model(NamedTuple):
    """A network: init(key) -> params, apply(params, x, ...) -> output, both pure."""

    init: Callable[..., Params]
    apply: Callable[..., Array]


class StatefulModel(NamedTuple):
    """A network that carries something from call to call, such as the moments of its batch norms.

    init(key) -> params, apply(params, carry, x, ...) -> (carry, output), initial(...) -> carry.
    """

    init: Callable[..., Params]
    apply: Callable[..., tuple[PyTree, Array]]
    initial: Callable[..., PyTree]
