"""Problems with parameters: four families, five places each, that differ in which inequalities are active there.

theta enters the objective, the equalities and the inequalities.  Places of a family share one compiled call.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from functional_dl.optimality import Problem


class Family(NamedTuple):
    """theta (a vector) -> Problem, the search's start, and for each place the inequalities that are active there."""

    name: str
    problem: Callable
    start: np.ndarray
    places: tuple[tuple[tuple[float, ...], set[int]], ...]


def _quadratic(theta):
    """A parabola around (theta_0, theta_1, 1) on a plane that moves, under a limit that tilts."""
    centre = jnp.stack([theta[0], theta[1], jnp.ones(())])
    return Problem(
        lambda x: (x - centre) @ (x - centre) / 2 + x[0] * x[1] / 2,
        lambda x: x[0] + x[1] + theta[2] * x[2] - 1,
        lambda x: jnp.stack([theta[3] * x[0] - x[1] - 1, -x[2]]),
    )


def _linear(theta):
    """A linear program over a polygon whose sides move: its solution is a corner."""
    return Problem(
        lambda x: -theta[0] * x[0] - theta[1] * x[1],
        None,
        lambda x: jnp.stack([x[0] + 2 * x[1] - theta[2], 3 * x[0] + x[1] - theta[3], -x[0], -x[1]]),
    )


def _curved(theta):
    """A line pulled against an exponential inside a disc."""
    return Problem(
        lambda x: (x[0] - theta[0]) ** 2 + jnp.exp(x[1]) - theta[1] * x[1],
        None,
        lambda x: jnp.stack([x @ x - theta[2] ** 2, theta[3] - x[1]]),
    )


def _sphere(theta):
    """A quartic on a sphere of changing radius (not convex), with a floor."""
    return Problem(
        lambda x: jnp.sum(x**4) + theta[0] * x[0] + theta[1] * x[1] * x[2],
        lambda x: x @ x - theta[2] ** 2,
        lambda x: jnp.stack([theta[3] - x[2]]),
    )


FAMILIES = [
    Family("quadratic", _quadratic, np.array([0.2, 0.3, 0.4]), (
        ((0.0, 0.5, 1.0, 1.0), set()), ((3.0, 0.0, 1.0, 2.0), {0}), ((1.5, 1.5, 0.5, 1.0), set()),
        ((2.5, -1.0, 2.0, 3.0), {0}), ((0.0, -2.5, -1.0, -2.0), {1}),
    )),
    Family("linear", _linear, np.array([0.3, 0.3]), (
        ((1.0, 1.0, 4.0, 6.0), {0, 1}), ((1.0, 4.0, 4.0, 6.0), {0, 2}), ((4.0, 1.0, 4.0, 6.0), {1, 3}),
        ((1.0, 1.0, 3.0, 4.0), {0, 1}), ((-1.0, -2.0, 4.0, 6.0), {2, 3}),
    )),
    Family("curved", _curved, np.array([0.1, 0.1]), (
        ((0.5, 1.5, 2.0, -1.0), set()), ((2.0, 3.0, 1.2, -1.0), {0}), ((0.4, 0.3, 2.0, 0.2), {1}),
        ((3.0, 0.4, 1.0, 0.3), {0, 1}), ((-1.0, 4.0, 1.1, -2.0), {0}),
    )),
    Family("sphere", _sphere, np.array([-0.5, 0.4, 0.7]), (
        ((1.0, 0.5, 1.0, -2.0), set()), ((1.0, -0.5, 1.3, 0.9), {0}), ((0.3, 0.2, 1.0, 0.8), {0}),
        ((2.0, 1.0, 1.5, -2.0), set()), ((0.5, -1.0, 1.2, 0.0), set()),
    )),
]  # fmt: skip
