"""Checks of what a caller hands in: each error names the argument, what was expected and what came.

Shapes and dtypes are known while JAX traces and are always checked.  Values are not: `concrete` gives them
where they exist and None under jit, grad and vmap, and a check of values is skipped there.
"""

import difflib
import operator
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array, Key

__all__ = [
    "array",
    "array_leaf",
    "choice",
    "concrete",
    "described",
    "entry",
    "floating_dtype",
    "floating_leaf",
    "function",
    "integer",
    "key",
    "lookup",
    "missing",
    "nearest",
    "number",
    "one_of",
    "pair",
    "positive",
    "real",
    "refusal",
    "shaped",
    "unknown",
    "within",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


T = TypeVar("T")
LISTED = 24  # a message lists as many names; of a longer table it gives the nearest


def concrete(x: Any) -> np.ndarray | None:
    """The numbers of x, or None while JAX traces it."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def described(x: Any) -> str:
    """What came, as a message describes it: dtype and shape of an array, value and type of anything else."""
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"{x.dtype} of shape {x.shape}"
    text = repr(x)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(x).__name__})"


def array(name: str, x: Any) -> Array:
    """x as an array, of whatever dtype; lists of numbers are read as arrays.

    Raises:
      TypeError: x is no array of numbers.
    """
    try:
        if not isinstance(x, str | bytes):  # NumPy reads some strings as names of dtypes
            return jnp.asarray(x)
        cause = None
    except (TypeError, ValueError) as error:
        cause = error
    raise TypeError(f"{name}: expected an array of numbers, got {described(x)}") from cause


def shaped(name: str, x: Any, shape: tuple[int, ...]) -> Array:
    """x as an array, checked to be of this shape.

    Raises:
      ValueError: its shape is another; the message names the axes that differ.  TypeError: x is no array of numbers.
    """
    x = array(name, x)
    if x.shape == shape:
        return x
    differ = [str(i) for i, (n, m) in enumerate(zip(x.shape, shape)) if n != m]
    where = f" ({'axis' if len(differ) == 1 else 'axes'} {' and '.join(differ)})" if x.ndim == len(shape) else ""
    raise ValueError(f"{name}: expected shape {shape}, got {x.shape}{where}")


def real(name: str, x: Any) -> Array:
    """x as a floating array; integers are read in the default float dtype.

    Raises:
      TypeError: x is complex, or no array of numbers.
    """
    x = array(name, x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    if jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == jnp.bool_:
        return x.astype(float)
    raise TypeError(f"{name}: expected real numbers, got dtype {x.dtype}")


def pair(first: str, x: Any, second: str, y: Any) -> tuple[Array, Array]:
    """x and y as floating arrays of one shape; nothing is broadcast.

    Integers take the dtype of the other argument.

    Raises:
      ValueError: the shapes differ.
      TypeError: one is complex.
    """
    x, y = array(first, x), array(second, y)
    if x.shape != y.shape:
        raise ValueError(
            f"{first} and {second}: expected one shape (nothing is broadcast), got {first} of shape "
            f"{x.shape} and {second} of shape {y.shape}"
        )
    x_floats, y_floats = (jnp.issubdtype(v.dtype, jnp.floating) for v in (x, y))
    x, y = real(first, x), real(second, y)
    if x_floats and not y_floats:
        y = y.astype(x.dtype)
    if y_floats and not x_floats:
        x = x.astype(y.dtype)
    return x, y


def within(name: str, x: Any, low: float, high: float, *, open_right: bool = False, nan: bool = False) -> None:
    """Checks that a concrete x lies in [low, high], or in [low, high) if open_right.

    Raises:
      ValueError: a value lies outside, or is NaN (unless `nan` lets it pass, as a value that a program computed).
      TypeError: x is no array of real numbers.
    """
    values = _known(name, x)
    if values is None or values.size == 0:
        return
    values = values.astype(np.float64)
    inside = (values >= low) & ((values < high) if open_right else (values <= high))
    if nan:
        inside |= np.isnan(values)
    if not inside.all():
        interval = f"[{low:g}, {high:g}{')' if open_right or high == np.inf else ']'}"
        raise ValueError(f"{name}: expected values in {interval}, got {values[~inside].flat[0]:g}")


def one_of(name: str, x: Any, allowed: tuple[float, ...]) -> None:
    """Checks that a concrete x takes only a few values.

    Raises:
      ValueError: another value is among them.
      TypeError: x is no array of real numbers.
    """
    values = _known(name, x)
    if values is None:
        return
    outside = ~np.isin(values.astype(np.float64), allowed)
    if outside.any():
        raise ValueError(f"{name}: expected values among {allowed}, got {values[outside].flat[0]:g}")


def positive(name: str, x: T) -> T:
    """x, checked to be positive where its values are known.

    Raises:
      ValueError: x is 0, negative or NaN.
      TypeError: x is no array of real numbers.
    """
    values = _known(name, x)
    if values is not None and not (values > 0).all():
        raise ValueError(f"{name}: expected a number > 0, got {x}")
    return x


def number(name: str, x: T) -> T:
    """x, checked to be one real number: Python's, NumPy's, or an array of shape (), which JAX may be tracing.

    Raises:
      TypeError: x is no real number.
      ValueError: x is an array of many.
    """
    _known(name, x, "one real number")
    shape = jnp.shape(x)  # pyright: ignore[reportArgumentType]
    if shape != ():
        raise ValueError(f"{name}: expected one number, got shape {shape}")
    return x


def _known(name: str, x: Any, expected: str = "real numbers") -> np.ndarray | None:
    """`concrete`, of what has to be real numbers.  Python's floats keep their digits: none is rounded to float32."""
    try:
        values = None if isinstance(x, jax.core.Tracer) else np.asarray(x)
        dtype = jnp.result_type(x if values is None else values)
    except (TypeError, ValueError):  # a ragged list, an array of keys, strings, objects
        dtype = None
        values = None
    if dtype is None or not any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise TypeError(f"{name}: expected {expected}, got {described(x)}")
    return values


def integer(name: str, value: Any, least: int = 1) -> int:
    """`value` as an int: a layer's width, a number of steps, an order.

    Raises:
      TypeError: it is not an integer.  ValueError: it is less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r} ({type(value).__name__})") from None
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {value!r} (bool)")
    if number < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {number}")
    return number


def function(name: str, value: Any) -> None:
    """Refuses what cannot be called.

    Raises:
      TypeError: `value` is no function.
    """
    if not callable(value):
        raise TypeError(f"{name}: expected a function, got {value!r} ({type(value).__name__})")


def missing(module: str, user: str, extra: str) -> str:
    """The message where an optional package is not installed: what needs it, and which extra installs it."""
    return f"{user} needs {module}, which is not installed: pip install 'functional_dl[{extra}]'"


def key(name: str, value: Any) -> Key:
    """One random key, of the new style (jax.random.key) or the old (jax.random.PRNGKey: uint32, shape (2,)).

    Raises:
      TypeError: `value` is something else: an integer, no key at all, many keys.
    """
    if isinstance(value, jax.Array | np.ndarray):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and value.shape == ():
            return jnp.asarray(value)
        if value.dtype == jnp.uint32 and value.ndim == 1:
            return jnp.asarray(value)
    raise TypeError(f"{name}: expected one PRNG key such as jax.random.key(0), got {described(value)}")


def floating_leaf(name: str, leaf: Any, *, complex_too: bool = False) -> None:
    """Refuses a leaf that is no floating array or number: a string, integers, an object.

    Raises:
      TypeError: the leaf is something else.
    """
    if not jnp.issubdtype(array_leaf(name, leaf), jnp.inexact if complex_too else jnp.floating):
        raise TypeError(f"{name}: expected floating numbers, got {described(leaf)}")


def array_leaf(name: str, leaf: Any) -> Any:
    """The dtype of a leaf, without a copy of it.

    Raises:
      TypeError: the leaf is nothing that JAX takes for an array: a string, an object, None.
    """
    try:
        if not isinstance(leaf, str | bytes):  # result_type reads a string as the name of a dtype
            return jnp.result_type(leaf)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name}: expected an array of numbers, got {described(leaf)}")


def floating_dtype(name: str, dtype: Any) -> np.dtype:
    """A dtype of real floating numbers; None is the default one.

    Raises:
      TypeError: it is another dtype, or none.
    """
    try:
        found = np.dtype(jnp.zeros((), float if dtype is None else dtype).dtype)
    except TypeError:
        raise TypeError(f"{name}: expected a floating dtype, got {dtype!r}") from None
    if not jnp.issubdtype(found, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {found}")
    return found


def entry(name: str, params: Any, of: str) -> Any:
    """params[of], the entry of that name in a dictionary of parameters.

    Raises:
      TypeError: params is no dictionary.  ValueError: it has no such entry.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"{name}: expected a dictionary with the entry {of!r}, got {described(params)}")
    if of not in params:
        raise ValueError(f"{name}: expected an entry {of!r}, got {', '.join(map(repr, params)) or 'none'}")
    return params[of]


