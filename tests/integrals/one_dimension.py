"""One-dimensional integrals with known values, of every kind; test_tables.py holds the table to mpmath.

`exact` is a function of mpmath to the value, by closed form wherever there is one; None: divergent.
`kind` "smooth" promises analytic integrands; what each kind is held to stands in test_definite.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

INF = float("inf")


class Case(NamedTuple):
    name: str
    kind: str
    f: Callable
    a: float
    b: float
    exact: Callable | None
    points: tuple = ()


SMOOTH = [
    Case("sine", "smooth", jnp.sin, 0, float(jnp.pi), lambda m: 1 - m.cos(m.mpf(float(jnp.pi)))),
    Case("polynomial", "smooth", lambda x: 5 * x**4 - 3 * x**2 + 1, -1, 2, lambda m: m.mpf(27)),
    Case("exponential", "smooth", jnp.exp, -3, 2, lambda m: m.exp(2) - m.exp(-3)),
    Case("backwards", "smooth", jnp.exp, 2, -3, lambda m: m.exp(-3) - m.exp(2)),
    Case("empty", "smooth", jnp.exp, 1, 1, lambda m: m.mpf(0)),
    Case("arctangent", "smooth", lambda x: 1 / (1 + x * x), 0, 1, lambda m: m.pi / 4),
    Case("Runge", "smooth", lambda x: 1 / (1 + 25 * x * x), -1, 1, lambda m: m.mpf(2) / 5 * m.atan(5)),
    Case("logarithm", "smooth", jnp.log, 1, 10, lambda m: 10 * m.log(10) - 9),
    Case("sinc", "smooth", lambda x: jnp.sin(x) / x, -1, 1, lambda m: 2 * m.si(1)),
    Case("cancelling", "smooth", lambda x: x**3, -2, 2, lambda m: m.mpf(0)),
    Case("Gaussian piece", "smooth", lambda x: jnp.exp(-x * x), 0, 2, lambda m: m.sqrt(m.pi) / 2 * m.erf(2)),
    Case("tanh", "smooth", lambda x: jnp.tanh(20 * x), -0.5, 1, lambda m: (m.log(m.cosh(20)) - m.log(m.cosh(10))) / 20),
    Case("far away", "smooth", lambda x: jnp.cos(x - 1e4), 1e4, 1e4 + 1, lambda m: m.sin(1)),
    Case("tiny", "smooth", lambda x: 1e-20 * jnp.exp(x), 0, 1, lambda m: m.mpf("1e-20") * (m.e - 1)),
    Case("huge", "smooth", lambda x: 1e20 * jnp.exp(x), 0, 1, lambda m: m.mpf("1e20") * (m.e - 1)),
    Case("narrow range", "smooth", jnp.cos, 0, 1e-9, lambda m: m.sin(m.mpf(1e-9))),
    Case("exp cos", "smooth", lambda x: jnp.exp(jnp.cos(x)), 0, 6.283185307179586,
         lambda m: 2 * m.pi * m.besseli(0, 1)),
]  # fmt: skip
OSCILLATING = [
    Case("sin 100x", "smooth", lambda x: jnp.sin(100 * x), 0, 1, lambda m: (1 - m.cos(100)) / 100),
    Case("cos 1000x", "smooth", lambda x: jnp.cos(1000 * x), 0, 1, lambda m: m.sin(1000) / 1000),
    Case("damped", "smooth", lambda x: jnp.exp(-x) * jnp.sin(30 * x), 0, INF, lambda m: m.mpf(30) / 901),
    Case("chirp", "oscillating", lambda x: jnp.sin(1 / x), 0.01, 1,
         lambda m: (lambda F: F(m.mpf(1)) - F(m.mpf(0.01)))(lambda x: x * m.sin(1 / x) - m.ci(1 / x))),
    Case("endless chirp", "oscillating", lambda x: jnp.sin(1 / x), 0, 1, lambda m: m.sin(1) - m.ci(1)),
    Case("sinc to infinity", "oscillatory", lambda x: jnp.sin(x) / x, 0, INF, lambda m: m.pi / 2),
    Case("sinc, whole line", "oscillatory", lambda x: jnp.sin(x) / x, -INF, INF, lambda m: m.pi),
    Case("sinc, from above", "oscillatory", lambda x: jnp.sin(x) / x, -3, -INF, lambda m: -(m.pi / 2 - m.si(3))),
    Case("waves of 1e4", "oscillatory", lambda x: jnp.sin(1e4 * x) / x, 0, INF, lambda m: m.pi / 2),
    Case("waves over x^0.1", "oscillatory", lambda x: jnp.cos(x) * x**-0.1, 0, INF,
         lambda m: m.gamma(m.mpf(9) / 10) * m.sin(m.pi / 20)),
    Case("waves of growing length", "oscillatory", lambda x: jnp.sin(jnp.sqrt(x)) / x, 0, INF, lambda m: m.pi),
    Case("waves that do not die", "divergent", lambda x: (1 + 10 / (x + 1)) * jnp.sin(x), 0, INF, None),
    Case("waves under a logarithm", "divergent", lambda x: jnp.cos(x) * jnp.log(x), 0, INF, None),
    Case("a peak on a long range", "peak", lambda x: jnp.exp(-x * x), -1e6, 1e6, lambda m: m.sqrt(m.pi)),
    Case("Fresnel", "oscillatory", lambda x: jnp.cos(x * x), 0, INF, lambda m: m.sqrt(m.pi / 8)),
    Case("cos / (1 + x^2)", "oscillatory", lambda x: jnp.cos(x) / (1 + x * x), -INF, INF, lambda m: m.pi / m.e),
    Case("sin^2 aliased", "smooth", lambda x: jnp.sin(64 * jnp.pi * x) ** 2, 0, 1, lambda m: m.mpf(1) / 2),
    Case("sine for ever", "divergent", jnp.sin, 0, INF, None),
]  # fmt: skip
ENDS = [
    Case("1/sqrt x", "end", lambda x: 1 / jnp.sqrt(x), 0, 1, lambda m: m.mpf(2)),
    Case("x^-0.9", "end", lambda x: x**-0.9, 0, 1, lambda m: 1 / (1 - m.mpf(0.9))),
    Case("log x", "end", jnp.log, 0, 1, lambda m: m.mpf(-1)),
    Case("log^2 x", "end", lambda x: jnp.log(x) ** 2, 0, 1, lambda m: m.mpf(2)),
    Case("log(1 - x)", "end", lambda x: jnp.log(1 - x), 0, 1, lambda m: m.mpf(-1)),
    Case("both ends", "end", lambda x: 1 / jnp.sqrt(x * (1 - x)), 0, 1, lambda m: m.pi),
    Case("far end", "end", lambda x: 1 / jnp.sqrt(x - 5), 5, 6, lambda m: m.mpf(2)),
    Case("quarter circle", "end", lambda x: jnp.sqrt(1 - x * x), 0, 1, lambda m: m.pi / 4),
    Case("x log x", "end", lambda x: x * jnp.log(x), 0, 1, lambda m: m.mpf(-1) / 4),
    Case("log x / sqrt x", "end", lambda x: jnp.log(x) / jnp.sqrt(x), 0, 1, lambda m: m.mpf(-4)),
    Case("x^x", "end", lambda x: x**x, 0, 1, lambda m: -m.nsum(lambda n: (-n) ** (-n), [1, m.inf])),
    Case("flat exp(-1/x)/x^2", "end", lambda x: jnp.exp(-1 / x) / x**2, 0, 1, lambda m: m.exp(-1)),
]
INFINITE = [
    Case("e^-x", "smooth", lambda x: jnp.exp(-x), 0, INF, lambda m: m.mpf(1)),
    Case("Gaussian", "smooth", lambda x: jnp.exp(-x * x), -INF, INF, lambda m: m.sqrt(m.pi)),
    Case("second moment", "smooth", lambda x: x * x * jnp.exp(-x * x / 2), -INF, INF, lambda m: m.sqrt(2 * m.pi)),
    Case("Cauchy", "smooth", lambda x: 1 / (1 + x * x), -INF, INF, lambda m: m.pi),
    Case("left half", "smooth", jnp.exp, -INF, 0, lambda m: m.mpf(1)),
    Case("from infinity", "smooth", lambda x: jnp.exp(-x), INF, 0, lambda m: m.mpf(-1)),
    Case("1/x^2", "smooth", lambda x: 1 / x**2, 1, INF, lambda m: m.mpf(1)),
    Case("x^-1.5", "end", lambda x: x**-1.5, 1, INF, lambda m: m.mpf(2)),
    Case("gamma(1/2)", "end", lambda x: jnp.exp(-x) / jnp.sqrt(x), 0, INF, lambda m: m.sqrt(m.pi)),
    Case("Bose", "smooth", lambda x: x**3 / jnp.expm1(x), 0, INF, lambda m: m.pi**4 / 15),
    Case("wide", "smooth", lambda x: jnp.exp(-((x / 1e6) ** 2)), -INF, INF, lambda m: m.mpf(10) ** 6 * m.sqrt(m.pi)),
    Case("slender", "smooth", lambda x: jnp.exp(-((x * 1e6) ** 2)), -INF, INF,
         lambda m: m.mpf(10) ** -6 * m.sqrt(m.pi)),
    Case("far bell", "peak", lambda x: jnp.exp(-((x - 300) ** 2)), -INF, INF, lambda m: m.sqrt(m.pi)),
    Case("very far bell", "peak", lambda x: jnp.exp(-((x - 1e4) ** 2)), 0, INF, lambda m: m.sqrt(m.pi)),
    Case("1/(x log^2 x)", "slow", lambda x: 1 / (x * jnp.log(x) ** 2), 2, INF, lambda m: 1 / m.log(2)),
    Case("sech", "smooth", lambda x: 1 / jnp.cosh(x), -INF, INF, lambda m: m.pi),
    Case("1/x to infinity", "divergent", lambda x: 1 / x, 1, INF, None),
    Case("1/(x log x)", "divergent", lambda x: 1 / (x * jnp.log(x)), 2, INF, None),
    Case("constant", "divergent", lambda x: 1 + 0 * x, 0, INF, None),
    Case("growing", "divergent", jnp.exp, 0, INF, None),
]  # fmt: skip
PEAKS = [
    Case("1/(1e-6 + x^2)", "peak", lambda x: 1 / (1e-6 + x * x), -1, 1, lambda m: 2000 * m.atan(1000)),
    Case("off centre", "peak", lambda x: 1 / (1e-8 + (x - 0.3) ** 2), 0, 1,
         lambda m: 10**4 * (m.atan((1 - m.mpf(0.3)) * 10**4) + m.atan(m.mpf(0.3) * 10**4))),
    Case("hidden bell", "peak", lambda x: jnp.exp(-(((x - 0.3123) / 1e-5) ** 2)), 0, 1,
         lambda m: m.mpf(1e-5) * m.sqrt(m.pi)),
    Case("bell on a hill", "peak", lambda x: jnp.cos(x) + jnp.exp(-(((x - 0.7) / 1e-4) ** 2)), 0, 1,
         lambda m: m.sin(1) + m.mpf(1e-4) * m.sqrt(m.pi)),
    Case("three bells", "peak", lambda x: jnp.sum(jnp.exp(-(((x - jnp.array([0.11, 0.52, 0.83])) * 2e3) ** 2))), 0, 1,
         lambda m: 3 * m.sqrt(m.pi) / 2000),
]  # fmt: skip
BROKEN = [
    Case("|x - 0.7|", "kink", lambda x: jnp.abs(x - 0.7), 0, 1,
         lambda m: (m.mpf(0.7) ** 2 + (1 - m.mpf(0.7)) ** 2) / 2),
    Case("relu", "kink", lambda x: jnp.maximum(x, 0), -1, 2, lambda m: m.mpf(2)),
    Case("|sin|", "kink", lambda x: jnp.abs(jnp.sin(x)), 0, 10, lambda m: 6 + 1 - m.cos(10 - 3 * m.pi)),
    Case("step", "jump", lambda x: jnp.where(x > 1 / 3, 1.0, 0.0), 0, 1, lambda m: 1 - m.mpf(1 / 3)),
    Case("step near the end", "jump", lambda x: jnp.where(x > 1e-3, 1.0, 0.0), 0, 1, lambda m: 1 - m.mpf(1e-3)),
    Case("step at the very end", "jump", lambda x: jnp.where(x > 1 - 3e-7, 1.0, 0.0), 0, 1,
         lambda m: 1 - m.mpf(1 - 3e-7)),
    Case("floor", "jump", jnp.floor, 0, 10.5, lambda m: m.mpf(50)),
    Case("box", "jump", lambda x: jnp.where(jnp.abs(x - 0.4) < 0.013, jnp.exp(x), 0.0), 0, 1,
         lambda m: m.exp(m.mpf(0.4) + m.mpf(0.013)) - m.exp(m.mpf(0.4) - m.mpf(0.013))),
    Case("integer jump", "jump", lambda x: x > 0.25, 0, 1, lambda m: m.mpf(3) / 4),
]  # fmt: skip
INSIDE = [
    Case("|x - 1/3|^-1/2", "inside", lambda x: 1 / jnp.sqrt(jnp.abs(x - 1 / 3)), 0, 1,
         lambda m: 2 * m.sqrt(m.mpf(1 / 3)) + 2 * m.sqrt(1 - m.mpf(1 / 3))),
    Case("the same, told", "inside", lambda x: 1 / jnp.sqrt(jnp.abs(x - 1 / 3)), 0, 1,
         lambda m: 2 * m.sqrt(m.mpf(1 / 3)) + 2 * m.sqrt(1 - m.mpf(1 / 3)), (1 / 3,)),
    Case("log|x|", "inside", lambda x: jnp.log(jnp.abs(x)), -1, 2, lambda m: 2 * m.log(2) - 3),
    Case("1/x", "divergent", lambda x: 1 / x, 0, 1, None),
    Case("1/x through 0", "divergent", lambda x: 1 / x, -1, 1, None),
    Case("1/(x - 0.3)", "divergent", lambda x: 1 / (x - 0.3), 0, 1, None),
    Case("1/(x - 0.3)^2", "divergent", lambda x: 1 / (x - 0.3) ** 2, 0, 1, None),
    Case("tan through a pole", "divergent", jnp.tan, 0, 3, None),
    Case("1/(1 - x)", "divergent", lambda x: 1 / (1 - x), 0, 1, None),
    Case("1/x^1.01", "divergent", lambda x: x**-1.01, 0, 1, None),
    Case("NaN on a half", "divergent", jnp.sqrt, -1, 1, None),
    Case("log of a negative", "divergent", lambda x: jnp.log(x - 0.5), 0, 1, None),
]  # fmt: skip
CASES = [*SMOOTH, *OSCILLATING, *ENDS, *INFINITE, *PEAKS, *BROKEN, *INSIDE]
