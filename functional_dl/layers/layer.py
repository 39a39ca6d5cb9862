"""What a layer with parameters is."""

from collections.abc import Callable
from typing import NamedTuple

from functional_dl.aliases import Array, Params


class Layer(NamedTuple):
    """A layer: init(key) -> params, apply(params, *inputs) -> output."""

    init: Callable[..., Params]
    apply: Callable[..., Array]
