"""The table of losses: function, hand derivative, kinks, source, domains and formula of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from functional_dl.aliases import Array
from functional_dl.arguments import choice, described, lookup
from functional_dl.kinks import Kink
from functional_dl.losses import classification, margin, regression

# What a prediction or a target may be: the tests draw from these.
Domain: TypeAlias = Literal["real", "unit", "positive", "count", "sign", "simplex", "vector"]
Name: TypeAlias = Literal[
    "squared_error", "half_squared_error", "absolute_error", "huber", "log_cosh", "quantile", "gaussian_nll", "poisson",
    "log_poisson", "binary_cross_entropy", "sigmoid_cross_entropy", "focal", "cross_entropy", "softmax_cross_entropy",
    "kl_divergence", "hinge", "squared_hinge", "cosine",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class Loss:
    """A loss and what is known about it.

    Fields:
      fun: l(pred, target), one number per example.
      prime: dl/dpred by hand, shape of pred (of the sum over examples, each example depending on itself
        alone).
      kinks: examples (pred, target) without a derivative in pred, and the value taken; () for a smooth one.
      source: where it comes from.
      formula: l as a Python expression in p (pred), t (target) and the functions of mpmath, for numbers; for
        lists over the last axis where `reduces`.  The tests evaluate it at 50 digits.
      pred, target: the domains, of `Domain`: real, unit [0, 1], positive, count (0, 1, 2, ...), sign (-1 or
        1), simplex (a distribution on the last axis), vector (real, last axis).
      reduces: whether the last axis is summed away.
    """

    fun: Callable[..., Array]
    prime: Callable[..., Array]
    kinks: tuple[Kink, ...]
    source: str
    formula: str
    pred: Domain = "real"
    target: Domain = "real"
    reduces: bool = False

    def __repr__(self) -> str:
        return f"Loss({self.fun.__name__}: {self.formula})"

    def __post_init__(self) -> None:
        for name in ("pred", "target"):
            choice(name, getattr(self, name), get_args(Domain))


_XLOGY = "(0 if {0} == 0 else {0}*log({1}))"
_KL = "fsum((0 if b == 0 else b*log(b/a)) for a, b in zip(p, t))"
_FOCAL = "-t*(1 - 1/(1 + exp(-p)))**2*log(1/(1 + exp(-p))) - (1 - t)/(1 + exp(-p))**2*log(1/(1 + exp(p)))"

LOSSES: dict[str, Loss] = {
    "squared_error": Loss(regression.squared_error, regression.squared_error_prime, (), "Legendre 1805", "(p - t)**2"),
    "half_squared_error": Loss(
        regression.half_squared_error,
        regression.half_squared_error_prime,
        (),
        "Goodfellow, Bengio, Courville 2016, section 4.3",
        "(p - t)**2/2",
    ),
    "absolute_error": Loss(
        regression.absolute_error,
        regression.absolute_error_prime,
        (Kink((2.0, 2.0), left=-1.0, right=1.0, value=0.0, jax=1.0, pytorch=0.0, where="pred = target"),),
        "Boyd and Vandenberghe 2004, section 6.1",
        "abs(p - t)",
    ),
    "huber": Loss(
        regression.huber,
        regression.huber_prime,
        (),
        "Huber 1964",
        "(p - t)**2/2 if abs(p - t) <= 1 else abs(p - t) - mpf(1)/2",
    ),
    "log_cosh": Loss(regression.log_cosh, regression.log_cosh_prime, (), "Green 1990", "log(cosh(p - t))"),
    "quantile": Loss(
        regression.quantile,
        regression.quantile_prime,
        (Kink((2.0, 2.0), left=-0.5, right=0.5, value=0.0, where="pred = target"),),
        "Koenker and Bassett 1978",
        "abs(p - t)/2",
    ),
    "gaussian_nll": Loss(
        regression.gaussian_nll,
        regression.gaussian_nll_prime,
        (),
        "Nix and Weigend 1994",
        "(log(2*pi) + (p - t)**2)/2",
    ),
    "poisson": Loss(
        regression.poisson,
        regression.poisson_prime,
        (),
        "McCullagh and Nelder 1989, chapter 6",
        f"p - {_XLOGY.format('t', 'p')}",
        pred="positive",
        target="count",
    ),
    "log_poisson": Loss(
        regression.log_poisson,
        regression.log_poisson_prime,
        (),
        "McCullagh and Nelder 1989, chapter 6",
        "exp(p) - t*p",
        target="count",
    ),
    "binary_cross_entropy": Loss(
        classification.binary_cross_entropy,
        classification.binary_cross_entropy_prime,
        (),
        "Goodfellow, Bengio, Courville 2016, section 6.2.2.2",
        f"-{_XLOGY.format('t', 'p')} - {_XLOGY.format('(1 - t)', '(1 - p)')}",
        pred="unit",
        target="unit",
    ),
    "sigmoid_cross_entropy": Loss(
        classification.sigmoid_cross_entropy,
        classification.sigmoid_cross_entropy_prime,
        (),
        "Goodfellow, Bengio, Courville 2016, section 6.2.2.2",
        "log1p(exp(p)) - t*p",
        target="unit",
    ),
    "focal": Loss(classification.focal, classification.focal_prime, (), "Lin et al. 2017", _FOCAL, target="unit"),
    "cross_entropy": Loss(
        classification.cross_entropy,
        classification.cross_entropy_prime,
        (),
        "Goodfellow, Bengio, Courville 2016, section 3.13",
        f"-fsum({_XLOGY.format('b', 'a')} for a, b in zip(p, t))",
        pred="simplex",
        target="simplex",
        reduces=True,
    ),
    "softmax_cross_entropy": Loss(
        classification.softmax_cross_entropy,
        classification.softmax_cross_entropy_prime,
        (),
        "Goodfellow, Bengio, Courville 2016, section 6.2.2.3",
        "-fsum((0 if b == 0 else b*(a - log(fsum(exp(c) for c in p)))) for a, b in zip(p, t))",
        pred="vector",
        target="simplex",
        reduces=True,
    ),
    "kl_divergence": Loss(
        classification.kl_divergence,
        classification.kl_divergence_prime,
        (),
        "Kullback and Leibler 1951",
        _KL,
        pred="simplex",
        target="simplex",
        reduces=True,
    ),
    "hinge": Loss(
        margin.hinge,
        margin.hinge_prime,
        (
            Kink((1.0, 1.0), left=-1.0, right=0.0, value=0.0, jax=-0.5, where="target pred = 1, target = 1"),
            Kink((-1.0, -1.0), left=0.0, right=1.0, value=0.0, jax=0.5, where="target pred = 1, target = -1"),
        ),
        "Cortes and Vapnik 1995",
        "max(0, 1 - t*p)",
        target="sign",
    ),
    "squared_hinge": Loss(
        margin.squared_hinge,
        margin.squared_hinge_prime,
        (),
        "Lee and Mangasarian 2001",
        "max(0, 1 - t*p)**2",
        target="sign",
    ),
    "cosine": Loss(
        margin.cosine,
        margin.cosine_prime,
        (),
        "Salton, Wong, Yang 1975",
        "1 - fsum(a*b for a, b in zip(p, t))/sqrt(fsum(a*a for a in p)*fsum(b*b for b in t))",
        pred="vector",
        target="vector",
        reduces=True,
    ),
}


def get(loss: str | Loss) -> Loss:
    """The entry of that name; a Loss is returned as it is.

    Raises:
      ValueError: no loss has that name.  TypeError: it is neither a name nor a Loss.
    Example:
      >>> float(losses.get("squared_error").fun(3.0, 1.0))
      4.0
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss: expected a name or a Loss, got {described(loss)}")
    return lookup("loss", loss, LOSSES)
