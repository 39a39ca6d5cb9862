"""Solve a constrained problem, and call it solved only if a certificate says so."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality import units as natural_units
from functional_dl.optimality.certificate.certify import certify_flat
from functional_dl.optimality.certificate.curvature import Evaluated, Programs, evaluate
from functional_dl.optimality.certificate.verdict import Certificate, Status
from functional_dl.optimality.measures import aside, reachable
from functional_dl.optimality.problem import FlatProblem, Problem, flatten, point
from functional_dl.optimality.solvers import METHODS
from functional_dl.optimality.solvers.restoration import restore
from functional_dl.optimality.units import Derivatives, Units, rescaled

Method: TypeAlias = Literal["interior_point", "sqp", "augmented_lagrangian"]
KEPT = 32  # problems whose programs are kept: each takes some 450 memory maps, of which a process has 65,530
CLOSER = 64  # the search goes on beyond the tolerance, which is relative to the start, far from the minimum perhaps
RESCALED = 3  # searches in units of the end of the one before
FARTHER = 3  # steps, each thrice as long as the one before, along which what is called unbounded has to fall on
PLATEAU_NEAR, PLATEAU_FAR, PLATEAU_WAYS = (1e-3, 1e-2, 1e-1), 12, 16  # distances, doublings, axes that are tried
PLATEAU = "on a plateau: the objective does not change near x along some direction, and is lower farther away"
AWAY = "the conditions hold, but so far out that an infimum that is not attained cannot be told from a minimum"
FAR = 1e10  # an iterate or objective beyond it, along feasible points that descend, is called unbounded


class Solution(NamedTuple):
    """The result of a solver.

    Fields:
      x; objective: f(x); eq_multipliers, ineq_multipliers: lambda and mu, like the constraints' values.
      converged: the certificate passed at the tolerance asked for, and the problem is not unbounded there.
      reason: begins with "converged", "infeasible", "unbounded" or "stuck", and says why; status: the same as a Status.
      iterations: of the method, all runs included.
      certificate: of the point returned, whatever the outcome.
    """

    x: PyTree
    eq_multipliers: PyTree
    ineq_multipliers: PyTree
    objective: Scalar
    converged: bool
    reason: str
    iterations: int
    certificate: Certificate
    status: Status


def solve(
    problem: Problem,
    x0: PyTree,
    method: Method = "interior_point",
    tolerance: float = 1e-8,
    max_iterations: int = 500,
    starts: int | None = None,
) -> Solution:
    """minimise f(x) subject to h(x) = 0, g(x) <= 0: a local minimum (the global one of a convex problem), certified.

    Args:
      problem: Problem.  f, h and g need two derivatives.  It is compiled once for each structure of x: keep the object,
        or give what changes as its args.
      x0: a real pytree to start from; it need not be feasible, and is moved to lie between the bounds.
      method: "interior_point", "sqp", or "augmented_lagrangian".  The first two form and factor matrices, which is
        too expensive beyond about 5,000 variables; the last forms none where there are more than problem.LARGE
        variables, and neither do the certificate and the feasibility restoration there: 100,000 variables with
        bounds are fine.
      tolerance: of each of the KKT residuals; max_iterations: of each run.
      starts: from how many points, x0 the first and the others about it, to search; the lowest minimum is returned.
        1 stays with the minimum that x0 leads to.  None: 4, but 1 where there are more than problem.LARGE variables.
    Returns:
      Solution.  A hard problem raises nothing: `converged` is False and `reason` says why.  "infeasible" means a
      stationary point of the violation |h|^2 + |(g)+|^2 that is not 0: a proof for convex constraints, local otherwise.
    Raises:
      ValueError: unknown method; tolerance, max_iterations or starts not positive; and as Problem does.
    Numerics: float32 reaches 8e-6 (64 units in the last place), which is then what the certificate tests.  Units do not
      matter: the search and its certificate count the objective, each constraint and each variable in the problem's own
      units at x0 (units.py), and where those at its end are others by far, the search goes on from there in these.
    Source: see interior_point, sqp and augmented_lagrangian.
    Example:
      >>> problem = optimality.Problem(lambda v: -v[0] * v[1], equalities=lambda v: v[0] + v[1] - 1)
      >>> found = optimality.solve(problem, jnp.array([0.2, 0.3]))
      >>> found.x.round(4).tolist(), round(float(found.eq_multipliers), 4), found.converged
      ([0.5, 0.5], 0.5, True)
    """
    minimise = arguments.lookup("method", method, METHODS)
    arguments.positive("tolerance", tolerance)
    max_iterations = arguments.integer("max_iterations", max_iterations)
    ready = prepare(problem, x0, minimise)
    tolerance = float(reachable(tolerance, ready.flat.x0))
    starts = arguments.integer("starts", (1 if ready.flat.large else 4) if starts is None else starts)
    found, first = _from_starts(ready, starts, tolerance, max_iterations), ready.units.x
    iterations = found.iterations
    for _ in range(0 if found.status in (Status.UNBOUNDED, Status.INFEASIBLE) else RESCALED):
        if not np.all(np.isfinite(found.x)):
            break
        other = prepare(problem, ready.flat.unflatten(found.x), minimise)
        near = np.sqrt(tolerance) <= other.unit / ready.unit <= 1 / np.sqrt(tolerance)
        if near or np.max(other.units.x / first, initial=0.0) > FAR:
            break
        again = _search(other, other.flat.x0, tolerance, max_iterations)
        iterations += again.iterations
        here, there = (float(p.flat.objective(end.x)) / p.unit for p, end in ((other, again), (ready, found)))
        if again.status == Status.CONVERGED and _runs_away(again.x * other.units.x / first, again.certificate):
            again = again._replace(status=Status.STUCK, said=AWAY)
        better = again.status == Status.CONVERGED and here <= there + np.sqrt(tolerance) * abs(there)
        if not (better or again.status == Status.UNBOUNDED or here < there - 1e-3 * abs(there)):
            break
        ready, found = other, again
    flat, unit, (x, certificate, status, said, _) = ready.flat, ready.unit, found
    certificate = certificate._replace(gap=certificate.gap / unit)
    return Solution(
        flat.unflatten(x),
        certificate.eq_multipliers,
        certificate.ineq_multipliers,
        flat.objective(x) / jnp.asarray(unit, x.dtype),
        status == Status.CONVERGED,
        f"{'stuck' if status == Status.PLATEAU else status.name.lower()}: {said}",
        iterations,
        certificate,
        status,
    )


def certify(problem: Problem, x: PyTree, lam: PyTree = None, mu: PyTree = None, tolerance: float = 1e-6) -> Certificate:
    """Checks a point: is it a KKT point, and a minimum?

    Args:
      x: the point; lam, mu: multipliers as for kkt_residuals.  Where equalities or inequalities exist
        and theirs are not given, both are estimated by non-negative least squares on the active constraints.
      tolerance: for each residual (scaled, see KKTResiduals); float32 reaches 8e-6, which then counts.
    Returns:
      Certificate.  It runs outside jit: its verdict is in words.
    Raises:
      ValueError: tolerance is not positive, or multipliers do not fit.
    Numerics: with more than problem.LARGE variables no matrix is formed but the rows of active general constraints, and
      the second-order conditions are checked by Hessian-vector products (curvature.py); what they leave open
      is "undecided".
    Example:
      >>> wall = optimality.Problem(lambda x: (x - 2) ** 2, inequalities=lambda x: x - 1)
      >>> optimality.certify(wall, jnp.array(1.0), mu=jnp.array(2.0)).passed
      True
      >>> optimality.certify(wall, jnp.array(2.0), mu=jnp.array(0.0)).passed
      False
    """
    arguments.positive("tolerance", tolerance)
    ready = prepare(problem, x)
    flat, tolerance = ready.flat, float(reachable(tolerance, ready.flat.x0))
    lam, mu = (None if y is None else pack(y) for y, pack in ((lam, flat.pack_equality), (mu, flat.pack_inequality)))
    certificate = certify_flat(flat, flat.x0, lam, mu, tolerance, ready.evaluated)
    return certificate._replace(gap=certificate.gap / ready.unit)


class SearchResult(NamedTuple):
    """What the search from one start ends with."""

    x: Array
    certificate: Certificate
    status: Status
    said: str
    iterations: int


def _from_starts(ready, starts, tolerance, max_iterations) -> SearchResult:
    """The lowest minimum found from x0 and the points about it."""
    flat, begin = ready.flat, ready.flat.x0
    found = _search(ready, begin, tolerance, max_iterations)
    iterations = found.iterations
    for k in range(1, 1 if found.status == Status.UNBOUNDED else starts):
        start = flat.inside(_elsewhere(flat, begin, k))
        if found.status != Status.CONVERGED:
            again = _search(ready, start, tolerance, max_iterations)
            iterations += again.iterations
            found = again if again.status in (Status.CONVERGED, Status.UNBOUNDED) else found
            continue
        end = ready.run(start, tolerance / CLOSER, max_iterations)
        iterations += int(end.iterations)
        certificate = _certificate(flat, end, tolerance, ready.evaluated)
        if certificate.passed and _lower(flat, end.x, found.x) and not _runs_away(end.x, certificate):
            found = SearchResult(end.x, certificate, Status.CONVERGED, certificate.reason, 0)
    return found._replace(iterations=iterations)


def _search(ready, begin, tolerance, max_iterations) -> SearchResult:
    """Up to three runs: from the start, from the nearest feasible point to where that ended, and from beside it."""
    flat, _, compiled, run, back = ready
    unit = ready.unit
    start = flat.inside(begin)
    best = begin, certify_flat(flat, begin, None, None, tolerance, compiled)
    iterations, status, said, plateau = 0, Status.STUCK, "", None
    for attempt in range(3):
        end = run(start, tolerance / CLOSER, max_iterations)
        iterations += int(end.iterations)
        certificate = _certificate(flat, end, tolerance, compiled)
        if best is plateau or _rank(certificate) < _rank(best[1]):
            best = end.x, certificate
        said = certificate.reason
        if certificate.passed:
            lower = None if flat.large else _beyond_plateau(flat, compiled, end.x, certificate)
            if lower is None:
                break
            # it may be left for good: what is found from there is what counts, unless that is worse
            plateau = best = end.x, certificate
            start = flat.inside(lower)
            continue
        if _unbounded(flat, back, end.x, start, certificate):
            best = end.x, certificate
            value = float(flat.objective(end.x)) / unit
            status, said = Status.UNBOUNDED, f"the objective is {value:.3g} at a feasible point and keeps decreasing"
            break
        here = end.x if np.all(np.isfinite(end.x)) and np.max(np.abs(end.x)) < FAR else _towards(flat, start, end.x)
        nearest, violation, gradient = back(here)
        if float(violation) > max(1e-5, tolerance) and float(gradient) <= max(1e-6, tolerance) * min(
            1.0, float(violation)
        ):
            best = nearest, _certificate(flat, end._replace(x=nearest), tolerance, compiled)
            said = f"the violation has a stationary point, where it is {violation:.3g}"
            status = Status.INFEASIBLE
            break
        lowest = _march(flat, back, start, nearest)
        if lowest is not None:
            best = lowest, _certificate(flat, end._replace(x=lowest), tolerance, compiled)
            value = float(flat.objective(lowest)) / unit
            said = f"along feasible points the objective falls to {value:.3g} and keeps decreasing"
            status = Status.UNBOUNDED
            break
        start = nearest if attempt == 0 else aside(nearest, 1e-2)
    x, certificate = best
    if plateau is not None and (best is plateau or not certificate.passed) and status == Status.STUCK:
        return SearchResult(*plateau, Status.PLATEAU, PLATEAU, iterations)
    # far out the conditions hold ever better where the objective falls ever more slowly
    if certificate.passed and status != Status.UNBOUNDED:
        away = _runs_away(x, certificate)
        status, said = (Status.STUCK, AWAY) if away else (Status.CONVERGED, certificate.reason)
    return SearchResult(x, certificate, status, said, iterations)


def _towards(flat, start, far):
    """A point on the way to one that is too far away; the start itself where variables are few, or the way is lost."""
    move = far - start
    length = float(jnp.max(jnp.abs(move), initial=0.0))
    return start + 100 / length * move if flat.large and np.isfinite(length) else start


def _march(flat, back, behind, here):
    """A feasible point where the objective is below -FAR, reached by ever longer steps the same way, each brought back
    to the constraints and each lower by more than the one before; None where there is none."""
    fall = float(flat.objective(behind)) - float(flat.objective(here))
    if not (fall > 0 and float(jnp.max(jnp.abs(here - behind), initial=0.0)) > 10):
        return None
    for count in range(60):
        ahead, violation, _ = back(here + 2 * (here - behind))
        size = 1 + float(jnp.max(jnp.abs(ahead), initial=0.0))
        new = float(flat.objective(here)) - float(flat.objective(ahead))
        if not (new > 1.2 * fall and float(violation) <= 1e-6 * size):
            return None
        behind, here, fall = here, ahead, new
        if count + 1 >= FARTHER and float(flat.objective(here)) < -FAR:
            return here
    return None


def _elsewhere(flat, x, k):
    """The k-th further start: moved by up to k (|x_i| + 1) in its own direction."""
    spread = 2 * np.modf(np.arange(1, x.size + 1) * 0.6180339887498949 + k * 0.7548776662466927)[0] - 1
    return x + k * (1 + jnp.abs(x)) * jnp.asarray(spread, x.dtype)


def _lower(flat, x, than):
    """f(x) < f(than) by more than the tolerance of a value."""
    here, there = float(flat.objective(x)), float(flat.objective(than))
    return here < there - 1e-6 * (1 + abs(there))


def _certificate(flat, end, tolerance, compiled):
    """Certify with the solver's multipliers; with multipliers found anew where those fail."""
    certificate = certify_flat(flat, end.x, end.lam, end.mu, tolerance, compiled)
    if certificate.passed or not np.all(np.isfinite(end.x)):
        return certificate
    again = certify_flat(flat, end.x, None, None, tolerance, compiled)
    return again if _rank(again) < _rank(certificate) else certificate


