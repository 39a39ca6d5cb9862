r"""The differential: dy = f'(x) dx, the linear map that f is near x but for a remainder o(|dx|), which can be
measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_leaves, tree_map

from functional_dl import tree
from functional_dl.aliases import PyTree
from functional_dl.calculus.points import of_one_argument, real_point, same_form
from functional_dl.precision import double

LENGTHS = 2.0 ** -np.arange(2, 30)


@dataclass(frozen=True)
class Differential:
    """df(x): call it with an increment dx for dy = f'(x) dx.

    Fields:
      f, x: the function of one argument and the point.
      value: f(x).
    """

    f: Callable[..., Any]
    x: PyTree
    value: PyTree

    def __call__(self, dx: PyTree) -> PyTree:
        """dy = f'(x) dx, linear in dx.  Raises ValueError where dx is not of the structure and shapes of x."""
        with double():
            from functional_dl.calculus import set_points  # seldom needed

            dx = same_form("dx", dx, self.x)
            if set_points.is_set(self.f, self.x):
                set_points.derivatives(self.f, self.x)  # raises where it is not linear
                return set_points.along(self.f, self.x, dx)
            return jax.jvp(self.f, (self.x,), (dx,))[1]

    def increment(self, dx: PyTree) -> PyTree:
        """f(x + dx) - f(x), which dy is compared with."""
        with double():
            moved = tree.add(self.x, same_form("dx", dx, self.x))
            return tree_map(jnp.subtract, self.f(moved), self.value)

    def remainder(self, dx: PyTree) -> PyTree:
        """r(dx) = f(x + dx) - f(x) - df(x) dx."""
        increment, dy = self.increment(dx), self(dx)
        with double():
            return tree_map(jnp.subtract, increment, dy)

    def remainder_slope(self, dx: PyTree) -> float:
        """The measured p in |r(t dx)| ~ t^p as t -> 0: above 1 where f is differentiable, 2 where f'' is not zero
        along dx.

        Returns:
          The slope of log|r| over log t, fitted where r stands above rounding; inf where it never does (f is linear).
        """
        with double():
            v = same_form("dx", dx, self.x)
            sizes, floors = [], []
            for t in LENGTHS:
                step = tree.scale(t, v)
                sizes.append(float(tree.norm(self.remainder(step))))
                floors.append(self._rounding(self(step)))
        above = np.array(sizes) > 1e3 * np.array(floors)
        above &= np.isfinite(sizes)
        count = int(np.argmin(above)) if not above.all() else len(above)
        if count < 3:
            return np.inf
        chosen = slice(max(0, count - 6), count)  # the shortest of them: p is a limit
        return float(np.polyfit(np.log(LENGTHS[chosen]), np.log(np.array(sizes)[chosen]), 1)[0])

    def _rounding(self, dy: PyTree) -> float:
        eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in tree_leaves(self.value))
        return eps * (float(tree.norm(self.value)) + float(tree.norm(dy)) + 1e-300)


def differential(f: Callable[..., Any], x: PyTree) -> Differential:
    r"""df(x): the linear map with f(x + dx) = f(x) + df(x) dx + o(|dx|).

    Args:
      f: function of JAX, of any real value.
      x: a number, an array, a pytree, or a tuple of the arguments of f.
    Returns:
      A map dx -> dy; it also gives the `increment`, the `remainder` and the measured `remainder_slope`.
    Raises: TypeError where x is not real, ValueError where it is NaN.
    Example:
      >>> df = calculus.differential(lambda x: x**2, 3.0)
      >>> float(df(0.5)), float(df.remainder(0.5))
      (3.0, 0.25)
    """
    with double():
        x, f = real_point("x", x), of_one_argument(f, x)
        return Differential(f, x, f(x))
