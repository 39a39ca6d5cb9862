"""Integrals over regions with known values: singular ends and insides, peaks, kinks and jumps that no axis follows."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import special


class Case(NamedTuple):
    name: str
    f: Callable
    bounds: list
    exact: float
    converges: bool = True
    quick: bool = False  # in the default tests


INF = np.inf
SQUARE, CUBE = [(0, 1)] * 2, [(0, 1)] * 3


def root(x):
    return jnp.sqrt(jnp.maximum(x, 0.0))


def radius(*x):
    return jnp.sqrt(sum(a * a for a in x))


BALL = [
    (-1, 1),
    (lambda x: -root(1 - x * x), lambda x: root(1 - x * x)),
    lambda x, y: (-root(1 - x * x - y * y), root(1 - x * x - y * y)),
]
SIMPLEX = [(0, 1), *[(0, lambda *x: 1 - sum(x))] * 5]


def waves(d):
    """int cos(x_1 + ... + x_d) over the unit cube."""
    return float(np.real(((np.exp(1j) - 1) / 1j) ** d))


CASES = [
    # smooth, up to singular edges and corners
    Case("a wave, 6", lambda *x: jnp.cos(sum(x)), [(0, 1)] * 6, waves(6), quick=True),
    Case("crossed waves", lambda x, y: jnp.cos(40 * x * y), SQUARE, special.sici(40)[0] / 40),
    Case("a corner of degree -5, 4", lambda *x: 1 / (1 + sum(x)) ** 5, [(0, 1)] * 4, 1 / 120),
    Case("degree -1/2 at a corner", lambda x, y: (x + y) ** -0.5, SQUARE, 8 / 3 * (np.sqrt(2) - 1)),
    Case("a logarithm at a corner", lambda x, y: jnp.log(x + y), SQUARE, 2 * np.log(2) - 1.5),
    Case("a pole's logarithm", lambda x, y: 1 / (1 - x * y), SQUARE, np.pi**2 / 6, quick=True),
    Case("singular on two edges", lambda x, y: 1 / jnp.sqrt(x * y), SQUARE, 4.0),
    Case("1/r at a corner, 3", lambda *x: 1 / radius(*x), CUBE, 1.1900386819897766),
    Case("a Gaussian, whole space", lambda x, y, z: jnp.exp(-x * x - y * y - z * z - x * y), [(-INF, INF)] * 3,
         np.pi**1.5 / np.sqrt(0.75)),
    Case("an endless wedge", lambda x, y: jnp.exp(-x - y), [(0, INF), (0, lambda x: x)], 0.5),
    Case("a simplex, 4", lambda *x: 1.0 + 0 * x[0], SIMPLEX[:4], 1 / 24),
    Case("Dirichlet's, 6", lambda *x: jnp.prod(jnp.stack(x)), SIMPLEX, 1 / special.factorial(12)),
    # peaks that most points miss
    Case("a peak of 1e-3, 3", lambda *x: jnp.exp(-1e5 * radius(x[0] - 0.3, x[1] - 0.6, x[2] - 0.2) ** 2), CUBE,
         (np.pi / 1e5) ** 1.5, quick=True),
    Case("a peak on a plain, 6", lambda *x: 1 + 1e6 * jnp.exp(-1e3 * sum((a - 0.37) ** 2 for a in x)), [(0, 1)] * 6,
         1 + 1e6 * (np.pi / 1e3) ** 3),
    # kinks and jumps along the axes, found
    Case("a kink and a jump, 4", lambda x, y, z, w: jnp.abs(x - 0.3) * jnp.where(w > y.dtype.type(1 / np.pi), z, -1.0),
         [(0, 1)] * 4, 0.29 * (0.5 * (1 - 1 / np.pi) - 1 / np.pi)),
    # what no axis follows: refused, with an error that holds
    Case("a kink across", lambda x, y: jnp.abs(x - y), SQUARE, 1 / 3, False),
    Case("a jump across", lambda x, y: jnp.where(x < y, 1.0, 0.0), SQUARE, 0.5, False),
    Case("a disc's jump", lambda *x: jnp.where(radius(*x) < 1, 1.0, 0.0), [(-1, 1)] * 2, np.pi, False),
    Case("a ball's jump, 3", lambda *x: jnp.where(radius(*x) < 1, 1.0, 0.0), [(-1, 1)] * 3, 4 * np.pi / 3, False),
    Case("a ball's jump, 6", lambda *x: jnp.where(radius(*x) < 1, 1.0, 0.0), [(-1, 1)] * 6, np.pi**3 / 6, False),
    Case("the greatest of three", lambda *x: jnp.max(jnp.stack(x)), CUBE, 0.75, False),
    Case("a ridge across", lambda x, y: jnp.exp(-((1e3 * (x - y)) ** 2)), SQUARE, np.sqrt(np.pi) * 1e-3 - 1e-6, False),
    Case("1/r inside a ball, 3", lambda *x: 1 / radius(*x), BALL, 2 * np.pi, False),
]  # fmt: skip
