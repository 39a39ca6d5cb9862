"""Problems 57 to 81 of Hock and Schittkowski: two to five variables."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from tests.optimality.known import hs

CHLORINE = """
0.49 0.49 0.48 0.47 0.48 0.47 0.46 0.46 0.45 0.43 0.45 0.43 0.43 0.44 0.43 0.43 0.46 0.45 0.42 0.42
0.43 0.41 0.41 0.40 0.42 0.40 0.40 0.41 0.40 0.41 0.41 0.40 0.40 0.40 0.38 0.41 0.40 0.40 0.41 0.38
0.40 0.40 0.39 0.39
"""
WEEKS = """
8 8 10 10 10 10 12 12 12 12 14 14 14 16 16 16 18 18 20 20 20 22 22 22 24 24 24 26 26 26 28 28 30 30
30 32 32 34 36 36 38 38 40 42
"""
# problem 70: concentrations observed at 0.1, 1, 2, ..., 18
TIMES = np.array([0.1, *range(1, 19)])
OBSERVED = """
0.00189 0.1038 0.268 0.506 0.577 0.604 0.725 0.898 0.947 0.845 0.702 0.528 0.385 0.257 0.159 0.0869
0.0453 0.01509 0.00189
"""
CHLORINE, WEEKS, OBSERVED = (np.array(text.split(), float) for text in (CHLORINE, WEEKS, OBSERVED))


def inspection(a, b, n):
    """Problems 68 and 69 without their values: the objective and the equalities, d = 1."""

    def objective(x1, x2, x3, x4):
        return (a * n - (b * (jnp.exp(x1) - 1) - x3) * x4 / (jnp.exp(x1) - 1 + x4)) / x1

    def equalities(x1, x2, x3, x4):
        root = np.sqrt(n)
        return [x3 - 2 * ndtr(-x2), x4 - ndtr(-x2 + root) - ndtr(-x2 - root)]

    return objective, equalities


def hs70(x1, x2, x3, x4):
    b = x3 + (1 - x3) * x4
    c = TIMES / 7.658
    first = x3 * b**x2 * jnp.sqrt(x2 / 6.2832) * c ** (x2 - 1) * jnp.exp(x2 - b * c * x2) / (1 + 1 / (12 * x2))
    last = (1 - x3) * (b / x4) ** x1 * jnp.sqrt(x1 / 6.2832) * c ** (x1 - 1)
    last = last * jnp.exp(x1 - b * c * x1 / x4) / (1 + 1 / (12 * x1))
    return jnp.sum((first + last - OBSERVED) ** 2)


def power_cost(x1, x2, x3, x4):
    return 3 * x1 + 1e-6 * x1**3 + 2 * x2 + 2e-6 / 3 * x2**3


def power_flow(x1, x2, x3, x4):
    sin = jnp.sin
    return [
        1000 * sin(-x3 - 0.25) + 1000 * sin(-x4 - 0.25) + 894.8 - x1,
        1000 * sin(x3 - 0.25) + 1000 * sin(x3 - x4 - 0.25) + 894.8 - x2,
        1000 * sin(x4 - 0.25) + 1000 * sin(x4 - x3 - 0.25) + 1294.8,
    ]


def powell(x1, x2, x3, x4, x5):
    return [x1**2 + x2**2 + x3**2 + x4**2 + x5**2 - 10, x2 * x3 - 5 * x4 * x5, x1**3 + x2**3 + 1]


PROBLEMS = [
    hs(
        57,
        lambda x1, x2: jnp.sum((CHLORINE - x1 - (0.49 - x1) * jnp.exp(-x2 * (WEEKS - 8))) ** 2),
        (0.42, 5),
        0.02845966972,
        g=lambda x1, x2: [0.49 * x2 - x1 * x2 - 0.09],
        lower=(0.4, -4),
    ),
    hs(
        60,
        lambda x1, x2, x3: (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 4,
        (2, 2, 2),
        0.03256820025,
        h=lambda x1, x2, x3: [x1 * (1 + x2**2) + x3**4 - 4 - 3 * np.sqrt(2)],
        lower=-10,
        upper=10,
    ),
    hs(
        61,
        lambda x1, x2, x3: 4 * x1**2 + 2 * x2**2 + 2 * x3**2 - 33 * x1 + 16 * x2 - 24 * x3,
        (0, 0, 0),
        -143.6461422,
        h=lambda x1, x2, x3: [3 * x1 - 2 * x2**2 - 7, 4 * x1 - x3**2 - 11],
    ),
    hs(
        62,
        lambda x1, x2, x3: (
            -32.174
            * (
                255 * jnp.log((x1 + x2 + x3 + 0.03) / (0.09 * x1 + x2 + x3 + 0.03))
                + 280 * jnp.log((x2 + x3 + 0.03) / (0.07 * x2 + x3 + 0.03))
                + 290 * jnp.log((x3 + 0.03) / (0.13 * x3 + 0.03))
            )
        ),
        (0.7, 0.2, 0.1),
        -26272.51448,
        h=lambda x1, x2, x3: [x1 + x2 + x3 - 1],
        lower=0,
        upper=1,
    ),
    hs(
        63,
        lambda x1, x2, x3: 1000 - x1**2 - 2 * x2**2 - x3**2 - x1 * x2 - x1 * x3,
        (2, 2, 2),
        961.7151721,
        h=lambda x1, x2, x3: [8 * x1 + 14 * x2 + 7 * x3 - 56, x1**2 + x2**2 + x3**2 - 25],
        lower=0,
    ),
    hs(
        64,
        lambda x1, x2, x3: 5 * x1 + 50000 / x1 + 20 * x2 + 72000 / x2 + 10 * x3 + 144000 / x3,
        (1, 1, 1),
        6299.842428,
        g=lambda x1, x2, x3: [1 - 4 / x1 - 32 / x2 - 120 / x3],
        lower=1e-5,
    ),
    hs(
        65,
        lambda x1, x2, x3: (x1 - x2) ** 2 + (x1 + x2 - 10) ** 2 / 9 + (x3 - 5) ** 2,
        (-5, 5, 0),
        0.9535288567,
        g=lambda x1, x2, x3: [48 - x1**2 - x2**2 - x3**2],
        lower=(-4.5, -4.5, -5),
        upper=(4.5, 4.5, 5),
    ),
    hs(
        66,
        lambda x1, x2, x3: 0.2 * x3 - 0.8 * x1,
        (0, 1.05, 2.9),
        0.5181632741,
        g=lambda x1, x2, x3: [x2 - jnp.exp(x1), x3 - jnp.exp(x2)],
        lower=0,
        upper=(100, 100, 10),
    ),
    hs(
        68,
        inspection(0.0001, 1, 24)[0],
        (1, 1, 1, 1),
        -0.920425026,
        h=inspection(0.0001, 1, 24)[1],
        lower=(0.0001, 0, 0, 0),
        upper=(100, 100, 2, 2),
    ),
    hs(
        69,
        inspection(0.1, 1000, 4)[0],
        (1, 1, 1, 1),
        -956.71288,
        h=inspection(0.1, 1000, 4)[1],
        lower=(0.0001, 0, 0, 0),
        upper=(100, 100, 2, 2),
    ),
    hs(
        70,
        hs70,
        (2, 4, 0.04, 2),
        0.007498464,
        g=lambda x1, x2, x3, x4: [x3 + (1 - x3) * x4],
        lower=0.00001,
        upper=(100, 100, 1, 100),
    ),
    hs(
        71,
        lambda x1, x2, x3, x4: x1 * x4 * (x1 + x2 + x3) + x3,
        (1, 5, 5, 1),
        17.0140173,
        h=lambda x1, x2, x3, x4: [x1**2 + x2**2 + x3**2 + x4**2 - 40],
        g=lambda x1, x2, x3, x4: [x1 * x2 * x3 * x4 - 25],
        lower=1,
        upper=5,
    ),
    hs(
        72,
        lambda x1, x2, x3, x4: 1 + x1 + x2 + x3 + x4,
        (1, 1, 1, 1),
        727.67937,
        g=lambda x1, x2, x3, x4: [
            0.0401 - 4 / x1 - 2.25 / x2 - 1 / x3 - 0.25 / x4,
            0.010085 - 0.16 / x1 - 0.36 / x2 - 0.64 / x3 - 0.64 / x4,
        ],
        lower=0.001,
        upper=(4e5, 3e5, 2e5, 1e5),
    ),
    hs(
        73,
        lambda x1, x2, x3, x4: 24.55 * x1 + 26.75 * x2 + 39 * x3 + 40.5 * x4,
        (1, 1, 1, 1),
        29.894378,
        h=lambda x1, x2, x3, x4: [x1 + x2 + x3 + x4 - 1],
        g=lambda x1, x2, x3, x4: [
            2.3 * x1 + 5.6 * x2 + 11.1 * x3 + 1.3 * x4 - 5,
            12 * x1
            + 11.9 * x2
            + 41.8 * x3
            + 52.1 * x4
            - 21
            - 1.645 * jnp.sqrt(0.28 * x1**2 + 0.19 * x2**2 + 20.5 * x3**2 + 0.62 * x4**2),
        ],
        lower=0,
    ),
    hs(
        74,
        power_cost,
        (0, 0, 0, 0),
        5126.4981,
        h=power_flow,
        g=lambda x1, x2, x3, x4: [x4 - x3 + 0.55, x3 - x4 + 0.55],
        lower=(0, 0, -0.55, -0.55),
        upper=(1200, 1200, 0.55, 0.55),
    ),
    hs(
        75,
        power_cost,
        (0, 0, 0, 0),
        5174.4129,
        h=power_flow,
        g=lambda x1, x2, x3, x4: [x4 - x3 + 0.48, x3 - x4 + 0.48],
        lower=(0, 0, -0.48, -0.48),
        upper=(1200, 1200, 0.48, 0.48),
    ),
    hs(
        76,
        lambda x1, x2, x3, x4: x1**2 + x2**2 / 2 + x3**2 + x4**2 / 2 - x1 * x3 + x3 * x4 - x1 - 3 * x2 + x3 - x4,
        (0.5, 0.5, 0.5, 0.5),
        -4.681818182,
        g=lambda x1, x2, x3, x4: [5 - x1 - 2 * x2 - x3 - x4, 4 - 3 * x1 - x2 - 2 * x3 + x4, x2 + 4 * x3 - 1.5],
        lower=0,
    ),
    hs(
        77,
        lambda x1, x2, x3, x4, x5: (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x3 - 1) ** 2 + (x4 - 1) ** 4 + (x5 - 1) ** 6,
        (2, 2, 2, 2, 2),
        0.24150513,
        h=lambda x1, x2, x3, x4, x5: [
            x1**2 * x4 + jnp.sin(x4 - x5) - 2 * np.sqrt(2),
            x2 + x3**4 * x4**2 - 8 - np.sqrt(2),
        ],
    ),
    hs(78, lambda x1, x2, x3, x4, x5: x1 * x2 * x3 * x4 * x5, (-2, 1.5, 2, -1, -1), -2.91970041, h=powell),
    hs(
        79,
        lambda x1, x2, x3, x4, x5: (x1 - 1) ** 2 + (x1 - x2) ** 2 + (x2 - x3) ** 2 + (x3 - x4) ** 4 + (x4 - x5) ** 4,
        (2, 2, 2, 2, 2),
        0.0787768209,
        h=lambda x1, x2, x3, x4, x5: [
            x1 + x2**2 + x3**3 - 2 - 3 * np.sqrt(2),
            x2 - x3**2 + x4 + 2 - 2 * np.sqrt(2),
            x1 * x5 - 2,
        ],
    ),
    hs(
        80,
        lambda x1, x2, x3, x4, x5: jnp.exp(x1 * x2 * x3 * x4 * x5),
        (-2, 2, 2, -1, -1),
        0.0539498478,
        h=powell,
        lower=(-2.3, -2.3, -3.2, -3.2, -3.2),
        upper=(2.3, 2.3, 3.2, 3.2, 3.2),
    ),
    hs(
        81,
        lambda x1, x2, x3, x4, x5: jnp.exp(x1 * x2 * x3 * x4 * x5) - (x1**3 + x2**3 + 1) ** 2 / 2,
        (-2, 2, 2, -1, -1),
        0.0539498478,
        h=powell,
        lower=(-2.3, -2.3, -3.2, -3.2, -3.2),
        upper=(2.3, 2.3, 3.2, 3.2, 3.2),
    ),
]
