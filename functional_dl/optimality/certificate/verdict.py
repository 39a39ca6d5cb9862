"""What is said: how a search ended, a certificate's fields and reasons, and the trial that refutes a model."""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import PyTree
from functional_dl.optimality.kkt import KKTResiduals

BEYOND = 32.0  # times the step to the model's minimum
NEAR = np.array([1e-1, 1e-2, 1e-3])  # distances, relative to x, at which flat directions are tried
MIXED = 24  # directions between flat ones that are tried
LEVEL = 1e-7  # a curvature below this share of the Hessian counts as zero
CONDITIONS = {
    "stationarity": "the gradient of the Lagrangian is not zero",
    "eq_residual": "an equality does not hold",
    "ineq_residual": "an inequality is violated",
    "dual_residual": "a multiplier of an inequality is negative",
    "slackness": "an inequality that is not active has a multiplier (complementary slackness)",
}

LIMIT = (
    "a KKT point only in the limit: no constraint qualification holds, and a multiplier of {:.3g} says that none exists"
)


class Status(IntEnum):
    """How a search ended.  Compiled programs return the number; Status(int(number)) is the member.

    CONVERGED: to the tolerance asked for; INFEASIBLE: nothing satisfies the constraints, as far as the method can tell;
    UNBOUNDED: the objective falls without end; STUCK: no step helps, and the conditions do not hold; LIMIT: so many
    iterations were not enough; PLATEAU: nothing changes near the point, but farther away; NOT_A_MINIMUM: the
    conditions of first order hold, and lower points were found; NOT_FINITE: values that are not finite at the start.
    """

    CONVERGED = 0
    INFEASIBLE = 1
    UNBOUNDED = 2
    STUCK = 3
    LIMIT = 4
    PLATEAU = 5
    NOT_A_MINIMUM = 6
    NOT_FINITE = 7


class Active(NamedTuple):
    """Indices of the inequalities (then lower, then upper finite bounds) with g = 0: multiplier positive, or zero."""

    strong: tuple[int, ...]
    weak: tuple[int, ...]


class Certificate(NamedTuple):
    """What is known about a point.

    Fields:
      passed: all five residuals are within the tolerance, no direction of descent of second order was found, and the
        multipliers do not diverge, as they can where no constraint qualification holds.
      residuals: KKTResiduals.
      active: Active(strong, weak).
      licq: the gradients of equalities and active inequalities are linearly independent, by a margin (singular values
        above 0.3 sqrt(tolerance) of the greatest): a point that is known only to the tolerance may be that close to
        one where they are dependent.
      mfcq: the gradients of the equalities are linearly independent, and some direction d has grad h d = 0 and grad
        g_i d < 0 for all active i; by the same margin.
      second_order: "strict minimum", "necessary" (curvature >= 0 within rounding, not > 0), "not a minimum", or
        "undecided" (weakly active constraints leave it open).
      gap: |f(x) - L(x, lambda, mu)|: for a convex problem at a stationary point it bounds f(x) - f*.
      reason: a sentence that names every condition that is violated.
      eq_multipliers, ineq_multipliers: those that were examined.
    """

    passed: bool
    residuals: KKTResiduals
    active: Active
    licq: bool
    mfcq: bool
    second_order: str
    gap: float
    reason: str
    eq_multipliers: PyTree
    ineq_multipliers: PyTree


