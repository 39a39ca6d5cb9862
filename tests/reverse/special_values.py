"""Derivatives of scalar functions at special values, in multiple precision: the table of test_special_values.py.

FUNCTIONS: name -> Function(fun, derivative, low, high, ends); `derivative(mp, x)` is the closed form, written
independently of the rules; [low, high] is where the function is real and differentiable; `ends` gives its value where
mpmath cannot evaluate the closed form (infinities, ends of the domain).  LOST: (functions, points, why the values there
are not held to the tolerance).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

INF, NAN = math.inf, math.nan
TINY = np.finfo(np.float64).tiny
MAX = np.finfo(np.float64).max
ULP = np.finfo(np.float64).eps

_POSITIVE = (
    0.0, 5e-324, TINY / 4, TINY, 1e-300, 1e-160, 1e-20, 1e-8, 0.1, 0.5, 0.7071067811865476, 1 - ULP / 2, 1.0, 1 + ULP,
    1.5, 2.0, 3.0, 10.0, 36.7, 100.0, 709.0, 745.0, 1e8, 1e16, 1e160, 1e300, MAX, INF,
)  # fmt: skip
POINTS = (*_POSITIVE, *[-x for x in _POSITIVE], NAN)


@dataclass(frozen=True)
class Function:
    """A function of one number and its derivative's closed form."""

    fun: Callable
    derivative: Callable
    low: float = -INF
    high: float = INF
    ends: dict[float, float] = field(default_factory=dict)
    curved: bool = True

    def points(self):
        """The special values of its domain, at least 20 of them: where there are fewer, ones between are added.

        NaN is among them where the slope depends on x at all; -0 is not where 0 is an end of the domain, nor where the
        slope has a pole.
        """
        inside = [x for x in POINTS if self.low <= x <= self.high or (math.isnan(x) and self.curved)]
        pole = self.low == 0 or math.isinf(self.ends.get(0.0, 0.0))
        inside = [x for x in inside if not (pole and x == 0 and math.copysign(1, x) < 0)]
        if len(inside) < 20:
            inside += np.linspace(max(self.low, -5.0), min(self.high, 5.0), 23)[1:-1].tolist()
        return inside


def _fixed(fun, *before):
    """fun with its first arguments fixed."""
    return lambda x: fun(*[jnp.full_like(x, b) for b in before], x)


