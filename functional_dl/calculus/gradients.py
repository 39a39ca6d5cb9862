r"""Partial derivatives, gradients and what is made of them, of functions of JAX.

A point x is a number, an array, or a pytree; where it is a tuple and f takes its entries as arguments, f(*x) is
meant.  Numbers of Python and NumPy are read in float64, arrays of JAX keep their dtype.  `differentiate` swaps JAX's
transformation for another one of the same form, for instance functional_dl.reverse's.  At kinks the value is JAX's
convention for the function.  Where a condition sets f at x alone, as jnp.where(r == 0, 0, ...) does, the derivative is
that of f around x, found along lines, or refused (ValueError) where there is none; a traced x is not looked into.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten, tree_leaves, tree_map, tree_unflatten

from functional_dl import arguments, tree
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.calculus.points import (
    argument_names,
    check_number,
    of_one_argument,
    real_point,
    same_form,
    shape_of,
    vector_field,
)
from functional_dl.precision import double


def _set_points() -> Any:
    """What differentiates at points that a condition sets: seldom needed, and not imported before."""
    from functional_dl.calculus import set_points

    return set_points


class Ascent(NamedTuple):
    """The unit direction in which f grows fastest, and how fast: D_u f = |grad f| for u = grad f / |grad f|."""

    direction: PyTree
    rate: Scalar


def gradient(f: Callable[..., Any], x: PyTree, *, differentiate: Callable[..., Any] = jax.grad) -> PyTree:
    r"""grad f(x) = (df/dx_1, ..., df/dx_n): the vector g with f(x + v) = f(x) + <g, v> + o(|v|).

    Args:
      f: function of x whose value is one real number.
      x: a number, an array or a pytree; a tuple where f takes its entries as arguments.
      differentiate: `differentiate(f)(x)` -> gradient; jax.grad or functional_dl.reverse.grad.
    Returns: a pytree like x.
    Raises: ValueError where f(x) is not one real number, or x is NaN; TypeError where x is not real.
    Example:
      >>> calculus.gradient(lambda v: v[0] ** 2 * v[1], jnp.array([2.0, 3.0])).tolist()
      [12.0, 4.0]
    """
    with double():
        x, f = real_point("x", x), of_one_argument(f, x)
        check_number(f, x)
        if _set_points().is_set(f, x):
            return _set_points().like(x, _set_points().derivatives(f, x)[0])
        return differentiate(f)(x)


def partial(f: Callable[..., Any], x: PyTree, index: int | tuple[Any, ...] | str) -> Array:
    r"""df/dx_i: the derivative of f along one coordinate, the others held fixed.

    Args:
      f, x: as for `gradient`; the value of f may be an array.
      index: of an array or a tuple the position (a tuple of positions for an array of more axes); of a dict the key;
        a path such as "layer/0" in deeper trees; of a function of several arguments also the argument's name.
    Returns:
      df/dx_i, of the shape of f(x) where x_i is a number, else with the axes of x_i after it.
    Raises: IndexError or KeyError where there is no such coordinate; the message lists what there is.
    Example:
      >>> calculus.partial(lambda v: v[0] ** 2 * v[1], jnp.array([2.0, 3.0]), 1).item()
      4.0
    """
    with double():
        names, x, f = argument_names(f), real_point("x", x), of_one_argument(f, x)
        entry, put = _coordinate(x, index, names)
        moving = lambda u: f(put(u))
        if _set_points().is_set(f, x):
            if jnp.ndim(entry):
                return _of_lines(moving, entry)
            return _set_points().along(moving, entry, jnp.ones_like(entry))
        if jnp.ndim(entry):
            return jax.jacrev(moving)(entry)
        return jax.jvp(moving, (entry,), (jnp.ones_like(entry),))[1]


def _coordinate(x: PyTree, index, names: list[str]):
    """A coordinate of x, and the function that puts another value in its place."""
    if hasattr(x, "shape"):
        place = index if isinstance(index, tuple) else (index,)
        whole = all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in place)
        if not whole or len(place) > x.ndim or any(not -n <= i < n for i, n in zip(place, x.shape)):
            raise IndexError(f"index: expected a position in an array of shape {x.shape}, got {index!r}")
        return x[place], lambda u: x.at[place].set(u)
    leaves, treedef = tree_flatten(x)
    paths = tree.path_names(x)
    path = str(index)
    if type(x) is tuple and isinstance(index, str) and path not in paths and index in names[: len(x)]:
        path = str(names.index(index))
    if isinstance(index, int) and index < 0 and isinstance(x, tuple | list):
        path = str(len(x) + index)
    if path not in paths:
        raise KeyError(arguments.unknown("index", index, [*paths, *names[: len(x)]] if type(x) is tuple else paths))
    k = paths.index(path)
    return leaves[k], lambda u: tree_unflatten(treedef, [*leaves[:k], u, *leaves[k + 1 :]])


def directional_derivative(f: Callable[..., Any], x: PyTree, v: PyTree) -> PyTree:
    r"""D_v f(x) = lim (f(x + t v) - f(x)) / t = <grad f(x), v>; v is taken as it is, not made a unit vector.

    Args: f, x: as for `gradient`, of any value; v: a direction, of the structure and shapes of x.
    Raises: ValueError where v is not like x.
    Example:
      >>> calculus.directional_derivative(
      ...     lambda v: v[0] * v[1], jnp.array([2.0, 3.0]), jnp.array([1.0, 1.0])
      ... ).item()
      5.0
    """
    with double():
        x, f = real_point("x", x), of_one_argument(f, x)
        v = same_form("v", v, x)
        if _set_points().is_set(f, x):
            return _set_points().along(f, x, v)
        return jax.jvp(f, (x,), (v,))[1]


def steepest_ascent(f: Callable[..., Any], x: PyTree, *, differentiate: Callable[..., Any] = jax.grad) -> Ascent:
    r"""u = grad f / |grad f|, where D_u f is largest among unit vectors (Cauchy and Schwarz), and D_u f = |grad f|.

    -u is the direction of steepest descent.
    Raises: ValueError where the gradient is zero, so that no direction is steepest (NaN where x is traced).
    Example:
      >>> up = calculus.steepest_ascent(lambda v: 3 * v[0] + 4 * v[1], jnp.zeros(2))
      >>> print(up.direction.round(3), up.rate)
      [0.6 0.8] 5.0
    """
    g = gradient(f, x, differentiate=differentiate)
    with double():
        rate = tree.norm(g)
        if not isinstance(rate, jax.core.Tracer) and rate == 0:
            raise ValueError(
                "f: expected a gradient other than zero at x: at a stationary point no direction is steepest"
            )
        return Ascent(tree_map(lambda leaf: leaf / rate.astype(leaf.dtype), g), rate)


def jacobian(f: Callable[..., Any], x: PyTree, *, differentiate: Callable[..., Any] | None = None) -> PyTree:
    r"""J_ij = df_i/dx_j, of shape (*shape of f, *shape of x) for arrays; for pytrees as jax.jacrev nests them.

    Args: f, x: as for `gradient`, of any value; differentiate: as jax.jacrev, which is taken where f has fewer
      entries than x, otherwise jax.jacfwd.
    Example:
      >>> calculus.jacobian(lambda v: jnp.stack([v[0] * v[1], v[0]]), jnp.array([2.0, 3.0])).tolist()
      [[3.0, 2.0], [1.0, 0.0]]
    """
    with double():
        x, f = real_point("x", x), of_one_argument(f, x)
        if _set_points().is_set(f, x):
            return _of_lines(f, x)
        if differentiate is not None:
            return differentiate(f)(x)
        wide = sum(leaf.size for leaf in tree_leaves(shape_of(f, x))) < tree.size(x)
        return (jax.jacrev if wide else jax.jacfwd)(f)(x)


def _of_lines(f: Callable[..., Any], x: PyTree) -> PyTree:
    """The Jacobian at a point where a condition sets f."""
    leaves, treedef = tree_flatten(f(x))
    rows = np.split(_set_points().derivatives(f, x), np.cumsum([leaf.size for leaf in leaves])[:-1], axis=0)
    parts = [_set_points().like(x, r.reshape(*leaf.shape, -1), leaf.shape) for r, leaf in zip(rows, leaves)]
    return tree_unflatten(treedef, parts)


def hessian(f: Callable[..., Any], x: PyTree, *, differentiate: Callable[..., Any] = jax.hessian) -> PyTree:
    r"""H_ij = d^2 f / dx_i dx_j, symmetric where second derivatives are continuous; nested as jax.hessian nests it.

    Args: f, x: as for `gradient`; differentiate: as jax.hessian, for instance functional_dl.reverse.hessian.
    Example:
      >>> calculus.hessian(lambda v: v[0] ** 2 * v[1], jnp.array([2.0, 3.0])).tolist()
      [[6.0, 4.0], [4.0, 0.0]]
    """
    with double():
        x, f = real_point("x", x), of_one_argument(f, x)
        check_number(f, x)
        if _set_points().is_set(f, x):
            return _hessian_of_lines(f, x)
        return differentiate(f)(x)


def _hessian_of_lines(f: Callable[..., Any], x: PyTree) -> PyTree:
    """The Hessian at a point where a condition sets f."""
    h = _set_points().second_derivatives(f, x)
    leaves, treedef = tree_flatten(x)
    rows = np.split(h, np.cumsum([leaf.size for leaf in leaves])[:-1], axis=0)
    parts = [_set_points().like(x, r.reshape(*leaf.shape, -1), leaf.shape) for r, leaf in zip(rows, leaves)]
    return tree_unflatten(treedef, parts)


def divergence(f: Callable[..., Any], x: Array) -> Scalar:
    r"""div f = sum_i df_i/dx_i of a vector field f: R^n -> R^n.

    Example:
      >>> calculus.divergence(lambda v: v**2, jnp.array([1.0, 2.0])).item()
      6.0
    """
    with double():
        x = real_point("x", x)
        n = vector_field(f, x)
        if _set_points().is_set(f, x):
            return jnp.trace(_of_lines(f, x))
        along = lambda e: jnp.vdot(e, jax.jvp(f, (x,), (e,))[1])
        return jnp.sum(jax.vmap(along)(jnp.eye(n, dtype=x.dtype)))


def laplacian(f: Callable[..., Any], x: Array) -> Scalar:
    r"""Laplace f = sum_i d^2 f / dx_i^2 = div grad f of f: R^n -> R.

    Example:
      >>> calculus.laplacian(lambda v: v[0] ** 2 + 3 * v[1] ** 2, jnp.array([1.0, 1.0])).item()
      8.0
    """
    with double():
        x, f = real_point("x", x), of_one_argument(f, x)
        check_number(f, x)
        if _set_points().is_set(f, x):
            return jnp.asarray(np.trace(_set_points().second_derivatives(f, x)))
        leaves, treedef = tree_flatten(x)
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in leaves])
        cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]

        def of_flat(v):
            parts = [part.reshape(leaf.shape) for part, leaf in zip(jnp.split(v, cuts), leaves)]
            return f(tree_unflatten(treedef, parts))

        return divergence(jax.grad(of_flat), flat)


def curl(f: Callable[..., Any], x: Array) -> Array:
    r"""curl f = (d_2 f_3 - d_3 f_2, d_3 f_1 - d_1 f_3, d_1 f_2 - d_2 f_1); for n = 2 the number d_1 f_2 - d_2 f_1.

    Example:
      >>> calculus.curl(lambda v: jnp.stack([-v[1], v[0]]), jnp.array([1.0, 2.0])).tolist()
      2.0
    """
    with double():
        x = real_point("x", x)
        n = vector_field(f, x, (2, 3))
        j = _of_lines(f, x) if _set_points().is_set(f, x) else jax.jacfwd(f)(x)
        if n == 2:
            return j[1, 0] - j[0, 1]
        return jnp.stack([j[2, 1] - j[1, 2], j[0, 2] - j[2, 0], j[1, 0] - j[0, 1]])
