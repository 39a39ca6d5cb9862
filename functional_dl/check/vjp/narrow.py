"""Dtypes of few bits: a leaf as a whole, which shows what no entry does; the causes of the same pass in float32.

Over all trials two statistics of the departures d_i = actual_i - expected_i, both relative to the leaf's own size |e|:

  sqrt(sum d_i^2)           against that of the roundings,
  |sum e_i d_i| / |e|       (the projection: a factor that is wrong) against its standard error, which falls with the
                            number of entries as long as roundings are independent, and a part that they share.

An entry's rounding is some units in the last place of the terms that it sums, what JAX's own pullback loses there in
the caller's dtypes, and what the entry changes by when the primals are rounded another way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_unflatten

from functional_dl.check import reference
from functional_dl.check.evidence import Evidence
from functional_dl.check.function import Function, own_copy
from functional_dl.check.report import Finding, Report
from functional_dl.check.vjp.subject import BackwardPass
from functional_dl.precision import nan_allowed

COARSE = 1e-4  # eps from which a leaf is looked at as a whole: in finer dtypes an entry's tolerance is small by itself
SHARED = 4.0  # roundings that all entries of a leaf may have in common, such as that of a factor
OWN_DIGITS = 0.1  # eps, below which what a pass is off by in float32 is of no account
SINGLE = 12.0  # of a single entry besides, where there are few
OWN = 4.0  # times what JAX's pullback loses itself
SIGMAS = 6.0
SPREAD = 5.0  # |d_i| over its standard error, from which an entry is called wrong


@dataclass(frozen=True)
class Whole:
    """A leaf that is wrong as a whole.

    Fields:
      share: |d| / |e|; allowed: what rounding may make of it, whichever of the two statistics is violated.
      tolerance: for each trial what each entry may be off by.
    """

    share: float
    allowed: float
    tolerance: tuple[np.ndarray, ...]


def departure(evidence: Evidence, extra: Sequence[np.ndarray]) -> Whole | None:
    """How a leaf in a coarse dtype departs as a whole; None where rounding explains it, or nothing is known of it.

    Args:
      evidence: of the leaf.
      extra: for each trial what else each entry may be off by, as one standard error.
    """
    roundings = [t.rounding[evidence.k] for t in evidence.trials if t.rounding]
    losses = [np.nan_to_num(r.lost, nan=0.0, posinf=0.0, neginf=0.0) for r in roundings if r.lost is not None]
    if len(losses) < len(evidence.trials):
        return None
    unit = roundings[0].eps / 2
    if 2 * unit < COARSE:
        return None
    kept = ~evidence.blank if evidence.excused is None else ~(evidence.excused | evidence.blank)
    expected, actual = np.stack(evidence.expected)[:, kept], np.stack(evidence.actual)[:, kept]
    lost = np.stack(losses)[:, kept]
    size = np.stack([np.nan_to_num(r.size, nan=0.0, posinf=0.0) for r in roundings])[:, kept]
    more = np.stack(extra)[:, kept]
    tiny = np.finfo(np.float32).tiny if roundings[0].eps > 2e-3 else 2.0**-14  # of bfloat16, of float16
    length = float(np.sqrt(np.sum(np.abs(expected) ** 2)))
    if not expected.size or not length or not np.isfinite(actual).all():
        return None
    off = actual - expected
    common = SHARED + SINGLE / np.sqrt(expected.size)
    error = np.sqrt((unit * size) ** 2 + np.abs(lost) ** 2 + more**2 + tiny**2)
    # roundings of a leaf whose entries are like each other are alike: what JAX loses where is not known that well
    error = np.maximum(error, np.sqrt(np.mean(error**2 / np.maximum(size, tiny) ** 2)) * size)
    found = float(np.sqrt(np.sum(np.abs(off) ** 2)))
    allowed = common * unit * float(np.sqrt(np.sum(size**2))) + OWN * float(np.sqrt(np.sum(error**2)))
    shared = common * unit * float(np.sum(size * np.abs(expected))) + OWN * abs(np.vdot(expected, lost))
    projected = (shared + SIGMAS * float(np.sqrt(np.sum((error * np.abs(expected)) ** 2)))) / length
    along = abs(np.vdot(expected, off)) / length
    if found <= allowed and along <= projected:
        return None
    limit = [
        SPREAD * np.sqrt((unit * r.size) ** 2 + np.abs(own) ** 2 + m**2 + tiny**2)
        for r, own, m in zip(roundings, losses, extra)
    ]
    if found > allowed:
        return Whole(found / length, allowed / length, tuple(limit))
    return Whole(along / length, projected / length, tuple(limit))


def relative(evidence: Evidence) -> float:
    """|actual - expected| over the size of the terms, both over all trials; infinite where something is not finite."""
    off = np.stack(evidence.actual) - np.stack(evidence.expected)
    size = [r.size for r in (t.rounding[evidence.k] for t in evidence.trials if t.rounding)]
    if not np.isfinite(off).all() or not size:
        return np.inf
    length = float(np.sqrt(np.nansum(np.where(evidence.blank, 0.0, np.stack(size)) ** 2)))
    found = float(np.sqrt(np.sum(np.abs(off) ** 2)))
    return found / length if length else np.inf if found else 0.0


def in_single(subject: BackwardPass, run: Callable[[BackwardPass], Report]) -> dict[str, tuple[Finding, bool]] | None:
    """What a check of the same pass in float32 finds, by argument: few faults look alike there.

    With each finding stands whether it is more than a few roundings in the caller's dtypes; what is less than a
    part of one is no fault at all.  None where the caller's dtypes are fine enough, or where the pass is written
    for them alone.  Under the caller's flags: a pass that was traced with others might not run again (see
    Function).
    """
    function = subject.function
    coarsest = max(map(reference.eps, [*function.point, *function.own_outs]))
    if not function.traceable or coarsest < COARSE:
        return None
    leaves = [own_copy(x) for x in function.leaves]
    try:
        with nan_allowed():
            for i, x in zip(function.active, function.point):
                leaves[i] = x if reference.eps(x) < COARSE else jnp.asarray(x).astype(jnp.float32)
            again = Function(function.fun, tree_unflatten(function.tree, leaves))
            if any(reference.eps(y) > COARSE for y in again.own_outs):
                return None
            report = run(replace(subject, function=again, ct=None, least=OWN_DIGITS * coarsest))
    except Exception:  # the pass is written for the caller's dtypes
        return None
    if "JAX" not in report.reference or any(f.index is None for f in report.findings if not f.argument):
        return None
    if any(f.cause in ("structure", "dtype") for f in report.findings):
        return None
    shares = {a.path: a.share for a in report.arguments}
    return {f.argument: (f, shares.get(f.argument, np.inf) > SHARED * coarsest / 2) for f in report.findings}
