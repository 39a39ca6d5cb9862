"""The cotangent is right up to a permutation of axes."""

import itertools

import numpy as np

from functional_dl.check.evidence import Evidence, Hypothesis


def test(evidence: Evidence) -> Hypothesis | None:
    """actual = expected with its axes permuted, or with the entries read in the order of permuted axes."""
    ndim = len(evidence.shape)
    if not 2 <= ndim <= 5 or max(evidence.shape) < 2:
        return None
    for order in itertools.permutations(range(ndim)):
        if order == tuple(range(ndim)):
            continue
        turned = [np.transpose(e, order) for e in evidence.expected]
        if turned[0].shape == evidence.shape and evidence.explains(turned):
            return Hypothesis("transpose", 0.97, f"The cotangent is the right one with its axes permuted to {order}.")
        if turned[0].shape != evidence.shape:
            reread = [t.reshape(evidence.shape) for t in turned]
            if evidence.explains(reread):
                return Hypothesis(
                    "transpose",
                    0.97,
                    f"The cotangent is the right one with axes permuted to {order} and then reshaped back, which "
                    "mixes its entries: a reshape stands where a transpose should.",
                )
    return None
