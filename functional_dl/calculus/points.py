"""Where a function is differentiated: a point that may be a number, an array, a pytree or a tuple of arguments."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_leaves, tree_map, tree_structure
from jax.typing import ArrayLike

from functional_dl import arguments, tree
from functional_dl.aliases import PyTree

Side: TypeAlias = Literal["both", "left", "right"]  # from where a point is approached


def of_one_argument(f: Callable[..., Any], x: PyTree) -> Callable[..., Any]:
    """f as a function of x: where x is a tuple and f takes its entries one by one, f(*x)."""
    arguments.function("f", f)
    if type(x) is not tuple or not _accepts(f, len(x)):
        return f
    if len(x) == 1 and _takes(f, x):
        return f
    return f if len(x) > 1 and _accepts(f, 1) else lambda x: f(*x)


def _takes(f, x) -> bool:
    """Whether f makes something of x itself."""
    try:
        shape_of(f, x)
    except Exception:  # whatever f says to a tuple
        return False
    return True


def _accepts(f, count: int) -> bool:
    try:
        inspect.signature(f).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a function of C says nothing of its arguments
        return count == 1
    return True


def shape_of(f: Callable[..., Any], *args: Any) -> Any:
    """The types of what f returns.  f is wrapped: JAX cannot hold NumPy's ufuncs as they are."""
    return jax.eval_shape(lambda *xs: f(*xs), *args)


def argument_names(f: Callable[..., Any]) -> list[str]:
    """The names of the positional arguments of f."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def real_point(name: str, x: PyTree) -> PyTree:
    """x with numbers of Python and NumPy and integers in float64; arrays of JAX keep their dtype.

    Raises:
      TypeError: a leaf is no array of real numbers.
      ValueError: a leaf is NaN, or there is none.
    """
    if not tree_leaves(x):
        raise ValueError(f"{name}: expected at least one number, got {x!r}")
    return tree_map(lambda leaf: _real(name, leaf), x)


def _real(name: str, leaf):
    try:
        array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        kind = jnp.result_type(array)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected arrays of real numbers, got {type(leaf).__name__}") from error
    if jnp.issubdtype(kind, jnp.integer) or kind == jnp.bool_:
        array = array.astype(float)
    elif not jnp.issubdtype(kind, jnp.floating):
        raise TypeError(f"{name}: expected real numbers, got dtype {kind}")
    if not isinstance(array, jax.core.Tracer) and np.isnan(np.asarray(array, np.float64)).any():
        raise ValueError(f"{name}: expected numbers, got NaN")
    return jnp.asarray(array)


def same_form(name: str, v: PyTree, x: PyTree) -> PyTree:
    """v as a direction at x: of its tree and shapes, in its dtypes."""
    if tree_structure(v) != tree_structure(x):
        raise ValueError(f"{name}: expected the structure of x, {tree_structure(x)}, got {tree_structure(v)}")
    v = real_point(name, v)
    for path, a, b in zip(tree.path_names(x), tree_leaves(v), tree_leaves(x)):
        if a.shape != b.shape:
            where = f" at {path}" if path else ""
            raise ValueError(f"{name}: expected shape {b.shape}{where}, got {a.shape}")
    return tree_map(lambda a, b: a.astype(b.dtype), v, x)


def check_number(f: Callable[..., Any], x: PyTree) -> None:
    """Raises ValueError where f(x) is not one real number."""
    out = shape_of(f, x)
    if not hasattr(out, "shape") or out.shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        came = f"shape {out.shape} of dtype {out.dtype}" if hasattr(out, "shape") else str(tree_structure(out))
        raise ValueError(f"f: expected one real number as its value (else use jacobian), got {came}")


def vector_field(f: Callable[..., Any], x: ArrayLike, sizes: tuple[int, ...] | None = None) -> int:
    """The dimension n of a field R^n -> R^n.  Raises ValueError where f is none at x."""
    arguments.function("f", f)
    shape = jnp.shape(x) if not isinstance(x, tuple | list | dict) else None
    if shape is None or len(shape) != 1 or (sizes and shape[0] not in sizes):
        wanted = f" with n in {sizes}" if sizes else ""
        raise ValueError(
            f"x: expected an array of shape (n,){wanted}, got {shape if shape is not None else type(x).__name__}"
        )
    out = shape_of(f, x)
    if getattr(out, "shape", None) != shape:
        raise ValueError(f"f: expected a vector of the shape of x, {shape}, as its value, got {out}")
    return shape[0]
