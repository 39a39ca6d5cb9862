"""Points with multipliers, and which conditions of optimality they fail; problems, and what is to be said of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from functional_dl.optimality import Problem


class Point(NamedTuple):
    name: str
    problem: Problem
    x: object
    lam: object
    mu: object
    fails: frozenset = frozenset()


class Solved(NamedTuple):
    """word: what the solver's reason begins with."""

    name: str
    problem: Problem
    start: object
    word: str


def fails(*names: str) -> frozenset:
    return frozenset(names)


def stacked(*rows: Callable) -> Callable:
    return lambda x: jnp.stack([row(x) for row in rows])


below_one = Problem(lambda x: (x - 2) ** 2, inequalities=lambda x: x - 1)
product = Problem(lambda x: -x[0] * x[1], lambda x: x[0] + x[1] - 1)
disc = Problem(lambda x: x[0] + x[1], inequalities=lambda x: x @ x - 2)
corner = Problem(
    lambda x: (x[0] - 3) ** 2 + (x[1] - 2) ** 2, inequalities=stacked(lambda x: x[0] - 1, lambda x: x[1] - 1)
)
idle = Problem(lambda x: jnp.sum((x - 0.5) ** 2), inequalities=stacked(lambda x: x[0] - 1, lambda x: -x[1]))
touching = Problem(lambda x: jnp.sum((x - 1) ** 2), inequalities=lambda x: x[0] - 1)
saddle = Problem(lambda x: x[0] ** 2 - x[1] ** 2)
circle = Problem(lambda x: x[0], lambda x: x @ x - 1)

POINTS = [
    Point("min (x−2)², x ≤ 1: x = 1, μ = 2", below_one, 1.0, None, 2.0),
    Point("the same: x = 2, μ = 0", below_one, 2.0, None, 0.0, fails("ineq_residual")),
    Point("the same: x = 1, μ = 0", below_one, 1.0, None, 0.0, fails("stationarity")),
    Point("the same: x = 0, μ = 4", below_one, 0.0, None, 4.0, fails("slackness")),
    Point("max xy, x + y = 1: (½, ½), λ = ½", product, (0.5, 0.5), 0.5, None),
    Point("the same: (0.4, 0.6), λ = ½", product, (0.4, 0.6), 0.5, None, fails("stationarity")),
    Point("the same: (0.6, 0.6), λ = 0.6", product, (0.6, 0.6), 0.6, None, fails("eq_residual")),
    Point("min x + y in a disc: (−1, −1), μ = ½", disc, (-1.0, -1.0), None, 0.5),
    Point("the same: (1, 1), μ = −½", disc, (1.0, 1.0), None, -0.5, fails("dual_residual")),
    Point("a corner of a box: (1, 1), μ = (4, 2)", corner, (1.0, 1.0), None, (4.0, 2.0)),
    Point("the same: μ = (4, 0)", corner, (1.0, 1.0), None, (4.0, 0.0), fails("stationarity")),
    Point("constraints that do not matter: μ = 0", idle, (0.5, 0.5), None, (0.0, 0.0)),
    Point("active, but weakly: μ = 0", touching, (1.0, 1.0), None, 0.0),
    Point("a saddle of x² − y²", saddle, (0.0, 0.0), None, None, fails("second order")),
    Point("min x on a circle: (−1, 0), λ = ½", circle, (-1.0, 0.0), 0.5, None),
    Point("the maximum: (1, 0), λ = −½", circle, (1.0, 0.0), -0.5, None, fails("second order")),
    Point("the inflection of x³", Problem(lambda x: x**3), 0.0, None, None, fails("second order")),
]

SOLVED = [
    Solved("Hock and Schittkowski 71", Problem(
        lambda x: x[0] * x[3] * jnp.sum(x[:3]) + x[2],
        lambda x: x @ x - 40,
        lambda x: 25 - jnp.prod(x),
        (1.0, 5.0),
    ), (1.0, 5.0, 5.0, 1.0), "converged"),
    Solved("Rosenbrock in a disc", Problem(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, inequalities=lambda x: x @ x - 1
    ), (-1.2, 1.0), "converged"),
    Solved("equalities that repeat", Problem(
        lambda x: x @ x, stacked(lambda x: x[0] + x[1] - 1, lambda x: 2 * x[0] + 2 * x[1] - 2)
    ), (3.0, -1.0), "converged"),
    Solved("parallel lines", Problem(
        lambda x: x @ x, stacked(lambda x: x[0] + x[1], lambda x: x[0] + x[1] - 1)
    ), (3.0, -1.0), "infeasible"),
    Solved("two discs apart", Problem(
        lambda x: x @ x,
        inequalities=stacked(lambda x: (x[0] - 3) ** 2 + x[1] ** 2 - 1, lambda x: (x[0] + 3) ** 2 + x[1] ** 2 - 1),
    ), (0.0, 5.0), "infeasible"),
    Solved("down a ray", Problem(lambda x: x, inequalities=lambda x: x - 1), 0.0, "unbounded"),
    Solved("down a parabola", Problem(lambda x: -x[0], lambda x: x[1] - x[0] ** 2), (1.0, 1.0), "unbounded"),
    Solved("x² ≤ 0: a minimum without multiplier", Problem(lambda x: x, inequalities=lambda x: x**2), 3.0, "stuck"),
    Solved("two discs that touch", Problem(
        lambda x: x[1], inequalities=stacked(lambda x: x @ x - 1, lambda x: (x[0] - 2) ** 2 + x[1] ** 2 - 1)
    ), (0.5, 1.0), "stuck"),
]  # fmt: skip