def activity(g: np.ndarray, mu: Any, lengths: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Which inequalities are strongly and which weakly active; `lengths` of their gradients."""
    size = 1 + lengths
    near = np.abs(g) <= np.sqrt(tolerance) * 1e-1 * size
    strong = near & (mu > np.sqrt(tolerance) * (1 + np.max(mu, initial=0)) * 1e-1)
    return strong, near & ~strong & (np.abs(g) <= 1e3 * tolerance * size)


def loosely(tolerance: float) -> float:
    """A share of singular values.

    A point known to a residual of `tolerance` may be sqrt(tolerance) away from one where gradients depend on each
    other; near it the conditions hold with multipliers that grow without bound.
    """
    return 0.3 * np.sqrt(tolerance)


def stated(
    flat: Any,
    dtype: Any,
    lam: Any,
    mu: Any,
    h: np.ndarray,
    g: np.ndarray,
    marks: tuple[np.ndarray, np.ndarray],
    finite: bool,
    **fields: Any,
) -> Certificate:
    """The Certificate over pytrees; marks: (strong, weak) as `activity` gives them; fields: those that are at hand."""
    return Certificate(
        active=Active(*(tuple(map(int, np.flatnonzero(marked))) for marked in marks)),
        gap=float(abs(lam @ h + mu @ g)) if finite else float("inf"),
        eq_multipliers=flat.unpack_equality(jnp.asarray(lam, dtype)),
        ineq_multipliers=flat.unpack_inequality(jnp.asarray(mu, dtype)),
        **fields,
    )


def explain(found: KKTResiduals, failed: list[Any], second: str, finite: bool, tolerance: float) -> str:
    """The sentence of a certificate."""
    if not finite:
        return "a value or derivative at the point is not finite"
    if failed:
        said = "; ".join(f"{CONDITIONS[name]} ({name} = {float(getattr(found, name)):.3g})" for name in failed)
        return f"not a KKT point to {tolerance:g}: {said}"
    if second == "not a minimum":
        return (
            "a KKT point, but the Lagrangian falls along a feasible direction: a saddle, a maximum, an inflection, "
            "or an infimum that is not attained"
        )
    if second == "strict minimum":
        return f"a KKT point to {tolerance:g}; second order: {second}"
    return f"a KKT point to {tolerance:g}; stationary, second order undecided ({second})"


def mixed(flat_directions: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """(0, d) for directions d between those given, as rows, in which curvature decides nothing: x^2 y falls in none of
    the two, and everywhere between them.  Half of them mix shares of all sizes: units may be far apart."""
    if len(flat_directions) < 2:
        return []
    random = np.random.default_rng(5)
    shares = random.normal(size=(MIXED, len(flat_directions)))
    shares[::2] *= np.exp2(random.uniform(-60, 60, size=shares[::2].shape))
    drawn = shares @ flat_directions
    return [(0.0, d) for d in drawn / np.linalg.norm(drawn, axis=1, keepdims=True)]


def falls_along(
    change: Callable[..., Any],
    here: float,
    vector: np.ndarray,
    value: Any,
    along: Any,
    size: float,
    reach: Any,
    cut: float = 0.0,
    bend: Callable[..., Any] = lambda step: step,
    eps: float = float(np.finfo(float).eps),
) -> bool:
    """Whether the Lagrangian falls where its quadratic model says that it does not.

    Near an inflection, as of x^3, and far out where exp(-x) dies away, the slope is arbitrarily small and the
    curvature positive; but far beyond the model's minimum it is lower than here.  At the inflection both vanish; but
    it is lower on one side, by more than its slope explains, and nearer it is not higher.

    Args:
      change: step -> L(x + step) - L(x); here: L(x); vector: a unit direction; value, along: curvature and slope there;
      size: of the Hessian; reach: of x; cut: a curvature up to it is not clearly positive; eps: of the values' dtype;
      bend: a step along a flat direction -> the same, moved to the bottom of the valley that it may lie in.
    """
    eps = 1e3 * eps
    if value > 0:
        model = along**2 / value
        if change(-BEYOND * along / value * vector) < min(-model / 4, -eps * abs(here)):
            return True
    if value <= max(LEVEL * size, cut):
        steps = NEAR * (1 + reach)
        for side in (-1, 1):
            for way in (lambda step: step, bend):
                changed = lambda r: change(way(side * r * vector))
                noise = lambda change: eps * max(abs(here), abs(change))
                far = changed(steps[0])
                if not far < -10 * abs(along) * steps[0] - noise(far):
                    continue
                # where rounding hides a fall nearby it is enough that nothing rises there
                if all(near <= noise(near) for near in map(changed, steps[1:])):
                    return True
    return False
