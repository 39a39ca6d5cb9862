"""Optimality: problems, certificates, solvers, duality, solution maps, and models fitted to a certified gap."""

from functional_dl.optimality import conjugates, first_order, projections, qp, qp_layer, regression, svm
from functional_dl.optimality.certificate.verdict import Active, Certificate, Status
from functional_dl.optimality.convexity import Convexity, Witness, is_convex
from functional_dl.optimality.duality import DualAscent, dual_ascent, dual_function
from functional_dl.optimality.first_order import FirstOrder, projected_gradient, proximal_gradient
from functional_dl.optimality.implicit import Regularity, regularity, solution_map
from functional_dl.optimality.kkt import KKTResiduals, kkt_residuals
from functional_dl.optimality.least_squares import FitCertificate, LeastSquares, least_squares
from functional_dl.optimality.problem import Problem, lagrangian
from functional_dl.optimality.slater import SlaterPoint, slater_point
from functional_dl.optimality.solve import Solution, certify, solve

__all__ = [
    "Active",
    "Certificate",
    "Convexity",
    "DualAscent",
    "FirstOrder",
    "FitCertificate",
    "KKTResiduals",
    "LeastSquares",
    "Problem",
    "Regularity",
    "SlaterPoint",
    "Solution",
    "Status",
    "Witness",
    "certify",
    "conjugates",
    "dual_ascent",
    "dual_function",
    "first_order",
    "is_convex",
    "kkt_residuals",
    "lagrangian",
    "least_squares",
    "projected_gradient",
    "projections",
    "proximal_gradient",
    "qp",
    "qp_layer",
    "regression",
    "regularity",
    "slater_point",
    "solution_map",
    "solve",
    "svm",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
