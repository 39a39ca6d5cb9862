r"""Arithmetic of truncated power series: x(t) = x_0 + x_1 t + ... + x_n t^n, kept as one array whose first axis is k.

Each recurrence follows from comparing the coefficients of t^(k-1) in a differential equation that the function obeys,
for instance y = e^x, y' = x' y, so k y_k = sum_{j=1}^k j x_j y_{k-j}.

Source: Griewank, Walther, Evaluating Derivatives (2nd ed.), SIAM 2008, chapter 13.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl.aliases import Array


class Series:
    """A value along the line x_0 + t: its coefficients, shape (n + 1, *shape)."""

    __slots__ = ("c",)
    c: Array

    def __init__(self, c: Array) -> None:
        self.c = c


def constant(x: Any, n: int) -> Array:
    """Coefficients of a value that does not move: x, 0, ..., 0."""
    x = jnp.asarray(x)
    return jnp.concatenate([x[None], jnp.zeros((n, *x.shape), x.dtype)])


def cauchy(product: Any, a: Array, b: Array) -> Array:
    """(a b)_k = sum_j a_j b_{k-j}, for whatever is bilinear."""
    return jnp.stack([sum_of([product(a[j], b[k - j]) for j in range(k + 1)]) for k in range(len(a))])


def sum_of(terms: list[Any]) -> Array:
    return functools.reduce(lax.add, terms)


def times(k: float, x: Array) -> Array:
    """k x in the dtype of x."""
    return lax.mul(jnp.full(x.shape, k, x.dtype), x)


def mul(a: Array, b: Array) -> Array:
    return cauchy(lax.mul, a, b)


def leading_zeros(c: Array) -> Array:
    """For each entry, how many coefficients are 0 before the first that is not."""
    return jnp.sum(jnp.cumprod((c == 0).astype(jnp.int32), axis=0), axis=0, dtype=jnp.int32)


def lowered(c: Array, v: Array) -> Array:
    """c / t^v: coefficient k is that of k + v; what truncation has taken is NaN."""
    place = jnp.arange(len(c), dtype=v.dtype).reshape(-1, *[1] * v.ndim) + v[None]
    found = jnp.take_along_axis(c, jnp.minimum(place, jnp.asarray(len(c) - 1, v.dtype)), axis=0)
    return jnp.where(place < len(c), found, jnp.full_like(found, jnp.nan))


def raised(c: Array, m: Array) -> Array:
    """c t^m for m >= 0; where m is no integer, 0 up to it and NaN from there on."""
    k = jnp.arange(len(c), dtype=m.dtype).reshape(-1, *[1] * m.ndim)
    place = (k - m[None]).astype(jnp.int32)
    found = jnp.take_along_axis(c, jnp.clip(place, 0, len(c) - 1), axis=0)
    found = jnp.where((m == jnp.floor(m))[None], found, jnp.full_like(found, jnp.nan))
    return jnp.where(k < m[None], jnp.zeros_like(found), found)


def div(a: Array, b: Array) -> Array:
    """q b = a  =>  q_k = (a_k - sum_{j=1}^k b_j q_{k-j}) / b_0; factors t that both have are cancelled before."""
    shape = jnp.broadcast_shapes(a.shape[1:], b.shape[1:])
    a, b = (jnp.broadcast_to(c.reshape(len(c), *[1] * (len(shape) - c.ndim + 1), *c.shape[1:]), (len(c), *shape))
            for c in (a, b))  # fmt: skip
    v = leading_zeros(b)
    both = (v > 0) & (leading_zeros(a) >= v) & (v < len(b))
    a, b = jnp.where(both[None], lowered(a, v), a), jnp.where(both[None], lowered(b, v), b)
    q: list = []
    for k in range(len(a)):
        rest = [lax.mul(b[j], q[k - j]) for j in range(1, k + 1)]
        q.append(lax.div(lax.sub(a[k], sum_of(rest)) if rest else a[k], b[0]))
    return jnp.stack(q)


def along(y0: Array, slope: Array, x: Array) -> Array:
    """y' = g x'  =>  y_k = (1/k) sum_{j=1}^k j x_j g_{k-j}, given y_0."""
    y = [y0]
    for k in range(1, len(x)):
        y.append(times(1 / k, sum_of([times(j, lax.mul(x[j], slope[k - j])) for j in range(1, k + 1)])))
    return jnp.stack(y)


def riccati(y0: Array, x: Array, a: float, b: float, c: float) -> Array:
    """y' = (a + b y + c y^2) x': exponential, tangent, hyperbolic tangent and logistic function obey such an
    equation."""
    y, w = [y0], []
    for k in range(1, len(x) + 1):
        last = k - 1
        square = sum_of([lax.mul(y[j], y[last - j]) for j in range(k)])
        w.append(lax.add(times(b, y[last]), times(c, square)))
        if last == 0:
            w[0] = lax.add(w[0], jnp.full(w[0].shape, a, w[0].dtype))
        if k < len(x):
            y.append(times(1 / k, sum_of([times(j, lax.mul(x[j], w[k - j])) for j in range(1, k + 1)])))
    return jnp.stack(y)


def exp(x: Array) -> Array:
    return riccati(lax.exp(x[0]), x, 0.0, 1.0, 0.0)


def log(x: Array, y0: Array | None = None) -> Array:
    """x y' = x'  =>  y_k = (x_k - (1/k) sum_{j=1}^{k-1} j y_j x_{k-j}) / x_0."""
    y = [lax.log(x[0]) if y0 is None else y0]
    for k in range(1, len(x)):
        rest = [times(j / k, lax.mul(y[j], x[k - j])) for j in range(1, k)]
        y.append(lax.div(lax.sub(x[k], sum_of(rest)) if rest else x[k], x[0]))
    return jnp.stack(y)


def oscillation(first: Array, second: Array, x: Array, sign: float) -> tuple[Array, Array]:
    """s' = c x', c' = sign s x': sine and cosine (sign -1), hyperbolic sine and cosine (sign 1)."""
    s, c = [first], [second]
    for k in range(1, len(x)):
        weights = [times(j / k, x[j]) for j in range(1, k + 1)]
        s_k = sum_of([lax.mul(w, c[k - j]) for j, w in enumerate(weights, 1)])
        c_k = sum_of([lax.mul(w, s[k - j]) for j, w in enumerate(weights, 1)])
        s.append(s_k)
        c.append(times(sign, c_k))
    return jnp.stack(s), jnp.stack(c)


def power(x: Array, p: Array, root: Callable[..., Any]) -> Array:
    """x y' = p y x'  =>  y_k = (1 / (k x_0)) sum_{j=1}^k (p j - (k - j)) x_j y_{k-j}, for a constant p.

    Where x = t^v (x_v + ...) with v > 0 it is t^(v p) (x_v + ...)^p, for t > 0.

    Args:
      root: u -> u^p, of the numbers x_0.
    """
    v = leading_zeros(x)
    singular = (v > 0) & (p > 0)
    low = jnp.where(singular[None], lowered(x, v), x)
    y = [root(low[0])]
    for k in range(1, len(x)):
        terms = []
        for j in range(1, k + 1):
            factor = lax.sub(times(j, p), jnp.full(p.shape, k - j, p.dtype))
            terms.append(lax.mul(factor, lax.mul(low[j], y[k - j])))
        y.append(lax.div(sum_of(terms), times(k, low[0])))
    found = jnp.stack(y)
    return jnp.where(
        singular[None], raised(found, jnp.where(singular, v.astype(p.dtype) * p, jnp.zeros_like(p))), found
    )


def integer_power(x: Array, y: int) -> Array:
    """x^y by repeated squaring, so that x_0 = 0 is no special case."""
    if y < 0:
        return div(constant(jnp.ones_like(x[0]), len(x) - 1), integer_power(x, -y))
    result, square = None, x
    while y:
        if y & 1:
            result = square if result is None else mul(result, square)
        y >>= 1
        square = mul(square, square) if y else square
    return constant(jnp.ones_like(x[0]), len(x) - 1) if result is None else result


def composed(outer: list[Any], x: Array) -> Array:
    """sum_k g_k (x - x_0)^k by Horner, g_k the coefficients of a function about x_0."""
    moved = x.at[0].set(jnp.zeros_like(x[0]))
    result = constant(outer[-1], len(x) - 1)
    for g in reversed(outer[:-1]):
        result = mul(result, moved).at[0].add(g)
    return result


def digamma(x: Array, n0: int = 0) -> Array:
    """The n0-th derivative of digamma: its k-th is polygamma(n0 + k, x_0)."""
    outer = []
    for k in range(n0, n0 + len(x)):
        derivative = lax.polygamma(jnp.full_like(x[0], k), x[0]) if k else lax.digamma(x[0])
        outer.append(times(1 / math.factorial(k - n0), derivative))
    return composed(outer, x)


def leading_sign(c: Array) -> Array:
    """The sign of x(t) for small t > 0: that of the first coefficient that is not zero."""
    sign = lax.sign(c[0])
    for coefficient in c[1:]:
        sign = jnp.where(sign == 0, lax.sign(coefficient), sign)
    return sign


def extreme(c: Array, axes: tuple[int, ...], largest: bool) -> Array:
    """max (or min) over axes for small t > 0: of the largest x_0 those with the largest x_1, and so on."""
    lowest = jnp.array(-jnp.inf if largest else jnp.inf, c.dtype)
    reduce = jnp.max if largest else jnp.min
    chosen, result = jnp.ones(c.shape[1:], bool), []
    for coefficient in c:
        best = reduce(jnp.where(chosen, coefficient, lowest), axis=axes, keepdims=True)
        chosen &= coefficient == best
        result.append(jnp.squeeze(best, axes))
    return jnp.stack(result)


def linear(apply: Any, operands: list[Any], n: int) -> Array:
    """A linear function of all of its inexact operands, coefficient by coefficient; integers among them stay."""
    moving = [isinstance(x, Series) or jnp.issubdtype(jnp.result_type(x), jnp.inexact) for x in operands]
    arrays = [x.c if isinstance(x, Series) else (constant(x, n) if m else x) for x, m in zip(operands, moving)]
    return jax.vmap(apply, in_axes=tuple(0 if m else None for m in moving))(*arrays)
