r"""The chain rule: (f_n o ... o f_1)' = f_n' ... f_1', its factors, its product from either end and what that costs."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.aliases import Array
from functional_dl.calculus.points import real_point
from functional_dl.precision import double

Order: TypeAlias = Literal["forward", "reverse"]


class Product(NamedTuple):
    """The product of a chain's factors, and how many multiplications and additions it took."""

    value: Array
    flops: int


class Costs(NamedTuple):
    """Flops of the product from the input's end (forward mode) and from the output's (reverse mode)."""

    forward: int
    reverse: int


class Paths(NamedTuple):
    """d/dx f(g_1(x), ..., g_m(x)) = sum over k of df/du_k g_k'(x): the terms, and their sum."""

    terms: tuple[Array, ...]
    total: Array


class Chain:
    """x -> f_1(f_2(... f_n(x))): a composition that knows its factors.  Inputs and values are arrays of any shape."""

    def __init__(self, functions: tuple[Callable[..., Any], ...]) -> None:
        self.functions = functions

    def __call__(self, x: Any) -> Array:
        for f in reversed(self.functions):
            x = f(x)
        return x

    def __repr__(self) -> str:
        names = [getattr(f, "__name__", type(f).__name__) for f in self.functions]
        shown = names if len(names) <= 8 else [*names[:3], f"... {len(names) - 6} more ...", *names[-3:]]
        return f"compose({', '.join(shown)})"

    def values(self, x: ArrayLike) -> list[Array]:
        """x, f_n(x), f_{n-1}(f_n(x)), ...: where the factors are taken, and the result."""
        with double():
            values = [_array(real_point("x", x), "x")]
            for k, f in zip(range(len(self.functions) - 1, -1, -1), reversed(self.functions)):
                values.append(_array(f(values[-1]), f"the value of function {k}"))
        return values

    def factors(self, x: ArrayLike) -> list[Array]:
        """The local derivatives f_k'(its input), innermost first: numbers, or of shape (*value, *input), matrices for
        vectors."""
        values = self.values(x)
        with double():
            return [_local(f, v, out) for f, v, out in zip(reversed(self.functions), values, values[1:])]

    def derivative(self, x: ArrayLike) -> Array:
        """The product of the factors, outermost leftmost, of shape (*value, *x)."""
        costs = self.costs(x)
        return self.product(x, "reverse" if costs.reverse <= costs.forward else "forward").value

    def product(self, x: ArrayLike, order: Order = "reverse") -> Product:
        """The product from the input's end ("forward": J_n, then J_{n-1} J_n, ...) or from the output's ("reverse")."""
        arguments.choice("order", order, get_args(Order))
        values, factors = self.values(x), self.factors(x)
        with double():
            matrices = [j.reshape(out.size, v.size) for j, v, out in zip(factors, values, values[1:])]
            flops = 0
            sequence = matrices if order == "forward" else matrices[::-1]
            total = sequence[0]
            for matrix in sequence[1:]:
                a, b = (matrix, total) if order == "forward" else (total, matrix)
                flops += a.shape[0] * b.shape[1] * (2 * a.shape[1] - 1)
                total = a @ b
            return Product(total.reshape(*values[-1].shape, *values[0].shape), flops)

    def costs(self, x: ArrayLike) -> Costs:
        """What both products cost.  Where the result is one number, from its end each step is a row times a matrix,
        and from the
        other end a matrix times a matrix: that is why reverse mode wins there."""
        sizes = [math.prod(v.shape) for v in self.values(x)]
        forward = sum(sizes[k + 1] * sizes[0] * (2 * sizes[k] - 1) for k in range(1, len(sizes) - 1))
        reverse = sum(sizes[-1] * sizes[k] * (2 * sizes[k + 1] - 1) for k in range(len(sizes) - 2))
        return Costs(forward, reverse)


def _array(x, name: str) -> Array:
    if isinstance(x, dict | list | tuple):
        raise ValueError(f"{name}: expected an array, got a {type(x).__name__}")
    return jnp.asarray(x)


def _local(f: Callable[..., Any], x: Array, out: Array) -> Array:
    return (jax.jacrev if out.size < x.size else jax.jacfwd)(f)(x)


def compose(*functions: Callable[..., Any]) -> Chain:
    """compose(f, g, h)(x) = f(g(h(x))), with its factors, their product and its costs.

    Raises: ValueError without a function, TypeError for an argument that is not a function.
    Example:
      >>> chain = calculus.compose(lambda u: 3 * u**5, lambda x: 2 * x**2)
      >>> [float(f) for f in chain.factors(0.5)]
      [2.0, 0.9375]
      >>> float(chain.derivative(0.5))
      1.875
    """
    if not functions:
        raise ValueError("functions: expected at least one, got none")
    for k, f in enumerate(functions):
        if not callable(f):
            raise TypeError(f"functions: expected functions, got {type(f).__name__} at position {k}")
    return Chain(functions)


def total_derivative(f: Callable[..., Any], inner: tuple[Callable[..., Any], ...], x: ArrayLike) -> Paths:
    r"""d/dx f(g_1(x), ..., g_m(x)): along each path the product, over all paths the sum.

    Args:
      f: function of m arrays.
      inner: g_1, ..., g_m; lambda x: x where x itself is an argument of f.
      x: a number or an array.
    Returns:
      Paths(terms, total), each of shape (*value of f, *x).
    Raises: ValueError where inner is empty.
    Example:
      >>> paths = calculus.total_derivative(lambda u, v: u * v, (lambda x: x, lambda x: x**2), 2.0)
      >>> [float(term) for term in paths.terms], float(paths.total)
      ([4.0, 8.0], 12.0)
    """
    arguments.function("f", f)
    if not isinstance(inner, Sequence):
        raise TypeError(f"inner: expected a sequence of functions, got {arguments.described(inner)}")
    if not inner:
        raise ValueError("inner: expected at least one function, got none")
    for k, g in enumerate(inner):
        arguments.function(f"inner[{k}]", g)
    with double():
        x = _array(real_point("x", x), "x")
        us = [_array(g(x), f"the value of inner function {k}") for k, g in enumerate(inner)]
        out = _array(f(*us), "the value of f")
        terms = []
        for k, (g, u) in enumerate(zip(inner, us)):
            outer = _local(lambda v, k=k: f(*us[:k], v, *us[k + 1 :]), u, out).reshape(out.size, u.size)
            local = _local(g, x, u).reshape(u.size, x.size)
            terms.append((outer @ local).reshape(*out.shape, *x.shape))
        return Paths(tuple(terms), sum(terms[1:], start=terms[0]))
