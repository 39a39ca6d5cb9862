"""Problems 101 to 118 of Hock and Schittkowski, without 117: seven to fifteen variables."""

import jax.numpy as jnp
import numpy as np

from tests.optimality.known import INF, hs


def hs101(number, a, value):
    """Problems 101 to 103 differ in one exponent of the objective."""

    def cost(x1, x2, x3, x4, x5, x6, x7):
        return (
            10 * x1 * x4**2 * x7**a / (x2 * x6**3)
            + 15 * x3 * x4 / (x1 * x2**2 * x5 * x7**0.5)
            + 20 * x2 * x6 / (x1**2 * x4 * x5**2)
            + 25 * x1**2 * x2**2 * x5**0.5 * x7 / (x3 * x6**2)
        )

    def rows(x1, x2, x3, x4, x5, x6, x7):
        first = (
            0.5 * x1**0.5 * x7 / (x3 * x6**2)
            + 0.7 * x1**3 * x2 * x6 * x7**0.5 / x3**2
            + 0.2 * x3 * x6 ** (2 / 3) * x7**0.25 / (x2 * x4**0.5)
        )
        second = (
            1.3 * x2 * x6 / (x1**0.5 * x3 * x5)
            + 0.8 * x3 * x6**2 / (x4 * x5)
            + 3.1 * x2**0.5 * x6 ** (1 / 3) / (x1 * x4**2 * x5)
        )
        third = (
            2 * x1 * x5 * x7 ** (1 / 3) / (x3**1.5 * x6)
            + 0.1 * x2 * x5 / (x3**0.5 * x6 * x7**0.5)
            + x2 * x3**0.5 * x5 / x1
            + 0.65 * x3 * x5 * x7 / (x2**2 * x6)
        )
        fourth = (
            0.2 * x2 * x5**0.5 * x7 ** (1 / 3) / (x1**2 * x4)
            + 0.3 * x1**0.5 * x2**2 * x3 * x4 ** (1 / 3) * x7**0.25 / x5 ** (2 / 3)
            + 0.4 * x3 * x5 * x7**0.75 / (x1**3 * x2**2)
            + 0.5 * x4 * x7**0.5 / x3**2
        )
        total = cost(x1, x2, x3, x4, x5, x6, x7)
        return [1 - first, 1 - second, 1 - third, 1 - fourth, total - 100, 3000 - total]

    return hs(number, cost, (6,) * 7, value, g=rows, lower=(0.1,) * 6 + (0.01,), upper=10)


def hs104(x1, x2, x3, x4, x5, x6, x7, x8):
    return 0.4 * x1**0.67 * x7**-0.67 + 0.4 * x2**0.67 * x8**-0.67 + 10 - x1 - x2


def hs104_rows(x1, x2, x3, x4, x5, x6, x7, x8):
    cost = hs104(x1, x2, x3, x4, x5, x6, x7, x8)
    return [
        1 - 0.0588 * x5 * x7 - 0.1 * x1,
        1 - 0.0588 * x6 * x8 - 0.1 * x1 - 0.1 * x2,
        1 - 4 * x3 / x5 - 2 * x3**-0.71 / x5 - 0.0588 * x3**-1.3 * x7,
        1 - 4 * x4 / x6 - 2 * x4**-0.71 / x6 - 0.0588 * x4**-1.3 * x8,
        cost - 1,
        4.2 - cost,
    ]


def hs106(x1, x2, x3, x4, x5, x6, x7, x8):
    return [
        1 - 0.0025 * (x4 + x6),
        1 - 0.0025 * (x5 + x7 - x4),
        1 - 0.01 * (x8 - x5),
        x1 * x6 - 833.33252 * x4 - 100 * x1 + 83333.333,
        x2 * x7 - 1250 * x5 - x2 * x4 + 1250 * x4,
        x3 * x8 - 1250000 - x3 * x5 + 2500 * x5,
    ]


