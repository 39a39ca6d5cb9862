r"""Conjugates f*(u) = sup_x u x - f(x) in closed form, for the functions that duality meets.

f** = f for closed convex f, and f(x) + f*(u) >= u x (Fenchel-Young), with equality where u is a subgradient at x.
Functions of vectors take the last axis; a conjugate is +inf outside its domain.
Source: Boyd and Vandenberghe 2004, section 3.3; Rockafellar 1970, section 12.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array

__all__ = ["CONJUGATES", "Conjugate", "Name", "conjugate", "quadratic"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


class Conjugate(NamedTuple):
    """A convex function, its conjugate, and how the second follows from the first.

    Fields:
      fun, conjugate: x -> f(x) and u -> f*(u).
      gradient: x -> an element of the subdifferential of f at x.
      domain: (low, high), the interval in which x may lie, entry by entry.
      vector: whether x is a vector (else a number, and all maps act entry by entry).
      derivation: one line.
    """

    fun: Callable[[Array], Array]
    conjugate: Callable[[Array], Array]
    gradient: Callable[[Array], Array]
    domain: tuple[float, float]
    vector: bool
    derivation: str


Name: TypeAlias = Literal[
    "half_square", "absolute", "positive_part", "hinge", "huber", "exponential", "negative_logarithm",
    "negative_entropy", "inverse", "softplus", "logistic", "l1_norm", "l2_norm", "linf_norm", "half_l2_square",
    "log_sum_exp", "maximum",
]  # fmt: skip


def conjugate(name: Name) -> Callable[[Array], Array]:
    """The conjugate of a function of the table.

    Raises:
      ValueError: no function of the table has that name.
    Example:
      >>> print(np.asarray(optimality.conjugates.conjugate("exponential")(jnp.array([1.0, 2.0]))).round(4))
      [-1.     -0.6137]
    """
    return arguments.lookup("name", name, CONJUGATES).conjugate


def quadratic(matrix: Float[Array, "n n"]) -> Conjugate:
    """f(x) = x' Q x / 2 with Q > 0: u = Q x at the supremum, f*(u) = u' Q^-1 u / 2.

    Raises:
      ValueError: matrix is not square.
    Example:
      >>> optimality.conjugates.quadratic(2 * jnp.eye(2)).fun(jnp.array([1.0, 2.0])).item()
      5.0
    """
    matrix = arguments.real("matrix", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix: expected a square matrix, got shape {matrix.shape}")
    matrix = (matrix + matrix.T) / 2
    factor = jax.scipy.linalg.cho_factor(matrix)
    return Conjugate(
        lambda x: x @ matrix @ x / 2,
        lambda u: u @ jax.scipy.linalg.cho_solve(factor, u) / 2,
        lambda x: matrix @ x,
        (-jnp.inf, jnp.inf),
        True,
        "u = Q x, so x = Q^-1 u and u' x - x' Q x / 2 = u' Q^-1 u / 2",
    )


def _inside(condition, value):
    """value where the condition holds, else inf."""
    return jnp.where(condition, value, jnp.inf)


def _slack(u):
    """What a boundary is widened by for rounding."""
    return 8 * jnp.finfo(jnp.result_type(u)).eps


def _norm(x):
    square = jnp.sum(x**2, -1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)


def _unit(x):
    length = _norm(x)[..., None]
    return x / jnp.where(length > 0, length, 1.0)


def _coin(p):
    """p log p + (1 - p) log(1 - p): minus the entropy of a coin."""
    return xlogy(p, p) + xlogy(1 - p, 1 - p)


def _largest(x):
    """A subgradient of max |x_i|: the sign, at the first place where the maximum is reached."""
    return jnp.sign(x) * jax.nn.one_hot(jnp.argmax(jnp.abs(x), -1), x.shape[-1], dtype=x.dtype)


_LINE, _RIGHT = (-jnp.inf, jnp.inf), (0.0, jnp.inf)

CONJUGATES: dict[str, Conjugate] = {
    "half_square": Conjugate(
        lambda x: x**2 / 2, lambda u: u**2 / 2, lambda x: x, _LINE, False,
        "u = x at the supremum: u^2 - u^2 / 2; the one function that is its own conjugate",
    ),
    "absolute": Conjugate(
        jnp.abs, lambda u: _inside(jnp.abs(u) <= 1 + _slack(u), jnp.zeros_like(u)), jnp.sign, _LINE, False,
        "u x - |x| is at most 0 if |u| <= 1 and unbounded else: the indicator of [-1, 1]",
    ),
    "positive_part": Conjugate(
        lambda x: jnp.maximum(x, 0.0),
        lambda u: _inside((u >= -_slack(u)) & (u <= 1 + _slack(u)), jnp.zeros_like(u)),
        lambda x: (x > 0).astype(x.dtype), _LINE, False, "the subgradients of max(x, 0) fill [0, 1]: its indicator",
    ),
    "hinge": Conjugate(
        lambda x: jnp.maximum(1 - x, 0.0), lambda u: _inside((u <= _slack(u)) & (u >= -1 - _slack(u)), u),
        lambda x: -(x < 1).astype(x.dtype), _LINE, False, "attained at the kink x = 1 for u in [-1, 0]: u 1 - 0",
    ),
    "huber": Conjugate(
        lambda x: jnp.where(jnp.abs(x) <= 1, x**2 / 2, jnp.abs(x) - 0.5),
        lambda u: _inside(jnp.abs(u) <= 1 + _slack(u), u**2 / 2), lambda x: jnp.clip(x, -1.0, 1.0), _LINE, False,
        "infimal convolution of x^2 / 2 and |x|, so the sum of their conjugates",
    ),
    "exponential": Conjugate(
        jnp.exp, lambda u: _inside(u >= 0, xlogy(u, jnp.where(u >= 0, u, 1.0)) - u), jnp.exp, _LINE, False,
        "u = e^x: u log u - u, with 0 log 0 = 0",
    ),
    "negative_logarithm": Conjugate(
        lambda x: -jnp.log(x), lambda u: _inside(u < 0, -1 - jnp.log(jnp.where(u < 0, -u, 1.0))), lambda x: -1 / x,
        _RIGHT, False, "u = -1 / x: -1 + log(-1 / u)",
    ),
    "negative_entropy": Conjugate(
        lambda x: xlogy(x, x), lambda u: jnp.exp(u - 1), lambda x: jnp.log(x) + 1, _RIGHT, False,
        "u = log x + 1: u x - x log x = x = e^(u - 1)",
    ),
    "inverse": Conjugate(
        lambda x: 1 / x, lambda u: _inside(u <= 0, -2 * jnp.sqrt(jnp.where(u <= 0, -u, 0.0))), lambda x: -1 / x**2,
        _RIGHT, False, "u = -1 / x^2: u x - 1 / x = -2 / x = -2 sqrt(-u)",
    ),
    "softplus": Conjugate(
        jax.nn.softplus,
        lambda u: _inside((u >= 0) & (u <= 1), _coin(jnp.clip(u, 0.0, 1.0))),
        jax.nn.sigmoid, _LINE, False, "u = sigmoid(x), x = log(u / (1 - u)): minus the entropy of a coin",
    ),
    "logistic": Conjugate(
        lambda x: jax.nn.softplus(-x),
        lambda u: _inside((u <= 0) & (u >= -1), _coin(jnp.clip(-u, 0.0, 1.0))),
        lambda x: -jax.nn.sigmoid(-x), _LINE, False, "softplus at -x: its conjugate at -u",
    ),
    "l1_norm": Conjugate(
        lambda x: jnp.sum(jnp.abs(x), -1),
        lambda u: _inside(jnp.max(jnp.abs(u), -1) <= 1 + _slack(u), 0.0), jnp.sign, _LINE, True,
        "u' x <= max|u| |x|_1 (Hoelder): the indicator of the unit ball of the largest entry",
    ),
    "l2_norm": Conjugate(
        _norm, lambda u: _inside(_norm(u) <= 1 + _slack(u), 0.0), _unit, _LINE, True,
        "u' x <= |u| |x| (Cauchy, Schwarz): the indicator of the unit ball",
    ),
    "linf_norm": Conjugate(
        lambda x: jnp.max(jnp.abs(x), -1), lambda u: _inside(jnp.sum(jnp.abs(u), -1) <= 1 + _slack(u), 0.0), _largest,
        _LINE, True, "u' x <= |u|_1 max|x| (Hoelder): the indicator of the unit ball of the sum",
    ),
    "half_l2_square": Conjugate(
        lambda x: jnp.sum(x**2, -1) / 2, lambda u: jnp.sum(u**2, -1) / 2, lambda x: x, _LINE, True, "entry by entry",
    ),
    "log_sum_exp": Conjugate(
        lambda x: jax.nn.logsumexp(x, -1),
        lambda u: _inside(
            jnp.all(u >= 0, -1) & (jnp.abs(jnp.sum(u, -1) - 1) <= u.shape[-1] * _slack(u)),
            jnp.sum(xlogy(u, jnp.maximum(u, 0.0)), -1),
        ),
        lambda x: jax.nn.softmax(x, -1), _LINE, True, "u = softmax(x): sum u log u, on the simplex; inf outside",
    ),
    "maximum": Conjugate(
        lambda x: jnp.max(x, -1),
        lambda u: _inside(jnp.all(u >= -_slack(u), -1) & (jnp.abs(jnp.sum(u, -1) - 1) <= u.shape[-1] * _slack(u)), 0.0),
        lambda x: jax.nn.one_hot(jnp.argmax(x, -1), x.shape[-1], dtype=x.dtype), _LINE, True,
        "the subgradients of max fill the simplex: its indicator",
    ),
}  # fmt: skip