def _rank(certificate):
    """Smaller is better: passed, then the greatest residual."""
    worst = max(float(r) for r in certificate.residuals)
    return not certificate.passed, worst if np.isfinite(worst) else np.inf


def _unbounded(flat, back, x, start, certificate):
    """A feasible point, far away or far down, whose objective is far below the start's, and falls on the same way: in
    units of a start where all is flat any function may be far down."""
    feasible = max(float(certificate.residuals.eq_residual), float(certificate.residuals.ineq_residual)) <= 1e-6
    value, first = (float(flat.objective(v)) for v in (x, start))
    far = value < -FAR or float(jnp.max(jnp.abs(x), initial=0.0)) > FAR
    if not (feasible and far and value < min(first, 0.0) - 1e3):
        return False
    fall, behind, here = first - value, start, x
    for _ in range(FARTHER if np.isfinite(value) else 0):
        ahead, violation, _ = back(here + 2 * (here - behind))
        new = float(flat.objective(here)) - float(flat.objective(ahead))
        if not (new > 0.9 * fall and float(violation) <= 1e-6 * (1 + float(jnp.max(jnp.abs(ahead), initial=0.0)))):
            return False
        behind, here, fall = here, ahead, new
    return True


def _runs_away(x, certificate):
    """Whether the point is farther than a search is believed, and its certificate knows no strict minimum there."""
    return float(jnp.max(jnp.abs(x), initial=0.0)) > FAR and certificate.second_order != "strict minimum"