# ---- names and options --------------------------------------------------------------------------------------------


def lookup(name: str, key: str, table: Mapping[Any, T]) -> T:
    """table[key].

    Raises:
      ValueError: there is no such entry; the message lists those there are, and what was probably meant.
      TypeError: key is no string.
    """
    choice(name, key, table)
    return table[key]


def choice(name: str, key: str, allowed: Collection[Any]) -> None:
    """Refuses a string that is none of the allowed ones: the keys of a table, the values of a Literal.

    Raises:
      ValueError: it is another string.  TypeError: it is no string.
    """
    if not isinstance(key, str) or key not in allowed:
        kind = ValueError if isinstance(key, str) else TypeError
        raise kind(unknown(name, key, allowed))


def unknown(name: str, key: Any, allowed: Collection[str]) -> str:
    """The message that refuses a name: which there are, what came, and what was probably meant."""
    near = nearest(key, allowed) if isinstance(key, str) else []
    those = ", ".join(sorted(allowed)) if len(allowed) <= LISTED else f"{len(allowed)} names"
    came = repr(key) if isinstance(key, str) else described(key)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{name}: expected one of {those}; got {came}{meant}"


def nearest(key: str, allowed: Collection[str], most: int = 3) -> list[str]:
    """The allowed names most like key: in letters, by initials (bce: binary_cross_entropy), or by a word."""
    written = key.lower().replace("-", "_").replace(" ", "_")
    near = difflib.get_close_matches(written, allowed, n=most, cutoff=0.5)
    near += [name for name in allowed if "".join(part[:1] for part in name.split("_")) == written]
    words = set(written.split("_"))
    near += [name for name in allowed if words & set(name.split("_"))]
    return list(dict.fromkeys(near))[:most]


def refusal(text: str) -> str:
    """What tyro's box says of a wrong command line, in one line: without its frame, its help, and its list of other
    commands' options."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()
    lines = [re.sub(r"[│╭╮╰╯]|─+|-{3,}", "", line).strip() for line in plain.splitlines()[1:]]  # without its title
    body = " ".join(filter(None, lines))
    near = re.search(r"Perhaps you meant: (--[\w-]+)", body)
    for end in ("For full helptext", "Argument helptext", "Perhaps you meant"):
        body = body.partition(end)[0].strip()
    return body.rstrip(".") + (f"; did you mean {near[1]}?" if near else "")
