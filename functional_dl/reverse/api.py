"""Reverse-mode differentiation of functions of pytrees: JAX's own interface, by hand-written rules.

`vjp`, `grad`, `value_and_grad`, `jacrev`, `jacobian`, `hessian` and `checkpoint` take the arguments of their namesakes
in `jax`, return the same pytrees and raise the same errors.
"""

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import (
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_leaves,
    tree_map,
    tree_structure,
    tree_transpose,
    tree_unflatten,
)

from functional_dl import arguments
from functional_dl.aliases import PyTree
from functional_dl.reverse import budget, sweep
from functional_dl.reverse.boundary import boundary
from functional_dl.reverse.pullback import Pullback, Static, is_mutable, of_type
from functional_dl.reverse.values import is_differentiable, is_users_type, weakened
from functional_dl.sharding import cotangent_type, full, sharding_of, unravelled

P = ParamSpec("P")  # the arguments of a differentiated function
T = TypeVar("T")  # its value
A = TypeVar("A")  # what it returns besides, with has_aux


@overload
def vjp(fun: Callable[..., T], *primals: PyTree, has_aux: Literal[False] = ...) -> tuple[T, Pullback]: ...
@overload
def vjp(fun: Callable[..., tuple[T, A]], *primals: PyTree, has_aux: Literal[True]) -> tuple[T, Pullback, A]: ...
@overload
def vjp(fun: Callable[..., Any], *primals: PyTree, has_aux: bool) -> tuple[PyTree, ...]: ...
@boundary
def vjp(fun: Callable[..., Any], *primals: PyTree, has_aux: bool = False) -> tuple[PyTree, ...]:
    r"""Value of `fun` and its pullback, the transposed derivative.

    y = f(x_1, ..., x_n);  pullback: y_bar -> (x_1_bar, ..., x_n_bar),  x_i_bar = (\partial f / \partial x_i)^T y_bar.

    Args:
      fun: function of pytrees of arrays that returns a pytree of arrays.
      *primals: the x_i.
      has_aux: fun returns a pair; the first part is differentiated, the second returned as it is.
    Returns:
      (y, pullback), or (y, pullback, aux).  `pullback` is a pytree (a `jax.tree_util.Partial`) whose leaves are the
      residuals: it may be returned from jit, mapped by vmap, stored.  Cotangents of integers and booleans are float0.
      `pullback.with_refs(...)` adds cotangents to mutable arrays; see `Pullback`.
    Raises:
      TypeError: fun is not callable, a primal is no array, or fun does not return arrays.
      ValueError (from the pullback): the cotangent's tree, shape or dtype differs from the output's.
    Kinks: by the rule of each primitive; see `functional_dl.reverse.kinks`.
    Source: Griewank and Walther, Evaluating Derivatives, 2nd ed., section 3.2.
    Example:
      >>> value, pullback = reverse.vjp(lambda x, y: x * y, 2.0, 3.0)
      >>> [ct.item() for ct in pullback(1.0)]
      [3.0, 2.0]
    """
    _check_callable(fun)
    leaves, in_tree = tree_flatten(primals)
    mutable = [i for i, leaf in enumerate(leaves) if is_mutable(leaf)]
    if len({id(leaves[i]) for i in mutable}) < len(mutable):
        _refuse_aliases(fun, primals)
    values = [leaf[...] if i in mutable else _check_value(leaf) for i, leaf in enumerate(leaves)]
    active = [is_differentiable(jax.typeof(v)) for v in values]
    # NumPy's integers stay what they are, as under jax.vjp: what is not differentiated computes as without it.
    values = [v if a or i in mutable else leaves[i] for i, (v, a) in enumerate(zip(values, active))]
    store = {}

    def flat_fun(*flat):
        flat = [jax.new_ref(x) if i in mutable else x for i, x in enumerate(flat)]
        out = fun(*tree_unflatten(in_tree, flat))
        left = [flat[i][...] for i in mutable]
        if has_aux:
            if not (isinstance(out, (tuple, list)) and len(out) == 2):
                raise TypeError(
                    "expected function with aux output to return a two-element tuple, but got type "
                    f"{type(out)} with value {out!r}"
                )
            out, aux = out
            aux_leaves, store["aux_tree"] = tree_flatten(aux)
        else:
            aux_leaves = []
        aux_leaves = [*aux_leaves, *left]
        out_paths, store["out_tree"] = tree_flatten_with_path(out)
        outs = [_check_output(path, leaf) for path, leaf in out_paths]
        return outs, aux_leaves

    outs, aux, pull_flat = sweep.forward(flat_fun, values, active)
    for i in reversed(mutable):
        leaves[i][...] = aux.pop()
    pullback = Pullback(Static(_name(fun), in_tree, store["out_tree"], values, outs, mutable, pull_flat), pull_flat)
    result = tree_unflatten(store["out_tree"], outs)
    if has_aux:
        return result, pullback, tree_unflatten(store["aux_tree"], aux)
    return result, pullback


