"""Primitive -> what it does to numbers of many digits; `RULES` is keyed by the primitive's name.

A rule takes `(arithmetic, primitive, operands, params)`: object arrays of balls, or NumPy arrays of integers and
booleans; it returns a list of such arrays.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from functional_dl.calculus.ball import HUGE, NOISY, Ball

RULES: dict[Any, Any] = {}


def rule(*names: str) -> Callable[..., Any]:
    def register(fun):
        RULES.update(dict.fromkeys(names, fun))
        return fun

    return register


def _exp(mp, x):
    if mp.isinf(x):
        return mp.inf if x > 0 else mp.zero
    if x != 0 and mp.mag(x) > HUGE:
        raise OverflowError
    return mp.exp(x)


def _power(mp, x, y):
    if mp.isinf(x) or mp.isinf(y) or x == 0:
        return mp.mpf(float(np.float64(float(x)) ** np.float64(float(y))))
    if mp.isint(y) and mp.mag(y) < 20:
        return x ** int(y)
    if x < 0:
        if not mp.isint(y):
            return mp.nan
        return _exp(mp, y * mp.log(-x)) * (1 if int(y) % 2 == 0 else -1)
    return _exp(mp, y * mp.log(x))


def _log(mp, x):
    if x == 0:
        return -mp.inf
    return mp.log(x) if x > 0 else mp.nan


def _lgamma(mp, x):
    if x > 0:
        return mp.inf if mp.isinf(x) else mp.loggamma(x)
    return mp.log(abs(mp.gamma(x)))


def _periodic(fun):
    def apply(mp, x):
        if mp.isinf(x):
            return mp.nan
        if x != 0 and mp.mag(x) > HUGE:
            raise OverflowError
        return fun(mp, x)

    return apply


def _ratio_of_exponentials(mp, x):
    """tanh x, without the exponentials of large numbers."""
    if mp.isinf(x) or mp.mag(x) > 40:
        return mp.mpf(mp.sign(x))
    return mp.tanh(x)


def _logistic(mp, x):
    return 1 / (1 + _exp(mp, -x)) if x > 0 else _exp(mp, x) / (1 + _exp(mp, x))


def _error_function(mp, x):
    return mp.mpf(mp.sign(x)) if mp.mag(x) > 40 else mp.erf(x)


def _wrapped(fun):
    """A function that mpmath evaluates for moderate arguments only."""

    def apply(mp, *xs):
        if any(mp.isinf(x) or (x != 0 and mp.mag(x) > HUGE) for x in xs):
            raise OverflowError
        return fun(mp, *xs)

    return apply


UNARY = {
    "exp": _exp,
    "exp2": lambda mp, x: _exp(mp, x * mp.ln2),
    "expm1": lambda mp, x: mp.expm1(x) if abs(x) < 1 else _exp(mp, x) - 1,
    "log": _log,
    "log1p": lambda mp, x: _log(mp, 1 + x),
    "tanh": _ratio_of_exponentials,
    "sinh": lambda mp, x: mp.sinh(x) if abs(x) < 1 else (_exp(mp, x) - _exp(mp, -x)) / 2,
    "cosh": lambda mp, x: (_exp(mp, x) + _exp(mp, -x)) / 2,
    "logistic": _logistic,
    "sqrt": lambda mp, x: mp.sqrt(x) if x >= 0 else mp.nan,
    "rsqrt": lambda mp, x: 1 / mp.sqrt(x) if x >= 0 else mp.nan,
    "cbrt": lambda mp, x: mp.sign(x) * mp.cbrt(abs(x)),
    "square": lambda mp, x: x * x,
    "asin": lambda mp, x: mp.asin(x) if abs(x) <= 1 else mp.nan,
    "acos": lambda mp, x: mp.acos(x) if abs(x) <= 1 else mp.nan,
    "atan": lambda mp, x: mp.atan(x),
    "asinh": lambda mp, x: mp.sign(x) * mp.log(abs(x) + mp.sqrt(x * x + 1)),
    "acosh": lambda mp, x: mp.acosh(x) if x >= 1 else mp.nan,
    "atanh": lambda mp, x: mp.atanh(x) if abs(x) <= 1 else mp.nan,
    "erf": _error_function,
    "erfc": _wrapped(lambda mp, x: mp.erfc(x)),
    "erf_inv": lambda mp, x: mp.erfinv(x),
    "lgamma": _lgamma,
    "digamma": lambda mp, x: mp.digamma(x),
    "bessel_i0e": _wrapped(lambda mp, x: mp.besseli(0, x) * mp.exp(-abs(x))),
    "bessel_i1e": _wrapped(lambda mp, x: mp.besseli(1, x) * mp.exp(-abs(x))),
}
PERIODIC = {
    "sin": _periodic(lambda mp, x: mp.sin(x)),
    "cos": _periodic(lambda mp, x: mp.cos(x)),
    "tan": _periodic(lambda mp, x: mp.tan(x)),
}
STEPS = {
    "floor": lambda mp, x: mp.floor(x),
    "ceil": lambda mp, x: mp.ceil(x),
    "round": lambda mp, x: mp.nint(x),
    "sign": lambda mp, x: mp.mpf(mp.sign(x)),
    "abs": lambda mp, x: abs(x),
}
BINARY = {
    "pow": _power,
    "atan2": lambda mp, y, x: mp.atan2(y, x),
    "max": lambda mp, a, b: max(a, b),
    "min": lambda mp, a, b: min(a, b),
    "polygamma": lambda mp, m, x: mp.psi(int(m), x),
    "zeta": lambda mp, s, q: mp.zeta(s, q),
    "igamma": _wrapped(lambda mp, a, x: mp.gammainc(a, 0, x, regularized=True)),
    "igammac": _wrapped(lambda mp, a, x: mp.gammainc(a, x, mp.inf, regularized=True)),
}
EXACT = {"max", "min", "abs", "sign", "floor", "ceil", "round"}


def elementwise(fun: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    arrays = np.broadcast_arrays(*arrays)
    out = np.empty(arrays[0].shape, object)
    for index in np.ndindex(out.shape):
        out[index] = fun(*(a[index] for a in arrays))
    return out


def _function(name, fun, arithmetic, primitive, operands, params):
    def at(*numbers):
        numbers = [arithmetic.exact(int(x)) if isinstance(x, int | np.integer) else x for x in numbers]
        if name in PERIODIC and numbers[0].e > NOISY:
            return Ball(arithmetic, arithmetic.mp.zero, arithmetic.inf)
        return arithmetic.evaluate(fun, *numbers, both=name in STEPS, exact=name in EXACT)

    return [elementwise(at, *operands)]


for _table in (UNARY, PERIODIC, STEPS, BINARY):
    for _name, _fun in _table.items():
        RULES[_name] = functools.partial(_function, _name, _fun)


@rule("add", "add_any", "sub", "mul", "neg", "div")
def _arithmetic(arithmetic, primitive, operands, params):
    operation = {
        "add": lambda a, b: a + b,
        "add_any": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "neg": lambda a: -a,
    }[primitive.name]
    return [elementwise(operation, *operands)]


@rule("integer_pow")
def _integer_pow(arithmetic, primitive, operands, params):
    fun = lambda mp, x: x ** params["y"]
    return [elementwise(lambda x: arithmetic.evaluate(fun, x), operands[0])]


@rule("rem")
def _rem(arithmetic, primitive, operands, params):
    """a - b trunc(a / b)."""
    fun = lambda mp, a, b: mp.sign(a) * mp.fmod(abs(a), abs(b))
    return [elementwise(lambda a, b: arithmetic.evaluate(fun, a, b, both=True), *operands)]


@rule("clamp")
def _clamp(arithmetic, primitive, operands, params):
    fun = lambda mp, low, x, high: min(max(x, low), high)
    return [elementwise(lambda *xs: arithmetic.evaluate(fun, *xs, exact=True), *operands)]


COMPARISONS = {
    "lt": lambda c: c == -1,
    "le": lambda c: c in (-1, 0),
    "gt": lambda c: c == 1,
    "ge": lambda c: c in (0, 1),
    "eq": lambda c: c == 0,
    "ne": lambda c: c != 0,
}


@rule(*COMPARISONS)
def _compare(arithmetic, primitive, operands, params):
    decide = COMPARISONS[primitive.name]
    return [elementwise(lambda a, b: decide(a.compare(b)), *operands).astype(bool)]


@rule("is_finite")
def _is_finite(arithmetic, primitive, operands, params):
    return [elementwise(lambda x: bool(arithmetic.mp.isfinite(x.v)), operands[0]).astype(bool)]


@rule("convert_element_type")
def _convert(arithmetic, primitive, operands, params):
    """To floating numbers nothing is rounded; integers are made where they fit."""
    x, dtype = operands[0], np.dtype(params["new_dtype"])
    if dtype.kind in "fV":
        return [x]
    if dtype.kind not in "iub":
        raise NotImplementedError(f"numbers of many digits are not converted to {dtype}")
    return [elementwise(lambda v: _whole(arithmetic, v, dtype), x).astype(dtype)]


def _whole(arithmetic, x, dtype):
    if not arithmetic.mp.isfinite(x.v) or abs(x.v) > 2**62:
        raise NotImplementedError("a number does not fit an integer")
    if math.trunc(x.v - x.e) != math.trunc(x.v + x.e):
        arithmetic.ambiguous = True
    return bool(x.v != 0) if dtype.kind == "b" else math.trunc(x.v)


@rule("select_n")
def _select(arithmetic, primitive, operands, params):
    which, *cases = operands
    which = np.broadcast_to(np.asarray(which).astype(int), cases[0].shape)
    out = np.empty(which.shape, object)
    for index in np.ndindex(out.shape):
        out[index] = cases[which[index]][index]
    return [out]
