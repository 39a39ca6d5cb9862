"""Problems where a theorem's hypothesis fails: what a solver has to say of each, and the value where there is one."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from functional_dl.optimality import Problem

INF = np.inf


class Degenerate(NamedTuple):
    """A problem, where to start, the words that its outcome may begin with, and the values of its minima."""

    name: str
    problem: Problem
    start: tuple
    words: tuple
    values: tuple = ()


def case(name, words, f, start, *values, h=None, g=None, lower=None, upper=None):
    bounds = None if lower is None and upper is None else (np.array(lower, float), np.array(upper, float))
    rows = lambda fun: None if fun is None else lambda x: jnp.stack([jnp.asarray(v, float) for v in fun(*x)])
    problem = Problem(lambda x: f(*x), rows(h), rows(g), bounds)
    return Degenerate(name, problem, tuple(map(float, start)), tuple(words.split()), values)


norm = lambda x, y: x**2 + y**2

DEGENERATE = [
    # constraints that repeat each other
    case("equalities that repeat", "converged", norm, (3, -1), 0.5, h=lambda x, y: [x + y - 1, 2 * x + 2 * y - 2]),
    case("an inequality twice", "converged", norm, (3, -1), 0.5, g=lambda x, y: [1 - x - y, 1 - x - y]),
    case(
        "an equality repeated by an inequality",
        "converged",
        norm,
        (3, -1),
        0.5,
        h=lambda x, y: [x + y - 1],
        g=lambda x, y: [1 - x - y],
    ),
    case(
        "three constraints at a corner of the plane: MFCQ without LICQ",
        "converged",
        lambda x, y: (x - 2) ** 2 + (y - 2) ** 2,
        (0, 0),
        2.0,
        g=lambda x, y: [x - 1, y - 1, x + y - 2],
    ),
    case("one point by x <= 0 <= x", "converged", lambda x: (x - 1) ** 2, (3,), 1.0, g=lambda x: [x, -x]),
    case("a square that vanishes", "converged", lambda x: x**2 + 1, (2,), 1.0, h=lambda x: [x**2]),
    case(
        "bounds that fix a variable",
        "converged",
        lambda x, y: (x - 3) ** 2 + (y - 4) ** 2 + x * y,
        (0, 0),
        7.75,
        lower=(1, -INF),
        upper=(1, INF),
    ),
    case(
        "complementarity: x, y >= 0, x y <= 0",
        "converged",
        lambda x, y: (x - 1) ** 2 + (y - 1) ** 2,
        (0.6, 0.3),
        1.0,
        g=lambda x, y: [-x, -y, x * y],
    ),
    # no multiplier exists at the minimum
    case("x^2 <= 0", "stuck", lambda x: x, (3,), g=lambda x: [x**2]),
    case("x^2 = 0", "stuck", lambda x: x, (3,), h=lambda x: [x**2]),
    case(
        "HS13: a cusp",
        "stuck",
        lambda x, y: (x - 2) ** 2 + y**2,
        (-2, -2),
        g=lambda x, y: [y - (1 - x) ** 3, -x, -y],
    ),
    case(
        "two discs that touch",
        "stuck",
        lambda x, y: y,
        (0.5, 1),
        g=lambda x, y: [x**2 + y**2 - 1, (x - 2) ** 2 + y**2 - 1],
    ),
    case("an infinite slope at the minimum", "stuck converged", jnp.sqrt, (2,), 0.0, lower=(0,), upper=(INF,)),
    # nothing is feasible
    case("parallel lines", "infeasible", norm, (3, -1), h=lambda x, y: [x + y, x + y - 1]),
    case("x^2 + 1 <= 0", "infeasible", lambda x: x, (3,), g=lambda x: [x**2 + 1]),
    case("x <= 0, x >= 1", "infeasible", lambda x: x**2, (5,), g=lambda x: [x], lower=(1,), upper=(INF,)),
    case("a line beside a circle", "infeasible", lambda x, y: x, (1, 2), h=lambda x, y: [norm(x, y) - 1, x + y - 3]),
    case("two discs apart", "infeasible", norm, (0, 5), g=lambda x, y: [norm(x - 3, y) - 1, norm(x + 3, y) - 1]),
    case("a sum of exponentials below 1", "infeasible", norm, (1, 2), g=lambda x, y: [jnp.exp(x) + jnp.exp(-x) - 1.5]),
    # a start where the violation has a minimum that is not 0; the only root is x = -2.1958
    case(
        "a hollow of the violation",
        "infeasible converged",
        lambda x: x**2,
        (2,),
        4.821640164404,
        h=lambda x: [x**3 - 3 * x + 4],
    ),
    # the objective falls for ever
    case("down a ray", "unbounded", lambda x: x, (0,), g=lambda x: [x - 1]),
    case("down a ray with an equality", "unbounded", lambda x, y: x - 2 * y, (0, 0), h=lambda x, y: [x - y]),
    case("down a parabola", "unbounded", lambda x, y: -x, (1, 1), h=lambda x, y: [y - x**2]),
    case("down the hollow of a saddle", "unbounded", lambda x, y: x * y, (1, 1)),
    case("down a cubic", "unbounded", lambda x: x**3, (1,)),
    case(
        "down between a parabola and its copy",
        "unbounded",
        lambda x, y: -y,
        (0, 0),
        g=lambda x, y: [y - x**2 - 1, x**2 - y],
    ),
    # the infimum is not attained, and a slope below 1e-8 is no minimum
    case("exp(-x)", "stuck unbounded", lambda x: jnp.exp(-x), (0,)),
    case("1/x", "stuck unbounded", lambda x: 1 / x, (1,), g=lambda x: [0.1 - x]),
    # starts where the gradient vanishes, flat objectives
    case("a maximum as the start", "converged", lambda x: -(x**2), (0,), -4.0, -1.0, lower=(-1,), upper=(2,)),
    case("a saddle as the start", "converged", lambda x, y: x**2 - y**2, (0, 0), -1.0, lower=(-1, -1), upper=(1, 1)),
    case("between two wells", "converged", lambda x: x**4 - x**2, (0,), -0.25),
    case(
        "a saddle with an equality", "converged", lambda x, y: x * y, (0, 0), -0.5, h=lambda x, y: [x**3 * y**3 + 0.125]
    ),
    case("nothing to minimise", "converged", lambda x, y: 0 * x, (3, 4), 0.0, h=lambda x, y: [norm(x, y) - 1]),
    case("nothing at all", "converged", lambda x: 0 * x + 7, (3,), 7.0),
    case("a flat valley", "converged", lambda x, y: (x + y) ** 4, (3, 4), 0.0, g=lambda x, y: [1 - x]),
    # outside the domain the objective is no number
    case("a logarithm, started inside", "converged", lambda x: x - jnp.log(x), (50,), 1.0),
    case(
        "a logarithm, started outside its bounds",
        "converged",
        lambda x: x - jnp.log(x),
        (-3,),
        1.0,
        lower=(0,),
        upper=(INF,),
    ),
    case("a logarithm, started outside its domain", "stuck converged", lambda x: x - jnp.log(x), (-3,), 1.0),
    case(
        "entropy on a simplex",
        "converged",
        lambda x, y: x * jnp.log(x) + y * jnp.log(y),
        (0.9, 0.1),
        -np.log(2),
        h=lambda x, y: [x + y - 1],
    ),
    # units that differ by 1e8
    case(
        "units",
        "converged",
        lambda x, y: 1e4 * (x - 1e-4) ** 2 + 1e-4 * (y - 1e4) ** 2,
        (0, 0),
        1 / (1e4 + 1e-4),
        g=lambda x, y: [1e4 * x + 1e-4 * y - 1],
    ),
]
