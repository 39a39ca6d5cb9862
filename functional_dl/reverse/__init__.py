"""Reverse-mode differentiation with every rule written by hand: a drop-in for jax.vjp, jax.grad and their kin."""

from functional_dl.reverse import rules as rules
from functional_dl.reverse.api import checkpoint as checkpoint
from functional_dl.reverse.api import grad as grad
from functional_dl.reverse.api import hessian as hessian
from functional_dl.reverse.api import jacobian as jacobian
from functional_dl.reverse.api import jacrev as jacrev
from functional_dl.reverse.api import value_and_grad as value_and_grad
from functional_dl.reverse.api import vjp as vjp
from functional_dl.reverse.checkpointed import checkpointed_scan as checkpointed_scan
from functional_dl.reverse.latex import Latex as Latex
from functional_dl.reverse.rule import PRIMITIVES as PRIMITIVES
from functional_dl.reverse.rule import RULES as RULES
from functional_dl.reverse.rule import Probe as Probe
from functional_dl.reverse.rule import Rule as Rule
from functional_dl.reverse.rule import Unsupported as Unsupported
from functional_dl.reverse.rule import Zero as Zero
from functional_dl.reverse.rule import vjp_rule as vjp_rule
