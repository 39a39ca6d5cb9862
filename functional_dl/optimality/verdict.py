"""What a certificate says: its fields, and the sentences that give reasons."""

from typing import NamedTuple

from functional_dl.aliases import PyTree
from functional_dl.optimality.kkt import KKTResiduals

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


class Active(NamedTuple):
    """Indices of the inequalities (then lower, then upper finite bounds) with g = 0: multiplier positive, or zero."""

    strong: tuple[int, ...]
    weak: tuple[int, ...]


class Certificate(NamedTuple):
    """What is known about a point.

    Fields:
      passed: all five residuals are within the tolerance, no direction of descent of second order was found, and the
        multipliers do not run to infinity for want of a constraint qualification.
      residuals: KKTResiduals.
      active: Active(strong, weak).
      licq: the gradients of equalities and active inequalities are linearly independent.
      mfcq: those of the equalities are, and a direction d has grad h d = 0 and grad g_i d < 0 for all active i.
      second_order: "strict minimum", "necessary" (curvature >= 0 within rounding, not > 0), "not a minimum", or
        "undecided" (weakly active constraints leave it open).
      gap: |f(x) - L(x, lambda, mu)|: for a convex problem at a stationary point it bounds f(x) - f*.
      reason: a sentence that names every condition that is violated.
      eq_multipliers, ineq_multipliers: those that were judged.
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


def explain(found, failed, second, finite, tolerance):
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
    return f"a KKT point to {tolerance:g}; second order: {second}"