FUNCTIONS = {
    "exp": Function(lax.exp, lambda mp, x: mp.exp(x), ends={INF: INF, -INF: 0.0}),
    "exp2": Function(lax.exp2, lambda mp, x: mp.log(2) * mp.mpf(2) ** x, ends={INF: INF, -INF: 0.0}),
    "expm1": Function(lax.expm1, lambda mp, x: mp.exp(x), ends={INF: INF, -INF: 0.0}),
    "log": Function(lax.log, lambda mp, x: 1 / x, low=0.0, ends={0.0: INF, INF: 0.0}),
    "log1p": Function(lax.log1p, lambda mp, x: 1 / (1 + x), low=-1.0, ends={-1.0: INF, INF: 0.0}),
    "logistic": Function(
        lax.logistic, lambda mp, x: mp.exp(-abs(x)) / (1 + mp.exp(-abs(x))) ** 2, ends={INF: 0.0, -INF: 0.0}
    ),
    "sin": Function(lax.sin, lambda mp, x: mp.cos(x), ends={INF: NAN, -INF: NAN}),
    "cos": Function(lax.cos, lambda mp, x: -mp.sin(x), ends={INF: NAN, -INF: NAN}),
    "tan": Function(lax.tan, lambda mp, x: mp.sec(x) ** 2, ends={INF: NAN, -INF: NAN}),
    "asin": Function(lax.asin, lambda mp, x: 1 / mp.sqrt(1 - x * x), -1.0, 1.0, {1.0: INF, -1.0: INF}),
    "acos": Function(lax.acos, lambda mp, x: -1 / mp.sqrt(1 - x * x), -1.0, 1.0, {1.0: -INF, -1.0: -INF}),
    "atan": Function(lax.atan, lambda mp, x: 1 / (1 + x * x), ends={INF: 0.0, -INF: 0.0}),
    "sinh": Function(lax.sinh, lambda mp, x: mp.cosh(x), ends={INF: INF, -INF: INF}),
    "cosh": Function(lax.cosh, lambda mp, x: mp.sinh(x), ends={INF: INF, -INF: -INF}),
    "tanh": Function(lax.tanh, lambda mp, x: mp.sech(x) ** 2, ends={INF: 0.0, -INF: 0.0}),
    "asinh": Function(lax.asinh, lambda mp, x: 1 / mp.sqrt(1 + x * x), ends={INF: 0.0, -INF: 0.0}),
    "acosh": Function(lax.acosh, lambda mp, x: 1 / mp.sqrt(x * x - 1), low=1.0, ends={1.0: INF, INF: 0.0}),
    "atanh": Function(lax.atanh, lambda mp, x: 1 / (1 - x * x), -1.0, 1.0, {1.0: INF, -1.0: INF}),
    "erf": Function(lax.erf, lambda mp, x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x), ends={INF: 0.0, -INF: 0.0}),
    "erfc": Function(lax.erfc, lambda mp, x: -2 / mp.sqrt(mp.pi) * mp.exp(-x * x), ends={INF: 0.0, -INF: 0.0}),
    "erf_inv": Function(
        lax.erf_inv, lambda mp, x: mp.sqrt(mp.pi) / 2 * mp.exp(mp.erfinv(x) ** 2), -1.0, 1.0, {1.0: INF, -1.0: INF}
    ),
    "sqrt": Function(lax.sqrt, lambda mp, x: 1 / (2 * mp.sqrt(x)), low=0.0, ends={0.0: INF, INF: 0.0}),
    "rsqrt": Function(lax.rsqrt, lambda mp, x: -1 / (2 * x * mp.sqrt(x)), low=0.0, ends={0.0: -INF, INF: 0.0}),
    "cbrt": Function(
        lax.cbrt, lambda mp, x: 1 / (3 * mp.cbrt(abs(x)) ** 2), ends={0.0: INF, INF: 0.0, -INF: 0.0}
    ),
    "square": Function(lax.square, lambda mp, x: 2 * x, ends={INF: INF, -INF: -INF}),
    "x^3": Function(lambda x: lax.integer_pow(x, 3), lambda mp, x: 3 * x * x, ends={INF: INF, -INF: INF}),
    "x^-2": Function(
        lambda x: lax.integer_pow(x, -2), lambda mp, x: -2 / x**3, ends={0.0: -INF, INF: 0.0, -INF: 0.0}
    ),
    "abs": Function(lax.abs, lambda mp, x: mp.sign(x), ends={0.0: 1.0, INF: 1.0, -INF: -1.0}, curved=False),
    "neg": Function(lax.neg, lambda mp, x: -1, ends={INF: -1.0, -INF: -1.0}, curved=False),
    "1 / x": Function(lambda x: lax.div(1.0, x), lambda mp, x: -1 / x**2, ends={0.0: -INF, INF: 0.0, -INF: 0.0}),
    "lgamma": Function(lax.lgamma, lambda mp, x: mp.digamma(x), low=TINY, ends={INF: INF}),
    "digamma": Function(lax.digamma, lambda mp, x: mp.polygamma(1, x), low=0.0, ends={0.0: INF, INF: 0.0}),
    "polygamma(1)": Function(
        _fixed(lax.polygamma, 1.0), lambda mp, x: mp.polygamma(2, x), low=TINY, ends={INF: 0.0}
    ),
    "i0e": Function(
        lax.bessel_i0e,
        lambda mp, x: mp.exp(-abs(x)) * (mp.besseli(1, x) - mp.sign(x) * mp.besseli(0, x)),
        ends={0.0: -1.0, INF: 0.0, -INF: 0.0},
    ),
    "i1e": Function(
        lax.bessel_i1e,
        lambda mp, x: mp.exp(-abs(x)) * (mp.besseli(0, x) - mp.besseli(1, x) / x - mp.sign(x) * mp.besseli(1, x)),
        ends={0.0: 0.5, INF: 0.0, -INF: 0.0},
    ),
    "pow(x, 2.5)": Function(
        lambda x: lax.pow(x, jnp.full_like(x, 2.5)), lambda mp, x: 2.5 * x * mp.sqrt(x), low=0.0, ends={INF: INF}
    ),
    "pow(x, -0.5)": Function(
        lambda x: lax.pow(x, jnp.full_like(x, -0.5)),
        lambda mp, x: -1 / (2 * x * mp.sqrt(x)),
        low=0.0,
        ends={0.0: -INF, INF: 0.0},
    ),
    "pow(2, x)": Function(
        _fixed(lax.pow, 2.0), lambda mp, x: mp.log(2) * mp.mpf(2) ** x, ends={INF: INF, -INF: 0.0}
    ),
    "atan2(x, 1)": Function(
        lambda x: lax.atan2(x, jnp.ones_like(x)), lambda mp, x: 1 / (1 + x * x), ends={INF: 0.0, -INF: 0.0}
    ),
    "atan2(1, x)": Function(_fixed(lax.atan2, 1.0), lambda mp, x: -1 / (1 + x * x), ends={INF: 0.0, -INF: 0.0}),
    "igamma(2, x)": Function(
        _fixed(lax.igamma, 2.0), lambda mp, x: x * mp.exp(-x), low=0.0, ends={0.0: 0.0, INF: 0.0}
    ),
    "igammac(2, x)": Function(
        _fixed(lax.igammac, 2.0), lambda mp, x: -x * mp.exp(-x), low=0.0, ends={0.0: 0.0, INF: 0.0}
    ),
    "betainc(2, 3, x)": Function(
        _fixed(lax.betainc, 2.0, 3.0), lambda mp, x: 12 * x * (1 - x) ** 2, 0.0, 1.0, {0.0: 0.0, 1.0: 0.0}
    ),
    "max(x, 1)": Function(
        lambda x: lax.max(x, jnp.ones_like(x)),
        lambda mp, x: x > 1,
        ends={1.0: 0.5, INF: 1.0, -INF: 0.0}, curved=False,
    ),
    "min(x, 1)": Function(
        lambda x: lax.min(x, jnp.ones_like(x)), lambda mp, x: x < 1, ends={1.0: 0.5, INF: 0.0, -INF: 1.0}, curved=False
    ),
    "clamp(-1, x, 1)": Function(
        lambda x: lax.clamp(-1.0, x, 1.0),
        lambda mp, x: abs(x) < 1,
        ends={1.0: 0.0, -1.0: 0.0, INF: 0.0, -INF: 0.0}, curved=False,
    ),
    "rem(x, 0.75)": Function(
        lambda x: lax.rem(x, jnp.full_like(x, 0.75)), lambda mp, x: 1, ends={INF: 1.0, -INF: 1.0}, curved=False
    ),
}  # fmt: skip

LOST = (
    (
        ("logistic",),
        lambda x: 2 < x < INF,
        "y (1 - y) is computed from the output y, which has rounded to 1: its error is a unit of y, not of the slope. "
        "Reading x too would keep a second array for every activation.",
    ),
    (
        ("tanh",),
        lambda x: 2 < abs(x) < INF,
        "1 - y^2 is computed from the output, as for logistic.",
    ),
    (
        ("i0e", "i1e"),
        lambda x: 50 < abs(x) < INF,
        "I_1 and I_0 tend to each other and their difference cancels: the error is a unit of y, not of the slope.",
    ),
    (
        ("digamma", "polygamma(1)"),
        lambda x: x > 1e100,
        "lax.polygamma itself is 0 or NaN there, where the function is 1 / x or 1 / x^2.",
    ),
)
if jax.__version_info__ < (0, 12):
    LOST += (
        (
            ("betainc(2, 3, x)",),
            lambda x: 0 < x < 1,
            "The density's constant is a difference of lgamma, there good to some 100 units.",
        ),
    )
