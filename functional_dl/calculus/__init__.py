"""The calculus of functions: limits, derivatives, gradients, the chain rule and Taylor series, each with honest errors."""

from functional_dl.calculus.limits import Limit as Limit
from functional_dl.calculus.limits import limit as limit
from functional_dl.calculus.limits import limit_of_sequence as limit_of_sequence
from functional_dl.calculus.taylor import taylor as taylor
