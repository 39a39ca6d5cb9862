"""The six families of Genz on the unit cube, with exact integrals; the difficulties are those usual in the field.

A family's parameters a are random, scaled so that sum a = h / d^e; u is random in the cube.
Source: Genz 1984, Testing multidimensional integration routines.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import mpmath
import numpy as np

DIFFICULTY = {
    "oscillatory": (110.0, 1.5),
    "product peak": (600.0, 2.0),
    "corner peak": (600.0, 2.0),
    "Gaussian": (100.0, 1.0),
    "continuous": (150.0, 2.0),
    "discontinuous": (100.0, 2.0),
}
SMOOTH = ("oscillatory", "product peak", "corner peak", "Gaussian")


class Problem(NamedTuple):
    family: str
    a: np.ndarray
    u: np.ndarray
    f: Callable  # x_1, ..., x_d -> number
    exact: float


def problem(family: str, d: int, seed: int) -> Problem:
    rng = np.random.default_rng([seed, d, sorted(DIFFICULTY).index(family)])
    h, e = DIFFICULTY[family]
    a, u = rng.random(d) + 0.05, rng.random(d)
    a *= h / d**e / a.sum()
    with mpmath.workdps(50):
        exact = float(EXACT[family]([mpmath.mpf(x) for x in a], [mpmath.mpf(x) for x in u]))
    return Problem(family, a, u, integrand(family, a, u), exact)


def integrand(family: str, a, u) -> Callable:
    A, U, d = jnp.asarray(a), jnp.asarray(u), len(a)
    return {
        "oscillatory": lambda *x: jnp.cos(2 * jnp.pi * U[0] + A @ jnp.stack(x)),
        "product peak": lambda *x: jnp.prod(1 / (A**-2.0 + (jnp.stack(x) - U) ** 2)),
        "corner peak": lambda *x: (1 + A @ jnp.stack(x)) ** (-(d + 1.0)),
        "Gaussian": lambda *x: jnp.exp(-jnp.sum(A**2 * (jnp.stack(x) - U) ** 2)),
        "continuous": lambda *x: jnp.exp(-jnp.sum(A * jnp.abs(jnp.stack(x) - U))),
        "discontinuous": lambda *x: jnp.where((x[0] > U[0]) | (x[1] > U[1]), 0.0, jnp.exp(A @ jnp.stack(x))),
    }[family]


def _corner(a, u):
    total = mpmath.mpf(0)
    for mask in range(2 ** len(a)):
        corner = 1 + sum((x for i, x in enumerate(a) if mask >> i & 1), start=mpmath.mpf(0))
        total += (-1) ** mask.bit_count() / corner
    return total / (mpmath.factorial(len(a)) * mpmath.fprod(a))


def _oscillatory(a, u):
    waves = [(mpmath.exp(1j * x) - 1) / (1j * x) for x in a]
    return mpmath.re(mpmath.exp(2j * mpmath.pi * u[0]) * mpmath.fprod(waves))


EXACT = {
    "oscillatory": _oscillatory,
    "product peak": lambda a, u: mpmath.fprod(
        x * (mpmath.atan(x * (1 - y)) + mpmath.atan(x * y)) for x, y in zip(a, u)
    ),
    "corner peak": _corner,
    "Gaussian": lambda a, u: mpmath.fprod(
        mpmath.sqrt(mpmath.pi) / (2 * x) * (mpmath.erf(x * (1 - y)) + mpmath.erf(x * y)) for x, y in zip(a, u)
    ),
    "continuous": lambda a, u: mpmath.fprod(
        (2 - mpmath.exp(-x * y) - mpmath.exp(-x * (1 - y))) / x for x, y in zip(a, u)
    ),
    "discontinuous": lambda a, u: mpmath.fprod(
        (mpmath.exp(x * y) - 1) / x for x, y in zip(a, [*u[:2], *[mpmath.mpf(1)] * (len(a) - 2)])
    ),
}  # fmt: skip
