"""Problems 83 to 100, and 117, of Hock and Schittkowski: five to fifteen variables."""

import jax.numpy as jnp
import numpy as np

from tests.optimality.known import hs


def hs83(x1, x2, x3, x4, x5):
    first = 85.334407 + 0.0056858 * x2 * x5 + 0.0006262 * x1 * x4 - 0.0022053 * x3 * x5
    second = 80.51249 + 0.0071317 * x2 * x5 + 0.0029955 * x1 * x2 + 0.0021813 * x3**2 - 90
    third = 9.300961 + 0.0047026 * x3 * x5 + 0.0012547 * x1 * x3 + 0.0019085 * x3 * x4 - 20
    return [first, 92 - first, second, 20 - second, third, 5 - third]


def hs84(x1, x2, x3, x4, x5):
    row = lambda a, b, c, d, e: x1 * (a + b * x2 + c * x3 + d * x4 + e * x5)
    first = row(-145421.402, 2931.1506, -40.427932, 5106.192, 15711.36)
    second = row(-155011.1084, 4360.53352, 12.9492344, 10236.884, 13176.786)
    third = row(-326669.5104, 7390.68412, -27.8986976, 16643.076, 30988.146)
    return [first, 294000 - first, second, 294000 - second, third, 277200 - third]


def hs84_objective(x1, x2, x3, x4, x5):
    inner = -8720288.849 + 150512.5253 * x2 - 156.6950325 * x3 + 476470.3222 * x4 + 729482.8271 * x5
    return 24345 - x1 * inner


COLVILLE_C = np.array(
    [
        [30, -20, -10, 32, -10],
        [-20, 39, -6, -31, 32],
        [-10, -6, 10, -6, -10],
        [32, -31, -6, 39, -20],
        [-10, 32, -10, -20, 30.0],
    ]
)
COLVILLE_A = np.array(
    [
        [-16, 2, 0, 1, 0],
        [0, -2, 0, 0.4, 2],
        [-3.5, 0, 2, 0, 0],
        [0, -2, 0, -4, -1],
        [0, -9, -2, 1, -2.8],
        [2, 0, -4, 0, 0],
        [-1, -1, -1, -1, -1],
        [-1, -2, -3, -2, -1],
        [1, 2, 3, 4, 5],
        [1, 1, 1, 1, 1],
    ]
)
COLVILLE_B = np.array([-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1])
COLVILLE_D = np.array([4.0, 8, 10, 6, 2])
COLVILLE_E = np.array([-15.0, -27, -36, -18, -12])


def hs86(*x):
    x = jnp.stack(x)
    return COLVILLE_E @ x + x @ COLVILLE_C @ x + COLVILLE_D @ x**3


def hs117(*x):
    x, y = jnp.stack(x[:10]), jnp.stack(x[10:])
    return -COLVILLE_B @ x + y @ COLVILLE_C @ y + 2 * COLVILLE_D @ y**3


def hs117_rows(*x):
    x, y = jnp.stack(x[:10]), jnp.stack(x[10:])
    return list(2 * COLVILLE_C @ y + 3 * COLVILLE_D * y**2 + COLVILLE_E - COLVILLE_A.T @ x)


def hs93(x1, x2, x3, x4, x5, x6):
    return (
        0.0204 * x1 * x4 * (x1 + x2 + x3)
        + 0.0187 * x2 * x3 * (x1 + 1.57 * x2 + x4)
        + 0.0607 * x1 * x4 * x5**2 * (x1 + x2 + x3)
        + 0.0437 * x2 * x3 * x6**2 * (x1 + 1.57 * x2 + x4)
    )


def hs93_rows(x1, x2, x3, x4, x5, x6):
    losses = 0.00062 * x1 * x4 * x5**2 * (x1 + x2 + x3) + 0.00058 * x2 * x3 * x6**2 * (x1 + 1.57 * x2 + x4)
    return [0.001 * x1 * x2 * x3 * x4 * x5 * x6 - 2.07, 1 - losses]


