r"""Constrained problems: minimise f(x) subject to h(x) = 0 and g(x) <= 0, over pytrees.

    L(x, lambda, mu) = f(x) + lambda . h(x) + mu . g(x),      mu >= 0.

One sign convention for the whole room.
Source: Boyd and Vandenberghe 2004, section 5.1; Nocedal and Wright 2006, chapter 12.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from functional_dl import arguments, tree
from functional_dl.aliases import Array, PyTree, Scalar

LARGE = 1000  # with more variables no matrix is formed but the rows of general constraints


@dataclass(frozen=True, eq=False)  # told apart by identity: its functions and bounds may not hash
class Problem:
    """minimise objective(x)  subject to  equalities(x) = 0, inequalities(x) <= 0, lower <= x <= upper.

    Fields:
      objective: x -> a real number.
      equalities, inequalities: x -> a pytree of arrays, or None.
      bounds: (lower, upper), each a number or a pytree like x (+-inf for none), or None.  They count as the
        inequalities lower - x <= 0 and x - upper <= 0: with bounds, the multipliers of the inequalities are the triple
        (as inequalities(x), as x for lower, as x for upper), 0 where a bound is infinite.
      args: data, which the functions are given besides: objective(x, *args).  Problems of the same functions with other
        data of the same shapes share what is compiled; so all that changes has to stand in args.
    """

    objective: Callable[[PyTree], Scalar]
    equalities: Callable[[PyTree], PyTree] | None = None
    inequalities: Callable[[PyTree], PyTree] | None = None
    bounds: tuple[Any, Any] | None = None
    args: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for name in ("objective", "equalities", "inequalities"):
            value = getattr(self, name)
            if value is not None or name == "objective":
                arguments.function(name, value)
        if self.bounds is not None and not (isinstance(self.bounds, tuple) and len(self.bounds) == 2):
            raise ValueError(f"bounds: expected a pair (lower, upper), got {self.bounds!r}")
        if not isinstance(self.args, tuple):
            raise TypeError(f"args: expected a tuple, got {arguments.described(self.args)}")


class FlatProblem(NamedTuple):
    """A problem over one vector: x0, its functions, and the ways back to the user's pytrees."""

    x0: Array
    objective: Callable[[Array], Array]
    equalities: Callable[[Array], Array]
    inequalities: Callable[[Array], Array]
    unflatten: Callable[[Array], PyTree]
    pack_equality: Callable[[PyTree], Array]
    pack_inequality: Callable[[PyTree], Array]
    unpack_equality: Callable[[Array], PyTree]
    unpack_inequality: Callable[[Array], PyTree]
    lower: Any  # the bounds, infinite where there is none
    upper: Any
    bounded: tuple[np.ndarray, np.ndarray]  # indices of the variables with a lower, an upper one, as inequalities come
    inside: Callable[[Array], Array]  # moves a vector between the bounds, a little off them
    general: Callable[[Array], Array]  # the inequalities that are no bounds: the first of them all
    large: bool  # more than LARGE variables: the one place where that is decided


