r"""Solutions as functions of parameters, differentiated by the implicit function theorem.

Let S be the inequalities with positive multipliers.  The KKT conditions of a regular minimum are the square system

    F(z, theta) = [ grad_x L;  h;  g_i (i in S);  mu_i (i not in S) ] = 0,      z = (x, lambda, mu),

    F_z dz + F_theta dtheta = 0     =>     dz = -F_z^{-1} F_theta dtheta.

F_z is regular under LICQ and a positive definite reduced Hessian; dx stays defined where constraints repeat each other,
so the least-norm solution of the system is taken.  All that is compared here, multipliers with values, singular values
with each other, is so in the problem's own units at x0 (units.py).
Source: Fiacco 1983, theorem 3.2.2; Amos and Kolter 2017.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree

from functional_dl import arguments
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality.kkt import residuals
from functional_dl.optimality.measures import reachable
from functional_dl.optimality.problem import Problem, flatten
from functional_dl.optimality.solvers.interior_point import minimise
from functional_dl.optimality.units import at_point, rescaled


def solution_map(
    problem_of_theta: Callable[[PyTree], Problem],
    x0: PyTree,
    tolerance: float = 1e-10,
    max_iterations: int = 300,
) -> Callable[[PyTree], PyTree]:
    """theta -> x*(theta), a local minimum of problem_of_theta(theta), differentiable forward and in reverse.

    Args:
      problem_of_theta: pure; theta, a pytree of real floating arrays, may enter everywhere but in bounds, which are
        fixed (limits that depend on theta are inequalities).
      x0: where each search starts.
      tolerance, max_iterations: of the interior point method; a few Newton steps on the active set polish its result.
    Returns:
      A function of theta; it runs under jit and vmap, and differentiates any number of times.  nan where the search
      does not end in a KKT point to 1e-6 (8e-6 in float32): nothing can be raised under jit.
    Kinks: where an inequality is active with multiplier 0, x* has one-sided derivatives only; the one given treats that
      inequality as inactive.  `regularity` says whether theta is such a place, and how far the next one is.
    Source: Fiacco 1983; Blondel and others 2022.
    Example:
      >>> family = lambda t: optimality.Problem(lambda x: jnp.sum((x - t) ** 2), inequalities=lambda x: x - 1)
      >>> solve = optimality.solution_map(family, jnp.array([0.0]))
      >>> solve(jnp.array(0.5)).round(3).tolist(), jax.jacrev(solve)(jnp.array(0.5)).round(3).tolist()
      ([0.5], [1.0])
    """
    unflatten = ravel_pytree(jax.tree.map(jnp.asarray, x0))[1]
    search = _search(problem_of_theta, x0, tolerance, max_iterations)

    @jax.custom_jvp
    def solved(theta):
        return search(theta)

    @solved.defjvp
    def solved_jvp(primals, tangents):
        (theta,), (theta_dot,) = primals, tangents
        found = solved(theta)
        x, lam, mu, strong, units = found
        z = jnp.concatenate([x, lam, mu])
        system = lambda z, theta: _system(rescaled(flatten(problem_of_theta(theta), x0), units), z, strong)
        _, shift = jax.jvp(lambda theta: system(z, theta), (theta,), (theta_dot,))
        z_dot = -_inverse(jax.jacfwd(system)(z, theta)) @ shift
        parts = jnp.split(z_dot, [x.size, x.size + lam.size])
        return found, (*parts, jnp.zeros_like(strong), jax.tree.map(jnp.zeros_like, units))

    def solution(theta):
        x, *_, units = solved(jax.tree.map(jnp.asarray, theta))
        return unflatten(units.x * x)

    return solution


class Regularity(NamedTuple):
    """Whether x* has a derivative at theta.

    Fields:
      differentiable: the search ended in a KKT point, margin > 0 and pivot > 0 (both to rounding): the derivative
        is the one of solution_map.
      margin: min_i max(mu_i, -g_i), the distance from a change of the active set (infinite without inequalities), in
        the problem's own units at x0.
      weak: which inequalities are active with multiplier 0 to the cut, as inequalities(x).
      pivot: the least singular value of F_z over its greatest: 0 where LICQ or the second-order condition fails.
    """

    differentiable: Array
    margin: Scalar
    weak: PyTree
    pivot: Scalar


def regularity(
    problem_of_theta: Callable[[PyTree], Problem],
    x0: PyTree,
    tolerance: float = 1e-10,
    max_iterations: int = 300,
    cut: float = 1e-5,
) -> Callable[[PyTree], Regularity]:
    """theta -> Regularity of the solution map there.

    Args:
      problem_of_theta, x0, tolerance, max_iterations: as for solution_map.
      cut: a margin up to which an inequality counts as weakly active: an interior point ends sqrt(tolerance) from one.
    Returns:
      A function of theta that runs under jit and vmap.
    Source: Fiacco 1983, theorem 3.2.2 (its three conditions).
    Example:
      >>> family = lambda t: optimality.Problem(lambda x: jnp.sum((x - t) ** 2), inequalities=lambda x: x - 1)
      >>> bool(optimality.regularity(family, jnp.array([0.0]))(jnp.array(3.0)).differentiable)
      True
    """
    search = _search(problem_of_theta, x0, tolerance, max_iterations)

    def regular_at(theta):
        theta = jax.tree.map(jnp.asarray, theta)
        given = flatten(problem_of_theta(theta), x0)
        x, lam, mu, strong, units = search(theta)
        flat = rescaled(given, units)
        either = jnp.maximum(mu, -flat.inequalities(x))
        margin = jnp.min(either, initial=jnp.inf)
        matrix = jax.jacfwd(lambda z: _system(flat, z, strong))(jnp.concatenate([x, lam, mu]))
        sound = jnp.all(jnp.isfinite(matrix))
        values = jnp.linalg.svd(jnp.where(sound, matrix, jnp.eye(len(matrix), dtype=x.dtype)), compute_uv=False)
        pivot = jnp.where(sound, values[-1] / values[0], jnp.nan)
        regular = sound & (margin > cut) & (pivot > 100 * jnp.finfo(x.dtype).eps)
        return Regularity(regular, margin, given.unpack_inequality(jnp.where(either <= cut, 1.0, 0.0) > 0), pivot)

    return regular_at


def _search(problem_of_theta, x0, tolerance, max_iterations):
    """theta -> (x, lambda, mu, which inequalities are strongly active), vectors in units of their own, and these."""
    arguments.function("problem_of_theta", problem_of_theta)

    @jax.jit
    def search(theta):
        flat = flatten(problem_of_theta(theta), x0)
        units = at_point(flat, flat.x0)
        flat = rescaled(flat, units)
        end = minimise(flat, flat.x0, jnp.asarray(tolerance, flat.x0.dtype), max_iterations)
        return *_polish(flat, (end.x, end.lam, end.mu)), units

    return search


def _system(flat, z, strong):
    """F(z), with `strong` 1.0 for the inequalities of S and 0.0 for the others."""
    n, p = flat.x0.size, flat.equalities(flat.x0).size
    x, lam, mu = jnp.split(z, [n, n + p])
    gradient = jax.grad(lambda x: flat.objective(x) + lam @ flat.equalities(x) + mu @ flat.inequalities(x))(x)
    return jnp.concatenate([gradient, flat.equalities(x), jnp.where(strong > 0, flat.inequalities(x), mu)])


def _inverse(matrix):
    """The pseudo-inverse: the inverse where there is one, else the least-norm solution."""
    return jnp.linalg.pinv(matrix, rtol=float(max(1e-11, 8 * jnp.finfo(matrix.dtype).eps)))


def _polish(flat, end):
    """Newton's method on F from the interior point: exact to rounding; kept where it stays a KKT point."""
    x, lam, mu = end
    # On the central path mu_i (-g_i) is one small number: active means that mu_i is by far the greater factor.
    strong = jnp.where(mu > 10 * jnp.abs(flat.inequalities(x)), 1.0, 0.0).astype(x.dtype)
    z = jnp.concatenate([x, lam, jnp.where(strong > 0, mu, 0.0)])
    cuts = [x.size, x.size + lam.size]

    def error(z):
        return jnp.max(jnp.stack([jnp.abs(r) for r in residuals(flat, *jnp.split(z, cuts))]))

    system = lambda z: _system(flat, z, strong)

    def newton(_, carry):
        z, best = carry
        z = z - _inverse(jax.jacfwd(system)(z)) @ system(z)
        return z, jnp.where(error(z) <= error(best), z, best)

    _, best = lax.fori_loop(0, 3, newton, (z, jnp.concatenate(end)))
    best = jnp.where(error(best) <= reachable(1e-6, x), best, jnp.nan)
    return (*jnp.split(best, cuts), strong)
