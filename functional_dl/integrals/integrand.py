"""What a caller integrates, as a function to one real vector; and its values back in the caller's structure."""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments
from functional_dl.aliases import PyTree
from functional_dl.calculus import numpy_functions
from functional_dl.integrals import rules


class Integrand(NamedTuple):
    """A function of a number as a function to a vector: complex entries are two real ones, pytrees are raveled."""

    vector: Callable[..., Any]  # (x, *args) -> (K,) float64
    restore: Callable[..., Any]  # (K,) -> the structure of the function's value
    restore_error: Callable[..., Any]  # (K,) of errors >= 0 -> the same structure, moduli for complex entries
    size: int
    eps: float  # rounding unit of the least precise of the values
    plain: str = ""  # why JAX cannot trace it, if it cannot: `vector` then takes Python's numbers, and returns NumPy's


def integrand(name: str, f: Callable[..., Any], args: tuple[Any, ...], ndim: int = 0) -> Integrand:
    """f(x, *args) made a vector function; x a number (ndim = 0) or, split up, ndim numbers.

    Raises:
      TypeError: f is not callable, or does not return numbers.
    """
    arguments.function(name, f)
    promotion = rules.strictness()
    number = jax.ShapeDtypeStruct((), jnp.float64)

    def called(f):
        def call(*operands):
            with promotion():
                return f(*operands)

        return call

    call, plain = called(f), ""
    try:
        shape = jax.eval_shape(call, *[number] * max(1, ndim), *args)
    except Exception as error:  # whatever a function of Python or NumPy says to a tracer
        readable = numpy_functions.readable(f, *[number] * max(1, ndim), *args)
        if readable is not None:
            call = called(readable)
            shape = jax.eval_shape(call, *[number] * max(1, ndim), *args)
        elif isinstance(error, _UNTRACED) and ndim == 0 and not _is_misused(error):
            call, plain = f, type(error).__name__
            shape = jax.tree_util.tree_map(_shape, f(PLACE, *args))
        else:
            _refuse(name, error, max(1, ndim) + len(args))
    leaves, structure = jax.tree_util.tree_flatten(shape)
    if not leaves:
        raise TypeError(f"{name}: expected a function that returns numbers, it returns {shape}")
    for leaf in leaves:
        if not (jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == jnp.bool_):
            raise TypeError(f"{name}: expected a function that returns numbers, it returns dtype {leaf.dtype}")
    is_complex = [jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in leaves]
    sizes = [int(leaf.size) * (2 if c else 1) for leaf, c in zip(leaves, is_complex)]

    def vector(*operands):
        parts = []
        for leaf, c in zip(jax.tree_util.tree_leaves(call(*operands)), is_complex):
            flat = jnp.ravel(leaf)
            parts += [jnp.real(flat), jnp.imag(flat)] if c else [flat]
        return jnp.concatenate([part.astype(jnp.float64) for part in parts])

    def plain_vector(*operands):
        parts = [np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(call(*operands))]
        parts = [p for x, c in zip(parts, is_complex) for p in ((x.real, x.imag) if c else (x,))]
        return np.concatenate(parts).astype(np.float64)

    def split(flat):
        bounds = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        return [flat[bounds[k] : bounds[k + 1]] for k in range(len(sizes))]

    def restore(flat):
        found = []
        for part, leaf, c in zip(split(flat), leaves, is_complex):
            part = jax.lax.complex(part[: leaf.size], part[leaf.size :]) if c else part
            found.append(part.reshape(leaf.shape))
        return jax.tree_util.tree_unflatten(structure, found)

    def restore_error(flat):
        found = []
        for part, leaf, c in zip(split(flat), leaves, is_complex):
            part = jnp.hypot(part[: leaf.size], part[leaf.size :]) if c else part
            found.append(part.reshape(leaf.shape))
        return jax.tree_util.tree_unflatten(structure, found)

    chosen = plain_vector if plain else vector
    return Integrand(chosen, restore, restore_error, sum(sizes), rounding_unit(shape), plain)


PLACE = 0.4873
_UNTRACED = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError)


def _shape(leaf):
    if not isinstance(leaf, bool | int | float | complex | np.generic | np.ndarray | jax.Array):
        raise TypeError(f"f: expected a function that returns numbers, it returns {type(leaf).__name__}")
    return jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype)


def _is_misused(error: Exception) -> bool:
    """Whether a function takes another number of arguments, or returns no numbers."""
    return any(part in str(error) for part in ("positional argument", "not a valid JAX type"))


def _refuse(name: str, error: Exception, wanted: int) -> NoReturn:
    """What is wrong with a function that neither JAX nor Python evaluates, in one line where that can be."""
    message = str(error).splitlines()[0]
    if isinstance(error, TypeError) and "positional argument" in message:
        raise TypeError(f"{name}: expected a function of {wanted} argument(s): {message}") from error
    if isinstance(error, TypeError) and "not a valid JAX type" in message:
        raise TypeError(f"{name}: expected a function that returns numbers: {message}") from error
    if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
        raise TypeError(f"{name}: expected a function of JAX operations: {message}") from error
    raise error


def jax_function(name: str, f: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """f, or f of NumPy's functions read as one of JAX, at arguments of these types.

    Raises:
      TypeError: JAX cannot trace f, in one line.
    """
    arguments.function(name, f)
    try:
        jax.eval_shape(lambda *xs: f(*xs), *args)
    except Exception as error:  # whatever a function of Python or NumPy says to a tracer
        found = numpy_functions.readable(f, *args)
        if found is None:
            _refuse(name, error, len(args))
        return found
    return f


def rounding_unit(shape: PyTree) -> float:
    """The eps of the least precise floating leaf."""
    kinds = [leaf.dtype for leaf in jax.tree_util.tree_leaves(shape) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return max((float(jnp.finfo(kind).eps) for kind in kinds), default=float(jnp.finfo(jnp.float64).eps))
