"""Checking a gradient: numeric oracles with honest errors, comparison, the cause of a fault."""

from functional_dl.check.kinks import Interval, subdifferential
from functional_dl.check.nan.find import NanReport, find_nan
from functional_dl.check.numeric import estimate_jvp, estimate_vjp
from functional_dl.check.report import CAUSES, Finding, GradientMismatch, Report
from functional_dl.check.vjp.api import assert_grads, assert_vjp, check_custom_vjp, check_grads, check_vjp
from functional_dl.estimates import Estimate

__all__ = [
    "CAUSES",
    "Estimate",
    "Finding",
    "GradientMismatch",
    "Interval",
    "NanReport",
    "Report",
    "assert_grads",
    "assert_vjp",
    "check_custom_vjp",
    "check_grads",
    "check_vjp",
    "estimate_jvp",
    "estimate_vjp",
    "find_nan",
    "subdifferential",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
