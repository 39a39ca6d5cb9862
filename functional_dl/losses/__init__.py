"""Losses: (pred, target) -> one number per example, each with its derivative by hand, its kinks and a source.

`LOSSES[name]` is a `Loss(fun, prime, kinks, source, formula, pred, target, reduces)`; the functions
themselves are here too: `losses.huber(pred, target)`.  The caller averages.  Regression and binary
losses work entry by entry, categorical ones sum over the last axis.  Shapes are never broadcast.
"""

from functional_dl.kinks import Kink
from functional_dl.losses.classification import (
    binary_cross_entropy,
    binary_cross_entropy_prime,
    cross_entropy,
    cross_entropy_prime,
    focal,
    focal_prime,
    kl_divergence,
    kl_divergence_prime,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_prime,
    softmax_cross_entropy,
    softmax_cross_entropy_prime,
)
from functional_dl.losses.linear_cross_entropy import linear_cross_entropy
from functional_dl.losses.margin import (
    cosine,
    cosine_prime,
    hinge,
    hinge_prime,
    squared_hinge,
    squared_hinge_prime,
)
from functional_dl.losses.regression import (
    absolute_error,
    absolute_error_prime,
    gaussian_nll,
    gaussian_nll_prime,
    half_squared_error,
    half_squared_error_prime,
    huber,
    huber_prime,
    log_cosh,
    log_cosh_prime,
    log_poisson,
    log_poisson_prime,
    poisson,
    poisson_prime,
    quantile,
    quantile_prime,
    squared_error,
    squared_error_prime,
)
from functional_dl.losses.table import LOSSES, Loss, Name, get

__all__ = [
    "LOSSES",
    "Kink",
    "Loss",
    "Name",
    "absolute_error",
    "absolute_error_prime",
    "binary_cross_entropy",
    "binary_cross_entropy_prime",
    "cosine",
    "cosine_prime",
    "cross_entropy",
    "cross_entropy_prime",
    "focal",
    "focal_prime",
    "gaussian_nll",
    "gaussian_nll_prime",
    "get",
    "half_squared_error",
    "half_squared_error_prime",
    "hinge",
    "hinge_prime",
    "huber",
    "huber_prime",
    "kl_divergence",
    "kl_divergence_prime",
    "linear_cross_entropy",
    "log_cosh",
    "log_cosh_prime",
    "log_poisson",
    "log_poisson_prime",
    "poisson",
    "poisson_prime",
    "quantile",
    "quantile_prime",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_prime",
    "softmax_cross_entropy",
    "softmax_cross_entropy_prime",
    "squared_error",
    "squared_error_prime",
    "squared_hinge",
    "squared_hinge_prime",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
