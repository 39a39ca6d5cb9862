"""Primitive -> how it acts on power series.  One recurrence a family; `RULES` is keyed by the primitive's name.

A rule takes `(primitive, operands, params, n)` with at least one Series among the operands, and returns a list of
Series and of arrays (what is constant near x_0: signs, comparisons, integers).  Where a function has a branch at x_0
itself, the one that holds for small t > 0 is taken, by the first coefficient that tells the two apart.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from functional_dl.calculus import series
from functional_dl.calculus.series import Series, constant, mul, times

RULES: dict[Any, Any] = {}
ROOTS = {"pow", "sqrt", "rsqrt", "cbrt", "integer_pow"}  # where x_0 = 0, the two sides of x_0 may differ
BRANCHES: set[str] = set()  # primitives whose series may differ to the left of x_0 and to its right


def rule(*names: str, branches: bool = False) -> Callable[..., Any]:
    def register(fun):
        RULES.update(dict.fromkeys(names, fun))
        BRANCHES.update(names if branches else ())
        return fun

    return register


def coefficients(x: Any, n: int) -> Any:
    return x.c if isinstance(x, Series) else constant(x, n)


def unary(name: str, fun: Callable[..., Any]) -> None:
    """fun: coefficients -> coefficients."""
    RULES[name] = lambda primitive, operands, params, n: [Series(fun(operands[0].c))]


def _one(x):
    return constant(jnp.ones_like(x[0]), len(x) - 1)


def _root(x):
    return series.power(x, jnp.full_like(x[0], 0.5), lax.sqrt)


def _inverse_root(x):
    return series.power(x, jnp.full_like(x[0], -0.5), lax.rsqrt)


def _by_slope(fun, slope):
    """y = fun(x) with y' = slope(x) x'."""
    return lambda x: series.along(fun(x[0]), slope(x), x)


def _circle(x):
    return _one(x) - mul(x, x)


def _gauss(x, sign=-1.0):
    return times(2 / math.sqrt(math.pi), series.exp(times(sign, mul(x, x))))


def _inverse_error_function(x):
    """y = erf_inv(x): y' = (sqrt(pi) / 2) e^(y^2) x'; every round of the recurrence is right for one order more."""
    y = constant(lax.erf_inv(x[0]), len(x) - 1)
    for _ in range(1, len(x)):
        y = series.along(y[0], times(math.pi / 4, _gauss(y, 1.0)), x)
    return y


UNARY = {
    "exp": series.exp,
    "exp2": lambda x: series.riccati(lax.exp2(x[0]), times(math.log(2), x), 0.0, 1.0, 0.0),
    "expm1": lambda x: series.riccati(lax.expm1(x[0]), x, 1.0, 1.0, 0.0),
    "log": series.log,
    "log1p": lambda x: series.log(x + _one(x), lax.log1p(x[0])),
    "sin": lambda x: series.oscillation(lax.sin(x[0]), lax.cos(x[0]), x, -1.0)[0],
    "cos": lambda x: series.oscillation(lax.sin(x[0]), lax.cos(x[0]), x, -1.0)[1],
    "sinh": lambda x: series.oscillation(lax.sinh(x[0]), lax.cosh(x[0]), x, 1.0)[0],
    "cosh": lambda x: series.oscillation(lax.sinh(x[0]), lax.cosh(x[0]), x, 1.0)[1],
    "tan": lambda x: series.riccati(lax.tan(x[0]), x, 1.0, 0.0, 1.0),
    "tanh": lambda x: series.riccati(lax.tanh(x[0]), x, 1.0, 0.0, -1.0),
    "logistic": lambda x: series.riccati(lax.logistic(x[0]), x, 0.0, 1.0, -1.0),
    "sqrt": _root,
    "rsqrt": _inverse_root,
    "cbrt": lambda x: series.power(x, jnp.full_like(x[0], 1 / 3), lax.cbrt),
    "square": lambda x: mul(x, x),
    "asin": _by_slope(lax.asin, lambda x: _inverse_root(_circle(x))),
    "acos": _by_slope(lax.acos, lambda x: -_inverse_root(_circle(x))),
    "atan": _by_slope(lax.atan, lambda x: series.div(_one(x), _one(x) + mul(x, x))),
    "asinh": _by_slope(lax.asinh, lambda x: _inverse_root(_one(x) + mul(x, x))),
    "acosh": _by_slope(lax.acosh, lambda x: mul(_inverse_root(x - _one(x)), _inverse_root(x + _one(x)))),
    "atanh": _by_slope(lax.atanh, lambda x: series.div(_one(x), _circle(x))),
    "erf": _by_slope(lax.erf, _gauss),
    "erfc": _by_slope(lax.erfc, lambda x: -_gauss(x)),
    "erf_inv": _inverse_error_function,
    "lgamma": _by_slope(lax.lgamma, series.digamma),
    "digamma": series.digamma,
}
for _name, _fun in UNARY.items():
    unary(_name, _fun)


@rule("neg", "real", "imag", "conj", "complex", "reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims")
@rule("reduce_sum", "cumsum", "slice", "dynamic_slice", "dynamic_update_slice", "gather", "scatter", "scatter-add")
@rule("scatter_add", "concatenate", "stack", "split", "pad", "rev", "select_n", "copy", "copy_p", "reduce_window_sum")
@rule("add", "sub", "add_any", "fft", "device_put", "name", "optimization_barrier", "sharding_constraint")
@rule("reduce_precision", "unstack", "tile")
def _linear(primitive, operands, params, n):
    def apply(*arrays):
        return primitive.bind(*arrays, **params)

    out = series.linear(apply, operands, n)
    return [Series(c) for c in out] if primitive.multiple_results else [Series(out)]


@rule("convert_element_type")
def _convert(primitive, operands, params, n):
    if not jnp.issubdtype(params["new_dtype"], jnp.inexact):
        return [primitive.bind(operands[0].c[0], **params)]
    return _linear(primitive, operands, params, n)


@rule("mul", "dot_general", "conv_general_dilated")
def _bilinear(primitive, operands, params, n):
    """(a b)_k = sum_j a_j b_{k-j}; linear where one of the two does not move."""
    a, b = operands

    def product(x, y):
        return primitive.bind(x, y, **params)

    if isinstance(a, Series) and isinstance(b, Series):
        return [Series(series.cauchy(product, a.c, b.c))]
    if isinstance(a, Series):
        return [Series(jnp.stack([product(x, b) for x in a.c]))]
    return [Series(jnp.stack([product(a, y) for y in b.c]))]


@rule("div")
def _div(primitive, operands, params, n):
    return [Series(series.div(coefficients(operands[0], n), coefficients(operands[1], n)))]


@rule("integer_pow")
def _integer_pow(primitive, operands, params, n):
    return [Series(series.integer_power(operands[0].c, params["y"]))]


@rule("pow")
def _pow(primitive, operands, params, n):
    """x^p for constant p by its own recurrence, so that x may be negative where p is an integer; else e^(y log x)."""
    x, y = operands
    if isinstance(y, Series):
        exponent = mul(y.c, series.log(coefficients(x, n)))
        value = primitive.bind(_value(x), y.c[0], **params)
        # an infinite exponent may be removable, as in (1 + x)^(1/x): then the value is not that of 1^inf
        value = jnp.where(jnp.isinf(y.c[0]), jnp.full_like(value, jnp.nan), value)
        return [Series(series.exp(exponent).at[0].set(value))]
    p = jnp.broadcast_to(jnp.asarray(y).astype(x.c.dtype), x.c.shape[1:])
    return [Series(series.power(x.c, p, lambda u: primitive.bind(u, y, **params)))]


def _value(x):
    return x.c[0] if isinstance(x, Series) else x


@rule("atan2")
def _atan2(primitive, operands, params, n):
    """d atan2(y, x) = (x dy - y dx) / (x^2 + y^2)."""
    y, x = (coefficients(v, n) for v in operands)
    square = mul(x, x) + mul(y, y)
    zero = jnp.zeros_like(x[0])
    from_y = series.along(zero, series.div(x, square), y)
    from_x = series.along(zero, series.div(y, square), x)
    return [Series((from_y - from_x).at[0].set(lax.atan2(y[0], x[0])))]


@rule("polygamma")
def _polygamma(primitive, operands, params, n):
    order, x = operands
    if isinstance(order, Series):
        raise NotImplementedError("taylor: polygamma has no recurrence in its order")
    outer = []
    for k in range(n + 1):
        derivative = primitive.bind(lax.add(order, jnp.full_like(order, k)), x.c[0], **params)
        outer.append(times(1 / math.factorial(k), derivative))
    return [Series(series.composed(outer, x.c))]


@rule("igamma", "igammac")
def _igamma(primitive, operands, params, n):
    """d igamma(a, x) / dx = x^(a-1) e^-x / Gamma(a)."""
    a, x = operands
    if isinstance(a, Series):
        raise NotImplementedError(f"taylor: {primitive} has no recurrence in its first argument")
    one = jnp.ones_like(a)
    density = mul(series.power(x.c, a - one, lambda u: lax.pow(u, a - one)), series.exp(-x.c))
    density = density * lax.exp(-lax.lgamma(a))[None]
    sign = 1.0 if primitive.name == "igamma" else -1.0
    return [Series(series.along(primitive.bind(a, x.c[0], **params), times(sign, density), x.c))]


@rule("stop_gradient")
def _stop(primitive, operands, params, n):
    return [operands[0].c[0]]


@rule("is_finite")
def _is_finite(primitive, operands, params, n):
    return [primitive.bind(operands[0].c[0], **params)]


@rule("reduce_prod")
def _reduce_prod(primitive, operands, params, n):
    x, axes = operands[0].c, sorted(params["axes"], reverse=True)
    for axis in axes:
        factors = jnp.moveaxis(x, axis + 1, 0)
        x = constant(jnp.ones_like(x[0].sum(axis)), n)
        for factor in factors:
            x = mul(x, factor)
    return [Series(x)]
