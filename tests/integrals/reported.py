"""Integrals that people have reported as wrong in other libraries, or that are wrong in the same way, with their exact
values.  A case is (name, where it was reported, f, a, b, exact: a function of an mpmath context, or None where the
integral diverges or cannot be told).

None is integrated at a scale of order 1: narrow features, far places, tiny and huge ranges, cancellation.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

INF = math.inf


class Case(NamedTuple):
    name: str
    source: str
    f: Callable
    a: float
    b: float
    exact: Callable | None


def normal(x, mean, scale):
    return jnp.exp(-(((x - mean) / scale) ** 2) / 2) / (scale * math.sqrt(2 * math.pi))


def _cdf(m, x, mean, scale):
    return m.ncdf((m.mpf(x) - m.mpf(mean)) / m.mpf(scale))


CASES = [
    Case("a bell on [-1000, 0.5]", "scipy/scipy#11571", lambda x: normal(x, 0.64449662, 0.19), -1000, 0.5,
         lambda m: _cdf(m, 0.5, 0.64449662, 0.19)),
    Case("a narrow bell's tail", "scipy/scipy#15990", lambda x: normal(x, 0.0, 0.0005), 0.0011, INF,
         lambda m: 1 - _cdf(m, 0.0011, 0.0, 0.0005)),
    Case("a bell at 116", "scipy/scipy#17443", lambda x: normal(x, 116.0, 3.81), 0, INF,
         lambda m: 1 - _cdf(m, 0.0, 116.0, 3.81)),
    Case("a mean at 800", "scipy/scipy#5735", lambda x: x * normal(x, 800.0, 1.0), -INF, INF, lambda m: m.mpf(800)),
    Case("exp(-x^2) to 38", "scipy/scipy#10305", lambda x: jnp.exp(-x * x), -INF, 38,
         lambda m: m.sqrt(m.pi) * (1 + m.erf(38)) / 2),
    Case("log-normal to 201", "scipy/scipy#14347",
         lambda x: normal(jnp.log(x / 0.066), 0.0, 0.194), 0, 201,
         lambda m: m.mpf(0.066) * m.exp(m.mpf(0.194) ** 2 / 2)),
    Case("Laplace on [-1e8, 1e8]", "JuliaMath/QuadGK.jl#37", lambda x: jnp.exp(-jnp.abs(x)) / 2, -1e8, 1e8,
         lambda m: m.mpf(1)),
    Case("x^-1.1", "JuliaMath/QuadGK.jl#86", lambda x: 1 / x**1.1, 1, INF, lambda m: 1 / (m.mpf(1.1) - 1)),
    Case("a pole inside", "JuliaMath/QuadGK.jl#82",
         lambda x: 0.21702437 * (0.6227007 + 1.4335294 / (x + 1.6759317)) / (x + 1.52924537 - 0.2316349 / x), 0, 1,
         None),
    Case("a pole near the axis", "JuliaMath/QuadGK.jl#123", lambda x: 1e-5 / (x * x + 1e-10), -INF, INF,
         lambda m: m.pi),
    Case("a bell from its flank", "JuliaLang/julia#9682", lambda x: normal(x, 1.0, 0.65), 0.35, 30,
         lambda m: _cdf(m, 30, 1.0, 0.65) - _cdf(m, 0.35, 1.0, 0.65)),
    Case("sinc^2", "mpmath/mpmath#1156", lambda x: jnp.sinc(x) ** 2, -INF, INF, lambda m: m.mpf(1)),
    Case("powers at both ends", "mpmath/mpmath#650", lambda x: 1 / ((x - 2) * ((1 - x) * (1 + x) ** 3) ** 0.25), -1, 1,
         lambda m: -m.pi * m.sqrt(2) / m.root(27, 4)),
    Case("a power that hardly converges", "mpmath/mpmath#603", lambda x: x**-0.99999999, 0, 1,
         lambda m: 1 / (1 - m.mpf(0.99999999))),
    Case("a decade to 1e13", "mpmath/mpmath#271", lambda x: 1 / jnp.sqrt(0.2719188 * (1 + x) ** 3), 0, 1e13,
         lambda m: 2 / m.sqrt(m.mpf(0.2719188)) * (1 - 1 / m.sqrt(1 + m.mpf(10) ** 13))),
    # at any scale
    Case("hours of seconds", "", lambda x: jnp.exp(-(x - 1.7e9) / 3600), 1.7e9, 1.7e9 + 3600,
         lambda m: 3600 * (1 - m.exp(-1))),
    Case("microseconds at 1.7e9", "", lambda x: 3 + 0 * x, 1.7e9, 1.7e9 + 2e-6,
         lambda m: 3 * (m.mpf(1.7e9 + 2e-6) - m.mpf(1.7e9))),
    Case("two floats apart", "", jnp.exp, 1.0, 1.0 + 2.0**-51, lambda m: m.exp(m.mpf(1.0 + 2.0**-51)) - m.e),
    Case("in 1e-300", "", lambda x: x * 1e300, 0, 1e-300, lambda m: m.mpf(1e300) * m.mpf(1e-300) ** 2 / 2),
    Case("1/x^2 from 1e150", "", lambda x: (1e150 / x) ** 2, 1e150, INF, lambda m: m.mpf(1e150)),
    Case("negative and far", "", lambda x: jnp.cos(x + 4e8), -4e8, -4e8 + 1e-4,
         lambda m: m.sin(m.mpf(-4e8 + 1e-4) + m.mpf(4e8))),
    Case("Poisson's kernel", "", lambda x: 1 / (1 - 2 * 1.001 * jnp.cos(x) + 1.001**2), 0, 2 * math.pi,
         lambda m: 2 * m.pi / (m.mpf(1.001) ** 2 - 1)),
    Case("Poisson's kernel, closer", "", lambda x: 1 / (1 - 2 * 1.00003 * jnp.cos(x) + 1.00003**2), 0, 2 * math.pi,
         lambda m: 2 * m.pi / (m.mpf(1.00003) ** 2 - 1)),
    Case("cosh^2 - sinh^2", "", lambda x: jnp.cosh(x) ** 2 - jnp.sinh(x) ** 2, 0, 12, lambda m: m.mpf(12)),
    Case("a sum that cancels", "", lambda x: (x + 1e9) - 1e9, 0, 1e-3, lambda m: m.mpf(1e-3) ** 2 / 2),
    Case("sqrt(1 + x) - 1 far in", "", lambda x: jnp.sqrt(1 + x) - 1, 0, 1e-8,
         lambda m: m.mpf(2) / 3 * ((1 + m.mpf(1e-8)) ** 1.5 - 1) - m.mpf(1e-8)),
    Case("(1 - cos x) / x^2", "", lambda x: (1 - jnp.cos(x)) / x**2, 0, 1e-3,
         lambda m: m.mpf(1e-3) / 2 - m.mpf(1e-3) ** 3 / 72 + m.mpf(1e-3) ** 5 / 3600),
    # logarithms in tails
    Case("log x / x^1.5", "", lambda x: jnp.log(x) / x**1.5, 1, INF, lambda m: m.mpf(4)),
    Case("log x / x^1.04", "", lambda x: jnp.log(x) / x**1.04, 1, INF, lambda m: 1 / (m.mpf(1.04) - 1) ** 2),
    Case("log^4 x / x^1.05", "", lambda x: jnp.log(x) ** 4 / x**1.05, 1, INF, lambda m: 24 / (m.mpf(1.05) - 1) ** 5),
    Case("log^2 x / x^0.97", "", lambda x: jnp.log(x) ** 2 / x**0.97, 0, 1, lambda m: 2 / (1 - m.mpf(0.97)) ** 3),
    Case("1 / (x log^3 x)", "", lambda x: 1 / (x * jnp.log(x) ** 3), 2, INF, lambda m: 1 / (2 * m.log(2) ** 2)),
    Case("1 / (x log log x)", "", lambda x: 1 / (x * jnp.log(x) * jnp.log(jnp.log(x))), 16, INF, None),
    Case("log / sqrt at 1e6", "", lambda x: jnp.log(x - 1e6) / jnp.sqrt(x - 1e6), 1e6, 1e6 + 1, lambda m: m.mpf(-4)),
    # what samples do not meet
    Case("a spike of 1e-10", "", lambda x: jnp.where(jnp.abs(x - 0.7131) < 1e-10, 1e10, 0.0), 0, 1, lambda m: m.mpf(2)),
    Case("a spike on a slope", "", lambda x: x + jnp.where(jnp.abs(x - 0.7131) < 1e-9, 1e9, 0.0), 0, 1,
         lambda m: m.mpf(2.5)),
    Case("a bell of 1e-8", "", lambda x: normal(x, math.pi, 1e-8), 0, 10, lambda m: m.mpf(1)),
    Case("a bell of 1e-7 on 2", "", lambda x: 2 + normal(x, 0.2718, 1e-7), 0, 1, lambda m: m.mpf(3)),
    Case("nothing at all", "", lambda x: jnp.where(x > 2, jnp.exp(x), 0.0), 0, 1, lambda m: m.mpf(0)),
    Case("ReLU of what is negative", "", lambda x: jnp.maximum(-jnp.exp(x), 0.0), -3, 3, lambda m: m.mpf(0)),
    # functions of NumPy and Python
    Case("numpy", "", lambda x: np.sin(x) * np.exp(-x), 0, 1, lambda m: (1 - (m.sin(1) + m.cos(1)) / m.e) / 2),
    Case("numpy.where", "", lambda x: np.where(x < 1 / 3, 1.0, x), 0, 1,
         lambda m: m.mpf(1 / 3) + (1 - m.mpf(1 / 3) ** 2) / 2),
    Case("math", "", lambda x: math.exp(-x * x), -1, 2, lambda m: m.sqrt(m.pi) / 2 * (m.erf(2) + m.erf(1))),
    Case("a branch", "", lambda x: x if x > 0.5 else 0.0, 0, 1, lambda m: m.mpf(3) / 8),
    Case("a branch that hides", "", lambda x: 1e9 if abs(x - 0.3) < 1e-9 else 0.0, 0, 1, lambda m: m.mpf(2)),
]  # fmt: skip
# what can be had to full accuracy, and has to be
MUST = {
    "a bell on [-1000, 0.5]", "a narrow bell's tail", "a bell at 116", "a mean at 800", "exp(-x^2) to 38",
    "log-normal to 201", "x^-1.1", "a pole near the axis", "a bell from its flank", "microseconds at 1.7e9",
    "two floats apart", "in 1e-300", "1/x^2 from 1e150", "Poisson's kernel", "log x / x^1.5", "nothing at all",
    "ReLU of what is negative", "numpy", "numpy.where", "math", "a branch", "a bell of 1e-7 on 2",
}  # fmt: skip
DIVERGENT_REGIONS = [
    ("1 / r^2 about a point inside", lambda x, y: 1 / ((x - 0.3) ** 2 + (y + 0.2) ** 2), [(-1, 1), (-1, 1)]),
    ("1 / (x + y)^2 in a corner", lambda x, y: 1 / (x + y) ** 2, [(0, 1), (0, 1)]),
    ("1 / |x - y| on a line", lambda x, y: 1 / jnp.abs(x - y), [(0, 1), (0, 1)]),
    ("1 / (1 + r^2) in the plane", lambda x, y: 1 / (1 + x * x + y * y), [(-INF, INF), (-INF, INF)]),
]
# f(x, t), t, d/dt int_0^1 f dx
JUMPS = [
    ("1(x < t)", lambda x, t: jnp.where(x < t, 1.0, 0.0), 0.5, 1.0),
    ("said twice", lambda x, t: jnp.where(x < t, 1.0, 0.0) * jnp.where(x >= t, 0.0, 2.0), 0.5, 2.0),
    ("floor", lambda x, t: jnp.floor(3 * x * t), 1.1, (1 + 2 + 3) / (3 * 1.1**2)),
    ("sign", lambda x, t: jnp.sign(x - t**2) * x, 0.5, -2 * 0.25 * 1.0),
    ("a window of 1e-5", lambda x, t: jnp.where(jnp.abs(x - 0.3) < t, jnp.exp(x), 0.0), 1e-5,
     math.exp(0.3 + 1e-5) + math.exp(0.3 - 1e-5)),
    ("no jump at all", lambda x, t: jnp.where(x < t, 0.0, x - t), 0.2, -0.8),
]  # fmt: skip
