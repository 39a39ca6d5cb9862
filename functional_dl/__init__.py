"""The calculus behind deep learning as pure JAX functions, every derivative derived by hand."""

from functional_dl import (
    activations,
    backprop,
    calculus,
    check,
    derivations,
    explain,
    initializers,
    integrals,
    layers,
    losses,
    models,
    optimality,
    penalties,
    reverse,
    training,
    tree,
)

__all__ = [
    "__version__",
    "activations",
    "backprop",
    "calculus",
    "check",
    "derivations",
    "explain",
    "initializers",
    "integrals",
    "layers",
    "losses",
    "models",
    "optimality",
    "penalties",
    "reverse",
    "training",
    "tree",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__


__version__ = "0.1.0"
