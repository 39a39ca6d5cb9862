"""How a layer's weights start: the rules of jax.nn.initializers, by name."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from jax.nn import initializers
from jax.typing import DTypeLike

from functional_dl.aliases import Array, Key
from functional_dl.arguments import lookup

__all__ = ["INITIALIZERS", "Name", "get", "normal"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


Name: TypeAlias = Literal[
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "orthogonal", "zeros"
]  # fmt: skip
# (key, shape, dtype) -> weights; the last two axes are (in, out), a convolution's window stands before them.
INITIALIZERS: dict[str, Callable[..., Array]] = {
    "glorot_normal": initializers.glorot_normal(),  # variance 2 / (in + out): Glorot and Bengio 2010
    "glorot_uniform": initializers.glorot_uniform(),
    "he_normal": initializers.he_normal(),  # variance 2 / in, for rectifiers: He, Zhang, Ren, Sun 2015
    "he_uniform": initializers.he_uniform(),
    "lecun_normal": initializers.lecun_normal(),  # variance 1 / in, for selu: LeCun et al. 1998
    "lecun_uniform": initializers.lecun_uniform(),
    "orthogonal": initializers.orthogonal(),  # Saxe, McClelland, Ganguli 2014
    "zeros": initializers.zeros,
}


def get(initializer: str | Callable[..., Array]) -> Callable[..., Array]:
    """The initializer of that name; a function (key, shape, dtype) -> weights is returned as it is.

    Raises:
      ValueError: no initializer has that name.  TypeError: it is neither a name nor a function.
    Example:
      >>> initializers.get("he_normal")(jax.random.key(0), (4, 3)).shape
      (4, 3)
    """
    return initializer if callable(initializer) else lookup("initializer", initializer, INITIALIZERS)


def normal(key: Key, shape: tuple[int, ...], dtype: DTypeLike, deviation: float) -> Array:
    """Independent normal numbers of mean 0 and this standard deviation.

    Example:
      >>> initializers.normal(jax.random.key(0), (4, 3), jnp.float32, 0.02).shape
      (4, 3)
    """
    return initializers.normal(deviation)(key, shape, dtype)