def hs107(x1, x2, x3, x4, x5, x6, x7, x8, x9):
    c, d = (48.4 / 50.176 * part for part in (np.sin(0.25), np.cos(0.25)))
    y1, y2, y3, y4 = jnp.sin(x8), jnp.cos(x8), jnp.sin(x9), jnp.cos(x9)
    y5, y6 = jnp.sin(x8 - x9), jnp.cos(x8 - x9)
    return [
        0.4 - x1 + 2 * c * x5**2 - x5 * x6 * (d * y1 + c * y2) - x5 * x7 * (d * y3 + c * y4),
        0.4 - x2 + 2 * c * x6**2 + x5 * x6 * (d * y1 - c * y2) + x6 * x7 * (d * y5 - c * y6),
        0.8 + 2 * c * x7**2 + x5 * x7 * (d * y3 - c * y4) - x6 * x7 * (d * y5 + c * y6),
        0.2 - x3 + 2 * d * x5**2 + x5 * x6 * (c * y1 - d * y2) + x5 * x7 * (c * y3 - d * y4),
        0.2 - x4 + 2 * d * x6**2 - x5 * x6 * (c * y1 + d * y2) - x6 * x7 * (c * y5 + d * y6),
        -0.337 + 2 * d * x7**2 - x5 * x7 * (c * y3 + d * y4) + x6 * x7 * (c * y5 - d * y6),
    ]


def hs108(x1, x2, x3, x4, x5, x6, x7, x8, x9):
    return [
        1 - x3**2 - x4**2,
        1 - x9**2,
        1 - x5**2 - x6**2,
        1 - x1**2 - (x2 - x9) ** 2,
        1 - (x1 - x5) ** 2 - (x2 - x6) ** 2,
        1 - (x1 - x7) ** 2 - (x2 - x8) ** 2,
        1 - (x3 - x5) ** 2 - (x4 - x6) ** 2,
        1 - (x3 - x7) ** 2 - (x4 - x8) ** 2,
        1 - x7**2 - (x8 - x9) ** 2,
        x1 * x4 - x2 * x3,
        x3 * x9,
        -x5 * x9,
        x5 * x8 - x6 * x7,
    ]


def hs109(x1, x2, x3, x4, x5, x6, x7, x8, x9):
    a, b, c = 50.176, np.sin(0.25), np.cos(0.25)
    sin, cos = jnp.sin, jnp.cos
    k = 0.7533e-3 * a
    return [
        x5 * x6 * sin(-x3 - 0.25) + x5 * x7 * sin(-x4 - 0.25) + 2 * b * x5**2 - a * x1 + 400 * a,
        x5 * x6 * sin(x3 - 0.25) + x6 * x7 * sin(x3 - x4 - 0.25) + 2 * b * x6**2 - a * x2 + 400 * a,
        x5 * x7 * sin(x4 - 0.25) + x6 * x7 * sin(x4 - x3 - 0.25) + 2 * b * x7**2 + 881.779 * a,
        a * x8 + x5 * x6 * cos(-x3 - 0.25) + x5 * x7 * cos(-x4 - 0.25) - 200 * a - 2 * c * x5**2 + k * x5**2,
        a * x9 + x5 * x6 * cos(x3 - 0.25) + x6 * x7 * cos(x3 - x4 - 0.25) - 200 * a - 2 * c * x6**2 + k * x6**2,
        x5 * x7 * cos(x4 - 0.25) + x6 * x7 * cos(x4 - x3 - 0.25) - 2 * c * x7**2 + 22.938 * a + k * x7**2,
    ]


GIBBS = np.array([-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.1, -10.708, -26.662, -22.179])


