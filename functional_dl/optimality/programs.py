"""What is compiled for a problem, in its own units (units.py): once for each structure of x and of its data."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import PyTree
from functional_dl.optimality import units as natural_units
from functional_dl.optimality.curvature import Evaluated, Programs, evaluate
from functional_dl.optimality.problem import FlatProblem, Problem, flatten, point
from functional_dl.optimality.restoration import restore
from functional_dl.optimality.units import Derivatives, Units, rescaled

KEPT = 32  # problems whose programs are kept: each takes some 450 memory maps, of which a process has 65,530


class Ready(NamedTuple):
    """A problem in its own units.

    Fields:
      flat; unit: f's factor; evaluated: what certificates need; run(x, tolerance, limit), if a method was named;
      back(x): the feasibility restoration.
    """

    flat: FlatProblem
    unit: float
    evaluated: Any
    run: Callable[..., Any]
    back: Callable[..., Any]


def prepare(problem: Problem, x0: PyTree, minimise: Callable[..., Any] | None = None) -> Ready:
    """The programs of a problem, kept for each structure of x, of its data and each method; units are those of x0."""
    flat, given = flatten(problem, x0), (point(x0), problem.args)
    shapes = lambda tree: tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(tree))
    functions = (problem.objective, problem.equalities, problem.inequalities)
    try:  # without data, what changes may stand in the functions' closures: each problem has programs of its own
        functions = functions if problem.args and hash(functions) else (problem,)
    except TypeError:
        functions = (problem,)
    finite = tuple(tuple(map(int, side)) for side in flat.bounded)
    structure = _Structure(problem, functions, finite, *map(jax.tree.structure, given), *map(shapes, given))
    evaluated, of_units, back = _compile(structure, flat.large)
    data = problem.args, tuple(jnp.asarray(side, flat.x0.dtype) for side in (flat.lower, flat.upper))
    units = _units(flat, data, evaluated, of_units)
    bound = lambda program: partial(program, data, units)
    run = bound(_method(structure, minimise)) if minimise else _none
    return Ready(rescaled(flat, units), float(units.f), evaluated._make(map(bound, evaluated)), run, bound(back))


def _none(*_: Any) -> None:
    """No method was named."""


@dataclass(frozen=True)
class _Structure:
    """What programs depend on: functions, which bounds there are, structures and shapes of x and of the data."""

    problem: Problem = field(compare=False)
    functions: tuple[Any, ...]
    bounded: tuple[Any, ...]
    of_x: Any
    of_args: Any
    shapes: tuple[Any, ...]
    shapes_of_args: tuple[Any, ...]

    def at(self, data, units=None) -> FlatProblem:
        """The problem with other data (args, bounds)."""
        x0 = jax.tree.unflatten(self.of_x, [jnp.zeros(shape, dtype) for shape, dtype in self.shapes])
        flat = flatten(replace(self.problem, args=data[0]), x0, data[1])
        return flat if units is None else rescaled(flat, units)


@lru_cache(maxsize=KEPT)
def _compile(structure, large):
    """Programs of (data, units, ...): what certificates need; (data, ...): the units; the feasibility restoration."""
    at, kind = structure.at, Programs if large else Evaluated

    def one(k):
        return jax.jit(lambda data, units, *given: evaluate(at(data, units))[k](*given))

    def of_units(function):
        return jax.jit(lambda data, *given: function(at(data), *given))

    found = natural_units.at_point, natural_units.natural, natural_units.lengths_of_change
    evaluated = kind(*map(one, range(len(kind._fields))))
    return evaluated, tuple(map(of_units, found)), jax.jit(lambda data, units, x: restore(at(data, units), x))


@lru_cache(maxsize=2 * KEPT)
def _method(structure, minimise):
    """The search of a method."""
    at = structure.at
    run = lambda data, units, x, tolerance, limit: minimise(at(data, units), x, jnp.asarray(tolerance, x.dtype), limit)
    return jax.jit(run)


def _units(flat, data, evaluated, of_units) -> Units:
    """The units at x0, moved between the bounds."""
    at_point, natural, lengths = of_units
    x = jnp.clip(flat.x0, jnp.asarray(flat.lower, flat.x0.dtype), jnp.asarray(flat.upper, flat.x0.dtype))
    if flat.large:
        return at_point(data, x)
    p, m = (jax.eval_shape(fun, x).size for fun in (flat.equalities, flat.general))
    ones = Units(*(jnp.ones(shape, x.dtype) for shape in ((), p, m, x.size)))

    def derivatives(x):
        _, gradient, h, h_rows, g, g_rows = evaluated.values(data, ones, x)
        hessian = evaluated.hessian(data, ones, x, jnp.zeros_like(h), jnp.zeros_like(g))
        return Derivatives(gradient, hessian, h, h_rows, g[:m], g_rows[:m])

    found = derivatives(x)
    if not all(np.all(np.isfinite(part)) for part in found):  # at the end of the domain
        x = flat.inside(flat.x0)
        found = derivatives(x)
    units, known = natural(data, x, found, jnp.zeros_like(x))
    return units if known else natural(data, x, found, lengths(data, x))[0]
