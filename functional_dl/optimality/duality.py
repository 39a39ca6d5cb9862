r"""The dual function, the greatest lower bounds that multipliers give, and ascent on it.

    q(lambda, mu) = inf_x L(x, lambda, mu),     q(lambda, mu) <= f(x)  for mu >= 0 and every feasible x  (weak duality).

q is concave whatever f, h and g are.  Where the infimum is attained at x*, the envelope theorem gives a supergradient:

    dq/dlambda = h(x*),     dq/dmu = g(x*).

Source: Boyd and Vandenberghe 2004, chapter 5; Danskin 1967; Bertsekas 1999, section 6.3.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl import arguments
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality.measures import largest
from functional_dl.optimality.problem import Problem, check_problem, flatten, point
from functional_dl.optimality.units import at_point, rescaled

STARTS = 12  # of the search for an infimum
DRAWS = 64  # points at which its end is put to the test
STATIONARY = 1e-10  # relative size of a gradient that counts as zero
FAR = 1e18  # an infimum sought beyond it is taken for -inf
LIMIT = 500
KEPT = 32  # problems whose ascent is kept compiled


def dual_function(problem: Problem, x0: PyTree) -> Callable[..., Scalar]:
    """q(lambda, mu) = inf_x L(x, lambda, mu), as a function of multipliers like the constraints' values.

    Args:
      problem: Problem.  f, h and g need two derivatives.  Bounds count as inequalities, with multipliers of their own.
      x0: a real pytree in the functions' domain, where the search for the infimum begins.
    Returns:
      q(eq_multipliers=None, ineq_multipliers=None); None stands for zeros.  -inf where the Lagrangian falls without
      bound, and where a mu is negative (no bound holds there); nan where the search fails.  Runs under jit and vmap;
      jax.grad gives (h(x*), g(x*)), a supergradient.
    Raises:
      ValueError: multipliers of another size than the constraints.
    Kinks: where several x attain the infimum, the gradient is that of the one found.
    Numerics: the infimum is sought by Newton's method with the Hessian's eigenvalues made positive, in the problem's
      own units, from x0 and from STARTS - 1 points about it at growing distances; the lowest end counts.  It is global
      where L is convex in x.  nan, no bound, where that search did not come to rest in a minimum, or where one of DRAWS
      points about its end lies lower.
    Source: Boyd and Vandenberghe 2004, section 5.1.2.
    Example:
      >>> least = optimality.Problem(lambda x: x @ x, equalities=lambda x: jnp.sum(x) - 3)
      >>> round(float(optimality.dual_function(least, jnp.zeros(3))(jnp.array(-2.0), None)), 4)
      3.0
    """
    flat = flatten(problem, x0)
    units = jax.jit(lambda x: at_point(flat, x))(flat.x0)
    own = rescaled(flat, units)

    def value(eq_multipliers=None, ineq_multipliers=None):
        lam, mu = flat.pack_equality(eq_multipliers), flat.pack_inequality(ineq_multipliers)
        given = own.pack_equality(eq_multipliers), own.pack_inequality(ineq_multipliers)
        x, kind = _infimum(own, *lax.stop_gradient(given))
        x = lax.stop_gradient(x * units.x)
        attained = flat.objective(x) + lam @ flat.equalities(x) + mu @ flat.inequalities(x)
        return _told(attained, kind, jnp.any(mu < 0))

    return value


@jax.jit  # one step, so that a NaN that is not the answer does not show under jax_debug_nans
def _told(attained, kind, outside) -> Scalar:
    """The dual's value: -inf where L is unbounded or a multiplier is negative, NaN where no infimum was found."""
    fall = jnp.where(kind == 1, -jnp.inf, jnp.nan).astype(attained.dtype)
    return jnp.where(outside, -jnp.inf, jnp.where(kind == 0, attained, fall)).astype(attained.dtype)


