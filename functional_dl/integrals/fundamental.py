"""The fundamental theorem of calculus, both ways, and the derivative under the integral sign."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from functional_dl import arguments, tree
from functional_dl.aliases import PyTree
from functional_dl.integrals import definite, jumps, result
from functional_dl.integrals.definite import integrate
from functional_dl.integrals.result import Integral
from functional_dl.precision import double

JUMP = 1e-12  # relative error of what a moving jump adds
STEP = 1e-3  # of theta, by which the integral is moved to check its derivative; and a thousandth of that
AGREES = 0.02  # relative difference from such a quotient that is no missed jump


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
    Example:
      >>> F = integrals.antiderivative(lambda x: 2 * x, 0.0)
      >>> round(float(F(3.0)), 6)
      9.0
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
    Example:
      >>> round(float(integrals.net_change(lambda x: x**2, 1.0, 3.0).value), 6)
      8.0
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

            + sum_j (f(x_j-, theta) - f(x_j+, theta)) dx_j/dtheta

    The integral of df/dtheta is an integral of its own here, with an error of its own.  The last sum is over the places
    x_j(theta) where f jumps, which are found from its comparisons, signs and steps; where there are such, the result is
    also held against a difference of the integral, and not converged where the two are apart.

    Args:
      f: (x, theta) -> real number.
      a, b: numbers, or functions of theta; numbers may be infinite.
      theta: a number, an array or a pytree of floating numbers.
      settings: as for `integrate`.
    Returns:
      Integral whose value and error have the structure of theta.
    Raises:
      TypeError: theta holds anything but floating numbers, f does not return one real number.
    Example:
      >>> round(float(integrals.leibniz(lambda x, t: x * t, 0.0, lambda t: t, 2.0).value), 6)
      6.0
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
                if not isinstance(at, jax.core.Tracer) and np.isinf(np.asarray(at)):
                    continue  # a bound at infinity stays there
                moved = jax.grad(lambda theta, end=end: jnp.asarray(end(theta), jnp.float64))(theta)
                value = tree.add_scaled(value, sign * jnp.asarray(f(at, theta), jnp.float64), moved)
        eps = jnp.finfo(jnp.float64).eps
        error = jax.tree_util.tree_map(lambda e, v: e + 8 * eps * jnp.abs(v), inside.error, value)
        found = Integral(value, error, inside.converged, inside.code, inside.at, inside.evaluations)
        found = _with_jumps(f, (lower, upper), theta, found)
        found = _checked(f, ends, theta, found, settings) if _may_jump(f, theta) else _finite(found)
    return result.handed_out(found)


def _with_jumps(f, bounds, theta, found: Integral) -> Integral:
    """What jumps of f add whose places move with theta."""
    values_at = lambda x, theta: jnp.ravel(jnp.asarray(f(x, theta), jnp.float64))

    def moving(theta):
        added = jumps.contribution(values_at, bounds, (theta,))
        return jnp.zeros(()) if added is None else added[0]

    if not any(jumps.of(values_at, (theta,))[0]):
        return found
    more = jax.grad(moving)(theta)
    error = jax.tree_util.tree_map(lambda e, m: e + JUMP * jnp.abs(m), found.error, more)
    return dataclasses.replace(found, value=tree.add(found.value, more), error=error)


def _may_jump(f, theta) -> bool:
    """Whether f has jumps that may move with theta."""
    moving, unknown = jumps.of(lambda x, theta: jnp.asarray(f(x, theta)), (theta,))
    return any(moving) or unknown


def _checked(f, ends, theta, found: Integral, settings) -> Integral:
    """Held against a difference of the integral itself, along one direction: a jump that was missed shows there."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves((theta, found.value))):
        return _finite(found)
    rng = np.random.default_rng(3)
    along = jax.tree_util.tree_map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.0, leaf.shape)), theta)

    def whole(h):
        moved = tree.add_scaled(theta, h, along)
        lower, upper = (definite.bound(name, end(moved)) for name, end in zip(("a", "b"), ends))
        return integrate(f, lower, upper, args=(moved,), **settings)

    said = float(tree.vdot(found.value, along))
    for h in STEP * (float(tree.norm(theta)) or 1.0) * np.array([1.0, 1e-3]):
        high, low = whole(float(h)), whole(-float(h))
        quotient = (float(high.value) - float(low.value)) / (2 * h)
        doubt = (float(high.error) + float(low.error)) / (2 * h)
        size = abs(said) + abs(quotient) + 1e-3 * abs(float(high.value))
        if doubt <= AGREES * size and abs(quotient - said) <= AGREES * size + 2 * doubt:
            return _finite(found)
    error = jax.tree_util.tree_map(lambda e: jnp.full_like(e, jnp.inf), found.error)
    return dataclasses.replace(
        _finite(found), error=error, converged=jnp.asarray(False), code=jnp.asarray(result.MOVING)
    )


def _finite(found: Integral) -> Integral:
    """NaN and infinity are never converged."""
    leaves = [*jax.tree_util.tree_leaves(found.value), *jax.tree_util.tree_leaves(found.error)]
    good = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
    code = jnp.where(good | (found.code != result.OK), found.code, result.NOT_FINITE)
    error = jax.tree_util.tree_map(lambda e, v: jnp.where(jnp.isfinite(v), e, jnp.inf), found.error, found.value)
    return dataclasses.replace(found, error=error, converged=found.converged & good, code=code)
