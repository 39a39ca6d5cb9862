r"""Slater's condition: is there a point with h(x) = 0 and g(x) < 0?  It decides whether strong duality is assured.

    maximise t  subject to  h(x) = 0,  g_i(x) + t <= 0,  t <= 1.

A point with t > 0 is a witness.  At an optimum with t <= 0 the multipliers (lambda, mu), mu >= 0, sum mu = 1, make x
stationary for lambda . h + mu . g, whose value there is -t >= 0.  Where h is affine and g convex, that x is a global
minimum, so  lambda . h + mu . g >= 0  everywhere, which no point with h = 0 and g < 0 satisfies: a proof of none.
Source: Slater 1950; Boyd and Vandenberghe 2004, sections 5.2.3 and 5.8.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments
from functional_dl.aliases import PyTree
from functional_dl.optimality.certificate.certify import certify_flat
from functional_dl.optimality.measures import aside
from functional_dl.optimality.problem import Problem, flatten
from functional_dl.optimality.solvers.interior_point import minimise
from functional_dl.optimality.solvers.restoration import restore
from functional_dl.optimality.units import at_point, rescaled

LARGEST = 1.0  # the margin asked for is bounded, so that the auxiliary problem has a solution


class SlaterPoint(NamedTuple):
    """What was found.

    Fields:
      found: x is strictly feasible.
      x: the point with the greatest margin found.
      margin: min_i -g_i(x), inf without inequalities (finite bounds are inequalities); -inf where h = 0 fails at x.
        The search asks for no more than 1 in the rows' own units.
      eq_multipliers, ineq_multipliers: where none was found and the search is certified, the witness (lambda, mu) of
        the module's docstring: a proof for affine h and convex g.  Else None.
      reason: a sentence.
    """

    found: bool
    x: PyTree
    margin: float
    eq_multipliers: PyTree
    ineq_multipliers: PyTree
    reason: str


def slater_point(problem: Problem, x0: PyTree, tolerance: float = 1e-8, max_iterations: int = 500) -> SlaterPoint:
    """A strictly feasible point, or a witness that a convex problem has none.

    Args:
      problem: Problem; the objective is not used.  x0: a real pytree to start from; it need not be feasible.
      tolerance: of the search; of the distance to h = 0 (to first order), which the margin has to exceed.
      max_iterations: of the interior point method, for each of up to three starts.
    Returns:
      SlaterPoint.  Without convexity "not found" is not "there is none", and the reason says so.
    Raises:
      ValueError: tolerance or max_iterations not positive; and as Problem does.
    Numerics: units do not matter: rows and variables count in the problem's own at x0 (units.py).  A margin counts
      once it exceeds the rounding of g, estimated from the terms of its Taylor series about 0.  A witness is stationary
      to 10 tolerance, no better: a margin that is reached only far from x0, as that of exp(x) - 1e-9, can be missed.
    Source: Boyd and Vandenberghe 2004, section 11.4.1 (phase I).
    Example:
      >>> problem = optimality.Problem(lambda x: x, inequalities=lambda x: x**2 - 1)
      >>> optimality.slater_point(problem, jnp.array(3.0)).found
      True
      >>> optimality.slater_point(
      ...     optimality.Problem(lambda x: x, inequalities=lambda x: x**2), jnp.array(1.0)
      ... ).found
      False
    """
    arguments.positive("tolerance", tolerance)
    max_iterations = arguments.integer("max_iterations", max_iterations)
    flat = flatten(problem, x0)
    units = jax.jit(lambda x: at_point(flat, x))(flat.x0)
    own = rescaled(flat, units)
    phase = _phase_one(own)
    run = jax.jit(lambda x: minimise(phase, x, jnp.asarray(tolerance, x.dtype), max_iterations))
    seen = [_margin(flat, flat.x0, tolerance)]
    nearest, _, _ = restore(own, own.x0)
    for start in (phase.x0, aside(phase.x0, 0.1), _phase_one(own._replace(x0=nearest)).x0):
        end = run(start)
        seen.append(_margin(flat, end.x[:-1] * units.x, tolerance))
        certificate = certify_flat(phase, end.x, end.lam, end.mu, 10 * tolerance)
        if seen[-1][0] or certificate.passed:
            break
    found, margin, x = max(seen, key=lambda one: one[:2])
    if found:
        return SlaterPoint(True, flat.unflatten(x), margin, None, None, f"strictly feasible with margin {margin:.3g}")
    if not certificate.passed:
        said = f"none was found, and the search ended without a certificate: {certificate.reason}"
        return SlaterPoint(False, flat.unflatten(x), margin, None, None, said)
    mu = jnp.maximum(end.mu[: flat.inequalities(flat.x0).size], 0)
    lam, mu = (
        flat_of(back(y))
        for flat_of, back, y in (
            (flat.pack_equality, own.unpack_equality, end.lam),
            (flat.pack_inequality, own.unpack_inequality, mu),
        )
    )
    total = jnp.sum(mu)
    lam, mu = (m / jnp.where(total > 0, total, 1.0) for m in (lam, mu))
    said = "none near x: lambda . h + mu . g is stationary and not negative there (a proof if h is affine and g convex)"
    return SlaterPoint(False, flat.unflatten(x), margin, flat.unpack_equality(lam), flat.unpack_inequality(mu), said)


def _phase_one(flat):
    """The auxiliary problem over (x, t)."""
    g = flat.inequalities(flat.x0)
    start = jnp.minimum(-jnp.max(g, initial=-LARGEST) - 1, LARGEST / 2).astype(flat.x0.dtype)
    start = jnp.where(jnp.isfinite(start), start, -jnp.ones_like(start))

    def inequalities(z):
        return jnp.concatenate([flat.inequalities(z[:-1]) + z[-1], z[-1:] - LARGEST])

    return flat._replace(
        x0=jnp.append(flat.x0, start),
        objective=lambda z: -z[-1],
        equalities=lambda z: flat.equalities(z[:-1]),
        inequalities=inequalities,
        unpack_inequality=lambda mu: mu,
        large=False,  # t stands in the rows of bounds too
    )


def _margin(flat, x, tolerance):
    """(strictly feasible, margin, x), by the values at x alone; margin -inf where h = 0 fails or g is not a number."""
    h, of_h, terms_h = _values(flat.equalities, x)
    g, of_g, terms_g = _values(flat.inequalities, x)
    rounding = 16 * float(jnp.finfo(x.dtype).eps)
    if not np.all(np.abs(h) <= tolerance * of_h + rounding * terms_h) or np.any(np.isnan(g)):
        return False, -np.inf, x
    least = rounding * terms_g + (4 * tolerance * of_g if h.size else 0.0)
    return bool(np.all(-g > least)), float(-np.max(g, initial=-np.inf)), x


def _values(fun, x):
    """Values, norms of gradients, and the size of the terms |f|, |grad f| |x|, |x| |hess f| |x| / 2 of each row."""
    size = np.abs(np.asarray(x, float))
    value, rows, bend = (np.asarray(part(x), float) for part in (fun, jax.jacrev(fun), jax.hessian(fun)))
    terms = np.abs(value) + np.abs(rows) @ size + (np.abs(bend) @ size) @ size / 2
    return value, np.linalg.norm(rows, axis=1), terms
