"""A check of a backward pass: form -> trials -> linearity -> comparison -> excuse -> diagnosis -> report.

Each stage is a function from frozen records to frozen records; findings are appended once, at the end.
"""

import numpy as np

from functional_dl.check.evidence import Evidence
from functional_dl.check.report import Argument, Finding, Report
from functional_dl.check.vjp import excuse, linearity, narrow
from functional_dl.check.vjp.form import Form, form_of
from functional_dl.check.vjp.subject import BackwardPass
from functional_dl.check.vjp.trials import Trials, along_directions, trials_of
from functional_dl.precision import double

STATEFUL = ("nondeterministic", "accumulated")
SOURCES = {
    "autodiff": "JAX's derivative in double precision, itself held against differences",
    "numeric": "differences of fun's values",
}
IN_OWN_DTYPES = {
    "autodiff": "JAX's derivative in the caller's dtypes, as fun is not evaluated in double precision",
    "numeric": "differences of fun's values in the caller's dtypes, as fun is not evaluated in double precision",
}


@np.errstate(all="ignore")  # among the numbers may be some that are not finite, or overflow
def run(subject: BackwardPass) -> Report:
    """The report on a pass."""
    form = form_of(subject)
    if form.wrong is None:
        return Report(subject.name, tuple(form.findings), (), "", form.comparisons)
    trials = trials_of(subject, form)
    calls = linearity.calls_of(subject, trials.call, form.cts, trials.answers)
    if not trials.trials:
        return _without_reference(subject, form, trials, calls)
    losses = excuse.losses_of(subject, [t.cts for t in trials.trials])
    unsound = _unsound(subject, trials, calls, losses)
    stateful = any(f.cause in STATEFUL for f in unsound.values())
    if stateful:  # what keeps a state is not traced: it would keep tracers
        losses = lambda: [None] * len(subject.function.active)
    leaves = [trials.evidence(subject.function, subject.rng, k) for k in trials.places]
    leaves = [excuse.at_kinks(evidence) for evidence in leaves]
    leaves = [excuse.of_rounding(subject, evidence, losses) for evidence in leaves]
    leaves = [excuse.as_a_whole(subject, evidence) for evidence in leaves]
    named = None if stateful else narrow.in_single(subject, run)
    wrong = [evidence for evidence in leaves if evidence.k not in unsound and evidence.bad.any()]
    found = list(unsound.values())
    if named is not None:
        leaves, found = _diagnosis().as_in_single(named, leaves, form.findings, losses)
        unsound = {}
    elif wrong:
        found += _diagnosis().of_arguments(wrong, form.findings, subject.until)
    shown = [evidence for evidence in leaves if evidence.k not in unsound]
    compared = sum(int((~evidence.blank).sum()) * len(trials.trials) for evidence in shown)
    sources = SOURCES if subject.function.precision is double else IN_OWN_DTYPES
    return Report(
        subject.name,
        (*form.findings, *found),
        tuple(_figures(evidence) for evidence in shown),
        sources[trials.reference.source],
        form.comparisons + compared,
        trials.notes,
    )


def _diagnosis():
    """What names causes: imported when a fault is found, as most checks find none."""
    from functional_dl.check.vjp import diagnosis

    return diagnosis


def _unsound(
    subject: BackwardPass, trials: Trials, calls: linearity.Calls, losses: excuse.Losses
) -> dict[int, Finding]:
    """The leaves whose pullback is no linear function; seen twice where the terms may cancel."""
    first, second = (t.tolerance for t in trials.trials[:2])
    noise = [2 * a + b for a, b in zip(first, second)]
    found = linearity.faults(subject, trials.places, calls, noise, trials.trials)
    if not found:
        return {}
    if any(f.cause in STATEFUL for f in found.values()):
        losses = lambda: [None] * len(subject.function.active)
    for k in found:
        evidence = trials.evidence(subject.function, subject.rng, k)
        noise[k] = noise[k] + excuse.noise(subject, evidence, losses)
    return linearity.faults(subject, trials.places, calls, noise, trials.trials)


def _figures(evidence: Evidence) -> Argument:
    """A leaf in the report."""
    worst = float(np.max(evidence.ratio, initial=0.0))
    dtype, wrong = str(evidence.function.point[evidence.k].dtype), int(evidence.bad.sum())
    return Argument(evidence.path, evidence.shape, dtype, worst, wrong, narrow.relative(evidence), evidence.ratio)


def _without_reference(subject: BackwardPass, form: Form, trials: Trials, calls: linearity.Calls) -> Report:
    unsound = linearity.faults(subject, trials.places, calls)
    places = [k for k in trials.places if k not in unsound]
    found, arguments = along_directions(subject, trials.answers[0], places)
    findings = (*form.findings, *unsound.values(), *found)
    compared = form.comparisons + len(arguments)
    source = "differences along random directions"
    return Report(subject.name, findings, tuple(arguments), source, compared, trials.notes)
