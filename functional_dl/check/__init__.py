"""Judging a gradient: numeric oracles with honest errors, comparison, the cause of a fault."""

from functional_dl.check.find_nan import NanReport as NanReport
from functional_dl.check.find_nan import find_nan as find_nan
from functional_dl.check.grads import assert_grads as assert_grads
from functional_dl.check.grads import check_grads as check_grads
from functional_dl.check.kinks import Interval as Interval
from functional_dl.check.kinks import subdifferential as subdifferential
from functional_dl.check.numeric import estimate_jvp as estimate_jvp
from functional_dl.check.numeric import estimate_vjp as estimate_vjp
from functional_dl.check.report import CAUSES as CAUSES
from functional_dl.check.report import Finding as Finding
from functional_dl.check.report import GradientMismatch as GradientMismatch
from functional_dl.check.report import Report as Report
from functional_dl.check.vjp import assert_vjp as assert_vjp
from functional_dl.check.vjp import check_custom_vjp as check_custom_vjp
from functional_dl.check.vjp import check_vjp as check_vjp
from functional_dl.estimates import Estimate as Estimate
