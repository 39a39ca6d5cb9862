"""What a network is: the one form of every file of this room."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from functional_dl.aliases import Array, Params, PyTree
from functional_dl.arguments import described, entry

NAMES = ("linear", "logistic", "mlp", "autoencoder", "vae", "gan")


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


def parts(params: Params, name: str, count: int) -> Sequence[Any]:
    """params[name], the params of so many layers or blocks.

    Raises:
      ValueError: there is no such entry, or another number of them: the params are another model's.
      TypeError: params is no dictionary, or the entry no sequence.
    """
    found = entry("params", params, name)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise TypeError(f"params[{name!r}]: expected a sequence of {count}, got {described(found)}")
    if len(found) != count:
        raise ValueError(f"params[{name!r}]: expected {count} {name}, got {len(found)}")
    return found