def balance(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    return [x1 + 2 * x2 + 2 * x3 + x6 + x10 - 2, x4 + 2 * x5 + x6 + x7 - 1, x3 + x7 + x8 + 2 * x9 + x10 - 1]


def hs110(*x):
    x = jnp.stack(x)
    return jnp.sum(jnp.log(x - 2) ** 2 + jnp.log(10 - x) ** 2) - jnp.prod(x) ** 0.2


def hs111(*x):
    x = jnp.stack(x)
    return jnp.sum(jnp.exp(x) * (GIBBS + x - jnp.log(jnp.sum(jnp.exp(x)))))


def hs112(*x):
    x = jnp.stack(x)
    return jnp.sum(x * (GIBBS + jnp.log(x / jnp.sum(x))))


def hs113(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    first = x1**2 + x2**2 + x1 * x2 - 14 * x1 - 16 * x2 + (x3 - 10) ** 2 + 4 * (x4 - 5) ** 2 + (x5 - 3) ** 2
    rest = 2 * (x6 - 1) ** 2 + 5 * x7**2 + 7 * (x8 - 11) ** 2 + 2 * (x9 - 10) ** 2 + (x10 - 7) ** 2
    return first + rest + 45


def hs113_rows(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    return [
        105 - 4 * x1 - 5 * x2 + 3 * x7 - 9 * x8,
        -10 * x1 + 8 * x2 + 17 * x7 - 2 * x8,
        8 * x1 - 2 * x2 - 5 * x9 + 2 * x10 + 12,
        -3 * (x1 - 2) ** 2 - 4 * (x2 - 3) ** 2 - 2 * x3**2 + 7 * x4 + 120,
        -5 * x1**2 - 8 * x2 - (x3 - 6) ** 2 + 2 * x4 + 40,
        -0.5 * (x1 - 8) ** 2 - 2 * (x2 - 4) ** 2 - 3 * x5**2 + x6 + 30,
        -(x1**2) - 2 * (x2 - 2) ** 2 + 2 * x1 * x2 - 14 * x5 + 6 * x6,
        3 * x1 - 6 * x2 - 12 * (x9 - 8) ** 2 + 7 * x10,
    ]


def hs114(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    return 5.04 * x1 + 0.035 * x2 + 10 * x3 + 3.36 * x5 - 0.063 * x4 * x7


def hs114_rows(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    a, b = 0.99, 0.9
    g1, g2 = 35.82 - 0.222 * x10 - b * x9, -133 + 3 * x7 - a * x10
    g5 = 1.12 * x1 + 0.13167 * x1 * x8 - 0.00667 * x1 * x8**2 - a * x4
    g6 = 57.425 + 1.098 * x8 - 0.038 * x8**2 + 0.325 * x6 - a * x7
    more = 1 / a - a
    return [g1, g2, x9 * (1 / b - b) - g1, more * x10 - g2, g5, g6, more * x4 - g5, more * x7 - g6]


def hs114_equalities(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10):
    return [1.22 * x4 - x1 - x5, 98000 * x3 / (x4 * x9 + 1000 * x3) - x6, (x2 + x5) / x1 - x8]


def hs116(x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13):
    return [
        x3 - x2,
        x2 - x1,
        1 - 0.002 * x7 + 0.002 * x8,
        x11 + x12 + x13 - 50,
        250 - x11 - x12 - x13,
        x13 - 1.262626 * x10 + 1.231059 * x3 * x10,
        x5 - 0.03475 * x2 - 0.975 * x2 * x5 + 0.00975 * x2**2,
        x6 - 0.03475 * x3 - 0.975 * x3 * x6 + 0.00975 * x3**2,
        x5 * x7 - x1 * x8 - x4 * x7 + x4 * x8,
        1 - 0.002 * (x2 * x9 + x5 * x8 - x1 * x8 - x6 * x9) - x5 - x6,
        x2 * x9 - x3 * x10 - x6 * x9 - 500 * x2 + 500 * x6 + x2 * x10,
        x2 - 0.9 - 0.002 * (x2 * x10 - x3 * x10),
        x4 - 0.03475 * x1 - 0.975 * x1 * x4 + 0.00975 * x1**2,
        x11 - 1.262626 * x8 + 1.231059 * x1 * x8,
        x12 - 1.262626 * x9 + 1.231059 * x2 * x9,
    ]


def hs118(*x):
    x = jnp.stack(x).reshape(5, 3)
    return jnp.sum(x @ np.array([2.3, 1.7, 2.2]) + x**2 @ np.array([0.0001, 0.0001, 0.00015]))


def hs118_rows(*x):
    x = jnp.stack(x).reshape(5, 3)
    growth = (x[1:] - x[:-1] + 7).ravel()
    most = np.tile([13.0, 14, 13], 4)
    return list(jnp.concatenate([growth, most - growth, x.sum(1) - np.array([60.0, 50, 70, 85, 100])]))


PROBLEMS = [
    hs101(101, -0.25, 1809.76476),
    hs101(102, 0.125, 911.880571),
    hs101(103, 0.5, 543.667958),
    hs(104, hs104, (6, 3, 0.4, 0.2, 6, 6, 1, 0.5), 3.9511634396, g=hs104_rows, lower=0.1, upper=10),
    hs(
        106,
        lambda x1, x2, x3, x4, x5, x6, x7, x8: x1 + x2 + x3,
        (5000, 5000, 5000, 200, 350, 150, 225, 425),
        7049.2480205,  # confirmed by SLSQP; the book prints 7049.330923
        g=hs106,
        lower=(100, 1000, 1000, 10, 10, 10, 10, 10),
        upper=(10000, 10000, 10000, 1000, 1000, 1000, 1000, 1000),
    ),
    hs(
        107,
        lambda x1, x2, x3, x4, x5, x6, x7, x8, x9: 3000 * x1 + 1000 * x1**3 + 2000 * x2 + 666.667 * x2**3,
        (0.8, 0.8, 0.2, 0.2, 1.0454, 1.0454, 1.0454, 0, 0),
        5055.011803,
        h=hs107,
        lower=(0, 0, -INF, -INF, 0.90909, 0.90909, 0.90909, -INF, -INF),
        upper=(INF, INF, INF, INF, 1.0909, 1.0909, 1.0909, INF, INF),
    ),
    hs(
        108,
        lambda x1, x2, x3, x4, x5, x6, x7, x8, x9: -0.5 * (x1 * x4 - x2 * x3 + x3 * x9 - x5 * x9 + x5 * x8 - x6 * x7),
        (1,) * 9,
        -np.sqrt(3) / 2,
        g=hs108,
        lower=(-INF,) * 8 + (0,),
    ),
    hs(
        109,
        lambda x1, x2, x3, x4, x5, x6, x7, x8, x9: 3 * x1 + 1e-6 * x1**3 + 2 * x2 + 0.522074e-6 * x2**3,
        (0,) * 9,
        5326.851323,  # confirmed by SLSQP; the book prints 5362.06928
        h=hs109,
        g=lambda x1, x2, x3, x4, x5, x6, x7, x8, x9: [
            x4 - x3 + 0.55,
            x3 - x4 + 0.55,
            2250000 - x1**2 - x8**2,
            2250000 - x2**2 - x9**2,
        ],
        lower=(0, 0, -0.55, -0.55, 196, 196, 196, -400, -400),
        upper=(INF, INF, 0.55, 0.55, 252, 252, 252, 800, 800),
    ),
    hs(110, hs110, (9,) * 10, -45.77846971, lower=2.001, upper=9.999),
    hs(
        111,
        hs111,
        (-2.3,) * 10,
        -47.76109026,
        h=lambda *x: balance(*(jnp.exp(v) for v in x)),
        lower=-100,
        upper=100,
    ),
    hs(112, hs112, (0.1,) * 10, -47.76109086, h=balance, lower=1e-6),  # confirmed by SLSQP; the book prints -47.707579
    hs(113, hs113, (2, 3, 5, 5, 1, 2, 7, 3, 6, 10), 24.3062091, g=hs113_rows),
    hs(
        114,
        hs114,
        (1745, 12000, 110, 3048, 1974, 89.2, 92.8, 8, 3.6, 145),
        -1768.80696,
        h=hs114_equalities,
        g=hs114_rows,
        lower=(1e-5, 1e-5, 1e-5, 1e-5, 1e-5, 85, 90, 3, 1.2, 145),
        upper=(2000, 16000, 120, 5000, 2000, 93, 95, 12, 4, 162),
    ),
    hs(
        116,
        lambda x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13: x11 + x12 + x13,
        (0.5, 0.8, 0.9, 0.1, 0.14, 0.5, 489, 80, 650, 450, 150, 150, 150),
        97.58750956,  # confirmed by SLSQP; the book prints 97.588409
        g=hs116,
        lower=(0.1, 0.1, 0.1, 0.0001, 0.1, 0.1, 0.1, 0.1, 500, 0.1, 1, 0.0001, 0.0001),
        upper=(1, 1, 1, 0.1, 0.9, 0.9, 1000, 1000, 1000, 500, 150, 150, 150),
    ),
    hs(
        118,
        hs118,
        (20, 55, 15, 20, 60, 20, 20, 60, 20, 20, 60, 20, 20, 60, 20),
        664.82045,
        g=hs118_rows,
        lower=(8, 43, 3) + (0,) * 12,
        upper=(21, 57, 16) + (90, 120, 60) * 4,
    ),
]
