"""Activations: maps of pre-activations z, each with its derivative by hand, its kinks and a source.

`ACTIVATIONS[name]` is an `Activation(fun, prime, kinks, source, formula, elementwise)`; the functions
themselves are here too: `activations.relu(z)`.  All but softmax and log_softmax work entry by entry.  Every
one of them is defined for z of any shape and any floating dtype; neither it nor its jax.grad is NaN at a
finite z, however large.
"""

from functional_dl.activations.normalised import log_softmax, log_softmax_prime, softmax, softmax_prime
from functional_dl.activations.rectifiers import (
    celu,
    celu_prime,
    elu,
    elu_prime,
    identity,
    identity_prime,
    leaky_relu,
    leaky_relu_prime,
    relu,
    relu6,
    relu6_prime,
    relu_prime,
    selu,
    selu_prime,
)
from functional_dl.activations.saturating import (
    hard_sigmoid,
    hard_sigmoid_prime,
    hard_swish,
    hard_swish_prime,
    hard_tanh,
    hard_tanh_prime,
    sigmoid,
    sigmoid_prime,
    softsign,
    softsign_prime,
    tanh,
    tanh_prime,
)
from functional_dl.activations.smooth import (
    gelu,
    gelu_prime,
    gelu_tanh,
    gelu_tanh_prime,
    log_sigmoid,
    log_sigmoid_prime,
    mish,
    mish_prime,
    silu,
    silu_prime,
    softplus,
    softplus_prime,
)
from functional_dl.activations.table import ACTIVATIONS, Activation, Name, get
from functional_dl.kinks import Kink

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Kink",
    "Name",
    "celu",
    "celu_prime",
    "elu",
    "elu_prime",
    "gelu",
    "gelu_prime",
    "gelu_tanh",
    "gelu_tanh_prime",
    "get",
    "hard_sigmoid",
    "hard_sigmoid_prime",
    "hard_swish",
    "hard_swish_prime",
    "hard_tanh",
    "hard_tanh_prime",
    "identity",
    "identity_prime",
    "leaky_relu",
    "leaky_relu_prime",
    "log_sigmoid",
    "log_sigmoid_prime",
    "log_softmax",
    "log_softmax_prime",
    "mish",
    "mish_prime",
    "relu",
    "relu6",
    "relu6_prime",
    "relu_prime",
    "selu",
    "selu_prime",
    "sigmoid",
    "sigmoid_prime",
    "silu",
    "silu_prime",
    "softmax",
    "softmax_prime",
    "softplus",
    "softplus_prime",
    "softsign",
    "softsign_prime",
    "tanh",
    "tanh_prime",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
