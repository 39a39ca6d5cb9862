"""The calculus behind deep learning as pure JAX functions, every derivative derived by hand."""

from functional_dl import activations as activations
from functional_dl import backprop as backprop
from functional_dl import calculus as calculus
from functional_dl import check as check
from functional_dl import derivations as derivations
from functional_dl import explain as explain
from functional_dl import initializers as initializers
from functional_dl import integrals as integrals
from functional_dl import layers as layers
from functional_dl import losses as losses
from functional_dl import models as models
from functional_dl import optimality as optimality
from functional_dl import penalties as penalties
from functional_dl import reverse as reverse
from functional_dl import training as training
from functional_dl import tree as tree

__version__ = "0.1.0"
