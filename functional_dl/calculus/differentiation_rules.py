"""The rules of differentiation as functions: each makes (f o g)' and its kin from the derivatives of f and g alone.

Every rule takes functions of a number and the number, and returns the derivative there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.aliases import Scalar
from functional_dl.calculus.points import check_number, real_point
from functional_dl.precision import double


def _value_and_slope(f: Callable[..., Any], x) -> tuple[Scalar, Scalar]:
    arguments.function("f, g", f)
    check_number(f, x)
    return jax.jvp(f, (x,), (jnp.ones_like(x),))


def _at(name: str, x) -> Scalar:
    x = real_point(name, x)
    if jnp.shape(x) != ():
        raise ValueError(f"{name}: expected one number, got shape {jnp.shape(x)}")
    return x


def sum_rule(f: Callable[..., Any], g: Callable[..., Any], x: ArrayLike) -> Scalar:
    """(f + g)' = f' + g'.

    Example:
      >>> float(calculus.sum_rule(lambda x: x**2, jnp.exp, 0.0))
      1.0
    """
    with double():
        x = _at("x", x)
        return _value_and_slope(f, x)[1] + _value_and_slope(g, x)[1]


def product_rule(f: Callable[..., Any], g: Callable[..., Any], x: ArrayLike) -> Scalar:
    """(f g)' = f' g + f g'.

    Example:
      >>> float(calculus.product_rule(lambda x: x**2, jnp.exp, 0.0))
      0.0
    """
    with double():
        x = _at("x", x)
        (u, du), (v, dv) = _value_and_slope(f, x), _value_and_slope(g, x)
        return du * v + u * dv


def quotient_rule(f: Callable[..., Any], g: Callable[..., Any], x: ArrayLike) -> Scalar:
    """(f / g)' = (f' g - f g') / g^2.  Raises ValueError where g(x) = 0.

    Example:
      >>> float(calculus.quotient_rule(jnp.sin, lambda x: x + 1, 0.0))
      1.0
    """
    with double():
        x = _at("x", x)
        (u, du), (v, dv) = _value_and_slope(f, x), _value_and_slope(g, x)
        _not_zero("g", "a value", v)
        return (du * v - u * dv) / v**2


def power_rule(f: Callable[..., Any], n: float, x: ArrayLike) -> Scalar:
    """(f^n)' = n f^(n-1) f', for a constant n; n = 0 gives 0.

    Example:
      >>> float(calculus.power_rule(lambda x: 2 * x + 1, 3, 1.0))
      54.0
    """
    with double():
        x = _at("x", x)
        u, du = _value_and_slope(f, x)
        arguments.number("n", n)
        return jnp.zeros_like(u) if n == 0 else n * u ** (n - 1) * du


def chain_rule(f: Callable[..., Any], g: Callable[..., Any], x: ArrayLike) -> Scalar:
    """(f o g)'(x) = f'(g(x)) g'(x).

    Example:
      >>> float(calculus.chain_rule(jnp.sin, lambda x: x**2, 0.0))
      0.0
    """
    with double():
        x = _at("x", x)
        u, du = _value_and_slope(g, x)
        return _value_and_slope(f, u)[1] * du


def inverse_rule(f: Callable[..., Any], x: ArrayLike) -> Scalar:
    """(f^-1)'(f(x)) = 1 / f'(x): the slope of the inverse function at y = f(x).  Raises ValueError where f'(x) = 0.

    Example:
      >>> float(calculus.inverse_rule(lambda x: x**2, 2.0))
      0.25
    """
    with double():
        x = _at("x", x)
        slope = _value_and_slope(f, x)[1]
        _not_zero("f", "a slope", slope)
        return 1 / slope


def _not_zero(name: str, what: str, value) -> None:
    if not isinstance(value, jax.core.Tracer) and value == 0:
        raise ValueError(f"{name}: expected {what} other than 0 at x, got 0")
