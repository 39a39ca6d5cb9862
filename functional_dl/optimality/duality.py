r"""The dual function, the greatest lower bounds that multipliers give, and ascent on it.

    q(lambda, mu) = inf_x L(x, lambda, mu),     q(lambda, mu) <= f(x)  for mu >= 0 and every feasible x  (weak duality).

q is concave whatever f, h and g are.  Where the infimum is attained at x*, the envelope theorem gives a supergradient:

    dq/dlambda = h(x*),     dq/dmu = g(x*).

Source: Boyd and Vandenberghe 2004, chapter 5; Danskin 1967; Bertsekas 1999, section 6.3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from functional_dl import arguments
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality.measures import largest
from functional_dl.optimality.problem import Problem, flatten

STATIONARY = 1e-10  # relative size of a gradient that counts as zero
FAR = 1e18  # an infimum sought beyond it is taken for -inf
LIMIT = 500


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
    Numerics: the infimum is sought by Newton's method with the Hessian's eigenvalues made positive.  It is global where
      L is convex in x; elsewhere the value may be that of a local minimum, above q: then it is no bound.
    Source: Boyd and Vandenberghe 2004, section 5.1.2.
    Example:
      >>> least = optimality.Problem(lambda x: x @ x, equalities=lambda x: jnp.sum(x) - 3)
      >>> round(float(optimality.dual_function(least, jnp.zeros(3))(jnp.array(-2.0), None)), 4)
      3.0
    """
    flat = flatten(problem, x0)

    def value(eq_multipliers=None, ineq_multipliers=None):
        lam, mu = flat.pack_equality(eq_multipliers), flat.pack_inequality(ineq_multipliers)
        x, kind = _infimum(flat, *lax.stop_gradient((lam, mu)))
        x = lax.stop_gradient(x)
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

    usual, first = size(flat.x0), lagrangian(flat.x0)  # relative to the start, whatever the objective is counted in

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

    least = max(FAR**-2.2, float(jnp.finfo(flat.x0.dtype).tiny))  # below the curvature of log x where x is FAR

    def going(carry):
        x, damping, done, count = carry
        return ~done & (count < LIMIT) & (damping < 1e25) & (largest(x) < FAR) & (lagrangian(x) > -FAR)

    start = flat.x0, jnp.full((), 1e-6, flat.x0.dtype), jnp.zeros((), bool), jnp.zeros((), int)
    x, _, done, _ = lax.while_loop(going, body, start)
    value, gradient, _, _, _, bent = model(x)
    # Rounding may stop the descent a little above the tolerance.
    stalled = (
        (largest(gradient) <= 1e4 * STATIONARY * jnp.maximum(size(x), usual)) & ~bent & (largest(x) < jnp.sqrt(FAR))
    )
    fell = (value <= -FAR) | (largest(x) >= FAR)
    return x, jnp.where(done, 0, jnp.where(fell, 1, jnp.where(stalled, 0, 2)))


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
    flat = flatten(problem, x0)
    dual = dual_function(problem, x0)
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
    _, (values, lams, mus) = jax.jit(lambda start: lax.scan(body, start, jnp.arange(steps, dtype=flat.x0.dtype)))(zeros)
    best = jnp.argmax(jnp.where(jnp.isnan(values), -jnp.inf, values))
    return DualAscent(flat.unpack_equality(lams[best]), flat.unpack_inequality(mus[best]), values[best], values)