def hs95(number, right, value):
    """Problems 95 to 98 differ in the right-hand sides."""

    def rows(x1, x2, x3, x4, x5, x6):
        return [
            17.1 * x1
            + 38.2 * x2
            + 204.2 * x3
            + 212.3 * x4
            + 623.4 * x5
            + 1495.5 * x6
            - 169 * x1 * x3
            - 3580 * x3 * x5
            - 3810 * x4 * x5
            - 18500 * x4 * x6
            - 24300 * x5 * x6
            - right[0],
            17.9 * x1
            + 36.8 * x2
            + 113.9 * x3
            + 169.7 * x4
            + 337.8 * x5
            + 1385.2 * x6
            - 139 * x1 * x3
            - 2450 * x4 * x5
            - 16600 * x4 * x6
            - 17200 * x5 * x6
            - right[1],
            -273 * x2 - 70 * x4 - 819 * x5 + 26000 * x4 * x5 - right[2],
            159.9 * x1 - 311 * x2 + 587 * x4 + 391 * x5 + 2198 * x6 - 14000 * x1 * x6 - right[3],
        ]

    cost = lambda x1, x2, x3, x4, x5, x6: 4.3 * x1 + 31.8 * x2 + 63.3 * x3 + 15.8 * x4 + 68.5 * x5 + 4.7 * x6
    upper = (0.31, 0.046, 0.068, 0.042, 0.028, 0.0134)
    return hs(number, cost, (0,) * 6, value, g=rows, lower=0, upper=upper)


def hs100(x1, x2, x3, x4, x5, x6, x7):
    squares = (x1 - 10) ** 2 + 5 * (x2 - 12) ** 2 + x3**4 + 3 * (x4 - 11) ** 2 + 10 * x5**6
    return squares + 7 * x6**2 + x7**4 - 4 * x6 * x7 - 10 * x6 - 8 * x7


def hs100_rows(x1, x2, x3, x4, x5, x6, x7):
    return [
        127 - 2 * x1**2 - 3 * x2**4 - x3 - 4 * x4**2 - 5 * x5,
        282 - 7 * x1 - 3 * x2 - 10 * x3**2 - x4 + x5,
        196 - 23 * x1 - x2**2 - 6 * x6**2 + 8 * x7,
        -4 * x1**2 - x2**2 + 3 * x1 * x2 - 2 * x3**2 - 5 * x6 + 11 * x7,
    ]


PROBLEMS = [
    hs(
        83,
        lambda x1, x2, x3, x4, x5: 5.3578547 * x3**2 + 0.8356891 * x1 * x5 + 37.293239 * x1 - 40792.141,
        (78, 33, 27, 27, 27),
        -30665.53867,
        g=hs83,
        lower=(78, 33, 27, 27, 27),
        upper=(102, 45, 45, 45, 45),
    ),
    hs(
        84,
        hs84_objective,
        (2.52, 2, 37.5, 9.25, 6.8),
        -5280335.133,
        g=hs84,
        lower=(0, 1.2, 20, 9, 6.5),
        upper=(1000, 2.4, 60, 9.3, 7),
    ),
    hs(86, hs86, (0, 0, 0, 0, 1), -32.34867897, g=lambda *x: list(COLVILLE_A @ jnp.stack(x) - COLVILLE_B), lower=0),
    hs(93, hs93, (5.54, 4.4, 12.02, 11.82, 0.702, 0.852), 135.075961, g=hs93_rows, lower=0),
    hs95(95, (4.97, -1.88, -29.08, -78.02), 0.015619514),
    hs95(96, (4.97, -1.88, -69.08, -118.02), 0.015619514),
    hs95(97, (32.97, 25.12, -29.08, -78.02), 3.1358091),
    hs95(98, (32.97, 25.12, -124.08, -173.02), 3.1358091),
    hs(100, hs100, (1, 2, 0, 4, 0, 1, 1), 680.6300573, g=hs100_rows),
    hs(117, hs117, (0.001,) * 6 + (60,) + (0.001,) * 8, 32.348679, g=hs117_rows, lower=0),
]
