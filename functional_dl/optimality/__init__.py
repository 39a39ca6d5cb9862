"""Optimality: projections, conjugates, first-order methods, convexity, and models fitted to a certified duality gap."""

from functional_dl.optimality import conjugates as conjugates
from functional_dl.optimality import first_order as first_order
from functional_dl.optimality import projections as projections
from functional_dl.optimality import qp as qp
from functional_dl.optimality import regression as regression
from functional_dl.optimality import svm as svm
from functional_dl.optimality.certificate import Active as Active
from functional_dl.optimality.certificate import Certificate as Certificate
from functional_dl.optimality.certificate import certify as certify
from functional_dl.optimality.convexity import Convexity as Convexity
from functional_dl.optimality.convexity import Witness as Witness
from functional_dl.optimality.convexity import is_convex as is_convex
from functional_dl.optimality.first_order import FirstOrder as FirstOrder
from functional_dl.optimality.first_order import projected_gradient as projected_gradient
from functional_dl.optimality.first_order import proximal_gradient as proximal_gradient
from functional_dl.optimality.kkt import KKTResiduals as KKTResiduals
from functional_dl.optimality.kkt import kkt_residuals as kkt_residuals
from functional_dl.optimality.problem import Problem as Problem
from functional_dl.optimality.problem import lagrangian as lagrangian
from functional_dl.optimality.solve import Solution as Solution
from functional_dl.optimality.solve import solve as solve
