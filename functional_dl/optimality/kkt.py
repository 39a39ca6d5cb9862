r"""The conditions of Karush, Kuhn and Tucker as residuals: all of them, the sign of mu and feasibility included.

    grad f + lambda . grad h + mu . grad g = 0,    h = 0,    g <= 0,    mu >= 0,    mu_i g_i = 0.

Source: Karush 1939; Kuhn and Tucker 1951; Nocedal and Wright 2006, theorem 12.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.optimality.measures import largest
from functional_dl.optimality.problem import FlatProblem, Problem, flatten
from functional_dl.optimality.rows import combined, norms


class KKTResiduals(NamedTuple):
    """How far each condition is from holding; all are 0 at a KKT point.

    Fields:
      stationarity: max |grad L| / (1 + the greatest entry of |grad f|, |lambda . grad h|, |mu . grad g|).
      eq_residual: max |h_i| / (1 + |grad h_i|).
      ineq_residual: max (g_i)+ / (1 + |grad g_i|).
      dual_residual: max (-mu_i)+ / (1 + max |mu|).
      slackness: max |mu_i g_i| / ((1 + |mu_i|) (1 + |grad g_i|)).
    """

    stationarity: Scalar
    eq_residual: Scalar
    ineq_residual: Scalar
    dual_residual: Scalar
    slackness: Scalar


def residuals(flat: FlatProblem, x: Array, lam: Array, mu: Array) -> KKTResiduals:
    """kkt_residuals over vectors."""
    if flat.large:
        return measured(flat, x, lam, mu, *norms(flat, x))
    dh, dg = jax.jacrev(flat.equalities)(x), jax.jacrev(flat.inequalities)(x)
    sizes = jnp.linalg.norm(dh, axis=1), jnp.linalg.norm(dg, axis=1)
    return _residuals(flat, x, mu, lam @ dh, mu @ dg, *sizes)


def measured(flat: FlatProblem, x: Array, lam: Array, mu: Array, norms_h: Array, norms_g: Array) -> KKTResiduals:
    """residuals with the lengths of the gradients given: no matrix is formed."""
    return _residuals(flat, x, mu, *combined(flat, x, lam, mu), norms_h, norms_g)


def _residuals(flat, x, mu, of_h, of_g, norms_h, norms_g):
    gradient, h, g = jax.grad(flat.objective)(x), flat.equalities(x), flat.inequalities(x)
    scale = 1 + jnp.maximum(largest(gradient), jnp.maximum(largest(of_h), largest(of_g)))
    rows_h, rows_g = 1 + norms_h, 1 + norms_g
    return KKTResiduals(
        largest(gradient + of_h + of_g) / scale,
        largest(h / rows_h),
        largest(jnp.maximum(g, 0) / rows_g),
        largest(jnp.maximum(-mu, 0)) / (1 + largest(mu)),
        largest(mu * g / (1 + jnp.abs(mu)) / rows_g),
    )


def kkt_residuals(problem: Problem, x: PyTree, lam: PyTree = None, mu: PyTree = None) -> KKTResiduals:
    """The five residuals of (x, lambda, mu), scaled so that units matter little.

    Args:
      x: the point; lam, mu: multipliers like equalities(x), inequalities(x); None where there is no such constraint.
    Returns:
      KKTResiduals.  Runs under jit and vmap.  NaN stays NaN.
    Raises:
      ValueError: multipliers of another size than the constraints.
    Source: Nocedal and Wright 2006, (12.34).
    """
    flat = flatten(problem, x)
    return residuals(flat, flat.x0, flat.pack_equality(lam), flat.pack_inequality(mu))
