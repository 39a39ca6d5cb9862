r"""Convex quadratic and linear programs by Mehrotra's predictor and corrector: compiled, and batched by vmap.

    minimise x' P x / 2 + q . x   subject to   A x = b,  G x <= h.

With slacks s = h - G x > 0 and multipliers z > 0 each iteration solves Newton's equations of the conditions

    P x + q + A' y + G' z = 0,    A x = b,    G x + s = h,    s_i z_i = tau

twice with one factored matrix: for tau = 0 (how far can the gap fall?), then for tau = (gap after / gap before)^3 of
the mean of s z, with the second-order term ds dz of the first.  A problem without solution makes the iterates run
away, and their directions prove it:  A' y + G' z = 0, b . y + h . z < 0, z >= 0  (Farkas: nothing is feasible);
P x = 0, A x = 0, G x <= 0, q . x < 0  (a ray along which the objective falls).
Source: Mehrotra 1992; Nocedal and Wright 2006, section 16.6; Boyd and Vandenberghe 2004, section 5.8.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from functional_dl import arguments
from functional_dl.aliases import Array, Scalar
from functional_dl.optimality.measures import largest, longest_step

CONVERGED, INFEASIBLE, UNBOUNDED, STUCK = range(4)


class QPSolution(NamedTuple):
    """What qp.solve ended with.

    Fields:
      x; eq_multipliers y; ineq_multipliers z >= 0; objective.
      gap: s . z, which bounds objective - optimum where the residuals vanish.
      residual: the greatest violation of the linear conditions, scaled by 1 + the greatest entry of the data.
      status: qp.CONVERGED, qp.INFEASIBLE (y, z scaled are the proof), qp.UNBOUNDED (x scaled is a ray along which
        the objective falls, from any feasible point), qp.STUCK.
      iterations.
    """

    x: Array
    eq_multipliers: Array
    ineq_multipliers: Array
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
    tolerance: float = 1e-9,
    max_iterations: int = 60,
) -> QPSolution:
    """minimise x' P x / 2 + q . x subject to A x = b, G x <= h.

    Args:
      P: symmetric, positive semidefinite (zeros for a linear program); q; A, b; G, h: None for no such constraint.
      tolerance: of the scaled residual and of the gap over 1 + |objective|.
    Returns:
      QPSolution.  Runs under jit and vmap: a batch of programs of one size is one call.
    Raises:
      ValueError: shapes that do not fit.
    Numerics: the factored matrix is regularised by 1e-11 of the data; a P that is not semidefinite is not detected.
    """
    q = arguments.real("q", q)
    n, dtype = q.shape[-1], q.dtype
    A, b = (jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)) if A is None else (A, b)
    G, h = (jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)) if G is None else (G, h)
    P, A, b, G, h = (jnp.asarray(value, dtype) for value in (P, A, b, G, h))
    expected = {"q": (q, (n,)), "P": (P, (n, n)), "A": (A, (b.size, n)), "G": (G, (h.size, n))}
    for name, (value, shape) in expected.items():
        if value.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {value.shape}")
    return _mehrotra(P, q, A, b, G, h, tolerance, max_iterations)


def _mehrotra(P, q, A, b, G, h, tolerance, limit):
    n, p, m = q.size, b.size, h.size
    size = 1 + jnp.maximum(largest(q), jnp.maximum(largest(b), largest(h)))
    ridge = 1e-11 * (1 + largest(P))
    signs = jnp.concatenate([jnp.full(n, ridge), jnp.full(p, -ridge)])

    def newton(weights):
        """Factor [P + G' D G, A'; A, 0]: the right sides follow, refined once."""
        matrix = jnp.block([[P + G.T @ (weights[:, None] * G), A.T], [A, jnp.zeros((p, p), q.dtype)]])
        factors = jax.scipy.linalg.lu_factor(matrix + jnp.diag(signs))

        def solution(right):
            first = jax.scipy.linalg.lu_solve(factors, right)
            return first + jax.scipy.linalg.lu_solve(factors, right - matrix @ first)

        return solution

    def errors(x, y, z, s):
        return P @ x + q + A.T @ y + G.T @ z, A @ x - b, G @ x + s - h

    def measure(x, y, z, s):
        dual, equal, slack = errors(x, y, z, s)
        return jnp.maximum(largest(dual), jnp.maximum(largest(equal), largest(slack))) / size

    def step(solution, s, z, dual, equal, slack, center):
        """Newton's step; `center` is what s z + z ds + s dz shall be brought to 0 by."""
        right = jnp.concatenate([-dual + G.T @ ((center - z * slack) / s), -equal])
        moved = solution(right)
        dx, dy = moved[:n], moved[n:]
        ds = -slack - G @ dx
        return dx, dy, (-center - z * ds) / s, ds

    def verdict(x, y, z, s):
        objective = x @ (P @ x) / 2 + q @ x
        solved = (measure(x, y, z, s) <= tolerance) & (s @ z <= tolerance * (1 + jnp.abs(objective)))
        proof = -(b @ y + h @ z)
        infeasible = (proof > 1e-12) & (largest(A.T @ y + G.T @ z) <= 1e-9 * proof / size) & (proof > 1e6)
        fall = -(q @ x)
        along = jnp.maximum(largest(P @ x), jnp.maximum(largest(A @ x), jnp.max(G @ x, initial=0.0)))
        unbounded = (along <= 1e-7 * fall / size) & (fall > 1e6)
        return jnp.where(solved, CONVERGED, jnp.where(infeasible, INFEASIBLE, jnp.where(unbounded, UNBOUNDED, STUCK)))

    def body(carry):
        x, y, z, s, _, count = carry
        solution = newton(z / s)
        dual, equal, slack = errors(x, y, z, s)
        dx, dy, dz, ds = step(solution, s, z, dual, equal, slack, s * z)
        reach = jnp.minimum(longest_step(s, ds), longest_step(z, dz))
        mean = s @ z / max(m, 1)
        after = (s + reach * ds) @ (z + reach * dz) / max(m, 1)
        target = mean * (after / jnp.where(mean > 0, mean, 1.0)) ** 3
        dx, dy, dz, ds = step(solution, s, z, dual, equal, slack, s * z + ds * dz - target)
        reach = jnp.minimum(1.0, 0.99 * jnp.minimum(longest_step(s, ds, 2.0), longest_step(z, dz, 2.0)))
        new = x + reach * dx, y + reach * dy, z + reach * dz, s + reach * ds
        sound = jnp.all(jnp.isfinite(jnp.concatenate(new)))
        x, y, z, s = (jnp.where(sound, a, c) for a, c in zip(new, (x, y, z, s), strict=True))
        return x, y, z, s, verdict(x, y, z, s), jnp.where(sound, count + 1, limit)

    begin = newton(jnp.ones(m, q.dtype))(jnp.concatenate([-q + G.T @ h, b]))
    left = h - G @ begin[:n]
    s = jnp.maximum(jnp.abs(left), 1.0)
    start = begin[:n], begin[n:], s, s, jnp.full((), STUCK), jnp.zeros((), int)
    x, y, z, s, status, count = lax.while_loop(lambda c: (c[4] == STUCK) & (c[5] < limit), body, start)
    objective = x @ (P @ x) / 2 + q @ x
    return QPSolution(x, y, z, objective, s @ z, measure(x, y, z, s), status, count)