def _infimum(flat, lam, mu) -> tuple[Array, Array]:
    """(x, kind) of inf_x L: kind 0 attained (or approached), 1 unbounded, 2 not found."""

    def lagrangian(x):
        return flat.objective(x) + lam @ flat.equalities(x) + mu @ flat.inequalities(x)

    def size(x):
        parts = jax.grad(flat.objective)(x), lam @ jax.jacrev(flat.equalities)(x), mu @ jax.jacrev(flat.inequalities)(x)
        return sum(largest(part) for part in parts)

    usual, first = jnp.maximum(size(flat.x0), 1), lagrangian(flat.x0)  # 1: the objective's natural size

    def model(x):
        """Value, gradient, spectrum, and whether x is a minimum of second order within rounding."""
        value, gradient = jax.value_and_grad(lagrangian)(x)
        hessian = jax.hessian(lagrangian)(x)
        values, vectors = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0.0))
        flat_enough = largest(gradient) <= STATIONARY * jnp.maximum(size(x), usual)
        # A gradient that vanishes only as x grows (log x) is told from one that vanishes at a point by gradient . x.
        settled = flat_enough & (jnp.sum(jnp.abs(gradient * x)) <= 1e-9 * (jnp.abs(value) + jnp.abs(value - first)))
        bent = values[0] < -1e-8 * (largest(values) + jnp.finfo(x.dtype).tiny)
        return value, gradient, values, vectors, settled, bent

    def body(carry):
        x, damping, _, count = carry
        value, gradient, values, vectors, settled, bent = model(x)
        step = -vectors @ ((vectors.T @ gradient) / (jnp.abs(values) + damping))
        down = vectors[:, 0] * jnp.where(vectors[:, 0] @ gradient > 0, -1.0, 1.0).astype(x.dtype)
        step = jnp.where(settled & bent, down * (1 + jnp.linalg.norm(x)) / (1 + damping), step)
        after = lagrangian(x + step)
        better = after < value
        damping = jnp.clip(jnp.where(better, damping / 10, damping * 10), least, 1e30)
        return jnp.where(better, x + step, x), damping, settled & ~bent, count + 1

    info = jnp.finfo(flat.x0.dtype)
    least = max(FAR**-2.2, float(info.tiny))  # below the curvature of log x where x is FAR

    def going(carry):
        x, damping, done, count = carry
        return ~done & (count < LIMIT) & (damping < 1e25) & (largest(x) < FAR) & (lagrangian(x) > -FAR)

    def search(x):
        start = x, jnp.full((), 1e-6, x.dtype), jnp.zeros((), bool), jnp.zeros((), int)
        x, _, done, _ = lax.while_loop(going, body, start)
        value, gradient, _, _, _, bent = model(x)
        # Rounding may stop the descent a little above the tolerance.
        small = largest(gradient) <= jnp.maximum(1e4 * STATIONARY, 64 * info.eps) * jnp.maximum(size(x), usual)
        stalled = small & ~bent & (largest(x) < jnp.sqrt(FAR))
        fell = (value <= -FAR) | (largest(x) >= FAR)
        return x, value, jnp.where(done, 0, jnp.where(fell, 1, jnp.where(stalled, 0, 2)))

    ends, values, kinds = lax.map(search, _around(flat.x0, STARTS))
    values = jnp.where(kinds == 1, -jnp.inf, jnp.where(jnp.isfinite(values), values, jnp.inf))
    slack = lambda value: max(1e-9, 256 * float(jnp.finfo(value.dtype).eps)) * (jnp.abs(value) + jnp.abs(value - first))
    # of ends that rounding cannot tell apart, one that came to rest
    lowest = jnp.min(values)
    near = (values == lowest) | (values <= lowest + jnp.where(jnp.isfinite(lowest), slack(lowest), 0.0))
    best = jnp.argmax(jnp.where(near, jnp.where(kinds == 0, 2, 1), 0))
    x, value, kind = ends[best], values[best], kinds[best]
    around = jax.vmap(lagrangian)(_around(x, DRAWS))
    below = jnp.any(jnp.where(jnp.isnan(around), jnp.inf, around) < value - slack(value))
    return x, jnp.where((kind == 0) & below, 2, kind)


