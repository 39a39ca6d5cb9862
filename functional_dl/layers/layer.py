"""What a layer with parameters is."""

from collections.abc import Callable
from typing import NamedTuple

from functional_dl.aliases import Array, Params, PyTree


class Layer(NamedTuple):
    """A layer: init(key) -> params, apply(params, *inputs) -> output."""

    init: Callable[..., Params]
    apply: Callable[..., Array]


class StatefulLayer(NamedTuple):
    """A layer that carries something from call to call.

    init(key) -> params, apply(params, carry, *inputs) -> (carry, output), initial(...) -> carry.
    """

    init: Callable[..., Params]
    apply: Callable[..., tuple[PyTree, Array]]
    initial: Callable[..., PyTree]
