"""What is likely where nothing is certain: causes ordered by how much of the error each could account for.

`candidates` holds three causes.  Where a hypothesis explains every entry it leads; the places that are left are filled
from here, by traces that a cause leaves although no single fault reproduces the numbers: lengths, angles, zeros, the
entries in another order, the fault of one equation that brings the cotangent nearer to the user's.
"""

from collections import defaultdict

import numpy as np

from functional_dl.check.evidence import Evidence

# how often hand-written passes have each fault, before anything is known of this one
PRIOR = {
    "wrong_point": 1.0, "missing_term": 0.95, "missing_factor": 0.8, "wrong_branch": 0.45, "transpose": 0.35,
    "scale": 0.35,
    "shifted": 0.3, "not_transposed": 0.3, "mask_missing": 0.2,
    "missing_reduction": 0.3, "overwrite": 0.3, "sign": 0.1, "swapped": 0.1, "precision": 0.1,
}  # fmt: skip
REPEATS = {"gather", "scatter-add", "conv_general_dilated", "reduce_window_sum", "reduce_window_max", "concatenate"}
MOVES = {"pad", "slice", "dynamic_slice", "reduce_window_max", "reduce_window_sum", "conv_general_dilated", "cumsum"}
NEAR = 0.8  # a single fault that leaves less than this share of the error says something


def causes(evidence: Evidence) -> list[str]:
    """All causes that an unexplained cotangent may have, the likeliest first."""
    actual, expected = (
        np.stack(list(c)).reshape(len(evidence.trials), -1) for c in (evidence.actual, evidence.expected)
    )
    if not np.isfinite(actual).all() or not actual.size:
        return []
    score = defaultdict(float, PRIOR)
    for trace in (_size_and_angle, _order, _places, _kind):
        for cause, more in trace(evidence, actual, expected):
            score[cause] += more
    for cause, share in _nearest(evidence, actual, expected).items():
        score[cause] += 2 * (1 - share)
    return sorted(score, key=lambda cause: -score[cause])


def _size_and_angle(evidence, actual, expected):
    """|a| / |e| and the cosine between them."""
    long, short = np.linalg.norm(actual), np.linalg.norm(expected)
    if long == 0 or short == 0:
        return
    cosine = float(np.real(np.vdot(expected, actual))) / (long * short)
    error = float(np.linalg.norm(actual - expected)) / short
    if cosine > 0.7:
        yield "missing_term", 0.3
        yield "missing_factor", 0.1
    if cosine > 0.99 and abs(long / short - 1) > 0.05:
        yield "scale", 0.3
    if cosine < -0.7:
        yield "sign", 1.0
    if error < 0.02:
        yield "precision", 1.2
    if long < 0.9 * short:
        yield "missing_reduction", 0.2
        yield "overwrite", 0.2


def _order(evidence, actual, expected):
    """The right magnitudes in another order."""
    a, e = np.sort(np.abs(actual), axis=1), np.sort(np.abs(expected), axis=1)
    off = np.linalg.norm(a - e) / (np.linalg.norm(e) or 1.0)
    if actual.shape[1] > 2 and off < 1e-3:
        yield "transpose", 1.5
        yield "shifted", 0.9
    elif actual.shape[1] > 4 and off < 0.1:
        yield "transpose", 0.3
        yield "shifted", 0.3


def _places(evidence, actual, expected):
    """Which entries are wrong: few, or zero where they should not be."""
    bad = evidence.bad.reshape(-1)
    share = float(bad.mean())
    if share < 0.7:
        yield "wrong_branch", 0.6
        yield "overwrite", 0.3
        yield "shifted", 0.3
    zeros = np.all(actual == 0, axis=0) & bad
    ought = np.all(np.abs(expected) <= 1e-300, axis=0) & bad
    if zeros.mean() > 0.1 or ought.any():
        yield "wrong_branch", 0.7
    if zeros.mean() > 0.1:
        yield "missing_reduction", 0.6
        yield "overwrite", 0.6


def _kind(evidence, actual, expected):
    """What the function is made of."""
    if np.iscomplexobj(actual) and np.any(np.imag(actual)):
        yield "missing_conjugate", 1.3
    if evidence.elementwise:
        yield "wrong_point", 0.4
        yield "missing_factor", 0.4
        yield "wrong_branch", 0.4
        return
    found = evidence.simulate()
    names = {site.name for site in found.program.steps} if found is not None else set()
    if names & REPEATS:
        yield "overwrite", 0.3
        yield "missing_reduction", 0.2
    if names & MOVES:
        yield "shifted", 0.3
    if len(evidence.shape) >= 2:
        yield "transpose", 0.2


def _nearest(evidence, actual, expected) -> dict[str, float]:
    """Cause -> the least share of the error that one simulated fault of that cause leaves, where it is small."""
    found = evidence.simulate()
    if found is None:
        return {}
    missing = actual - expected
    whole = float(np.linalg.norm(missing))
    left: dict[str, float] = {}
    faults, responses = found.of_faults(evidence.until)
    if responses is not None:
        for fault, response in zip(faults, responses[evidence.k]):
            _keep(left, fault.cause, response.reshape(missing.shape) - missing, whole)
    if found.of_edges is not None:
        for response in found.of_edges[evidence.k]:
            _keep(left, "missing_term", response.reshape(missing.shape) + missing, whole)
    for fault, bars in [*found.of_repeated(evidence.until), *found.of_recomputed(evidence.until)]:
        _keep(left, fault.cause, bars[evidence.k].reshape(missing.shape) - actual, whole)
    return {cause: share for cause, share in left.items() if share < NEAR}


def _keep(left, cause, rest, whole):
    share = float(np.linalg.norm(rest)) / whole if np.isfinite(rest).all() and whole else np.inf
    left[cause] = min(left.get(cause, np.inf), share)