@overload
def grad(
    fun: Callable[P, Any],
    argnums: int = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, PyTree]: ...
@overload
def grad(
    fun: Callable[P, Any],
    argnums: Sequence[int],
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[PyTree, ...]]: ...
@overload
def grad(
    fun: Callable[P, tuple[Any, A]],
    argnums: int = ...,
    has_aux: Literal[True] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[PyTree, A]]: ...
@overload
def grad(
    fun: Callable[P, tuple[Any, A]],
    argnums: Sequence[int],
    has_aux: Literal[True],
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[tuple[PyTree, ...], A]]: ...
@overload
def grad(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: bool = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, PyTree]: ...
def grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., PyTree]:
    r"""Function that evaluates the gradient of a scalar function: \nabla f(x) = (df/dx)^T 1.

    Args:
      fun: function whose arguments at `argnums` are pytrees of floating arrays and whose output is a scalar.
      argnums: position or positions of the arguments to differentiate.
      has_aux: fun returns (value, aux); the gradient function returns (gradient, aux).
      holomorphic: fun is promised to be holomorphic; inputs and output are complex.
      allow_int: integer arguments are allowed; their gradient is float0.
    Returns:
      Function of fun's arguments, whose result has the tree, shapes and dtypes of the argument (a tuple of such for a
      sequence `argnums`).
    Raises:
      TypeError: the output is no scalar, or an input or the output has the wrong dtype.
    Example:
      >>> reverse.grad(lambda x: jnp.sum(x**3))(jnp.array([1.0, 2.0])).tolist()
      [3.0, 12.0]
    """
    value_and_grad_fun = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    @boundary
    @_wraps(fun)
    def grad_fun(*args, **kwargs):
        value, gradient = value_and_grad_fun(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_fun


@overload
def value_and_grad(
    fun: Callable[P, T],
    argnums: int = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[T, PyTree]]: ...
@overload
def value_and_grad(
    fun: Callable[P, T],
    argnums: Sequence[int],
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[T, tuple[PyTree, ...]]]: ...
@overload
def value_and_grad(
    fun: Callable[P, tuple[T, A]],
    argnums: int = ...,
    has_aux: Literal[True] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[tuple[T, A], PyTree]]: ...
@overload
def value_and_grad(
    fun: Callable[P, tuple[T, A]],
    argnums: Sequence[int],
    has_aux: Literal[True],
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[tuple[T, A], tuple[PyTree, ...]]]: ...
@overload
def value_and_grad(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: bool = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[PyTree, PyTree]]: ...
def value_and_grad(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., tuple[PyTree, PyTree]]:
    """Function that evaluates fun and its gradient in one sweep: (f(x), grad f(x)); see `grad`.

    With has_aux the result is ((value, aux), gradient).

    Example:
      >>> value, gradient = reverse.value_and_grad(lambda x: x**2)(3.0)
      >>> value.item(), gradient.item()
      (9.0, 6.0)
    """
    _check_callable(fun)
    argnums = _indices(argnums)

    @boundary
    @_wraps(fun)
    def value_and_grad_fun(*args, **kwargs):
        partial_fun, chosen = _split_arguments(fun, argnums, args, kwargs)
        for leaf in tree_leaves(chosen):
            _check_input_dtype("grad", leaf, holomorphic, allow_int)
        value, pullback, *aux = vjp(partial_fun, *chosen, has_aux=has_aux)
        _check_scalar(value)
        tree_map(functools.partial(_check_output_dtype, "grad", holomorphic), value)
        bars = pullback(_one(value))
        bars = tree_map(lambda x, bar: of_type(jax.typeof(x), bar), chosen, bars)
        gradient = bars[0] if isinstance(argnums, int) else bars
        return ((value, *aux) if has_aux else value), gradient

    return value_and_grad_fun


@overload
def jacrev(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[False] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, PyTree]: ...
@overload
def jacrev(
    fun: Callable[P, tuple[Any, A]],
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[True] = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, tuple[PyTree, A]]: ...
@overload
def jacrev(
    fun: Callable[P, Any],
    argnums: int | Sequence[int] = ...,
    has_aux: bool = ...,
    holomorphic: bool = ...,
    allow_int: bool = ...,
) -> Callable[P, PyTree]: ...
def jacrev(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., PyTree]:
    """Function that evaluates the Jacobian of fun row by row: one backward sweep per output entry, batched by vmap.

    Returns a pytree of the output's structure, each leaf a pytree of the argument's structure with arrays of shape
    output shape + argument shape.  Arguments and errors as for `grad`, but the output need not be a scalar.

    Example:
      >>> reverse.jacobian(lambda x: x**2)(jnp.array([1.0, 2.0])).tolist()
      [[2.0, 0.0], [0.0, 4.0]]
    """
    _check_callable(fun)
    argnums = _indices(argnums)

    @boundary
    @_wraps(fun)
    def jacobian_fun(*args, **kwargs):
        partial_fun, chosen = _split_arguments(fun, argnums, args, kwargs)
        for leaf in tree_leaves(chosen):
            _check_input_dtype("jacrev", leaf, holomorphic, allow_int)
        out, pullback, *aux = vjp(partial_fun, *chosen, has_aux=has_aux)
        tree_map(functools.partial(_check_output_dtype, "jacrev", holomorphic), out)
        rows = jax.vmap(pullback)(_standard_basis(out))
        rows = rows[0] if isinstance(argnums, int) else rows
        example = chosen[0] if isinstance(argnums, int) else chosen
        jacobian_tree = tree_map(functools.partial(_unravel_rows, out), example, rows)
        jacobian_tree = tree_transpose(tree_structure(example), tree_structure(out), jacobian_tree)
        return (jacobian_tree, *aux) if has_aux else jacobian_tree

    return jacobian_fun


jacobian = jacrev


@overload
def hessian(
    fun: Callable[P, Any], argnums: int | Sequence[int] = ..., has_aux: Literal[False] = ..., holomorphic: bool = ...
) -> Callable[P, PyTree]: ...
@overload
def hessian(
    fun: Callable[P, tuple[Any, A]],
    argnums: int | Sequence[int] = ...,
    has_aux: Literal[True] = ...,
    holomorphic: bool = ...,
) -> Callable[P, tuple[PyTree, A]]: ...
@overload
def hessian(
    fun: Callable[P, Any], argnums: int | Sequence[int] = ..., has_aux: bool = ..., holomorphic: bool = ...
) -> Callable[P, PyTree]: ...
def hessian(
    fun: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., PyTree]:
    """Function that evaluates the matrix of second derivatives, reverse over reverse: jacrev(jacrev(fun)).

    Example:
      >>> reverse.hessian(lambda x: x[0] ** 2 * x[1])(jnp.array([2.0, 3.0])).tolist()
      [[6.0, 4.0], [4.0, 0.0]]
    """
    inner = jacrev(fun, argnums, has_aux=has_aux, holomorphic=holomorphic)
    return jacrev(inner, argnums, has_aux=has_aux, holomorphic=holomorphic)


def checkpoint(
    fun: Callable[P, T],
    *,
    prevent_cse: bool = True,
    policy: Callable[..., Any] | None = None,
    static_argnums: int | tuple[int, ...] = (),
    bytes: int | None = None,
) -> Callable[P, T]:
    """fun, recomputed in the backward sweep instead of kept: memory for time.

    Args:
      fun, prevent_cse, policy, static_argnums: as `jax.checkpoint`'s.
      bytes: fit what is kept besides fun's arguments in so many bytes: of the values that the backward sweep reads,
        those are given up first that cost the fewest operations for each byte that they free.  With 0 nothing is kept;
        with a policy, nothing but what it saves.
    Returns:
      fun with the same values and derivatives, under JAX's transformations too.
    Raises:
      TypeError: fun or policy is not callable, or bytes is no integer.  ValueError: bytes is negative.
    Numerics: a value that is computed again has the same bits only if XLA compiles it the same way.
    Example:
      >>> reverse.grad(reverse.checkpoint(lambda x: x**3))(2.0).item()
      12.0
    """
    if bytes is None:
        return jax.checkpoint(fun, prevent_cse=prevent_cse, policy=policy, static_argnums=static_argnums)
    _check_callable(fun)
    limit = arguments.integer("bytes", bytes, 0)
    if policy is not None:
        arguments.function("policy", policy)
    function: Callable[..., Any] = fun
    places = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)

    @_wraps(fun)
    def checkpointed(*args, **kwargs):
        for i in places:
            if not -len(args) <= i < len(args):
                raise ValueError(f"static_argnums: expected places of {len(args)} arguments, got {i}.")
        static = {i % len(args): args[i % len(args)] for i in places}
        traced = [x for i, x in enumerate(args) if i not in static]

        def whole(traced, kwargs):
            rest = iter(traced)
            return function(*[static[i] if i in static else next(rest) for i in range(len(args))], **kwargs)

        return budget.fitted(whole, limit, policy, prevent_cse, (traced, kwargs))

    return checkpointed


