"""Functions with their derivatives in multiple precision, at scales from 1e-8 to 1e8: (name, f, exact derivative,
points)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import special


class Case(NamedTuple):
    name: str
    f: object
    exact: object  # (mp, x) -> f'(x)
    points: tuple[float, ...]


SMOOTH = [
    Case("x^2", lambda x: x**2, lambda mp, x: 2 * x, (0.0, 1.0, -3.0, 1e-8, 1e8)),
    Case("x^3", lambda x: x**3, lambda mp, x: 3 * x**2, (2.0, -1e4, 1e-6)),
    Case("e^x", jnp.exp, lambda mp, x: mp.exp(x), (0.0, 1.0, -20.0, 20.0)),
    Case("log x", jnp.log, lambda mp, x: 1 / x, (1.0, 1e-8, 1e8, 0.37)),
    Case("sin x", jnp.sin, lambda mp, x: mp.cos(x), (0.0, 0.7, -50.0, 1e-8)),
    Case("cos x", jnp.cos, lambda mp, x: -mp.sin(x), (0.7, 2.0)),
    Case("tan x", jnp.tan, lambda mp, x: mp.sec(x) ** 2, (0.3, 1.5)),
    Case("sqrt x", jnp.sqrt, lambda mp, x: 1 / (2 * mp.sqrt(x)), (1.0, 1e-8, 1e8)),
    Case("1/x", lambda x: 1 / x, lambda mp, x: -1 / x**2, (-2.0, 1e-5, 1e5)),
    Case("sigmoid", jax.nn.sigmoid, lambda mp, x: mp.exp(-x) / (1 + mp.exp(-x)) ** 2, (0.0, 1.0, -5.0)),
    Case("tanh", jnp.tanh, lambda mp, x: mp.sech(x) ** 2, (0.0, 0.5, -2.0)),
    Case("softplus", jax.nn.softplus, lambda mp, x: 1 / (1 + mp.exp(-x)), (0.0, 3.0)),
    Case("x^x", lambda x: x**x, lambda mp, x: x**x * (mp.log(x) + 1), (0.5, 2.0)),
    Case("x sin x / (1 + x)", lambda x: x * jnp.sin(x) / (1 + x),
         lambda mp, x: (mp.sin(x) + x * mp.cos(x)) / (1 + x) - x * mp.sin(x) / (1 + x) ** 2, (0.5, 3.0)),
    Case("e^sin(x^2)", lambda x: jnp.exp(jnp.sin(x**2)),
         lambda mp, x: mp.exp(mp.sin(x**2)) * mp.cos(x**2) * 2 * x, (0.4, 1.5)),
    Case("erf", special.erf, lambda mp, x: 2 / mp.sqrt(mp.pi) * mp.exp(-(x**2)), (0.0, 1.0)),
    Case("log gamma", special.gammaln, lambda mp, x: mp.digamma(x), (2.5, 10.0)),
    Case("sin 1e8 x", lambda x: jnp.sin(1e8 * x), lambda mp, x: mp.mpf(1e8) * mp.cos(mp.mpf(1e8) * x), (0.0, 1e-8)),
    Case("sin 1e-8 x", lambda x: jnp.sin(1e-8 * x), lambda mp, x: mp.mpf(1e-8) * mp.cos(mp.mpf(1e-8) * x), (0.0, 1e8)),
    Case("1e8 atan", lambda x: 1e8 * jnp.arctan(x), lambda mp, x: 1e8 / (1 + x**2), (0.3,)),
    Case("1e-8 sinh", lambda x: 1e-8 * jnp.sinh(x), lambda mp, x: mp.mpf(1e-8) * mp.cosh(x), (0.3,)),
    Case("asin", jnp.arcsin, lambda mp, x: 1 / mp.sqrt(1 - x**2), (0.0, 0.5)),
    Case("x^2.5", lambda x: x**2.5, lambda mp, x: 2.5 * x**1.5, (1.0, 1e-4)),
    Case("log1p", jnp.log1p, lambda mp, x: 1 / (1 + x), (1e-8, 3.0)),
    Case("rational", lambda x: (x**3 - 2) / (x**2 + 1),
         lambda mp, x: (3 * x**2 * (x**2 + 1) - 2 * x * (x**3 - 2)) / (x**2 + 1) ** 2, (0.0, 1.7)),
]  # fmt: skip

# held to honest errors alone: near kinks and poles, steep, noisy, quantised
ROUGH = [
    Case("|x|", jnp.abs, lambda mp, x: mp.sign(x), (1.0, 1e-6, -1e-9)),
    Case("|x - 1|", lambda x: jnp.abs(x - 1), lambda mp, x: mp.sign(x - 1), (1.01, 1.00001, 0.999999)),
    Case("relu", jax.nn.relu, lambda mp, x: mp.mpf(x > 0), (1e-3, -1e-3)),
    Case("1/(x - 1)", lambda x: 1 / (x - 1), lambda mp, x: -1 / (x - 1) ** 2, (1.01, 0.998, 1.0005)),
    Case("sqrt|x - 1|", lambda x: jnp.sqrt(jnp.abs(x - 1)), lambda mp, x: 1 / (2 * mp.sqrt(x - 1)), (1.01, 1.0001)),
    Case("tanh 1000(x - 1)", lambda x: jnp.tanh(1e3 * (x - 1)), lambda mp, x: 1000 * mp.sech(1000 * (x - 1)) ** 2,
         (1.0, 1.001)),
    Case("sin 300x", lambda x: jnp.sin(300 * x), lambda mp, x: 300 * mp.cos(300 * x), (0.1, 1.0)),
    Case("1e6 + sin x / 1000", lambda x: 1e6 + 1e-3 * jnp.sin(x), lambda mp, x: mp.cos(x) / 1000, (0.7,)),
    Case("float32 inside", lambda x: jnp.sin(x.astype(jnp.float32)).astype(x.dtype), lambda mp, x: mp.cos(x), (0.7,)),
    Case("floor", jnp.floor, lambda mp, x: mp.mpf(0), (2.5, 0.3)),
    Case("sigmoid, flat", jax.nn.sigmoid, lambda mp, x: mp.exp(-x) / (1 + mp.exp(-x)) ** 2, (40.0, 100.0)),
    Case("tanh, flat", jnp.tanh, lambda mp, x: mp.sech(x) ** 2, (-20.0, 18.0)),
    Case("cos 1e6 x", lambda x: jnp.cos(1e6 * x), lambda mp, x: -1e6 * mp.sin(1e6 * x), (0.3,)),
    Case("(e^x - 1 - x) / x", lambda x: (jnp.exp(x) - 1 - x) / x, lambda mp, x: (mp.exp(x) * (x - 1) + 1) / x**2,
         (1e-3, 1e-6)),
    Case("x sin(1/x)", lambda x: x * jnp.sin(1 / x), lambda mp, x: mp.sin(1 / x) - mp.cos(1 / x) / x, (0.01, 0.3)),
]  # fmt: skip
