"""Integrals and solids with their true values, and the rules of the textbook."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import jax.numpy as jnp
import mpmath
import numpy as np

SPECTRAL = math.inf  # faster than any power


@dataclass(frozen=True)
class Integrand:
    """f over [a, b].

    Attributes:
      formula: for people.
      fun: (m, x) -> value, over jax.numpy, numpy or mpmath.
      true: an mpmath context -> the integral, by an antiderivative.
      orders: of the error of left, right, midpoint, trapezoid, Simpson and Gauss, as theory has them; None where the
        rule evaluates f where it is infinite.
      points: where f has a kink, for `integrate`.
    """

    formula: str
    fun: Callable
    a: float
    b: float
    true: Callable
    orders: tuple


KINK = 1 / math.pi


def _kinked(mp):
    """of e^x |x - c| over [0, 1]; e^x (x - c - 1) is an antiderivative of e^x (x - c)."""
    c = mp.mpf(KINK)
    at = lambda x: mp.exp(x) * (x - c - 1)
    return at(1) - 2 * at(c) + at(mp.mpf(0))


INTEGRANDS = {
    "smooth": Integrand("x² e⁻ˣ on [0, 4]", lambda m, x: x**2 * m.exp(-x), 0.0, 4.0,
                        lambda mp: 2 - 26 * mp.exp(-4), (1, 1, 2, 2, 4, SPECTRAL)),
    "periodic": Integrand("e^cos x on [0, 2π]", lambda m, x: m.exp(m.cos(x)), 0.0, 2 * math.pi,
                          lambda mp: 2 * mp.pi * mp.besseli(0, 1), (SPECTRAL,) * 6),
    "a kink": Integrand("eˣ |x − 1/π| on [0, 1]", lambda m, x: m.exp(x) * abs(x - KINK), 0.0, 1.0,
                        _kinked, (1, 1, 2, 2, 2, 2)),
    "a steep end": Integrand("√x on [0, 1]", lambda m, x: m.sqrt(x), 0.0, 1.0,
                             lambda mp: mp.mpf(2) / 3, (1, 1, 1.5, 1.5, 1.5, 3)),
    "an infinite end": Integrand("1/√x on [0, 1]", lambda m, x: 1 / m.sqrt(x), 0.0, 1.0,
                                 lambda mp: mp.mpf(2), (None, 0.5, 0.5, None, None, 1)),
}  # fmt: skip


# ---- rules: (f, a, b, n) -> (sum, evaluations) ---------------------------------------------------------


def left(f, a, b, n):
    return (b - a) / n * math.fsum(f(a + (b - a) * np.arange(n) / n)), n


def right(f, a, b, n):
    return (b - a) / n * math.fsum(f(a + (b - a) * np.arange(1, n + 1) / n)), n


def midpoint(f, a, b, n):
    return (b - a) / n * math.fsum(f(a + (b - a) * (np.arange(n) + 0.5) / n)), n


def trapezoid(f, a, b, n):
    values = f(a + (b - a) * np.arange(n + 1) / n)
    return (b - a) / n * (math.fsum(values) - (values[0] + values[-1]) / 2), n + 1


def simpson(f, a, b, n):
    """On n intervals, an even number: f weighs 1, 4, 2, 4, ..., 4, 1."""
    n += n % 2
    values = f(a + (b - a) * np.arange(n + 1) / n)
    weights = np.where(np.arange(n + 1) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return (b - a) / (3 * n) * math.fsum(weights * values), n + 1


_legendre = lru_cache(maxsize=None)(np.polynomial.legendre.leggauss)


def gauss(f, a, b, n):
    nodes, weights = _legendre(n)
    return (b - a) / 2 * math.fsum(weights * f((a + b) / 2 + (b - a) / 2 * nodes)), n


RULES = {
    "left": left, "right": right, "midpoint": midpoint, "trapezoid": trapezoid, "Simpson": simpson, "Gauss": gauss,
}  # fmt: skip

# ---- exact cases, and integrals that there are none of --------------------------------------------------

EXACT = [
    ("∫ sin x, 0 to π", jnp.sin, 0.0, math.pi, lambda mp: 1 - mp.cos(mp.mpf(math.pi))),
    ("∫ 1/x, 1 to e", lambda x: 1 / x, 1.0, math.e, lambda mp: mp.log(mp.mpf(math.e))),
    ("∫ 1/(1 + x²), −∞ to ∞", lambda x: 1 / (1 + x**2), -math.inf, math.inf, lambda mp: mp.pi),
    ("∫ e^(−x²), −∞ to ∞", lambda x: jnp.exp(-(x**2)), -math.inf, math.inf, lambda mp: mp.sqrt(mp.pi)),
    ("∫ −log x, 0 to 1", lambda x: -jnp.log(x), 0.0, 1.0, lambda mp: mp.mpf(1)),
    ("∫ x³ eˣ, 1 to 0", lambda x: x**3 * jnp.exp(x), 1.0, 0.0, lambda mp: 2 * mp.e - 6),
    ("∫ sin(50 x)², 0 to 1", lambda x: jnp.sin(50 * x) ** 2, 0.0, 1.0, lambda mp: (1 - mp.sin(100) / 100) / 2),
]
ENDLESS = [
    ("∫ 1/x, 0 to 1", lambda x: 1 / x, 0.0, 1.0),
    ("∫ 1/x, 1 to ∞", lambda x: 1 / x, 1.0, math.inf),
    ("∫ 1/x, −1 to 1", lambda x: 1 / x, -1.0, 1.0),
]

# ---- areas between curves -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Between:
    """Two curves over [a, b]; the functions are written over a module."""

    name: str
    f: Callable
    g: Callable
    a: float
    b: float
    brackets: tuple  # of the crossings, for mpmath's root finder


BETWEEN = [
    Between("sin x and cos x", lambda m, x: m.sin(x), lambda m, x: m.cos(x), 0.0, 2 * math.pi,
            ((0.7, 0.9), (3.8, 4.0))),
    Between("x³ and x", lambda m, x: x**3, lambda m, x: x, -1.0, 1.5, ((-0.3, 0.4), (0.8, 1.2))),
    Between("cos x² and x/4", lambda m, x: m.cos(x**2), lambda m, x: x / 4, 0.0, 3.5,
            ((1.1, 1.2), (2.25, 2.35), (2.6, 2.7), (3.4, 3.5))),
]  # fmt: skip


def true_area(case: Between) -> tuple[list[float], mpmath.mpf]:
    """(crossings, area) by mpmath: a root from each bracket, and an integral over each piece."""
    with mpmath.workdps(40):
        gap = lambda x: case.f(mpmath, x) - case.g(mpmath, x)
        roots = [mpmath.findroot(gap, near, solver="anderson") for near in case.brackets]
        ends = [mpmath.mpf(case.a), *roots, mpmath.mpf(case.b)]
        pieces = [mpmath.quad(gap, [low, (low + high) / 2, high]) for low, high in itertools.pairwise(ends)]
        return [float(root) for root in roots], mpmath.mpf(mpmath.fsum(pieces, absolute=True))


# ---- solids of revolution -------------------------------------------------------------------------------

RING, TUBE = 2.0, 0.75  # the torus: radius of the ring, and of the tube
WAIST, BELLY = 0.5, 1.5  # the vase: 1 + sin(z) / 2 lies between


@dataclass(frozen=True)
class Solid:
    """A solid of revolution, as the arguments of `volume_of_revolution` by discs (or washers) and by shells.

    Attributes:
      outer, inner: the profile along the axis, over numpy, from `start` to `end`, for the picture.
      times: how many halves the shells make.
    """

    formula: str
    true: Callable
    discs: dict
    shells: dict
    outer: Callable
    inner: Callable
    start: float
    end: float
    times: int = 1


def _half_circle(x):
    return jnp.sqrt(jnp.maximum(1 - x**2, 0.0))


def _tube(across):
    return jnp.sqrt(jnp.maximum(TUBE**2 - across**2, 0.0))


def _length_at(rho):
    """How much of the vase's axis, 0 to 2 pi, lies where its radius is above rho."""
    return jnp.where(rho < WAIST, 2 * jnp.pi, jnp.pi - 2 * jnp.arcsin(jnp.clip(2 * (rho - 1), -1.0, 1.0)))