# --- arguments and their checks: JAX's messages -------------------------------------------------------------------


def _check_callable(fun) -> None:
    if not callable(fun):
        raise TypeError(f"Expected a callable value, got {fun}")
    if inspect.isgeneratorfunction(fun):
        raise TypeError(f"Expected a function, got a generator function: {fun}")


def _refuse_aliases(fun, primals):
    """An error that names two places of one reference.  Each primal is an array of its own."""
    try:
        primals = inspect.signature(fun).bind(*primals).arguments
    except (TypeError, ValueError):  # no signature: the positions are named
        primals = {str(i): x for i, x in enumerate(primals)}
    places: dict[int, str] = {}
    for name, primal in primals.items():
        for path, leaf in tree_flatten_with_path(primal)[0]:
            first = places.setdefault(id(leaf), name + keystr(path))
            if is_mutable(leaf) and first != name + keystr(path):
                raise ValueError(
                    "only one reference to a mutable array may be passed as an argument to a function, but "
                    f"{_name(fun)} got the same mutable array reference of type {jax.typeof(leaf)} at {first} and "
                    f"{name + keystr(path)}."
                )


def _name(fun) -> str:
    return getattr(fun, "__name__", None) or str(fun)


def _wraps(fun):
    """functools.wraps that also takes callables without the usual attributes (partials, callable objects)."""
    return functools.wraps(fun, assigned=[a for a in functools.WRAPPER_ASSIGNMENTS if hasattr(fun, a)], updated=())


