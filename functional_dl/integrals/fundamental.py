"""The fundamental theorem of calculus, both ways, and the derivative under the integral sign."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from functional_dl import arguments, tree
from functional_dl.aliases import PyTree
from functional_dl.integrals import definite
from functional_dl.integrals.definite import integrate
from functional_dl.integrals.result import Integral
from functional_dl.precision import double


def antiderivative(f: Callable[..., Any], a: ArrayLike, **settings: Any) -> Callable[..., Any]:
    r"""F with F(x) = int_a^x f(s) ds, so that F(a) = 0 and F' = f wherever f is continuous.

    Args:
      f: a function of one number, as for `integrate`.
      a: where F is 0; a number, which may be infinite.
      settings: as for `integrate`.
    Returns:
      x -> the value of the integral, differentiable to all orders.
    Raises:
      ValueError: when F is called at concrete numbers, and the integral does not converge: its reason.
    """
    arguments.function("f", f)
    with double():
        definite.bound("a", a)

    def primitive(x):
        found = integrate(f, a, x, **settings)
        if not isinstance(found.converged, jax.core.Tracer) and not bool(found.converged):
            raise ValueError(f"f: expected an integral from {a} to {x} that converges; {found.reason}")
        return found.value

    return primitive


def net_change(f: Callable[..., Any], a: ArrayLike, b: ArrayLike, **settings: Any) -> Integral:
    """int_a^b f'(x) dx, which the fundamental theorem says is f(b) - f(a) wherever f is continuous.

    Args:
      f: a differentiable function of one number to a real one.
    Returns:
      The integral of jax.grad(f), as `integrate` finds it; compare with f(b) - f(a).
    """
    arguments.function("f", f)
    return integrate(jax.grad(f), a, b, **settings)


def leibniz(
    f: Callable[..., Any],
    a: ArrayLike | Callable[..., Any],
    b: ArrayLike | Callable[..., Any],
    theta: PyTree,
    **settings: Any,
) -> Integral:
    r"""The derivative of an integral with respect to a parameter, bounds included.

        d/dtheta int_{a(theta)}^{b(theta)} f(x, theta) dx
            = f(b, theta) b'(theta) - f(a, theta) a'(theta) + int_a^b df/dtheta (x, theta) dx

    The integral of df/dtheta is an integral of its own here, with an error of its own.

    Args:
      f: (x, theta) -> real number.
      a, b: numbers, or functions of theta; numbers may be infinite.
      theta: a number, an array or a pytree of floating numbers.
      settings: as for `integrate`.
    Returns:
      Integral whose value and error have the structure of theta.
    Raises:
      TypeError: theta holds anything but floating numbers, f does not return one real number.
    """
    arguments.function("f", f)
    with double():
        for name, leaf in zip(tree.path_names(theta), jax.tree_util.tree_leaves(theta)):
            arguments.floating_leaf(f"theta[{name}]" if name else "theta", leaf)
        theta = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, jnp.float64), theta)
        ends = [end if callable(end) else (lambda _, end=end: end) for end in (a, b)]
        lower, upper = (definite.bound(name, end(theta)) for name, end in zip(("a", "b"), ends))
        inside = integrate(lambda x, theta: jax.grad(f, argnums=1)(x, theta), lower, upper, args=(theta,), **settings)
        value = inside.value
        for sign, end, at in zip((-1.0, 1.0), (a, b), (lower, upper)):
            if callable(end):
                moved = jax.grad(lambda theta, end=end: jnp.asarray(end(theta), jnp.float64))(theta)
                value = tree.add_scaled(value, sign * jnp.asarray(f(at, theta), jnp.float64), moved)
        eps = jnp.finfo(jnp.float64).eps
        error = jax.tree_util.tree_map(lambda e, v: e + 8 * eps * jnp.abs(v), inside.error, value)
        return Integral(value, error, inside.converged, inside.code, inside.at, inside.evaluations)
