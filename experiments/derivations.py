"""Every derivation of the library verified, line by line, and shown.

A line of a derivation is mathematics and code. At random points in float64 each line is held to the line above it in
the way that it claims to follow (equality, a limit whose observed rate must be right, a bound with the points where it
is attained, membership in a subdifferential). The first line, a definition, is held to the numeric derivative; the last
to the numeric derivative, the hand-written reverse mode, the checker's oracles and, for functions of numbers, to 50
digits; results that are no derivatives bring oracles of their own. The tolerances are those of rounding, and are
written in functional_dl/derivations/verify.py.

The pages show each line with its reason and its check; beside them stand four functions explained step by step, forward
and backward: a power of a power, a neuron, a network of two hidden layers, attention.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.gallery import pages
from functional_dl import derivations

CLAIM = "Every line of every derivation equals the line above it, and every result agrees with its independent oracles."
SUITE = "quick"
JUDGES = ("line above, or its limit", "numeric derivative", "reverse.vjp", "check_vjp", "another oracle")


@dataclass(frozen=True)
class Config:
    """Settings of the derivations experiment."""

    names: tuple[str, ...] = ()
    """Which derivations; all without any."""
    every: int = 1
    """Every n-th of them alone."""
    points: int = 3
    """Random points at which lines are compared."""
    seed: int = 0
    """Of the points."""

    def __post_init__(self):
        settings.at_least(self, 1, "points", "every")


QUICK = Config(every=20)
SMOKE = Config(names=("sigmoid", "relu"), points=1)


def run(config: Config) -> Result:
    names = (config.names or tuple(derivations.names()))[:: config.every]
    key = jax.random.key(config.seed)
    reports = {name: derivations.get(name).verify(key, config.points) for name in progress.over(names, "derivations")}
    with jax.enable_x64(True):
        explanations = pages.explanations()
    comparisons = [(name, c) for name, report in reports.items() for c in report.comparisons]
    wrong = [f"{name}, line {report.first_wrong}" for name, report in reports.items() if not report.passed]
    lines = sum(len(report.steps) for report in reports.values())
    rules = [s.check for e in explanations.values() for s in e.all_steps().values() if s.check is not None]
    power = explanations["power"]
    slope = power.values[power.inputs[0]]
    expected = 960 * 0.7**9
    off = abs(slope.ct_summary.mean - expected) / expected if slope.ct_summary else np.inf
    checks = [
        Check(f"{len(reports)} of {len(derivations.names())} derivations, {lines} lines: each holds",
              ", ".join(wrong) or "all", not wrong),
        Check("every line is held to something", f"{len(comparisons)} comparisons", _covered(reports)),
        Check(f"{len(explanations)} examples: each step's rule agrees with its oracles",
              f"{sum(c.passed for c in rules)} of {len(rules)}", all(c.passed for c in rules)),
        Check("3(2x²)⁵ at 0.7: the explained cotangent is 960 x⁹, to 1e-14", f"{off:.1e} off", off <= 1e-14),
    ]  # fmt: skip
    rows = [_row(name, report) for name, report in reports.items()]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"derivations": len(reports), "lines": lines, "comparisons": len(comparisons),
                 "most of a tolerance used": max(c.share for _, c in comparisons if np.isfinite(c.share))},
        metrics=[
            {"derivation": name, "line": c.line, "against": c.against, "error": c.error, "tolerance": c.tolerance,
             "passed": bool(c.passed)}
            for name, c in comparisons
        ],
        table=Table(["derivation", "lines", "comparisons", "worst error", "of what was allowed", "holds"], rows),
        curves={"comparisons": comparisons},
        pages=pages.build(reports, explanations),
    )  # fmt: skip


def _covered(reports: Mapping) -> bool:
    return all(report.of_line(n + 1) for report in reports.values() for n in range(len(report.steps)))


def _row(name: str, report) -> list:
    worst = max(report.comparisons, key=lambda c: c.share)
    return [name, len(report.steps), len(report.comparisons), float(worst.error), float(worst.share), report.passed]


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    figure = style.figure(8, 4.2)
    axes = figure.subplots()
    comparisons = [c for _, c in result.curves["comparisons"] if c.tolerance > 0]
    for label, colour in zip(JUDGES, style.COLOURS):
        points = [(c.tolerance, max(c.error, 1e-17)) for c in comparisons if _judge(c.against) == label]
        if points:
            axes.loglog(*zip(*points), ".", color=colour, label=label, alpha=0.6, markersize=5)
    ends = [c.tolerance for c in comparisons]
    axes.loglog([min(ends), max(ends)], [min(ends), max(ends)], color=style.BLACK, linewidth=1, label="allowed")
    axes.set(xlabel="allowed", ylabel="error (1e-17: none)", title="Every line and what it was held to")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    caption = (
        "Each point is a comparison; all lie below the line, most by far: limits are known less well than algebra."
    )
    return [Picture("errors", caption, figure)]


def _judge(against: str) -> str:
    """Whom a line was held to, of JUDGES."""
    if "line" in against:
        return JUDGES[0]
    return next((oracle for oracle in JUDGES if against.startswith(oracle)), JUDGES[-1])