def _beyond_plateau(flat, compiled, x, certificate):
    """A feasible point far away that is lower, where near x the objective does not change at all that way; or None."""
    if certificate.second_order != "necessary":
        return None
    eps, reach = float(jnp.finfo(x.dtype).eps), 1 + float(jnp.max(jnp.abs(x), initial=0.0))
    random = np.random.default_rng(7)
    ways = np.concatenate([np.eye(x.size)[:PLATEAU_WAYS], random.choice([-1.0, 1.0], (PLATEAU_WAYS // 2, x.size))])

    def values(step):
        f, _, h, _, g, _ = (np.asarray(part, float) for part in compiled.values(x + jnp.asarray(step, x.dtype)))
        return float(f), max(np.max(np.abs(h), initial=0.0), np.max(g, initial=0.0))

    here, violation = values(np.zeros(x.size))
    noise = 16 * eps * abs(here)
    level = lambda step: abs(values(step)[0] - here) <= noise
    lowest, found = here - max(noise, 1e-3 * abs(here)), None
    for way in [side * way for way in ways for side in (1.0, -1.0)]:
        if not all(level(distance * reach * way) for distance in PLATEAU_NEAR):
            continue
        for far in reach * 2.0 ** np.arange(PLATEAU_FAR):
            f, off = values(far * way)
            if f < lowest and off <= max(violation, 1e-6 * far):
                lowest, found = f, x + jnp.asarray(far * way, x.dtype)
    return found


# ---- what is compiled: once for each structure of x and of its data --------------------------------------------------


class Ready(NamedTuple):
    """A problem in its own units.

    Fields:
      flat; units; evaluated: what certificates need; run(x, tolerance, limit), if a method was named;
      back(x): the feasibility restoration.
    """

    flat: FlatProblem
    units: Units
    evaluated: Any
    run: Callable[..., Any]
    back: Callable[..., Any]

    @property
    def unit(self) -> float:
        """f's factor."""
        return float(self.units.f)


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
    return Ready(rescaled(flat, units), units, evaluated._make(map(bound, evaluated)), run, bound(back))


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
