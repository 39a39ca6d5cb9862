"""The second stage: the user's cotangents beside the right ones, for several incoming ones."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from functional_dl.check import kinks, numeric
from functional_dl.check.evidence import Evidence, Trial
from functional_dl.check.function import Function
from functional_dl.check.reference import Reference, random_like
from functional_dl.check.report import Argument, Finding, without_index
from functional_dl.check.vjp.form import Form
from functional_dl.check.vjp.subject import Answer, BackwardPass, lost

DIRECTIONS = 4  # random ones, where there is no reference


@dataclass(frozen=True)
class Trials:
    """Trials of a pass whose form is right.

    Fields:
      call: call(cts) -> the user's answer.
      answers: to the form's cotangents.
      reference: what right cotangents are.
      trials: the answers beside the right cotangents; empty where there is no reference.
      blank: for each leaf the entries that are not compared.
      notes: what a reader should know of the reference.
      simulate: see Evidence.
      places: the leaves that are compared, among the differentiable ones.
    """

    call: Callable[..., Answer]
    answers: list[Answer]
    reference: Reference
    trials: tuple[Trial, ...]
    blank: list[np.ndarray]
    notes: tuple[str, ...]
    simulate: Callable[[], Any]
    places: tuple[int, ...]

    def evidence(self, function: Function, rng: np.random.Generator, k: int) -> Evidence:
        """What is known of a leaf."""
        nothing = np.zeros(function.wide_point[k].shape)
        return Evidence(
            function, self.reference, k, self.trials, self.call, rng, self.blank[k], self.simulate, nothing
        ).with_ratio()


def trials_of(subject: BackwardPass, form: Form) -> Trials:
    """Calls the pullback with all cotangents, and pulls them back the right way."""
    function = subject.function
    call = functools.partial(subject.answer, form.pullback)
    answers = [call(c) for c in form.cts]
    right = Reference(function, subject.rng, subject.surrogates)
    notes = [right.disagreement] if right.disagreement else []
    places = tuple(k for k, i in enumerate(function.active) if form.wrong is None or i not in form.wrong)
    if not right.source:
        notes.append("fun is too large for a numeric Jacobian and JAX's derivative of it cannot be used.")
        return Trials(call, answers, right, (), [], tuple(notes), lambda: None, places)
    trials = []
    for answer in answers:
        expected = right.pull(answer.cts)
        rounding = tuple(right.rounding(answer.cts, expected))
        tolerance = tuple(r.tolerance for r in rounding)
        trials.append(Trial(tuple(answer.cts), tuple(expected), tuple(answer.bars), tolerance, rounding))
    settled = kinks.settle(function, trials)

    @functools.cache
    def simulate():
        from functional_dl.check.simulation import program  # most checks find nothing, and need it not

        return program.of(function, right, settled.trials)

    notes += settled.notes
    return Trials(call, answers, right, tuple(settled.trials), settled.blank, tuple(notes), simulate, places)


def along_directions(
    subject: BackwardPass, answer: Answer, places: Sequence[int]
) -> tuple[list[Finding], list[Argument]]:
    """Without a reference: each leaf's cotangent against differences along random directions."""
    function, rng = subject.function, subject.rng
    findings, arguments = [], []
    for k in places:
        path, x, bar = function.paths[function.active[k]], function.point[k], answer.bars[k]
        worst = 0.0
        for _ in range(DIRECTIONS):
            direction = [np.zeros(x.shape, x.dtype) for x in function.wide_point]
            direction[k] = function.scales[k] * random_like(function.wide_point[k], rng)
            found = numeric.along(function, direction, answer.cts)
            claimed = float(np.sum(bar * direction[k]).real)
            low, high = found.interval
            slack = (lost(x) + 1e-7) * float(np.sqrt(np.sum(np.abs(bar * direction[k]) ** 2)))
            worst = max(worst, float(max(low - claimed, claimed - high, 0.0)) / max(slack, 1e-300))
        if worst > 1:
            message = (
                f"Along a random direction the cotangent gives {claimed:.9g}, differences of fun's values "
                f"{float(found.value):.9g} (+- {float(found.error):.1g})."
            )
            findings.append(without_index("unknown", path, message))
        arguments.append(Argument(path, np.shape(x), str(x.dtype), worst, int(worst > 1)))
    return findings, arguments
