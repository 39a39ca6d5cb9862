"""Limits, derivatives and series that people have reported as wrong in other libraries, or that are wrong in the same
way, with their exact answers.

A limit's answer is a number or a function of an mpmath context; NONE where there is no limit, finite or infinite; SLOW
where it cannot be told from values: then only a refusal is right.  A derivative's is a number, or NONE.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

INF = math.inf
NONE, SLOW = "none", "slow"


class Case(NamedTuple):
    name: str
    source: str
    f: Callable[..., Any]
    x0: float
    side: str
    answer: Any


def _partial_sum(term):
    return lambda n: sum(term(k) for k in range(1, n + 1))


def _is_square(n):
    return math.isqrt(n) ** 2 == n


LIMITS = [
    Case("(1 + 1/x)^(x^2) / e^x", "sympy/sympy#25885", lambda x: (1 + 1 / x) ** (x**2) / jnp.exp(x), INF, "left",
         math.exp(-0.5)),
    Case("x (1 + 1/x)^x - e x", "sympy/sympy#21724", lambda x: x * (1 + 1 / x) ** x - jnp.exp(1.0 + 0 * x) * x,
         INF, "left",
         -math.e / 2),
    Case("x (((x+1)^2 + 1) / (x^2 + 1) - 1)", "sympy/sympy#17380", lambda x: x * (((x + 1) ** 2 + 1) / (x**2 + 1) - 1),
         INF, "left", 2.0),
    Case("log(e^3x + x) / log(e^x + x^100)", "sympy/sympy#18378",
         lambda x: jnp.log(jnp.exp(3 * x) + x) / jnp.log(jnp.exp(x) + x**100), INF, "left", 3.0),
    Case("n^3 of sines", "sympy/sympy#15055",
         lambda n: n**3 * ((-n - 1) * jnp.sin(1 / n) + (n + 2) * jnp.sin(1 / (n + 1))) / (1 - n), INF, "left", 1.0),
    Case("x floor(1/x)", "sympy/sympy#21310", lambda x: x * (1 // x), 0.0, "right", 1.0),
    Case("2 / sqrt(tanh(1/x)^2 - 1)", "sympy/sympy#10058", lambda x: 2 / jnp.sqrt(jnp.tanh(1 / x) ** 2 - 1),
         0.0, "right",
         NONE),
    # floats overflow, or are 0/0; f is not
    Case("softplus - x", "", lambda x: np.log(1 + np.exp(x)) - x, INF, "left", 0.0),
    Case("softplus - x, of math", "", lambda x: math.log(1 + math.exp(x)) - x, INF, "left", 0.0),
    Case("a logistic function", "", lambda x: np.exp(x) / (1 + np.exp(x)), INF, "left", 1.0),
    Case("sinh / cosh", "", lambda x: np.sinh(x) / np.cosh(x), -INF, "right", -1.0),
    Case("cosh / exp", "", lambda x: np.cosh(2 * x) / np.exp(2 * x), INF, "left", 0.5),
    Case("expm1 / (exp - 1)", "", lambda x: np.expm1(x) / (np.exp(x) - 1), 0.0, "both", 1.0),
    Case("x - log(sinh x)", "", lambda x: x - np.log(np.sinh(x)), INF, "left", math.log(2)),
    Case("(x^200)^2 / x^399", "", lambda x: (x**200) ** 2 / x**399, 0.0, "both", 0.0),
    Case("e^x - e^x", "", lambda x: np.exp(x) * (1 + 1 / x) - np.exp(x), INF, "left", INF),
    Case("a branch of floats that overflow", "", lambda x: float(np.exp(x) / (1 + np.exp(x))) if x > 0 else 0.0, INF,
         "left", 1.0),
    # as slow as a logarithm
    Case("log log x", "", lambda x: jnp.log(jnp.log(x)), INF, "left", SLOW),
    Case("x^1e-4", "", lambda x: (x**1e-4 - 1) / 1e-4, 0.0, "right", SLOW),
    Case("1 - x^-1e-5", "", lambda x: (1 - x**-1e-5) * 1e5, INF, "left", SLOW),
    # on a sparse set
    Case("an indicator", "", lambda x: jnp.where(jnp.sin(1 / x) > 0.9999, 1.0, 0.0), 0.0, "right", SLOW),
    Case("an indicator of numpy", "", lambda x: np.where(np.cos(x) > 0.99999, 1.0, 0.0), INF, "left", SLOW),
    Case("an indicator of math", "", lambda x: 1.0 if math.sin(1 / x) > 0.9999 else 0.0, 0.0, "right", SLOW),
    Case("an indicator on a slope", "", lambda x: x + jnp.where(jnp.sin(1 / x) > 0.9999, 1.0, 0.0), 0.0, "right", SLOW),
    Case("an indicator that fades", "", lambda x: x * jnp.where(jnp.sin(1 / x) > 0.9999, 1.0, 0.0), 0.0, "both", 0.0),
    Case("a branch at the point", "", lambda x: jnp.where(x == 0, 5.0, jnp.sin(x) / x), 0.0, "both", 1.0),
    Case("a step at 1e-300", "", lambda x: jnp.where(x > 1e-300, 1.0, 0.0), 0.0, "right", SLOW),
    Case("a step at 1e305", "", lambda x: jnp.where(x > 1e305, 1.0, 0.0), INF, "left", SLOW),
    Case("a square above 0", "", lambda x: jnp.where(x * x > 0, jnp.abs(x) / x, 0.0), 0.0, "right", 1.0),
    Case("a step of Python", "", lambda x: 1.0 if x > 0 else -1.0, 0.0, "right", 1.0),
]  # fmt: skip
SEQUENCES = [
    Case("n (1 + log ratios)", "sympy/sympy#13403", lambda n: n * (-1 + (n + jnp.log(n + 1) + 1) / (n + jnp.log(n))),
         INF,
         "left", 1.0),
    Case("cubes of logarithms", "sympy/sympy#13416",
         lambda n: ((n - 1) * (n + 1) ** 2 * (jnp.log(n + 1) / jnp.log(n)) ** 3 - n**3) / n**2,
         INF, "left", 1.0),
    Case("sum k^-1.1", "", _partial_sum(lambda k: k**-1.1), INF, "left", SLOW),
    Case("sum k^-1.01", "", _partial_sum(lambda k: k**-1.01), INF, "left", SLOW),
    Case("sum 1/k", "", _partial_sum(lambda k: 1 / k), INF, "left", SLOW),
    Case("sum 1/(k log^2 k)", "", _partial_sum(lambda k: 1 / ((k + 1) * math.log(k + 1) ** 2)), INF, "left", SLOW),
    Case("sum 1/k^2", "", _partial_sum(lambda k: 1 / k**2), INF, "left", lambda mp: mp.pi**2 / 6),
    Case("squares", "", lambda n: 1.0 if _is_square(n) else 0.0, INF, "left", SLOW),
    Case("squares of jax.numpy", "", lambda n: jnp.where(jnp.floor(jnp.sqrt(n)) ** 2 == n, 1.0, 0.0),
         INF, "left", SLOW),
    Case("multiples of 1000", "", lambda n: 1.0 if n % 1000 == 0 else 0.0, INF, "left", SLOW),
    Case("(-1)^n / n", "", lambda n: (-1) ** n / n, INF, "left", 0.0),
    Case("(n!)^(1/n) / n", "", lambda n: math.exp(math.lgamma(n + 1) / n) / n, INF, "left", lambda mp: 1 / mp.e),
]  # fmt: skip


def _gap(x):
    """x where that is not 0; for quotients at 0."""
    return jnp.where(x == 0, 1.0, x)


DERIVATIVES = [
    Case("x**2.0", "JuliaDiff/TaylorDiff.jl#41", lambda x: x**2.0, 0.0, "both", 0.0),
    Case("sinc near 0", "jax-ml/jax#34139", jnp.sinc, 1e-6, "both", -(math.pi**2) * 1e-6 / 3),
    Case("x / log x", "", lambda x: jnp.where(x == 0, 0.0, x / jnp.log(jnp.abs(_gap(x)))), 0.0, "both", SLOW),
    Case("x / log^2 x", "", lambda x: jnp.where(x == 0, 0.0, x / jnp.log(jnp.abs(_gap(x) / 3)) ** 2),
         0.0, "both", SLOW),
    Case("x / log log x", "", lambda x: jnp.where(x == 0, 0.0, x / jnp.log(1 + jnp.log(jnp.abs(_gap(x))) ** 2)), 0.0,
         "both",
         SLOW),
    Case("x log x", "", lambda x: jnp.where(x == 0, 0.0, x * jnp.log(jnp.abs(_gap(x)))), 0.0, "both", NONE),
    Case("x log(-log x)", "", lambda x: jnp.where(x == 0, 0.0, x * jnp.log(1 + jnp.log(jnp.abs(_gap(x))) ** 2)), 0.0,
         "both",
         NONE),
    Case("(x - 1) / log|x - 1|", "", lambda x: jnp.where(x == 1, 0.0, (x - 1) / jnp.log(jnp.abs(_gap(x - 1)))), 1.0,
         "both",
         SLOW),
    Case("x^2 sin(1/x)", "", lambda x: jnp.where(x == 0, 0.0, x**2 * jnp.sin(1 / _gap(x))), 0.0, "both", 0.0),
    Case("numpy", "", lambda x: np.exp(np.sin(x)), 0.7, "both", math.cos(0.7) * math.exp(math.sin(0.7))),
    Case("math", "", lambda x: math.exp(math.sin(x)), 0.7, "both", math.cos(0.7) * math.exp(math.sin(0.7))),
    Case("at 1e8", "", lambda x: jnp.sin(x / 1e8), 1e8, "both", math.cos(1.0) / 1e8),
    Case("at 1e-8", "", lambda x: jnp.exp(x * 1e8), 1e-8, "both", 1e8 * math.e),
]  # fmt: skip
TAYLOR = [
    ("x**2.0", lambda x: x**2.0, 0.0, [0, 0, 1, 0, 0]),
    ("x**3.0 about 0", lambda x: (2 * x) ** 3.0, 0.0, [0, 0, 0, 8, 0]),
    ("sinc", jnp.sinc, 0.0, [1, 0, -(math.pi**2) / 6, 0, math.pi**4 / 120]),
    ("x / expm1(x)", lambda x: x / jnp.expm1(x), 0.0, [1, -1 / 2, 1 / 12, 0, -1 / 720]),
    ("(1 - cos x) / x^2", lambda x: (1 - jnp.cos(x)) / x**2, 0.0, [1 / 2, 0, -1 / 24, 0, 1 / 720]),
    ("log(1 + x) / x", lambda x: jnp.log1p(x) / x, 0.0, [1, -1 / 2, 1 / 3, -1 / 4, 1 / 5]),
    ("(x - 1) / log x", lambda x: (x - 1) / jnp.log(x), 1.0, [1, 1 / 2, -1 / 12, 1 / 24, -19 / 720]),
    ("x / tanh x", lambda x: x / jnp.tanh(x), 0.0, [1, 0, 1 / 3, 0, -1 / 45]),
    ("sqrt(x^4)", lambda x: jnp.sqrt(x**4), 0.0, [0, 0, 1, 0, 0]),
    ("sqrt(x^2)", lambda x: jnp.sqrt(x**2), 0.0, [0, math.nan, 0, 0, 0]),
    ("a branch at the point", lambda x: jnp.where(x == 0, 1.0, jnp.sin(x) / x), 0.0, [1, 0, -1 / 6, 0, 1 / 120]),
    ("(1 + x)^(1/x)", lambda x: (1 + x) ** (1 / x), 0.0, [math.nan] * 5),
    ("numpy", lambda x: np.sin(x) / x, 0.0, [1, 0, -1 / 6, 0, 1 / 120]),
]  # fmt: skip


def _over(numerator):
    """numerator(x, y) / (x^2 + y^2), set to 0 at the origin."""

    def f(v):
        r2 = jnp.sum(v * v)
        return jnp.where(r2 == 0, 0.0, numerator(*v) / jnp.where(r2 == 0, 1.0, r2))

    return f


# name, f, direction, D_v f(0), grad f(0), Hessian; None where there is none
SET_POINTS = [
    ("x^2 y / r^2", _over(lambda x, y: x**2 * y), 0.5, None, None),
    ("x y (x^2 - y^2) / r^2", _over(lambda x, y: x * y * (x**2 - y**2)), 0.0, [0.0, 0.0], None),
    ("r^2 (3 x + y) / r^2", _over(lambda x, y: (x**2 + y**2) * (3 * x + y)), 4.0, [3.0, 1.0], [[0.0, 0.0], [0.0, 0.0]]),
    ("|v|^2 sinc", lambda v: v[1] + jnp.where(v[0] == 0, 1.0, jnp.sin(v[0]) / _gap(v[0])) * (1 + v[1]), 2.0, [0.0, 2.0],
     [[-1 / 3, 0.0], [0.0, 0.0]]),
    ("an island", lambda v: jnp.where(jnp.all(v == 0), 1.0, v[0]), None, None, None),
]  # fmt: skip


def bug(x):
    """A function whose author has made a mistake."""
    raise ValueError("a mistake of the author's")
