"""Problems with known optima: Hock and Schittkowski 1981, x as a vector; their g >= 0 is ours with the sign turned."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from functional_dl.optimality import Problem

INF = np.inf


class Known(NamedTuple):
    """A problem, its published start, and its published optimal value."""

    name: str
    problem: Problem
    start: tuple
    value: float


KNOWN: list[Known] = []


def hs(number, f, start, value, h=None, g=None, lower=None, upper=None):
    """Enter a problem; h and g return lists of numbers, g >= 0 as in the book."""
    bounds = None
    if lower is not None or upper is not None:
        n = len(start)
        wide = lambda b, default: np.asarray(np.broadcast_to(default if b is None else b, n), float)
        bounds = (wide(lower, -INF), wide(upper, INF))
    KNOWN.append(
        Known(
            f"HS{number}",
            Problem(
                f,
                None if h is None else lambda x: jnp.stack(h(x)),
                None if g is None else lambda x: -jnp.stack(g(x)),
                bounds,
            ),
            tuple(map(float, start)),
            value,
        )
    )


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


hs(1, rosenbrock, (-2, 1), 0.0, lower=(-INF, -1.5))
hs(3, lambda x: x[1] + 1e-5 * (x[1] - x[0]) ** 2, (10, 1), 0.0, lower=(-INF, 0))
hs(4, lambda x: (x[0] + 1) ** 3 / 3 + x[1], (1.125, 0.125), 8 / 3, lower=(1, 0))
hs(
    5,
    lambda x: jnp.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1,
    (0, 0),
    -np.sqrt(3) / 2 - np.pi / 3,
    lower=(-1.5, -3),
    upper=(4, 3),
)
hs(6, lambda x: (1 - x[0]) ** 2, (-1.2, 1), 0.0, h=lambda x: [10 * (x[1] - x[0] ** 2)])
hs(
    7,
    lambda x: jnp.log(1 + x[0] ** 2) - x[1],
    (2, 2),
    -np.sqrt(3),
    h=lambda x: [(1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4],
)
hs(8, lambda x: 0 * x[0] - 1, (2, 1), -1.0, h=lambda x: [x[0] ** 2 + x[1] ** 2 - 25, x[0] * x[1] - 9])
hs(10, lambda x: x[0] - x[1], (-10, 10), -1.0, g=lambda x: [-3 * x[0] ** 2 + 2 * x[0] * x[1] - x[1] ** 2 + 1])
hs(11, lambda x: (x[0] - 5) ** 2 + x[1] ** 2 - 25, (4.9, 0.1), -8.498464223, g=lambda x: [-(x[0] ** 2) + x[1]])
hs(
    12,
    lambda x: x[0] ** 2 / 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1],
    (0, 0),
    -30.0,
    g=lambda x: [25 - 4 * x[0] ** 2 - x[1] ** 2],
)
hs(
    14,
    lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
    (2, 2),
    9 - 2.875 * np.sqrt(7),
    h=lambda x: [x[0] - 2 * x[1] + 1],
    g=lambda x: [-(x[0] ** 2) / 4 - x[1] ** 2 + 1],
)
hs(
    17,
    rosenbrock,
    (-2, 1),
    1.0,
    g=lambda x: [x[1] ** 2 - x[0], x[0] ** 2 - x[1]],
    lower=(-0.5, -INF),
    upper=(0.5, 1),
)
hs(
    18,
    lambda x: x[0] ** 2 / 100 + x[1] ** 2,
    (2, 2),
    5.0,
    g=lambda x: [x[0] * x[1] - 25, x[0] ** 2 + x[1] ** 2 - 25],
    lower=(2, 0),
    upper=(50, 50),
)
hs(
    21,
    lambda x: x[0] ** 2 / 100 + x[1] ** 2 - 100,
    (-1, -1),
    -99.96,
    g=lambda x: [10 * x[0] - x[1] - 10],
    lower=(2, -50),
    upper=(50, 50),
)
hs(
    22,
    lambda x: (x[0] - 2) ** 2 + (x[1] - 1) ** 2,
    (2, 2),
    1.0,
    g=lambda x: [2 - x[0] - x[1], x[1] - x[0] ** 2],
)
hs(
    23,
    lambda x: x[0] ** 2 + x[1] ** 2,
    (3, 1),
    2.0,
    g=lambda x: [
        x[0] + x[1] - 1,
        x[0] ** 2 + x[1] ** 2 - 1,
        9 * x[0] ** 2 + x[1] ** 2 - 9,
        x[0] ** 2 - x[1],
        x[1] ** 2 - x[0],
    ],
    lower=-50,
    upper=50,
)
hs(
    26,
    lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
    (-2.6, 2, 2),
    0.0,
    h=lambda x: [(1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3],
)
hs(27, lambda x: (x[0] - 1) ** 2 / 100 + (x[1] - x[0] ** 2) ** 2, (2, 2, 2), 0.04, h=lambda x: [x[0] + x[2] ** 2 + 1])
hs(28, lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2, (-4, 1, 1), 0.0, h=lambda x: [x[0] + 2 * x[1] + 3 * x[2] - 1])
hs(
    29,
    lambda x: -x[0] * x[1] * x[2],
    (1, 1, 1),
    -16 * np.sqrt(2),
    g=lambda x: [48 - x[0] ** 2 - 2 * x[1] ** 2 - 4 * x[2] ** 2],
)
hs(
    35,
    lambda x: (
        9
        - 8 * x[0]
        - 6 * x[1]
        - 4 * x[2]
        + 2 * x[0] ** 2
        + 2 * x[1] ** 2
        + x[2] ** 2
        + 2 * x[0] * x[1]
        + 2 * x[0] * x[2]
    ),
    (0.5, 0.5, 0.5),
    1 / 9,
    g=lambda x: [3 - x[0] - x[1] - 2 * x[2]],
    lower=0,
)
hs(
    36,
    lambda x: -x[0] * x[1] * x[2],
    (10, 10, 10),
    -3300.0,
    g=lambda x: [72 - x[0] - 2 * x[1] - 2 * x[2]],
    lower=0,
    upper=(20, 11, 42),
)
hs(
    37,
    lambda x: -x[0] * x[1] * x[2],
    (10, 10, 10),
    -3456.0,
    g=lambda x: [72 - x[0] - 2 * x[1] - 2 * x[2], x[0] + 2 * x[1] + 2 * x[2]],
    lower=0,
    upper=42,
)
hs(39, lambda x: -x[0], (2, 2, 2, 2), -1.0, h=lambda x: [x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2])
hs(
    40,
    lambda x: -x[0] * x[1] * x[2] * x[3],
    (0.8, 0.8, 0.8, 0.8),
    -0.25,
    h=lambda x: [x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]],
)
hs(
    43,
    lambda x: x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
    (0, 0, 0, 0),
    -44.0,
    g=lambda x: [
        8 - x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - x[3] ** 2 - x[0] + x[1] - x[2] + x[3],
        10 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - 2 * x[3] ** 2 + x[0] + x[3],
        5 - 2 * x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - 2 * x[0] + x[1] + x[3],
    ],
)
hs(
    48,
    lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
    (3, 5, -3, 2, -2),
    0.0,
    h=lambda x: [jnp.sum(x) - 5, x[2] - 2 * (x[3] + x[4]) + 3],
)
hs(
    71,
    lambda x: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
    (1, 5, 5, 1),
    17.0140173,
    h=lambda x: [jnp.sum(x**2) - 40],
    g=lambda x: [x[0] * x[1] * x[2] * x[3] - 25],
    lower=1,
    upper=5,
)
hs(
    76,
    lambda x: (
        x[0] ** 2
        + x[1] ** 2 / 2
        + x[2] ** 2
        + x[3] ** 2 / 2
        - x[0] * x[2]
        + x[2] * x[3]
        - x[0]
        - 3 * x[1]
        + x[2]
        - x[3]
    ),
    (0.5, 0.5, 0.5, 0.5),
    -4.681818182,
    g=lambda x: [5 - x[0] - 2 * x[1] - x[2] - x[3], 4 - 3 * x[0] - x[1] - 2 * x[2] + x[3], x[1] + 4 * x[2] - 1.5],
    lower=0,
)
