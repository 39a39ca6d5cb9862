"""Limits with their exact answers.  A case is (name, f, x0, side, answer); the answer is a function of an mpmath
context, a number, NONE (there is no limit, finite or infinite), or "slow", where a refusal is right.

`SEQUENCES` are functions of integers; `PLAIN` are functions of Python and NumPy, which are evaluated in float64.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special

INF = math.inf
NONE = "none"


class Case(NamedTuple):
    name: str
    f: object
    x0: float
    side: str
    answer: object

    def exact(self, mp):
        """A float, or NONE."""
        return float(self.answer(mp)) if callable(self.answer) else self.answer


def _nested(x):
    return jnp.log(jnp.log(x))


LIMITS = [
    Case("sin x / x", lambda x: jnp.sin(x) / x, 0.0, "both", 1.0),
    Case("(1 - cos x) / x^2", lambda x: (1 - jnp.cos(x)) / x**2, 0.0, "both", 0.5),
    Case("(e^x - 1 - x) / x^2", lambda x: (jnp.exp(x) - 1 - x) / x**2, 0.0, "both", 0.5),
    Case("(tan x - x) / x^3", lambda x: (jnp.tan(x) - x) / x**3, 0.0, "both", 1 / 3),
    Case("(x - sin x) / x^3", lambda x: (x - jnp.sin(x)) / x**3, 0.0, "both", 1 / 6),
    Case("(sin x - x + x^3/6) / x^5", lambda x: (jnp.sin(x) - x + x**3 / 6) / x**5, 0.0, "both", 1 / 120),
    Case("(cos x - e^(-x^2/2)) / x^4", lambda x: (jnp.cos(x) - jnp.exp(-(x**2) / 2)) / x**4, 0.0, "both", -1 / 12),
    Case("log(1 + x) / x", lambda x: jnp.log(1 + x) / x, 0.0, "both", 1.0),
    Case("(2^x - 1) / x", lambda x: (2.0**x - 1) / x, 0.0, "both", lambda mp: mp.log(2)),
    Case("(x^2 - 4) / (x - 2)", lambda x: (x**2 - 4) / (x - 2), 2.0, "both", 4.0),
    Case("(x^3 - 8) / (x^2 - 4)", lambda x: (x**3 - 8) / (x**2 - 4), 2.0, "both", 3.0),
    Case("(sqrt(x) - 2) / (x - 4)", lambda x: (jnp.sqrt(x) - 2) / (x - 4), 4.0, "both", 0.25),
    Case("a polynomial", lambda x: 3 * x**2 - x + 5, -1.5, "both", 13.25),
    Case("|x| / x", lambda x: jnp.abs(x) / x, 0.0, "both", NONE),
    Case("|x| / x, left", lambda x: jnp.abs(x) / x, 0.0, "left", -1.0),
    Case("|x| / x, right", lambda x: jnp.abs(x) / x, 0.0, "right", 1.0),
    Case("sin(1/x)", lambda x: jnp.sin(1 / x), 0.0, "both", NONE),
    Case("x sin(1/x)", lambda x: x * jnp.sin(1 / x), 0.0, "both", 0.0),
    Case("sqrt|x| cos(1/x^2)", lambda x: jnp.sqrt(jnp.abs(x)) * jnp.cos(1 / x**2), 0.0, "both", 0.0),
    Case("cos(pi / x)", lambda x: jnp.cos(jnp.pi / x), 0.0, "right", NONE),
    Case("sin(log x)", lambda x: jnp.sin(jnp.log(x)), 0.0, "right", NONE),
    Case("sin(1/x) / x", lambda x: jnp.sin(1 / x) / x, 0.0, "both", NONE),
    Case("floor x, left", jnp.floor, 2.0, "left", 1.0),
    Case("floor x, right", jnp.floor, 2.0, "right", 2.0),
    Case("floor x", jnp.floor, 2.0, "both", NONE),
    Case("ceil x between", jnp.ceil, 2.5, "both", 3.0),
    Case("x floor(1/x)", lambda x: x * jnp.floor(1 / x), 0.0, "both", 1.0),
    Case("x - floor x", lambda x: x - jnp.floor(x), 3.0, "left", 1.0),
    Case("sign x", jnp.sign, 0.0, "both", NONE),
    Case("x^x", lambda x: x**x, 0.0, "right", 1.0),
    Case("x log x", lambda x: x * jnp.log(x), 0.0, "right", 0.0),
    Case("x^0.01 log x", lambda x: x**0.01 * jnp.log(x), 0.0, "right", 0.0),
    Case("sqrt x", jnp.sqrt, 0.0, "right", 0.0),
    Case("x^(1/3)", jnp.cbrt, 0.0, "both", 0.0),
    Case("log x, right", jnp.log, 0.0, "right", -INF),
    Case("1/x, right", lambda x: 1 / x, 0.0, "right", INF),
    Case("1/x, left", lambda x: 1 / x, 0.0, "left", -INF),
    Case("1/x", lambda x: 1 / x, 0.0, "both", NONE),
    Case("1/x^2", lambda x: 1 / x**2, 0.0, "both", INF),
    Case("tan x at pi/2", jnp.tan, math.pi / 2, "both", NONE),
    Case("sin x / (x - pi)", lambda x: jnp.sin(x) / (x - np.pi), math.pi, "both", -1.0),
    Case("(x - 0.1) / (x^2 - 0.01)", lambda x: (x - 0.1) / (x**2 - 0.1**2), 0.1, "both", 5.0),
    Case("sin(pi x) / (x - 1)", lambda x: jnp.sin(jnp.pi * x) / (x - 1), 1.0, "both", lambda mp: -mp.pi),
    Case("e^(-1/x^2)", lambda x: jnp.exp(-1 / x**2), 0.0, "both", 0.0),
    Case("e^(-1/x^2) / x^100", lambda x: jnp.exp(-1 / x**2) / x**100, 0.0, "both", 0.0),
    Case("1 / (1 + e^(1/x))", lambda x: 1 / (1 + jnp.exp(1 / x)), 0.0, "both", NONE),
    Case("1 / (1 + e^(1/x)), left", lambda x: 1 / (1 + jnp.exp(1 / x)), 0.0, "left", 1.0),
    Case("arctan(1/x), right", lambda x: jnp.arctan(1 / x), 0.0, "right", lambda mp: mp.pi / 2),
    Case("(1 + x)^(1/x)", lambda x: (1 + x) ** (1 / x), 0.0, "both", lambda mp: mp.e),
    Case("(cos x)^(1/x^2)", lambda x: jnp.cos(x) ** (1 / x**2), 0.0, "both", lambda mp: mp.exp(-0.5)),
    Case("(e^x - e) / (x - 1)", lambda x: (jnp.exp(x) - jnp.exp(1.0)) / (x - 1), 1.0, "both", lambda mp: mp.e),
    Case("1/x - 1/sin x", lambda x: 1 / x - 1 / jnp.sin(x), 0.0, "both", 0.0),
    Case("1/log(1+x) - 1/x", lambda x: 1 / jnp.log(1 + x) - 1 / x, 0.0, "both", 0.5),
    Case("log x / (x - 1)", lambda x: jnp.log(x) / (x - 1), 1.0, "both", 1.0),
    Case("(x^x - 1) / (x log x)", lambda x: (x**x - 1) / (x * jnp.log(x)), 0.0, "right", 1.0),
    Case("erf x / x", lambda x: special.erf(x) / x, 0.0, "both", lambda mp: 2 / mp.sqrt(mp.pi)),
    Case("softplus x - log 2 over x", lambda x: (jax.nn.softplus(x) - jnp.log(2.0)) / x, 0.0, "both", 0.5),
    Case("relu x / x", lambda x: jax.nn.relu(x) / x, 0.0, "both", NONE),
    Case("tanh x / x", lambda x: jnp.tanh(x) / x, 0.0, "both", 1.0),
    Case("a removed point", lambda x: jnp.where(x == 0, 7.0, x + 1), 0.0, "both", 1.0),
    Case("a loop", lambda x: jax.lax.fori_loop(0, 5, lambda i, y: y * x + 1.0, jnp.ones_like(x)), 0.0, "both", 1.0),
    Case("a spike at 1e-7", lambda x: jnp.where(jnp.abs(x) < 1e-7, 5.0, jnp.cos(x)), 0.0, "both", 5.0),
    Case("a jump at 1 + 1e-7", lambda x: jnp.where(x > 1 + 1e-7, x + 1, x), 1.0, "both", 1.0),
    Case("1 + 1e-9 sin(1/x)", lambda x: 1 + 1e-9 * jnp.sin(1 / x), 0.0, "both", NONE),
    Case("1/(x^2 + 1e-30)", lambda x: 1 / (x**2 + 1e-30), 0.0, "both", 1e30),
    Case("1/log x", lambda x: 1 / jnp.log(x), 0.0, "right", 0.0),
    Case("1 + 1/log^2 x", lambda x: 1 + 1 / jnp.log(x) ** 2, 0.0, "right", 1.0),
    Case("log x / (1 + log x)", lambda x: jnp.log(x) / (1 + jnp.log(x)), 0.0, "right", 1.0),
    Case("1/loglog x", lambda x: 1 / _nested(x), INF, "both", "slow"),
    Case("sin(loglog x)", lambda x: jnp.sin(_nested(x)), INF, "both", "slow"),
    Case("(1 + 1/x)^x", lambda x: (1 + 1 / x) ** x, INF, "both", lambda mp: mp.e),
    Case("(1 + 1/x)^x at -inf", lambda x: (1 + 1 / x) ** x, -INF, "both", lambda mp: mp.e),
    Case("x (sqrt(x^2 + 1) - x)", lambda x: x * (jnp.sqrt(x**2 + 1) - x), INF, "both", 0.5),
    Case("sqrt(x^2 + x) - x", lambda x: jnp.sqrt(x**2 + x) - x, INF, "both", 0.5),
    Case("(3x^2 + 1) / (2x^2 - x)", lambda x: (3 * x**2 + 1) / (2 * x**2 - x), INF, "both", 1.5),
    Case("arctan at -inf", jnp.arctan, -INF, "both", lambda mp: -mp.pi / 2),
    Case("tanh", jnp.tanh, INF, "both", 1.0),
    Case("sigmoid at -inf", jax.nn.sigmoid, -INF, "both", 0.0),
    Case("log x / x", lambda x: jnp.log(x) / x, INF, "both", 0.0),
    Case("log^5 x / x^0.1", lambda x: jnp.log(x) ** 5 / x**0.1, INF, "both", 0.0),
    Case("x^10 e^-x", lambda x: x**10 * jnp.exp(-x), INF, "both", 0.0),
    Case("e^x", jnp.exp, INF, "both", INF),
    Case("e^x at -inf", jnp.exp, -INF, "both", 0.0),
    Case("x^3 at -inf", lambda x: x**3, -INF, "both", -INF),
    Case("sqrt(log x)", lambda x: jnp.sqrt(jnp.log(x)), INF, "both", INF),
    Case("sin x", jnp.sin, INF, "both", NONE),
    Case("sin x / x at inf", lambda x: jnp.sin(x) / x, INF, "both", 0.0),
    Case("x sin x", lambda x: x * jnp.sin(x), INF, "both", NONE),
    Case("x + sin x", lambda x: x + jnp.sin(x), INF, "both", INF),
    Case("x^(1/x)", lambda x: x ** (1 / x), INF, "both", 1.0),
    Case("digamma - log", lambda x: special.digamma(x) - jnp.log(x), INF, "both", 0.0),
    Case("log log ratio", lambda x: jnp.log(x + 1) / jnp.log(x), INF, "both", 1.0),
    Case("log(3x) / log x", lambda x: jnp.log(3 * x) / jnp.log(x), INF, "both", 1.0),
    Case("loglog x / log x", lambda x: _nested(x) / jnp.log(x), INF, "both", 0.0),
    Case("a tail of gamma", lambda x: special.gammaln(x + 1) - (x + 0.5) * jnp.log(x) + x, INF, "both",
         lambda mp: mp.log(2 * mp.pi) / 2),
]  # fmt: skip

SEQUENCES = [
    Case("(1 + 1/n)^n", lambda n: (1 + 1 / n) ** n, INF, "both", lambda mp: mp.e),
    Case("n!^(1/n) / n", lambda n: jnp.exp(special.gammaln(n + 1) / n) / n, INF, "both", lambda mp: mp.exp(-1)),
    Case("H_n - log n", lambda n: special.digamma(n + 1) + np.euler_gamma - jnp.log(n), INF, "both",
         lambda mp: mp.euler),
    Case("(-1)^n", lambda n: (-1.0) ** n, INF, "both", NONE),
    Case("(-1)^n / n", lambda n: (-1.0) ** n / n, INF, "both", 0.0),
    Case("n^(1/n)", lambda n: n ** (1 / n), INF, "both", 1.0),
    Case("n sin(1/n)", lambda n: n * jnp.sin(1 / n), INF, "both", 1.0),
    Case("sin(pi n)", lambda n: jnp.sin(jnp.pi * jnp.round(n)) * 0 + 2, INF, "both", 2.0),
    Case("n mod 3", lambda n: n % 3, INF, "both", NONE),
    Case("log n", lambda n: jnp.log(n), INF, "both", INF),
    Case("plain (1 + 1/n)^n", lambda n: math.pow(1 + 1 / n, n), INF, "both", lambda mp: mp.e),
    Case("plain H_n - log n", lambda n: sum(1 / k for k in range(1, n + 1)) - math.log(n), INF, "both",
         lambda mp: mp.euler),
    Case("plain (-1)^n", lambda n: math.pow(-1, n), INF, "both", NONE),
]  # fmt: skip

PLAIN = [
    Case("sin x / x", lambda x: math.sin(x) / x, 0.0, "both", 1.0),
    Case("(1 - cos x) / x^2", lambda x: (1 - np.cos(x)) / x**2, 0.0, "both", 0.5),
    Case("(e^x - 1 - x) / x^2", lambda x: (math.exp(x) - 1 - x) / x**2, 0.0, "both", 0.5),
    Case("(tan x - x) / x^3", lambda x: (math.tan(x) - x) / x**3, 0.0, "both", 1 / 3),
    Case("|x| / x", lambda x: math.fabs(x) / x, 0.0, "both", NONE),
    Case("sin(1/x)", lambda x: math.sin(1 / x), 0.0, "both", NONE),
    Case("x sin(1/x)", lambda x: x * math.sin(1 / x), 0.0, "both", 0.0),
    Case("1/x^2", lambda x: math.pow(x, -2), 0.0, "both", INF),
    Case("log x", lambda x: math.log(x), 0.0, "right", -INF),
    Case("log x / (x - 1)", lambda x: math.log(x) / (x - 1), 1.0, "both", 1.0),
    Case("(x^2 - 4) / (x - 2)", lambda x: (math.pow(x, 2) - 4) / (x - 2), 2.0, "both", 4.0),
    Case("(1 + 1/x)^x", lambda x: math.pow(1 + 1 / x, x), INF, "both", lambda mp: mp.e),
    Case("x (sqrt(x^2 + 1) - x)", lambda x: x * (math.sqrt(x * x + 1) - x), INF, "both", 0.5),
    Case("atan", lambda x: math.atan(x), INF, "both", lambda mp: mp.pi / 2),
    Case("1/log x", lambda x: 1 / math.log(x), 0.0, "right", 0.0),
    Case("floor", lambda x: float(math.floor(x)), 2.0, "both", NONE),
    Case("a branch", lambda x: 1.0 if x > 1.5 else math.cos(x), 1.5, "right", 1.0),
    Case("1/loglog x", lambda x: 1 / math.log(math.log(x)), INF, "both", "slow"),
    Case("1 + 1e-9 sin(1/x)", lambda x: 1 + 1e-9 * math.sin(1 / x), 0.0, "both", NONE),
]  # fmt: skip
