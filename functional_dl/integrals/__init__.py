"""Integrals with honest errors: one variable and several, areas and volumes, Leibniz's rule, expectations, paths."""

from functional_dl.integrals.definite import integrate as integrate
from functional_dl.integrals.expectation import DISTRIBUTIONS as DISTRIBUTIONS
from functional_dl.integrals.expectation import Distribution as Distribution
from functional_dl.integrals.expectation import ExpectationGradient as ExpectationGradient
from functional_dl.integrals.expectation import expectation_gradient as expectation_gradient
from functional_dl.integrals.fundamental import antiderivative as antiderivative
from functional_dl.integrals.fundamental import leibniz as leibniz
from functional_dl.integrals.fundamental import net_change as net_change
from functional_dl.integrals.geometry import Centroid as Centroid
from functional_dl.integrals.geometry import arc_length as arc_length
from functional_dl.integrals.geometry import area_between as area_between
from functional_dl.integrals.geometry import area_under as area_under
from functional_dl.integrals.geometry import centroid as centroid
from functional_dl.integrals.geometry import surface_of_revolution as surface_of_revolution
from functional_dl.integrals.geometry import volume_by_cross_sections as volume_by_cross_sections
from functional_dl.integrals.geometry import volume_of_revolution as volume_of_revolution
from functional_dl.integrals.paths import Attribution as Attribution
from functional_dl.integrals.paths import Smoothed as Smoothed
from functional_dl.integrals.paths import integrated_gradients as integrated_gradients
from functional_dl.integrals.paths import line_integral as line_integral
from functional_dl.integrals.paths import potential_difference as potential_difference
from functional_dl.integrals.paths import saliency as saliency
from functional_dl.integrals.paths import smooth_grad as smooth_grad
from functional_dl.integrals.region import integrate_region as integrate_region
from functional_dl.integrals.region import volume_under_surface as volume_under_surface
from functional_dl.integrals.result import Integral as Integral