def _indices(argnums):
    try:
        return operator.index(argnums)
    except TypeError:
        return tuple(operator.index(i) for i in argnums)


def _split_arguments(fun, argnums, args, kwargs):
    """fun as a function of the chosen arguments alone, and those arguments."""
    positions = (argnums,) if isinstance(argnums, int) else argnums
    for i in positions:
        if i >= len(args):
            raise TypeError(
                f"differentiating with respect to {argnums=} requires at least {max(positions) + 1} positional "
                f"arguments to be passed by the caller, but got only {len(args)} positional arguments."
            )
        if i < -len(args):
            raise ValueError(
                f"Positional argument indices must be in [-{len(args)}, {len(args)}) for {len(args)} arguments, but "
                f"got value {i} in {argnums=}."
            )
    positions = tuple(i % len(args) for i in positions)

    @_wraps(fun)
    def partial_fun(*chosen):
        full = list(args)
        for i, x in zip(positions, chosen):
            full[i] = x
        return fun(*full, **kwargs)

    return partial_fun, tuple(args[i] for i in positions)


def _check_value(x):
    """x, if JAX knows its type.  Python's numbers stay what they are, with their weak type."""
    try:
        aval = jax.typeof(x)
    except TypeError:
        aval = None
    if aval is None or isinstance(x, (str, bytes)):
        raise TypeError(f"Argument '{x}' of type {type(x)} is not a valid JAX type.")
    return jnp.asarray(x) if isinstance(x, (np.ndarray, np.generic)) else x


