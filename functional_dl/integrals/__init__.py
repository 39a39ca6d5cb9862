"""Integrals with honest errors: one variable and several, areas and volumes, Leibniz's rule, expectations, paths."""

from functional_dl.integrals.definite import integrate
from functional_dl.integrals.expectation import DISTRIBUTIONS, Distribution, ExpectationGradient, expectation_gradient
from functional_dl.integrals.fundamental import antiderivative, leibniz, net_change
from functional_dl.integrals.geometry import (
    Centroid,
    arc_length,
    area_between,
    area_under,
    centroid,
    surface_of_revolution,
    volume_by_cross_sections,
    volume_of_revolution,
)
from functional_dl.integrals.paths import (
    Attribution,
    Smoothed,
    integrated_gradients,
    line_integral,
    potential_difference,
    saliency,
    smooth_grad,
)
from functional_dl.integrals.region import integrate_region, volume_under_surface
from functional_dl.integrals.result import Integral

__all__ = [
    "DISTRIBUTIONS",
    "Attribution",
    "Centroid",
    "Distribution",
    "ExpectationGradient",
    "Integral",
    "Smoothed",
    "antiderivative",
    "arc_length",
    "area_between",
    "area_under",
    "centroid",
    "expectation_gradient",
    "integrate",
    "integrate_region",
    "integrated_gradients",
    "leibniz",
    "line_integral",
    "net_change",
    "potential_difference",
    "saliency",
    "smooth_grad",
    "surface_of_revolution",
    "volume_by_cross_sections",
    "volume_of_revolution",
    "volume_under_surface",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
