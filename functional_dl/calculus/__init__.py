"""The calculus of functions: limits, derivatives, gradients, the chain rule, Taylor series; each with honest errors."""

from functional_dl.calculus.chain import Chain, Paths, compose, total_derivative
from functional_dl.calculus.derivatives import Sides, derivative, one_sided_derivatives
from functional_dl.calculus.differentials import Differential, differential
from functional_dl.calculus.differentiation_rules import (
    chain_rule,
    inverse_rule,
    power_rule,
    product_rule,
    quotient_rule,
    sum_rule,
)
from functional_dl.calculus.gradients import (
    Ascent,
    curl,
    directional_derivative,
    divergence,
    gradient,
    hessian,
    jacobian,
    laplacian,
    partial,
    steepest_ascent,
)
from functional_dl.calculus.limits import Limit, limit, limit_of_sequence
from functional_dl.calculus.points import Side
from functional_dl.calculus.taylor import taylor
from functional_dl.estimates import Estimate

__all__ = [
    "Ascent",
    "Chain",
    "Differential",
    "Estimate",
    "Limit",
    "Paths",
    "Side",
    "Sides",
    "chain_rule",
    "compose",
    "curl",
    "derivative",
    "differential",
    "directional_derivative",
    "divergence",
    "gradient",
    "hessian",
    "inverse_rule",
    "jacobian",
    "laplacian",
    "limit",
    "limit_of_sequence",
    "one_sided_derivatives",
    "partial",
    "power_rule",
    "product_rule",
    "quotient_rule",
    "steepest_ascent",
    "sum_rule",
    "taylor",
    "total_derivative",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
