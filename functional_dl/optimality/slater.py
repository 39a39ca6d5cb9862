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

from functional_dl.aliases import PyTree
from functional_dl.optimality.certificate import certify_flat
from functional_dl.optimality.interior_point import minimise
from functional_dl.optimality.problem import Problem, flatten

LARGEST = 1.0  # the margin asked for is bounded, so that the auxiliary problem has a solution


class SlaterPoint(NamedTuple):
    """What was found.

    Fields:
      found: x is strictly feasible.
      x: the point with the greatest margin met.
      margin: min_i -g_i(x), inf without inequalities (finite bounds count as inequalities); it is not sought beyond 1.
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
      tolerance: how exactly h = 0 must hold, what the margin must exceed, and that of the search.
      max_iterations: of the interior point method.
    Returns:
      SlaterPoint.  Without convexity "not found" is not "there is none", and the reason says so.
    Raises:
      ValueError: tolerance or max_iterations not positive; and as Problem does.
    Source: Boyd and Vandenberghe 2004, section 11.4.1 (phase I).
    """
    if not tolerance > 0 or not max_iterations > 0:
        raise ValueError(f"tolerance and max_iterations must be positive, got {tolerance}, {max_iterations}")
    flat = flatten(problem, x0)
    count = flat.inequalities(flat.x0).size
    phase = _phase_one(flat)
    end = jax.jit(lambda x: minimise(phase, x, jnp.asarray(tolerance, x.dtype), max_iterations))(phase.x0)
    certificate = certify_flat(phase, end.x, end.lam, end.mu, 10 * tolerance)
    x, margin = max((_judge(flat, at, tolerance) for at in (end.x[:-1], flat.x0)), key=lambda pair: pair[1])
    if margin > tolerance:
        return SlaterPoint(True, flat.unflatten(x), margin, None, None, f"strictly feasible with margin {margin:.3g}")
    if not certificate.passed:
        said = f"none was found, and the search ended without a certificate: {certificate.reason}"
        return SlaterPoint(False, flat.unflatten(x), margin, None, None, said)
    lam, mu = end.lam, jnp.maximum(end.mu[:count], 0)
    total = jnp.sum(mu)
    sized = total if float(total) > 0 else jnp.ones_like(total)
    said = "none near x: lambda . h + mu . g is stationary and not negative there (a proof if h is affine and g convex)"
    return SlaterPoint(
        False, flat.unflatten(x), margin, flat.unpack_equality(lam / sized), flat.unpack_inequality(mu / sized), said
    )


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
    )


def _judge(flat, x, tolerance):
    """(x, its margin): by the values at x alone, -inf where h = 0 fails or a value is not finite."""
    h, g = np.asarray(flat.equalities(x)), np.asarray(flat.inequalities(x))
    rows = np.linalg.norm(np.asarray(jax.jacrev(flat.equalities)(x)), axis=1)
    holds = np.all(np.abs(h) <= tolerance * (1 + rows))
    margin = -np.max(g, initial=-np.inf)
    return x, float(margin) if holds and not np.isnan(margin) else -np.inf