def _around(x, count):
    """x, and points at distances from 1/4 to 64 times its size from it, no two alike."""
    k, i = np.arange(count)[:, None], np.arange(1, x.size + 1)[None]
    phase = 2 * np.modf(i * 0.6180339887498949 + k * 0.7548776662466927)[0] - 1
    reach = np.exp2(np.linspace(-2, 6, count))[:, None] * (k > 0)
    return x[None] + jnp.asarray(phase * reach, x.dtype) * (1 + jnp.abs(x))[None]


class DualAscent(NamedTuple):
    """Fields: eq_multipliers, ineq_multipliers, value of the best iterate; values (steps,): q at every iterate."""

    eq_multipliers: PyTree
    ineq_multipliers: PyTree
    value: Scalar
    values: Array


def dual_ascent(
    problem: Problem, x0: PyTree, steps: int = 100, rate: float | Callable[[Array], Scalar] = 0.1
) -> DualAscent:
    """Projected supergradient ascent from zero: lambda <- lambda + a_k h(x_k), mu <- max(mu + a_k g(x_k), 0).

    x_k minimises L(., lambda, mu): every value is a lower bound of a convex problem's optimum (weak duality), and its
    distance to a feasible point's objective bounds that point's error.

    Args:
      problem, x0: as for dual_function.  steps: how many.
      rate: a_k, a number (converges for smooth q if below 2 / curvature) or a function of k = 0.0, 1.0, ..., such as
        lambda k: 1 / (k + 1) (a sum that diverges, of squares that converge: converges for every concave q).
    Returns:
      DualAscent.  An iterate where q is not finite does not move.
    Raises:
      ValueError: steps is not positive.
    Source: Shor 1985; Boyd, Xiao and Mutapcic 2003.
    Example:
      >>> least = optimality.Problem(lambda x: x @ x, equalities=lambda x: jnp.sum(x) - 3)
      >>> round(float(optimality.dual_ascent(least, jnp.zeros(3), 200, 0.15).value), 3)
      3.0
    """
    steps = arguments.integer("steps", steps)
    check_problem(problem)
    given = problem.args, point(x0)
    kept = callable(rate) or isinstance(rate, int | float)  # an array does not hash
    return (_ascent if kept else _ascent.__wrapped__)(problem, steps, rate)(*given)


@lru_cache(maxsize=KEPT)
def _ascent(problem: Problem, steps: int, rate: Any) -> Callable[..., DualAscent]:
    """One program for a problem; its data and x0 go in."""

    @jax.jit
    def run(args, x0):
        now = replace(problem, args=args)
        flat, dual = flatten(now, x0), dual_function(now, x0)
        at = rate if callable(rate) else lambda _: jnp.asarray(rate, flat.x0.dtype)

        def q(lam, mu):
            return dual(flat.unpack_equality(lam), flat.unpack_inequality(mu))

        def body(carry, k):
            value, (of_lam, of_mu) = jax.value_and_grad(q, (0, 1))(*carry)
            move = jnp.asarray(at(k), flat.x0.dtype)
            move = jnp.where(jnp.isfinite(value), move, 0.0).astype(flat.x0.dtype)
            lam = carry[0] + move * jnp.nan_to_num(of_lam)
            mu = jnp.maximum(carry[1] + move * jnp.nan_to_num(of_mu), 0)
            return (lam, mu), (value, *carry)

        zeros = tuple(jnp.zeros_like(fun(flat.x0)) for fun in (flat.equalities, flat.inequalities))
        _, (values, lams, mus) = lax.scan(body, zeros, jnp.arange(steps, dtype=flat.x0.dtype))
        best = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
        return DualAscent(flat.unpack_equality(lams[best]), flat.unpack_inequality(mus[best]), values[best], values)

    return run