def check_problem(problem: Problem) -> None:
    """Raises TypeError where `problem` is none: an objective alone, say."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a Problem, got {arguments.described(problem)}")


def point(x0: PyTree) -> PyTree:
    """x0 as arrays.  Raises TypeError where a leaf is not real and floating."""
    for name, leaf in zip(tree.path_names(x0), jax.tree.leaves(x0)):
        arguments.floating_leaf(f"x[{name}]" if name else "x", leaf)
    return jax.tree.map(jnp.asarray, x0)


def flatten(problem: Problem, x0: PyTree, bounds: tuple[Array, Array] | None = None) -> FlatProblem:
    """The same problem over one real vector; `bounds` are others in place of its own, infinite where these are.

    Raises:
      TypeError: x0 is not real and floating; ValueError: the objective is not a scalar, bounds do not fit or cross.
    """
    check_problem(problem)
    x0 = point(x0)
    vector, unflatten = ravel_pytree(x0)
    objective = partial(_with, problem.objective, problem.args)
    equalities, inequalities = (
        None if fun is None else partial(_with, fun, problem.args) for fun in (problem.equalities, problem.inequalities)
    )
    shape = jax.eval_shape(objective, x0)
    if getattr(shape, "shape", None) != ():
        raise ValueError(f"objective: expected a scalar as its value, got {shape}")
    lower, upper = (_bound(problem, side, x0, vector.size) for side in (0, 1))
    if np.any(lower > upper):
        raise ValueError(f"bounds: expected lower <= upper, got {problem.bounds!r}")
    below, above = np.flatnonzero(np.isfinite(lower)), np.flatnonzero(np.isfinite(upper))
    lower, upper = (lower, upper) if bounds is None else bounds
    eq, eq_pack, eq_unpack = _constraint(equalities, x0, vector.dtype)
    own, own_pack, own_unpack = _constraint(inequalities, x0, vector.dtype)
    own_size = own_pack(own_unpack(None)).size
    low, high = jnp.asarray(lower[below], vector.dtype), jnp.asarray(upper[above], vector.dtype)

    def all_inequalities(v):
        return jnp.concatenate([own(unflatten(v)), low - v[below], v[above] - high])

    def pack(mu):
        if problem.bounds is None:
            return own_pack(mu)
        of_own, of_lower, of_upper = mu
        return jnp.concatenate([own_pack(of_own), ravel_pytree(of_lower)[0][below], ravel_pytree(of_upper)[0][above]])

    def unpack(mu):
        if problem.bounds is None:
            return own_unpack(mu)
        of_own, of_lower, of_upper = jnp.split(mu, [own_size, own_size + below.size])
        zeros = jnp.zeros_like(vector)
        return own_unpack(of_own), unflatten(zeros.at[below].set(of_lower)), unflatten(zeros.at[above].set(of_upper))

    return FlatProblem(
        vector,
        lambda v: jnp.asarray(objective(unflatten(v)), vector.dtype),
        lambda v: eq(unflatten(v)),
        all_inequalities,
        unflatten,
        eq_pack,
        pack,
        eq_unpack,
        unpack,
        lower,
        upper,
        (below, above),
        inside(lower, upper, (below, above)),
        lambda v: own(unflatten(v)),
        vector.size > LARGE,
    )


def _with(fun, args, x):
    return fun(x, *args)


def inside(lower: Any, upper: Any, bounded: Any) -> Callable[[Array], Array]:
    """Clip between the bounds, moved inwards by a hundredth: of their size, of their distance if that is less."""
    below, above = (np.zeros(np.shape(lower), bool) for _ in range(2))
    below[bounded[0]], above[bounded[1]] = True, True

    def clip(x: Array) -> Array:
        low, high = (jnp.asarray(side, x.dtype) for side in (lower, upper))
        half = jnp.where(below & above, (jnp.where(above, high, 0) - jnp.where(below, low, 0)) / 100, jnp.inf)
        own = jnp.where(x != 0, jnp.abs(x), 1)
        off = lambda bound: jnp.minimum(jnp.where(bound != 0, jnp.abs(bound), own) / 100, half).astype(x.dtype)
        low = jnp.where(below, low + off(jnp.where(below, low, 0)), low)
        high = jnp.where(above, high - off(jnp.where(above, high, 0)), high)
        return jnp.clip(x, low, high)

    return clip


def _bound(problem, side, x0, size):
    """One side of the bounds as a vector of NumPy, infinite where there is none."""
    bound = None if problem.bounds is None else problem.bounds[side]
    if bound is None:
        return np.full(size, (-np.inf, np.inf)[side])
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(bound)):
        raise TypeError("bounds: expected fixed numbers, got traced ones: state such limits as inequalities")
    if jax.tree.structure(bound) == jax.tree.structure(x0):
        leaves = [np.broadcast_to(b, x.shape) for b, x in zip(jax.tree.leaves(bound), jax.tree.leaves(x0), strict=True)]
        return np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(float)
    if np.ndim(bound) == 0:
        return np.full(size, float(bound))
    raise ValueError(f"bounds: expected numbers or pytrees like x, got {bound!r}")


def _constraint(fun, x0, dtype):
    """fun(x) as a vector, and its multipliers between vector and pytree (None stands for zeros)."""
    if fun is None:
        return lambda x: jnp.zeros(0, dtype), lambda tree: jnp.zeros(0, dtype), lambda vector: None
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, dtype), jax.eval_shape(fun, x0))
    flat, back = ravel_pytree(zeros)

    def pack(multipliers):
        vector = ravel_pytree(multipliers)[0]
        if vector.size != flat.size:
            raise ValueError(
                f"multipliers: expected as many as the constraint has values, {flat.size}, got {vector.size}"
            )
        return vector.astype(dtype)

    return (
        lambda x: ravel_pytree(fun(x))[0].astype(dtype),
        pack,
        lambda vector: zeros if vector is None else back(vector),
    )


def lagrangian(problem: Problem) -> Callable[[PyTree, PyTree, PyTree], Scalar]:
    """L(x, lambda, mu) = f(x) + lambda . h(x) + mu . g(x) as a function of pytrees (None for no constraint).

    Example:
      >>> wall = optimality.Problem(lambda x: (x - 2) ** 2, inequalities=lambda x: x - 1)
      >>> float(optimality.lagrangian(wall)(jnp.array(0.0), None, jnp.array(2.0)))
      2.0
    """
    check_problem(problem)

    def value(x, eq_multipliers=None, ineq_multipliers=None):
        flat = flatten(problem, x)
        lam, mu = flat.pack_equality(eq_multipliers), flat.pack_inequality(ineq_multipliers)
        return flat.objective(flat.x0) + lam @ flat.equalities(flat.x0) + mu @ flat.inequalities(flat.x0)

    return value
