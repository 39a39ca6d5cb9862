"""A problem in other units: its objective, its rows and its variables times powers of two."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from functional_dl.optimality import Problem
from functional_dl.optimality.problem import flatten


class Factors(NamedTuple):
    """f times `f`, rows times `h` and `g`, and x = z times `x`."""

    f: Any
    h: Any
    g: Any
    x: Any


class Scalable(NamedTuple):
    """A problem whose factors are its args, so that one compiled program serves all."""

    flat: Any
    functions: tuple

    def problem(self, factors: Factors) -> Problem:
        lower, upper = (np.asarray(side) / factors.x for side in (self.flat.lower, self.flat.upper))
        bounded = any(np.isfinite(lower)) or any(np.isfinite(upper))
        data = Factors(*(jnp.asarray(factor, self.flat.x0.dtype) for factor in factors))
        return Problem(*self.functions, (lower, upper) if bounded else None, (data,))

    def start(self, factors: Factors):
        return self.flat.x0 / jnp.asarray(factors.x, self.flat.x0.dtype)

    def drawn(self, power: int, kind: str, seed: int = 0) -> Factors:
        """Powers of two up to +-power: of the objective ("f"), of each row ("rows"), of each variable ("x")."""
        rng = np.random.default_rng([seed, power])
        p, m = (fun(self.flat.x0).size for fun in (self.flat.equalities, self.flat.general))
        drawn = [np.ldexp(1.0, rng.choice([-power, power], size)) for size in ((), p, m, self.flat.x0.size)]
        chosen = {"f": (0,), "rows": (1, 2), "x": (3,), "all": (0, 1, 2, 3), "none": ()}[kind]
        return Factors(*(part if k in chosen else np.ones_like(part) for k, part in enumerate(drawn)))


def scalable(problem: Problem, start) -> Scalable:
    flat = flatten(problem, start)
    size = lambda tree: ravel_pytree(tree)[0]
    f = lambda z, by: by.f * problem.objective(flat.unflatten(by.x * z))
    h = None if problem.equalities is None else lambda z, by: by.h * size(problem.equalities(flat.unflatten(by.x * z)))
    g = (
        None
        if problem.inequalities is None
        else lambda z, by: by.g * size(problem.inequalities(flat.unflatten(by.x * z)))
    )
    return Scalable(flat, (f, h, g))
