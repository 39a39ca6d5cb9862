"""The table of activations: function, hand derivative, kinks, source and formula of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from functional_dl.activations import normalised, rectifiers, saturating, smooth
from functional_dl.activations.rectifiers import SELU_ALPHA, SELU_SCALE
from functional_dl.aliases import Array
from functional_dl.arguments import described, lookup
from functional_dl.kinks import Kink

Name: TypeAlias = Literal[
    "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "celu", "softplus", "gelu", "gelu_tanh", "silu",
    "mish", "hard_tanh", "relu6", "hard_sigmoid", "hard_swish", "softsign", "log_sigmoid", "softmax", "log_softmax",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Activation:
    """An activation and what is known about it.

    Fields:
      fun: a = f(z).
      prime: f'(z), by hand: the elementwise derivative, shape of z; where `elementwise` is False the Jacobian
        over the last axis, J[..., i, j] = da_i/dz_j, shape (*batch, k, k).
      kinks: the points without a derivative and the value taken there; () for a smooth function.
      source: where it comes from.
      formula: f as a Python expression in z and the functions of mpmath; the tests evaluate it at 50 digits
        and more, and its derivative too.  Where `elementwise` is False z is a list and the expression the
        list f(z).
      elementwise: whether entry i of f(z) depends on entry i of z alone.
    """

    fun: Callable[..., Array]
    prime: Callable[..., Array]
    kinks: tuple[Kink, ...]
    source: str
    formula: str
    elementwise: bool = True

    def __repr__(self) -> str:
        return f"Activation({self.fun.__name__}: {self.formula})"


_SELU = SELU_SCALE * SELU_ALPHA
_CUBIC = "sqrt(2/pi)*(z + mpf('0.044715')*z**3)"

ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(rectifiers.identity, rectifiers.identity_prime, (), "linear models", "z"),
    "sigmoid": Activation(
        saturating.sigmoid,
        saturating.sigmoid_prime,
        (),
        "Goodfellow, Bengio, Courville 2016, section 3.10",
        "1/(1 + exp(-z))",
    ),
    "tanh": Activation(saturating.tanh, saturating.tanh_prime, (), "LeCun et al. 1998", "tanh(z)"),
    "relu": Activation(
        rectifiers.relu,
        rectifiers.relu_prime,
        (Kink(0.0, left=0.0, right=1.0, value=0.0, jax=0.0, pytorch=0.0),),
        "Nair and Hinton 2010",
        "max(z, 0)",
    ),
    "leaky_relu": Activation(
        rectifiers.leaky_relu,
        rectifiers.leaky_relu_prime,
        (Kink(0.0, left=0.01, right=1.0, value=1.0, jax=1.0, pytorch=0.01),),
        "Maas, Hannun, Ng 2013",
        "z if z >= 0 else mpf('0.01')*z",
    ),
    "elu": Activation(
        rectifiers.elu,
        rectifiers.elu_prime,
        (),
        "Clevert, Unterthiner, Hochreiter 2016",
        "z if z > 0 else expm1(z)",
    ),
    "selu": Activation(
        rectifiers.selu,
        rectifiers.selu_prime,
        (Kink(0.0, left=_SELU, right=SELU_SCALE, value=_SELU, jax=_SELU, pytorch=_SELU),),
        "Klambauer, Unterthiner, Mayr, Hochreiter 2017",
        "mpf('1.0507009873554804934193349852946')*(z if z > 0 else mpf('1.6732632423543772848170429916717')*expm1(z))",
    ),
    "celu": Activation(rectifiers.celu, rectifiers.celu_prime, (), "Barron 2017", "z if z > 0 else expm1(z)"),
    "softplus": Activation(smooth.softplus, smooth.softplus_prime, (), "Dugas et al. 2001", "log1p(exp(z))"),
    "gelu": Activation(smooth.gelu, smooth.gelu_prime, (), "Hendrycks and Gimpel 2016", "z*erfc(-z/sqrt(2))/2"),
    "gelu_tanh": Activation(
        smooth.gelu_tanh,
        smooth.gelu_tanh_prime,
        (),
        "Hendrycks and Gimpel 2016",
        f"z/(1 + exp(-2*{_CUBIC}))",
    ),
    "silu": Activation(smooth.silu, smooth.silu_prime, (), "Elfwing, Uchibe, Doya 2018", "z/(1 + exp(-z))"),
    "mish": Activation(smooth.mish, smooth.mish_prime, (), "Misra 2019", "z*tanh(log1p(exp(z)))"),
    "hard_tanh": Activation(
        saturating.hard_tanh,
        saturating.hard_tanh_prime,
        (
            Kink(-1.0, left=0.0, right=1.0, value=1.0, jax=1.0, pytorch=0.0),
            Kink(1.0, left=1.0, right=0.0, value=1.0, jax=1.0, pytorch=0.0),
        ),
        "Collobert 2004",
        "min(max(z, -1), 1)",
    ),
    "relu6": Activation(
        rectifiers.relu6,
        rectifiers.relu6_prime,
        (
            Kink(0.0, left=0.0, right=1.0, value=0.0, jax=0.0, pytorch=0.0),
            Kink(6.0, left=1.0, right=0.0, value=0.0, jax=0.0, pytorch=0.0),
        ),
        "Krizhevsky 2010",
        "min(max(z, 0), 6)",
    ),
    "hard_sigmoid": Activation(
        saturating.hard_sigmoid,
        saturating.hard_sigmoid_prime,
        (
            Kink(-3.0, left=0.0, right=1 / 6, value=0.0, jax=0.0, pytorch=0.0),
            Kink(3.0, left=1 / 6, right=0.0, value=0.0, jax=0.0, pytorch=0.0),
        ),
        "Howard et al. 2019",
        "min(max(z + 3, 0), 6)/6",
    ),
    "hard_swish": Activation(
        saturating.hard_swish,
        saturating.hard_swish_prime,
        (
            Kink(-3.0, left=0.0, right=-0.5, value=0.0, jax=0.0, pytorch=0.0),
            Kink(3.0, left=1.5, right=1.0, value=1.0, jax=1.0, pytorch=1.0),
        ),
        "Howard et al. 2019",
        "z*min(max(z + 3, 0), 6)/6",
    ),
    "log_sigmoid": Activation(
        smooth.log_sigmoid,
        smooth.log_sigmoid_prime,
        (),
        "Goodfellow, Bengio, Courville 2016, section 3.10",
        "-log1p(exp(-z))",
    ),
    "softsign": Activation(
        saturating.softsign, saturating.softsign_prime, (), "Bergstra et al. 2009", "z/(1 + abs(z))"
    ),
    "softmax": Activation(
        normalised.softmax,
        normalised.softmax_prime,
        (),
        "Bridle 1990",
        "[exp(v)/fsum(exp(w) for w in z) for v in z]",
        elementwise=False,
    ),
    "log_softmax": Activation(
        normalised.log_softmax,
        normalised.log_softmax_prime,
        (),
        "Blanchard, Higham, Higham 2021",
        "[v - log(fsum(exp(w) for w in z)) for v in z]",
        elementwise=False,
    ),
}


def get(activation: str | Activation | Callable[..., Array]) -> Activation:
    """The entry of that name; an Activation is returned as it is.

    Raises:
      ValueError: no activation has that name.  TypeError: it is neither a name nor an Activation; a bare
        function has no hand derivative.
    Example:
      >>> activations.get("relu").prime(jnp.array([-1.0, 2.0])).tolist()
      [0.0, 1.0]
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise TypeError(f"activation: expected a name or an Activation, got {described(activation)}")
    return lookup("activation", activation, ACTIVATIONS)