def _check_output(path, leaf):
    try:
        return _check_value(leaf)
    except TypeError:
        raise TypeError(
            f"Argument '{leaf}' of type {type(leaf)} is not a valid JAX type. It is what the differentiated function "
            f"returns at output{keystr(path)}, where an array was expected."
        ) from None


def _check_scalar(x) -> None:
    leaves = tree_leaves(x)
    if tree_structure(x) != tree_structure(0):
        raise TypeError(f"Gradient only defined for scalar-output functions. Output was {x}.")
    if jnp.shape(leaves[0]) != ():
        raise TypeError(f"Gradient only defined for scalar-output functions. Output had shape: {jnp.shape(leaves[0])}.")


def _one(value):
    """The cotangent 1 of a value; where that is held as summands, a 1 that every device holds."""
    aval = jax.typeof(value)
    spec = aval.sharding.spec
    return full(cotangent_type(aval), 1) if spec.unreduced or spec.reduced else lax.full_like(value, 1)


def _check_input_dtype(name, x, holomorphic, allow_int) -> None:
    aval = jax.typeof(_check_value(x))
    if is_users_type(aval):
        return
    dtype = aval.dtype
    if holomorphic and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{name} with holomorphic=True requires inputs with complex dtype, but got {dtype.name}.")
    if (
        jnp.issubdtype(dtype, jax.dtypes.extended)
        or jnp.issubdtype(dtype, jnp.integer)
        or jnp.issubdtype(dtype, jnp.bool_)
    ):
        if not allow_int:
            raise TypeError(
                f"{name} requires real- or complex-valued inputs (input dtype that is a sub-dtype of np.inexact), "
                f"but got {dtype.name}. If you want to use Boolean- or integer-valued inputs, use vjp or set "
                "allow_int to True."
            )
    elif not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"{name} requires numerical-valued inputs (input dtype that is a sub-dtype of np.bool_ or np.number), "
            f"but got {dtype.name}."
        )


def _check_output_dtype(name, holomorphic, x) -> None:
    dtype = jax.typeof(x).dtype
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        raise TypeError(f"{name} with output element type {dtype.name}")
    if holomorphic:
        if not jnp.issubdtype(dtype, jnp.complexfloating):
            raise TypeError(f"{name} with holomorphic=True requires outputs with complex dtype, but got {dtype.name}.")
    elif jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(
            f"{name} requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got "
            f"{dtype.name}. For holomorphic differentiation, pass holomorphic=True. For differentiation of "
            "non-holomorphic functions involving complex outputs, use jax.vjp directly."
        )
    elif not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} requires real-valued outputs (output dtype that is a sub-dtype of np.floating), but got "
            f"{dtype.name}. For differentiation of functions with integer outputs, use jax.vjp directly."
        )


def _standard_basis(tree):
    """The standard basis of the outputs' space: leaves of shape (total size,) + leaf shape."""
    leaves, treedef = tree_flatten(tree)
    sizes = [int(np.prod(jnp.shape(leaf))) for leaf in leaves]
    total, start, basis = sum(sizes), 0, []
    for leaf, size in zip(leaves, sizes):
        rows = jnp.eye(total, size, k=-start, dtype=jax.typeof(leaf).dtype)
        basis.append(rows.reshape((total, *jnp.shape(leaf))))
        start += size
    return tree_unflatten(treedef, basis)


def _unravel_rows(out, example, rows):
    """Splits rows, one for each output entry, into arrays of shape output leaf + argument leaf."""
    leaves, treedef = tree_flatten(out)
    sizes = [int(np.prod(jnp.shape(leaf))) for leaf in leaves]
    parts, start = [], 0
    for leaf, size in zip(leaves, sizes):
        part = rows[start : start + size]
        shape = (*jnp.shape(leaf), *jnp.shape(example))
        parts.append(lax.reshape(part, shape, out_sharding=unravelled(sharding_of(part), jnp.ndim(leaf))))
        start += size
    weak = jax.typeof(example).weak_type
    return tree_unflatten(treedef, [weakened(part) if weak else part for part in parts])
