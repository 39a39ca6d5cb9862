"""From samples to their limit: several extrapolations, each with an error; those that contradict one another lose.

`polynomial` fits value = L + c_1 w + c_2 w^2 + ... in w = h, h^2, sqrt h or 1/u through neighbouring samples
(Neville), whose windows of neighbouring sizes and places must agree; `shanks` needs no exponents but samples in
geometric progression.

Sources: Richardson 1911; Wynn, On a device for computing the e_m(S_n) transformation, MTAC 10 (1956) 91.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from functional_dl.calculus.samples import Samples

SAFETY = 8.0
MOST = 8  # terms of an expansion


class Candidate(NamedTuple):
    value: float
    error: float
    law: str


def polynomial(samples: Samples, w: np.ndarray, law: str) -> Candidate | None:
    """Neville's scheme towards w = 0; the entry that differs least from its neighbours, rounding included."""
    value, noise = samples.value, samples.noise
    count = len(value)
    if count < 5 or not (np.diff(w) < 0).all():
        return None
    table, rounding = [value], [noise]
    best = None
    for order in range(1, min(MOST, count - 2) + 1):
        w0, w1 = w[:-order], w[order:]
        t, r = table[-1], rounding[-1]
        new = (w0 * t[1:] - w1 * t[:-1]) / (w0 - w1)
        rounded = (np.abs(w0) * r[1:] + np.abs(w1) * r[:-1]) / np.abs(w0 - w1)
        table.append(new)
        rounding.append(rounded)
        if order < 2:
            continue
        change = np.maximum(np.abs(new[1:] - new[:-1]), np.abs(new[1:] - t[2:]))
        # the step before must have helped: a law that does not hold stops improving at once
        earlier = np.maximum(np.abs(t[2:] - t[1:-1]), np.abs(t[2:] - table[-3][3:]))
        error = SAFETY * np.maximum(change, 0.01 * earlier) + 4 * rounded[1:]
        error[~np.isfinite(error)] = np.inf
        k = int(np.argmin(error))
        if np.isfinite(error[k]) and (best is None or error[k] < best.error):
            best = Candidate(float(new[1 + k]), float(error[k]), law)
    return best


def shanks(samples: Samples, law: str) -> Candidate | None:
    """Wynn's epsilon table of samples in geometric progression: exact for sums of powers of h (or u) with
    logarithms."""
    value, noise = samples.value, samples.noise
    if len(value) < 6:
        return None
    before, now = np.zeros(len(value) + 1), value.copy()
    even = [now]
    with np.errstate(all="ignore"):
        for _ in range(min(2 * MOST, len(value) - 1)):
            before, now = now, before[1:-1] + 1 / (now[1:] - now[:-1])
            even.append(now)
    best = None
    for order in range(2, len(even), 2):
        new, old = even[order], even[order - 2]
        if len(new) < 2:
            break
        change = np.maximum(np.abs(new[1:] - new[:-1]), np.abs(new[1:] - old[-len(new) + 1 :]))
        with np.errstate(all="ignore"):
            # rounding grows by the square of 1 / (1 - q), q the ratio of neighbouring differences
            steps = np.abs(np.diff(value))[-len(new) + 1 :]
            growth = (np.abs(new[1:] - value[-len(new) + 1 :]) / np.maximum(steps, 1e-300)) ** 2 + 1
            error = SAFETY * (order / 2) * change + 4 * growth * noise[-len(new) + 1 :]
        error[~np.isfinite(error)] = np.inf
        k = int(np.argmin(error))
        if np.isfinite(error[k]) and (best is None or error[k] < best.error):
            best = Candidate(float(new[1 + k]), float(error[k]), law)
    return best


def consistent(found: Sequence[Candidate | None]) -> Candidate | None:
    """The one of least error, enlarged to cover what contradicts it."""
    candidates = [c for c in found if c is not None]
    if not candidates:
        return None
    best = min(candidates, key=lambda c: c.error)
    error = best.error
    for other in candidates:
        gap = abs(other.value - best.value)
        if gap > best.error + other.error:
            error = max(error, gap)
    return best._replace(error=error)
