"""Reverse-mode differentiation with every rule written by hand: a drop-in for jax.vjp, jax.grad and their kin."""

from functional_dl.reverse import rules
from functional_dl.reverse.api import checkpoint, grad, hessian, jacobian, jacrev, value_and_grad, vjp
from functional_dl.reverse.checkpointed import checkpointed_scan
from functional_dl.reverse.latex import Latex
from functional_dl.reverse.pullback import NotNeeded, Pullback
from functional_dl.reverse.rule import PRIMITIVES, RULES, Probe, Rule, Unsupported, Zero, vjp_rule

__all__ = [
    "PRIMITIVES",
    "RULES",
    "Latex",
    "NotNeeded",
    "Probe",
    "Pullback",
    "Rule",
    "Unsupported",
    "Zero",
    "checkpoint",
    "checkpointed_scan",
    "grad",
    "hessian",
    "jacobian",
    "jacrev",
    "rules",
    "value_and_grad",
    "vjp",
    "vjp_rule",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
