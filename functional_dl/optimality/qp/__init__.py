r"""Convex quadratic and linear programs, compiled, and batched by vmap.

    minimise x' P x / 2 + q . x   subject to   A x = b,  G x <= h,  lower <= x <= upper.

With multipliers y of the equalities and z, z_lower, z_upper >= 0 of the inequalities the optimum satisfies

    P x + q + A' y + G' z - z_lower + z_upper = 0,
    z . (h - G x) = z_lower . (x - lower) = z_upper . (upper - x) = 0.

A program without solution makes the iterates of the interior point method (mehrotra.py) diverge, and their directions,
improved (doubtful.py), prove it:

    A' y + G' z - z_lower + z_upper = 0,  b . y + h . z - lower . z_lower + upper . z_upper < 0   (nothing is feasible)
    P x = 0,  A x = 0,  G x <= 0,  q . x < 0                             (a ray along which the objective falls)

The program is solved in units of its own (equilibrate.py): those of x, of rows and of the objective do not matter.
Source: Mehrotra 1992; Nocedal and Wright 2006, section 16.6; Boyd and Vandenberghe 2004, section 5.8.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import largest, reachable
from functional_dl.optimality.qp import batched_while_loop, doubtful, equilibrate, mehrotra
from functional_dl.optimality.qp.cholesky import compact_inverse_factor
from functional_dl.optimality.qp.mehrotra import CONVERGED, INFEASIBLE, STUCK, UNBOUNDED

__all__ = ["CONVERGED", "INFEASIBLE", "STUCK", "UNBOUNDED", "QPSolution", "solve"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


class QPSolution(NamedTuple):
    """The result of qp.solve.

    Fields:
      x; eq_multipliers y (p,); ineq_multipliers z >= 0 (m,); lower_multipliers, upper_multipliers >= 0 (n,), 0 where
        there is no bound.
      objective: infinite where there is no optimum, -infinite where it is unbounded.
      gap: sum of slack times multiplier, which bounds objective - optimum where the conditions hold exactly.
      residual: the greatest violation of the linear conditions, each relative to the terms that it is the sum of.
      status: qp.CONVERGED; qp.INFEASIBLE: the multipliers are the proof, with b . y + h . z - lower . z_lower +
        upper . z_upper = -1; qp.UNBOUNDED: x is a ray with q . x = -1 along which the objective falls from every
        feasible point; qp.STUCK: the best iterate, with its gap and residual;
        also where P is not semidefinite.
      iterations.
    """

    x: Array
    eq_multipliers: Array
    ineq_multipliers: Array
    lower_multipliers: Array
    upper_multipliers: Array
    objective: Scalar
    gap: Scalar
    residual: Scalar
    status: Array
    iterations: Array


def solve(
    P: Float[Array, "n n"],
    q: Float[Array, " n"],
    A: Float[Array, "p n"] | None = None,
    b: Float[Array, " p"] | None = None,
    G: Float[Array, "m n"] | None = None,
    h: Float[Array, " m"] | None = None,
    lower: Float[Array, " n"] | float | None = None,
    upper: Float[Array, " n"] | float | None = None,
    tolerance: float = 5e-9,
    max_iterations: int = 60,
) -> QPSolution:
    """minimise x' P x / 2 + q . x subject to A x = b, G x <= h, lower <= x <= upper.

    Args:
      P: positive semidefinite (zeros for a linear program); its symmetric part (P + P') / 2 counts, as in x' P x, so a
        triangle alone is another program; q; A, b; G, h: None for no such constraint.
      lower, upper: bounds of x, a number or one for each entry; they cost less than rows of G.  Infinite values in h
        and the bounds stand for no such row.
      tolerance: of the residual, and of the gap over the objective's size, |objective| or a thousandth of the sum of
        its terms' absolute values; float32 reaches 8e-6.
    Returns:
      QPSolution.  Runs under jit and vmap: a batch of programs of one size is one call, and programs that have
      finished cost little.
    Raises:
      ValueError: shapes that do not fit, one of the pairs A, b and G, h without the other, lower inf, upper or h -inf.
    Numerics: a verdict of infeasible or unbounded is a proof that no solution is smaller than 1e10 times the program's
      natural size (3e5 in float32), which is that of the limits or of the unconstrained minimum; rounding of the data
      cannot be told from the data.  x errs by about the root of the tolerance where a bound is only just active.
    Example:
      >>> found = optimality.qp.solve(
      ...     jnp.eye(2), jnp.array([-1.0, -2.0]), G=jnp.array([[1.0, 1.0]]), h=jnp.array([2.0])
      ... )
      >>> print(found.x.round(4), found.ineq_multipliers.round(4))
      [0.5 1.5] [0.5]
    """
    return _solved(data(P, q, A, b, G, h, lower, upper), tolerance, max_iterations)


@partial(jax.jit, static_argnames="max_iterations")
def _solved(data, tolerance, max_iterations):
    """One compiled program for each structure of the data."""
    program, units = _scaled(data, tolerance)
    end = batched_while_loop.run(mehrotra.start, mehrotra.iterate, mehrotra.quick, max_iterations)(program)
    run = batched_while_loop.run(doubtful.start, doubtful.iterate, doubtful.unfinished, max_iterations)
    end = run((program, end))
    end = batched_while_loop.run(doubtful.again, doubtful.improved, doubtful.unproved, 1)((program, end))
    state = end.state._replace(status=jnp.where(_convex(program.P), end.state.status, STUCK))
    end = end._replace(state=state)
    return _solution(data, program, units, end)


def data(
    P: Array,
    q: Array,
    A: Array | None,
    b: Array | None,
    G: Array | None,
    h: Array | None,
    lower: Any,
    upper: Any,
) -> tuple[Array, ...]:
    """Arrays of one dtype, empty where a constraint is missing."""
    q = arguments.real("q", q)
    n, dtype = q.shape[-1] if q.ndim else 0, q.dtype
    for first, second, names in ((A, b, "A, b"), (G, h, "G, h")):
        if (first is None) != (second is None):
            raise ValueError(f"{names}: expected both or neither, got one of them alone")
    A, b = (jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)) if A is None else (A, b)
    G, h = (jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)) if G is None else (G, h)
    named = {"P": P, "A": A, "b": b, "G": G, "h": h}
    P, A, b, G, h = (arguments.real(name, value).astype(dtype) for name, value in named.items())
    expected = {"q": (q, (n,)), "P": (P, (n, n)), "A": (A, (b.size, n)), "G": (G, (h.size, n))}
    bounds = []
    for name, bound in (("lower", lower), ("upper", upper)):
        value = jnp.zeros(0, dtype) if bound is None else arguments.real(name, bound).astype(dtype)
        value = jnp.broadcast_to(value, (n,)) if value.ndim == 0 else value
        if bound is not None:
            expected[name] = value, (n,)
        bounds.append(value)
    for name, value, end in (("lower", lower, "inf"), ("upper", upper, "-inf"), ("h", h, "-inf")):
        known = arguments.concrete(value) if value is not None else None
        if known is not None and np.any(known == float(end)):
            raise ValueError(f"{name}: expected no {end}, which nothing satisfies, got one")
    for name, (value, shape) in expected.items():
        if value.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {value.shape}")
    return P, q, A, b, G, h, *bounds


def _convex(P):
    """Whether P has no eigenvalue that is negative beyond rounding: then P plus that has a Cholesky factor."""
    rounding = 16 * len(P) * jnp.finfo(P.dtype).eps * largest(P)
    return jnp.all(jnp.isfinite(compact_inverse_factor(P + mehrotra.or_one(rounding) * jnp.eye(len(P), dtype=P.dtype))))


def _scaled(data, tolerance):
    """The Program in units of its own, and these."""
    data = (data[0] / 2 + data[0].T / 2, *data[1:])
    units = equilibrate.units_of(data)
    P, q, A, b, G, h, lower, upper = equilibrate.in_units(data, units)
    limit, present = equilibrate.limits(h, lower, upper)
    A_T = A.T
    program = mehrotra.Program(
        P, q, A, b, G, P + A_T @ A, G.T, limit, present, lower, upper, reachable(tolerance, q)
    )  # fmt: skip
    return program, units


def _solution(data, program, units, end) -> QPSolution:
    (ray, _), (proof_y, proof_z, _), end = end.ray, end.proof, end.state
    infeasible, unbounded = end.status == INFEASIBLE, end.status == UNBOUNDED
    of_x, of_a, of_g, sigma, cost = units
    point = end.best
    x, y, z = point.x, jnp.where(infeasible, proof_y, point.y), jnp.where(infeasible, proof_z, point.z)
    violation, _, _ = mehrotra.measure(program, point, mehrotra.multiply(program, point))
    objective = (x @ (program.P @ x) / 2 + program.q @ x) * cost * sigma
    objective = jnp.where(infeasible, jnp.inf, jnp.where(unbounded, -jnp.inf, objective))
    # proofs by their own measure: b . y + ... = -1, q . x = -1, in the caller's units
    proof, fall = -(program.b @ y + program.limit @ z) * sigma, -(program.q @ ray) * cost
    unit = jnp.where(infeasible, 1 / jnp.where(infeasible, proof, 1.0), cost)
    of_rows, of_low, of_high = program.split(z * unit)
    ray = ray / jnp.where(unbounded, fall, 1.0)
    lower, upper = data[6:]
    found = x * sigma * of_x
    found = jnp.maximum(found, lower) if lower.size else found
    found = jnp.minimum(found, upper) if upper.size else found
    full = lambda bound: bound / of_x if bound.size else jnp.zeros_like(x)
    return QPSolution(
        jnp.where(unbounded, ray * of_x, found), y * unit / of_a, of_rows / of_g, full(of_low), full(of_high),
        objective, (point.s @ point.z) * cost * sigma, violation, end.status, end.iterations,
    )  # fmt: skip