def _zero(x):
    return np.zeros_like(x)


SOLIDS = {
    "unit ball": Solid(
        "4π/3", lambda mp: 4 * mp.pi / 3,
        dict(f=_half_circle, a=-1.0, b=1.0),
        dict(f=_half_circle, a=0.0, b=1.0, axis="y"),
        lambda x: np.sqrt(np.maximum(1 - x**2, 0)), _zero, -1.0, 1.0, times=2,
    ),
    "torus": Solid(
        "2π² R r²", lambda mp: 2 * mp.pi**2 * RING * mp.mpf(TUBE) ** 2,
        dict(f=lambda x: RING + _tube(x), inner=lambda x: RING - _tube(x), a=-TUBE, b=TUBE),
        dict(f=lambda x: _tube(x - RING), inner=lambda x: -_tube(x - RING), a=RING - TUBE, b=RING + TUBE, axis="y"),
        lambda x: RING + np.sqrt(np.maximum(TUBE**2 - x**2, 0)),
        lambda x: RING - np.sqrt(np.maximum(TUBE**2 - x**2, 0)),
        -TUBE, TUBE,
    ),
    "Gabriel's horn": Solid(
        "π", lambda mp: mp.pi,
        dict(f=lambda x: 1 / x, a=1.0, b=math.inf),
        dict(f=lambda y: 1 / y - 1, a=0.0, b=1.0, axis="y"),
        lambda x: 1 / x, _zero, 1.0, 7.0,
    ),
    "vase": Solid(
        "9π²/4", lambda mp: 9 * mp.pi**2 / 4,
        dict(f=lambda x: 1 + jnp.sin(x) / 2, a=0.0, b=2 * math.pi),
        dict(f=_length_at, a=0.0, b=BELLY, axis="y", points=[WAIST]),
        lambda x: 1 + np.sin(x) / 2, _zero, 0.0, 2 * math.pi,
    ),
}  # fmt: skip
