"""Problems 1 to 25 of Hock and Schittkowski: two variables (three in 25)."""

import jax.numpy as jnp
import numpy as np

from tests.optimality.known import INF, hs

ROOT3 = np.sqrt(3)
INDEX = np.arange(1, 100) / 100
ABSCISSA = 25 + (-50 * np.log(INDEX)) ** (2 / 3)


def rosenbrock(x1, x2):
    return 100 * (x2 - x1**2) ** 2 + (1 - x1) ** 2


def hs2_value():
    """On x2 = 1.5 the derivative is a cubic; its greatest root, by Vieta."""
    a = np.sqrt(598 / 1200)
    x1 = 2 * a * np.cos(np.arccos(1 / (400 * a**3)) / 3)
    return rosenbrock(x1, 1.5)


PROBLEMS = [
    hs(1, rosenbrock, (-2, 1), 0.0, lower=(-INF, -1.5)),
    hs(2, rosenbrock, (-2, 1), hs2_value(), lower=(-INF, 1.5)),
    hs(3, lambda x1, x2: x2 + 1e-05 * (x2 - x1) ** 2, (10, 1), 0.0, lower=(-INF, 0)),
    hs(4, lambda x1, x2: (x1 + 1) ** 3 / 3 + x2, (1.125, 0.125), 8 / 3, lower=(1, 0)),
    hs(
        5,
        lambda x1, x2: jnp.sin(x1 + x2) + (x1 - x2) ** 2 - 1.5 * x1 + 2.5 * x2 + 1,
        (0, 0),
        -np.sqrt(3) / 2 - np.pi / 3,
        lower=(-1.5, -3),
        upper=(4, 3),
    ),
    hs(6, lambda x1, x2: (1 - x1) ** 2, (-1.2, 1), 0.0, h=lambda x1, x2: [10 * (x2 - x1**2)]),
    hs(7, lambda x1, x2: jnp.log(1 + x1**2) - x2, (2, 2), -np.sqrt(3), h=lambda x1, x2: [(1 + x1**2) ** 2 + x2**2 - 4]),
    hs(8, lambda x1, x2: 0 * x1 - 1, (2, 1), -1.0, h=lambda x1, x2: [x1**2 + x2**2 - 25, x1 * x2 - 9]),
    hs(
        9,
        lambda x1, x2: jnp.sin(np.pi * x1 / 12) * jnp.cos(np.pi * x2 / 16),
        (0, 0),
        -0.5,
        h=lambda x1, x2: [4 * x1 - 3 * x2],
    ),
    hs(10, lambda x1, x2: x1 - x2, (-10, 10), -1.0, g=lambda x1, x2: [-3 * x1**2 + 2 * x1 * x2 - x2**2 + 1]),
    hs(11, lambda x1, x2: (x1 - 5) ** 2 + x2**2 - 25, (4.9, 0.1), -8.498464223, g=lambda x1, x2: [-(x1**2) + x2]),
    hs(
        12,
        lambda x1, x2: x1**2 / 2 + x2**2 - x1 * x2 - 7 * x1 - 7 * x2,
        (0, 0),
        -30.0,
        g=lambda x1, x2: [25 - 4 * x1**2 - x2**2],
    ),
    hs(
        14,
        lambda x1, x2: (x1 - 2) ** 2 + (x2 - 1) ** 2,
        (2, 2),
        9 - 2.875 * np.sqrt(7),
        h=lambda x1, x2: [x1 - 2 * x2 + 1],
        g=lambda x1, x2: [-(x1**2) / 4 - x2**2 + 1],
    ),
    hs(15, rosenbrock, (-2, 1), 306.5, g=lambda x1, x2: [x1 * x2 - 1, x1 + x2**2], upper=(0.5, INF)),
    hs(16, rosenbrock, (-2, 1), 0.25, g=lambda x1, x2: [x1 + x2**2, x1**2 + x2], lower=(-0.5, -INF), upper=(0.5, 1)),
    hs(17, rosenbrock, (-2, 1), 1.0, g=lambda x1, x2: [x2**2 - x1, x1**2 - x2], lower=(-0.5, -INF), upper=(0.5, 1)),
    hs(
        18,
        lambda x1, x2: x1**2 / 100 + x2**2,
        (2, 2),
        5.0,
        g=lambda x1, x2: [x1 * x2 - 25, x1**2 + x2**2 - 25],
        lower=(2, 0),
        upper=(50, 50),
    ),
    hs(
        19,
        lambda x1, x2: (x1 - 10) ** 3 + (x2 - 20) ** 3,
        (20.1, 5.84),
        -6961.81381,
        g=lambda x1, x2: [(x1 - 5) ** 2 + (x2 - 5) ** 2 - 100, 82.81 - (x1 - 6) ** 2 - (x2 - 5) ** 2],
        lower=(13, 0),
        upper=100,
    ),
    hs(
        20,
        rosenbrock,
        (-2, 1),
        81.5 - 25 * ROOT3,
        g=lambda x1, x2: [x1 + x2**2, x1**2 + x2, x1**2 + x2**2 - 1],
        lower=(-0.5, -INF),
        upper=(0.5, INF),
    ),
    hs(
        21,
        lambda x1, x2: x1**2 / 100 + x2**2 - 100,
        (-1, -1),
        -99.96,
        g=lambda x1, x2: [10 * x1 - x2 - 10],
        lower=(2, -50),
        upper=(50, 50),
    ),
    hs(22, lambda x1, x2: (x1 - 2) ** 2 + (x2 - 1) ** 2, (2, 2), 1.0, g=lambda x1, x2: [2 - x1 - x2, x2 - x1**2]),
    hs(
        23,
        lambda x1, x2: x1**2 + x2**2,
        (3, 1),
        2.0,
        g=lambda x1, x2: [x1 + x2 - 1, x1**2 + x2**2 - 1, 9 * x1**2 + x2**2 - 9, x1**2 - x2, x2**2 - x1],
        lower=-50,
        upper=50,
    ),
    hs(
        24,
        lambda x1, x2: ((x1 - 3) ** 2 - 9) * x2**3 / (27 * ROOT3),
        (1, 0.5),
        -1.0,
        g=lambda x1, x2: [x1 / ROOT3 - x2, x1 + ROOT3 * x2, 6 - x1 - ROOT3 * x2],
        lower=0,
    ),
    hs(
        25,
        lambda x1, x2, x3: jnp.sum((jnp.exp(-((ABSCISSA - x2) ** x3) / x1) - INDEX) ** 2),
        (100, 12.5, 3),
        0.0,
        lower=(0.1, 0, 0),
        upper=(100, 25.6, 5),
    ),
]
