"""What a layer with parameters is, and the path under which a network holds it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax

from functional_dl.aliases import Array, Params, PyTree

_PATH: ContextVar[str] = ContextVar("layer path", default="")


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


@contextmanager
def layer_path(name: str) -> Iterator[None]:
    """Names the layer applied inside: its equations carry the name (jax.named_scope), its errors the whole path.

    Nested names join: `with layer_path("blocks/0"): with layer_path("query"): ...` is blocks/0/query.  The name is
    the layer's key in params, so that a path in an error or a table is the path of its parameters.
    """
    path = f"{_PATH.get()}/{name}".removeprefix("/")
    token = _PATH.set(path)
    try:
        with jax.named_scope(name):
            yield
    except (ValueError, TypeError) as error:
        message = str(error)
        own = type(error) in (ValueError, TypeError)  # JAX's errors of tracing derive from TypeError
        if own and not message.startswith((f"{path}:", f"{path}/")):
            error.args = (f"{path}: {message}",)
        raise
    finally:
        _PATH.reset(token)
