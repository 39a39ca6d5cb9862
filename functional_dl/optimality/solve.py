"""Solve a constrained problem, and call it solved only if a certificate says so."""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality import augmented_lagrangian, interior_point, sqp
from functional_dl.optimality.certificate import Certificate, certify_flat, evaluate
from functional_dl.optimality.measures import aside
from functional_dl.optimality.problem import Problem, flatten
from functional_dl.optimality.restoration import restore

METHODS = {
    "interior_point": interior_point.minimise,
    "sqp": sqp.minimise,
    "augmented_lagrangian": augmented_lagrangian.minimise,
}
FAR = 1e10  # an iterate or objective beyond it, along feasible points that descend, is called unbounded


class Solution(NamedTuple):
    """What a solver ended with.

    Fields:
      x; objective: f(x); eq_multipliers, ineq_multipliers: lambda and mu, like the constraints' values.
      converged: the certificate passed at the tolerance asked for.
      reason: begins with "converged", "infeasible", "unbounded" or "stuck", and says why.
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


def solve(
    problem: Problem,
    x0: PyTree,
    method: str = "interior_point",
    tolerance: float = 1e-8,
    max_iterations: int = 500,
    starts: int = 4,
) -> Solution:
    """minimise f(x) subject to h(x) = 0, g(x) <= 0: a local minimum (the global one of a convex problem), certified.

    Args:
      problem: Problem.  f, h and g need two derivatives.  Keep the object: it is compiled once for each structure of x.
      x0: a real pytree to start from; it need not be feasible, and is moved between the bounds.
      method: "interior_point", "sqp", or "augmented_lagrangian" (forms no matrix but in its last steps).
      tolerance: of each of the KKT residuals; max_iterations: of each run.
      starts: from how many points, x0 the first and the others about it, to search; the lowest minimum is returned.
        1 stays with the minimum that x0 leads to.
    Returns:
      Solution.  A hard problem raises nothing: `converged` is False and `reason` says why.  "infeasible" means a
      stationary point of the violation |h|^2 + |(g)+|^2 that is not 0: a proof for convex constraints, local otherwise.
    Raises:
      ValueError: unknown method; tolerance, max_iterations or starts not positive; and as Problem does.
    Numerics: float64 is wanted for tolerances below 1e-5.
    Source: see interior_point, sqp and augmented_lagrangian.
    """
    minimise = arguments.lookup("method", method, METHODS)
    arguments.positive("tolerance", tolerance)
    max_iterations = arguments.whole("max_iterations", max_iterations)
    starts = arguments.whole("starts", starts)
    programs = _programs(problem, x0, minimise)
    flat, run, _, compiled = programs
    begin = flatten(problem, x0).x0
    found = _search(programs, begin, tolerance, max_iterations)
    iterations = found.iterations
    for k in range(1, 1 if found.reason.startswith("unbounded") else starts):
        end = run(flat.inside(_elsewhere(flat, begin, k)), tolerance, max_iterations)
        iterations += int(end.iterations)
        certificate = _judge(flat, end, tolerance, compiled)
        if certificate.passed and (not found.certificate.passed or _lower(flat, end.x, found.x)):
            found = Found(end.x, certificate, f"converged: {certificate.reason}", 0)
    x, certificate, reason, _ = found
    return Solution(
        flat.unflatten(x),
        certificate.eq_multipliers,
        certificate.ineq_multipliers,
        flat.objective(x),
        certificate.passed,
        reason,
        iterations,
        certificate,
    )


class Found(NamedTuple):
    """What the search from one start ends with."""

    x: Array
    certificate: Certificate
    reason: str
    iterations: int


def _search(programs, begin, tolerance, max_iterations) -> Found:
    """Up to four runs: from the start, then from the nearest feasible point to where the last one ended, or beside."""
    flat, run, nearest_feasible, compiled = programs
    start = flat.inside(begin)
    best = begin, certify_flat(flat, begin, None, None, tolerance, compiled)
    iterations, reason, values = 0, "", []
    for attempt in range(4):
        end = run(start, tolerance, max_iterations)
        iterations += int(end.iterations)
        certificate = _judge(flat, end, tolerance, compiled)
        if certificate.passed and attempt < 3:
            lower = _descent(flat, end.x, certificate, compiled)
            if lower is not None:  # a stationary point that may be none of a minimum: what lies beyond it?
                best, start = (end.x, certificate), lower
                continue
        if _rank(certificate) < _rank(best[1]) or (certificate.passed and _lower(flat, end.x, best[0])):
            best = end.x, certificate
        if certificate.passed:
            break
        reason = f"stuck: {certificate.reason}"
        if _unbounded(flat, end.x, start, certificate):
            best = end.x, certificate
            reason = f"unbounded: the objective is {float(flat.objective(end.x)):.3g} at a feasible point, and falls on"
            break
        here = end.x if np.all(np.isfinite(end.x)) and np.max(np.abs(end.x)) < FAR else start
        nearest, violation, slope = nearest_feasible(here)
        if float(violation) > 1e-5 and float(slope) <= 1e-6 * min(1.0, float(violation)) and not best[1].passed:
            best = nearest, _judge(flat, end._replace(x=nearest), tolerance, compiled)
            reason = f"infeasible: the violation has a stationary point, where it is {float(violation):.3g}"
            break
        values.append(float(flat.objective(nearest)))
        if float(violation) <= 1e-6 and _sinking(flat, nearest, begin, values):
            best = nearest, _judge(flat, end._replace(x=nearest), tolerance, compiled)
            reason = (
                f"unbounded: the objective is {values[-1]:.3g} at a feasible point, lower after each of several runs"
            )
            break
        saddle = max(map(float, certificate.residuals)) <= tolerance
        start = aside(nearest, 1e-2) if saddle or attempt == 1 else nearest
    x, certificate = best
    if certificate.passed:
        reason = f"converged: {certificate.reason}"
    return Found(x, certificate, reason, iterations)


def _sinking(flat, x, start, values):
    """Run after run ends at a lower point, a million times farther away than the start."""
    far = float(jnp.max(jnp.abs(x), initial=0.0)) > 1e6 * (1 + float(jnp.max(jnp.abs(start), initial=0.0)))
    lower = len(values) > 1 and all(after < before - 1 for before, after in pairwise(values))
    return far and lower and values[-1] < min(float(flat.objective(start)), 0.0) - 1e3


def _descent(flat, x, certificate, compiled):
    """A point a little off a KKT point, along the least curvature, where the Lagrangian is lower than rounding and its
    slope explain; None where there is none.  An inflection, such as that of x^3, is found so."""
    from scipy.linalg import null_space

    lam, mu = flat.pack_equality(certificate.eq_multipliers), flat.pack_inequality(certificate.ineq_multipliers)
    _, slope, _, dh, _, dg = (np.asarray(v, float) for v in compiled[0](x))
    active = [*certificate.active.strong, *certificate.active.weak]
    rows = np.concatenate([dh, dg[active]])
    basis = null_space(rows) if len(rows) else np.eye(x.size)
    if not basis.shape[1]:
        return None
    hessian = np.asarray(compiled[2](x, lam, mu), float)
    direction = basis @ np.linalg.eigh(basis.T @ hessian @ basis)[1][:, 0]
    lagrangian = lambda v: float(flat.objective(v) + lam @ flat.equalities(v) + mu @ flat.inequalities(v))
    here = lagrangian(x)
    steep = abs(float((slope + np.asarray(lam, float) @ dh + np.asarray(mu, float) @ dg) @ direction))
    for step in (1e-2, -1e-2, 1e-3, -1e-3):
        step = step * (1 + float(np.linalg.norm(x)))
        there = x + step * jnp.asarray(direction, x.dtype)
        fall = here - lagrangian(there)
        noise = 1e3 * float(jnp.finfo(x.dtype).eps) * (1 + abs(here))
        if fall > 10 * abs(step) * steep + noise and np.all(np.asarray(flat.inequalities(there)) <= 1e-2 * abs(step)):
            return there
    return None


def _elsewhere(flat, x, k):
    """The k-th further start: moved by up to |x_i| + 1 in its own direction."""
    spread = 2 * np.modf(np.arange(1, x.size + 1) * 0.6180339887498949 + k * 0.7548776662466927)[0] - 1
    return x + (1 + jnp.abs(x)) * jnp.asarray(spread, x.dtype)


def _lower(flat, x, than):
    """f(x) < f(than) by more than the tolerance of a value."""
    here, there = float(flat.objective(x)), float(flat.objective(than))
    return here < there - 1e-6 * (1 + abs(there))


def _programs(problem, x0, minimise):
    """The compiled programs of a problem; kept for each structure of x and each method."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, x0))
    return _compile(problem, structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves), minimise)


@lru_cache(maxsize=128)
def _compile(problem, structure, shapes, minimise):
    flat = flatten(problem, jax.tree.unflatten(structure, [jnp.zeros(shape, dtype) for shape, dtype in shapes]))
    run = jax.jit(lambda x, tolerance, limit: minimise(flat, x, jnp.asarray(tolerance, x.dtype), limit))
    return flat, run, jax.jit(lambda x: restore(flat, x)), evaluate(flat)


def _judge(flat, end, tolerance, compiled):
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


def _unbounded(flat, x, start, certificate):
    """A feasible point, far away or far down, whose objective is far below the start's."""
    feasible = max(float(certificate.residuals.eq_residual), float(certificate.residuals.ineq_residual)) <= 1e-6
    value = float(flat.objective(x))
    far = value < -FAR or float(jnp.max(jnp.abs(x), initial=0.0)) > FAR
    return feasible and far and value < min(float(flat.objective(start)), 0.0) - 1e3
