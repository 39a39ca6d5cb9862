"""Networks, one per file: init(key, ...) -> params and apply(params, x, ...) -> output, both pure."""

from functional_dl.models import linear, logistic, mlp

__all__ = ["linear", "logistic", "mlp"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
