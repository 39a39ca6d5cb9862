"""First-order methods for a smooth function plus one whose proximal map is known, or over a set with a projection."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl import tree
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality.units import power_of_two

__all__ = ["FirstOrder", "projected_gradient", "proximal_gradient"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


class FirstOrder(NamedTuple):
    """The result of a first-order method.

    Fields:
      x: the last point.
      value: f(x) (+ g(x) where g was given).
      residual: |x - prox(x - s grad f(x), s)| / s, the norm of the gradient mapping: 0 at the solutions of a convex
        problem and nowhere else.
      iterations; converged: residual <= tolerance times the greater of |grad f(x0)| and x0's own residual.
    """

    x: PyTree
    value: Scalar
    residual: Scalar
    iterations: Array
    converged: Array


def proximal_gradient(
    f: Callable[..., Any], prox: Callable[..., Any], x0: PyTree, *, penalty: Callable[..., Any] | None = None,
    accelerated: bool = True, tolerance: float = 1e-8, steps: int = 10_000, first_step: float | None = None,
) -> FirstOrder:  # fmt: skip
    r"""Minimises f(x) + g(x): x <- prox_{s g}(x - s grad f(x)), with s from backtracking (ISTA), accelerated (FISTA).

    A step s is accepted where f lies below its quadratic model,

        f(z) <= f(y) + grad f(y) . (z - y) + |z - y|^2 / (2 s),

    which holds for s <= 1 / L if grad f is L-Lipschitz.  Accelerated, the gradient is taken at
    y = x_k + ((t_k - 1) / t_{k+1}) (x_k - x_{k-1}), t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2, and t restarts at 1 where
    y's step points against the movement: (y - x_{k+1}) . (x_{k+1} - x_k) > 0.

    Args:
      f: smooth function of a pytree of floating arrays, with a number as its value.
      prox: (point, s) -> prox_{s g}(point); for a constraint the projection, which ignores s.
      x0: where to begin.
      penalty: g, for the reported value alone.
      accelerated: FISTA with restarts, or ISTA.
      tolerance, steps: when to stop.
      first_step: the first s that is tried; it may grow again.  None: the greatest power of two that is accepted at x0,
        looked for from |x0| / |grad f(x0)|.
    Returns:
      FirstOrder; runs under jit and vmap.
    Source: Beck and Teboulle 2009 (FISTA with backtracking); O'Donoghue and Candes 2015 (restart by the gradient).
    Example:
      >>> soft = lambda x, step: jnp.sign(x) * jnp.maximum(jnp.abs(x) - step, 0)
      >>> found = optimality.proximal_gradient(
      ...     lambda x: 0.5 * jnp.sum((x - 3) ** 2), soft, jnp.array([0.0]), tolerance=1e-5
      ... )
      >>> found.x.round(3).tolist()
      [2.0]
    """
    value_and_grad = jax.value_and_grad(f)
    gradient_norm = tree.norm(jax.grad(f)(x0))
    info = jnp.finfo(gradient_norm.dtype)
    eps, tiny, longest = info.eps, info.tiny, 2.0 ** (info.maxexp // 3)

    def attempt(y, value, gradient, s):
        z = prox(tree.add_scaled(y, -s, gradient), s)
        move = tree.subtract(z, y)
        model = value + tree.vdot(gradient, move) + tree.vdot(move, move) / (2 * s)
        return z, f(z) <= model + 8 * eps * jnp.abs(value)

    def line_search(y, s, first=False):
        """(z, s): the first of s, s / 2, ... that is accepted; `first`: or the last of 2 s, 4 s, ..., while z moves."""
        value, gradient = value_and_grad(y)

        def searching(state):
            s, _, accepted, longer = state
            return jnp.where(longer, accepted, ~accepted & (s > 1e3 * tiny))

        def change(state):
            s, z, _, longer = state
            s = jnp.where(longer, 2 * s, s / 2)
            new, accepted = attempt(y, value, gradient, s)
            far, near = (tree.norm(tree.subtract(end, y)) for end in (new, z))
            grown = accepted & (far > 1.5 * near) & (s < longest)
            return s, new, jnp.where(longer, grown, accepted), longer

        z, accepted = attempt(y, value, gradient, s)
        s, z, _, longer = lax.while_loop(searching, change, (s, z, accepted, accepted & first))
        if first:  # the last that was tried is too long
            s = jnp.where(longer, s / 2, s)
            z = attempt(y, value, gradient, s)[0]
        return z, s

    def body(state):
        k, x, y, t, s, _ = state
        z, s = line_search(y, s)
        residual = tree.norm(tree.subtract(y, z)) / s
        move = tree.subtract(z, x)
        against = tree.vdot(tree.subtract(y, z), move) > 0
        t_next = (1 + jnp.sqrt(1 + 4 * t * t)) / 2
        pace = jnp.where(against, 0.0, (t - 1) / t_next) if accelerated else jnp.zeros_like(t)
        t_next = jnp.where(against, 1.0, t_next)
        return k + 1, z, tree.add_scaled(z, pace, move), t_next, s * 1.25, residual

    one = jnp.ones_like(gradient_norm)
    if first_step is None:
        begin = power_of_two(tree.norm(x0) / jnp.where(gradient_norm > 0, gradient_norm, 1.0))
    else:
        begin = first_step * one
    first, begin = line_search(x0, begin, first_step is None)
    # relative to the start: what x and f are counted in does not matter
    limit = tolerance * jnp.maximum(gradient_norm, tree.norm(tree.subtract(x0, first)) / begin)
    start = (jnp.zeros((), int), x0, x0, one, begin, jnp.full_like(gradient_norm, jnp.inf))
    k, x, _, _, s, _ = lax.while_loop(lambda state: (state[0] < steps) & ~(state[5] <= limit), body, start)
    z, s = line_search(x, s)
    residual = tree.norm(tree.subtract(x, z)) / s
    # a step that rounding swallows says nothing
    gradient = jax.grad(f)(x)
    still = jax.tree.map(lambda old, new: jnp.all(old == new), x, tree.add_scaled(x, -s, gradient))
    lost = jnp.all(jnp.stack(jax.tree.leaves(still))) & (tree.norm(gradient) > limit)
    value = f(z) + (penalty(z) if penalty is not None else 0)
    return FirstOrder(z, value, residual, k, (residual <= 4 * limit) & ~lost)


def projected_gradient(f: Callable[..., Any], project: Callable[..., Any], x0: PyTree, **options: Any) -> FirstOrder:
    """Minimises f(x) over x in C: x <- P(x - s grad f(x)).

    The projection is the proximal map of C's indicator; see `proximal_gradient` for the rest.

    Args:
      project: point -> the nearest point of C; see `projections`.
    Example:
      >>> found = optimality.projected_gradient(
      ...     lambda x: jnp.sum((x - 3) ** 2),
      ...     lambda x: jnp.clip(x, 0, 1),
      ...     jnp.array([0.0, 0.5]),
      ...     tolerance=1e-5,
      ... )
      >>> found.x.round(3).tolist()
      [1.0, 1.0]
    """
    return proximal_gradient(f, lambda point, _: project(point), x0, **options)
