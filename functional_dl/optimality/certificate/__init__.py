"""Certificates: is a point what it is claimed to be?  Conditions, qualifications, curvature; and those of a fit."""

from functional_dl.optimality.certificate.verdict import Active, Certificate, Status

__all__ = ["Active", "Certificate", "Status"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
