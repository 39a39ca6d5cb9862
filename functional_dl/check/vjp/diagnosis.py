"""From the evidence on wrong cotangents to findings: hypotheses ranked, and what several arguments say together."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from functional_dl.check import causes
from functional_dl.check.causes.relations import nonfinite
from functional_dl.check.evidence import CERTAIN, Evidence, Hypothesis
from functional_dl.check.reference import random_like
from functional_dl.check.report import ALIKE, Finding
from functional_dl.check.simulation import hypotheses
from functional_dl.check.simulation.program import has_conditions
from functional_dl.check.vjp import likely, regions
from functional_dl.check.vjp.excuse import Losses

ROUNDED = 0.02  # relative error that a cotangent of 8 bits may have
DIGITS = 0.3  # relative error up to which a fault may be one of digits, if other arguments have lost digits


def of_arguments(wrong: Sequence[Evidence], before: Sequence[Finding], until: float) -> list[Finding]:
    """A finding for each argument whose numbers are wrong.

    Args:
      wrong: the evidence on each.
      before: findings on the form of what was returned.
      until: time.monotonic() at which the search for causes ends.
    """
    found = [_diagnose(dataclasses.replace(evidence, until=until)) for evidence in wrong]
    named = {f.cause for f in found}
    coarse = {f.argument for f in before if f.cause == "dtype"}
    together = []
    for f, evidence in zip(found, wrong):
        if f.argument in coarse and (f.cause == "precision" or evidence.relative_error < ROUNDED):
            continue  # the digits went with the dtype, which is said already
        if f.cause == "unknown" and "precision" in named and evidence.relative_error < DIGITS:
            message = "The cotangent has lost digits, as those of other arguments have."
            f = dataclasses.replace(f, cause="precision", message=message, candidates=("precision", "unknown"))
        if f.cause == "unknown":  # one fault often shows in several arguments
            others = [other.cause for other in found if other.cause != "unknown"]
            f = dataclasses.replace(f, candidates=_three(["unknown", *others, *f.candidates]))
        together.append(f)
    return together


def as_in_single(
    named: dict[str, tuple[Finding, bool]], leaves: list[Evidence], before: list[Finding], losses: Losses
) -> tuple[list[Evidence], list[Finding]]:
    """The leaves and their findings, given those in float32; a leaf that is right there is wrong only if it has lost
    more digits than the pass itself must lose in the caller's dtypes."""
    found, judged = [], []
    if "" in named and not any(f.cause == "primal" for f in before):
        found.append(named[""][0])
    for evidence in leaves:
        finding, large = named.get(evidence.path, (None, False))
        if finding is not None and (large or evidence.bad.any()):
            evidence = dataclasses.replace(evidence, ratio=np.maximum(evidence.ratio, 1.0 + 1e-9))
            found.append(finding if finding.index is None else _with_cause_of(finding, evidence))
        elif evidence.bad.any():
            lost = losses()[evidence.k]
            if lost is not None and np.isfinite(evidence.actual).all():
                within = evidence.with_ratio([one.rounded for one in lost]).ratio <= 1
                evidence = dataclasses.replace(
                    evidence, ratio=np.where(within, np.minimum(evidence.ratio, 1.0), evidence.ratio)
                )
            if evidence.bad.any():
                found.append(_of_digits(evidence))
        judged.append(evidence)
    return judged, found


def _three(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))[:3]


def _with_cause_of(finding: Finding, evidence: Evidence) -> Finding:
    """The cause that was found in float32, with the numbers of the evidence."""
    return _finding(finding.cause, finding.message, finding.candidates, evidence)


def _of_digits(evidence: Evidence) -> Finding:
    """Of a pass that is right in float32."""
    found = nonfinite(evidence)
    if found is not None:
        return _finding(found.cause, found.message, ("nonfinite", *ALIKE["nonfinite"]), evidence)
    message = (
        f"The cotangent is off by {evidence.relative_error:.2g} of its size; the same backward pass is right in "
        "float32: digits are lost on the way."
    )
    return _finding("precision", message, ("precision", *ALIKE["precision"]), evidence)


def _diagnose(evidence: Evidence) -> Finding:
    found = causes.hypotheses(evidence)
    if not found or found[0].rank > CERTAIN:
        found = sorted([*found, *hypotheses.hypotheses(evidence)], key=lambda h: h.rank)
    if any(h.cause == "wrong_point" for h in found) and _piecewise_linear(evidence):
        # the derivative knows the point through conditions alone: a wrong value is a wrong condition
        found = [Hypothesis("wrong_branch", h.ground, h.message) if h.cause == "wrong_point" else h for h in found]
    named: dict[str, Hypothesis] = {}
    for h in found:
        named.setdefault(h.cause, h)
    ranked = list(named.values())
    wrong = evidence.bad
    if not ranked and regions.is_end(wrong) and all(not np.any(a[wrong]) for a in evidence.actual):
        message = f"{_where(evidence, wrong)}: a bound or a mask leaves it out."
        return _finding("wrong_branch", message, _three(["wrong_branch", "unknown", "missing_reduction"]), evidence)
    if ranked:
        cause, message = ranked[0].cause, ranked[0].message
    else:
        cause, message = "unknown", f"{_where(evidence, wrong)}; no single known fault explains them."
    return _finding(cause, message, _candidates(ranked, found, evidence), evidence)


def _finding(cause, message, candidates, evidence: Evidence) -> Finding:
    """A finding at the entry that is furthest from what is allowed."""
    ratio = evidence.ratio
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape)) if ratio.shape else ()
    trial = max(range(len(evidence.trials)), key=lambda n: _off(evidence, n, index))
    a, e, t = evidence.actual[trial][index], evidence.expected[trial][index], evidence.tolerance[trial][index]
    return Finding(cause, evidence.path, message, index, e.item(), a.item(), float(abs(a - e)), float(t), candidates)


def _where(evidence, wrong) -> str:
    """The wrong entries in words."""
    region = regions.name(wrong)
    share = f"{int(wrong.sum())} of {wrong.size} entries are wrong"
    if not region:
        return share
    zero = all(not np.any(a[wrong]) for a in evidence.actual)
    return f"{share}: all of {region} is {'zero' if zero else 'wrong'}, the rest is right"


def _candidates(ranked, found, evidence) -> tuple[str, ...]:
    if not ranked:
        return _three(["unknown", *[h.cause for h in found], *likely.causes(evidence)])
    alike = ALIKE.get(ranked[0].cause, ())
    if ranked[0].rank > CERTAIN:
        return _three([*[h.cause for h in ranked], *alike[:1], *likely.causes(evidence), *alike])
    return _three([*[h.cause for h in ranked], *alike])


def _piecewise_linear(evidence) -> bool:
    """Whether the right cotangent stays when all primals move a little."""
    if evidence.reference.source != "autodiff" or not has_conditions(evidence):
        return False
    function, trial = evidence.function, evidence.trials[0]
    for _ in range(2):
        moved = [x + 1e-6 * s * random_like(x, evidence.rng) for x, s in zip(function.wide_point, function.scales)]
        bar = evidence.pull_at(moved, trial.cts)
        size = float(np.max(np.abs(trial.expected[evidence.k]), initial=0.0))
        if not np.max(np.abs(bar - trial.expected[evidence.k]), initial=0.0) <= 1e-11 * size:
            return False
    return True


def _off(evidence, n, index) -> float:
    a, e, t = evidence.actual[n][index], evidence.expected[n][index], evidence.tolerance[n][index]
    off = abs(a - e) / t
    return float(off) if np.isfinite(off) else np.inf
