"""Backward passes with known faults, and right ones: what `check` is measured on.

Written as engineers write them and get them wrong, each labelled with the cause before the checker saw it.
"""

from experiments.corpus import attention as attention
from experiments.corpus import complex_numbers as complex_numbers
from experiments.corpus import controls as controls
from experiments.corpus import convolution_pooling as convolution_pooling
from experiments.corpus import dense as dense
from experiments.corpus import domains as domains
from experiments.corpus import elementwise as elementwise
from experiments.corpus import indexing as indexing
from experiments.corpus import later as later
from experiments.corpus import linear_algebra as linear_algebra
from experiments.corpus import normalisation as normalisation
from experiments.corpus import recurrent as recurrent
from experiments.corpus import reductions_broadcast as reductions_broadcast
from experiments.corpus import reported as reported
from experiments.corpus import softmax_losses as softmax_losses
from experiments.corpus import trees as trees
from experiments.corpus.case import CORPUS as CORPUS
from experiments.corpus.case import Case as Case
