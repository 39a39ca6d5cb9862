"""The conditions of Karush, Kuhn and Tucker as a judge: points that pass, points that fail, and by which condition.

minimise f(x) subject to h(x) = 0, g(x) <= 0;  L = f + lambda h + mu g.  A certificate measures five residuals

    stationarity |grad L|,  equalities |h|,  inequalities (g)+,  signs (mu)-,  slackness |mu g|,

and looks at the second order.  The points: optima known on paper with their multipliers; the same points moved or with
other multipliers, where the condition that must fail is known; maxima, saddles and inflections, which satisfy all five
and are no minima; and what the solver says of problems that have no solution or no multiplier.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cases.kkt import POINTS, SOLVED
from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl import optimality

SUITE = "standard"
CLAIM = (
    "The certificate passes what is optimal, and of what is not it names the condition that fails; the solver names "
    "problems without solution rightly."
)
CONDITIONS = ("stationarity", "eq_residual", "ineq_residual", "dual_residual", "slackness")
TITLES = ("∇L = 0", "h = 0", "g ≤ 0", "μ ≥ 0", "μ g = 0", "2nd order")


@dataclass(frozen=True)
class Config:
    """Settings of the certificates."""

    tolerance: float = 1e-8
    """Of each residual."""
    solved: int = len(SOLVED)
    """How many of the problems are handed to the solver."""

    def __post_init__(self):
        settings.at_least(self, 1, "solved")
        settings.positive(self, "tolerance")


SMOKE = Config(tolerance=1e-6, solved=1)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        judged = [(point, _certify(point, config.tolerance)) for point in progress.over(POINTS, "points")]
        solved = [
            (case, optimality.solve(case.problem, jnp.asarray(case.start)))
            for case in progress.over(SOLVED[: config.solved], "problems")
        ]
    failed = [_failed(found, config.tolerance) for _, found in judged]
    right = [names == point.fails for names, (point, _) in zip(failed, judged)]
    words = [solution.reason.split(":")[0] for _, solution in solved]
    named = [word == case.word for word, (case, _) in zip(words, solved)]
    rows = [
        [point.name, "optimal" if not point.fails else "not optimal", "passed" if found.passed else "refused",
         ", ".join(sorted(names)) or "-", *_constraints(found)]
        for (point, found), names in zip(judged, failed)
    ] + [
        [case.name, case.word, word, ", ".join(sorted(_failed(solution.certificate, config.tolerance))) or "-",
         *_constraints(solution.certificate)]
        for (case, solution), word in zip(solved, words)
    ]  # fmt: skip
    passed = sum(found.passed for _, found in judged)
    optimal = sum(not point.fails for point, _ in judged)
    checks = [
        Check("every optimum passes, and nothing else", f"{passed} of {optimal}", _agree(judged)),
        Check("of the others exactly the conditions that fail are named", f"{sum(right)} of {len(right)}", all(right)),
        Check("the solver names every outcome rightly", f"{sum(named)} of {len(named)}", all(named)),
    ]
    shown = [(point.name, found, "✓" if found.passed else "✗") for point, found in judged]
    shown += [
        (f"solver: {case.name}", solution.certificate, "✓" if solution.converged else f"→ {word}")
        for (case, solution), word in zip(solved, words)
    ]
    residuals = np.array([[float(getattr(found.residuals, name)) for name in CONDITIONS] for _, found, _ in shown])
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"points judged": len(judged), "optimal among them": optimal, "problems solved": len(solved)},
        metrics=[{"name": row[0], "truth": row[1], "verdict": row[2], "failed": row[3]} for row in rows],
        table=Table(["point or problem", "in truth", "verdict", "fails", "second order", "active", "LICQ"], rows),
        curves={
            "residuals": residuals,
            "second": [found.second_order for _, found, _ in shown],
            "names": [f"{name}  {mark}" for name, _, mark in shown],
            "points": len(judged),
            "tolerance": config.tolerance,
        },
    )


def _certify(point, tolerance):
    as_arrays = lambda values: None if values is None else jnp.asarray(values, float)
    return optimality.certify(
        point.problem, jnp.asarray(point.x, float), as_arrays(point.lam), as_arrays(point.mu), tolerance
    )


def _constraints(found) -> list[str]:
    """Second order, active inequalities (from 1; in brackets those with a multiplier of 0), and LICQ."""
    active = [*(str(i + 1) for i in found.active.strong), *(f"({i + 1})" for i in found.active.weak)]
    return [found.second_order, " ".join(active) or "-", "yes" if found.licq else "no"]


def _failed(found, tolerance) -> set[str]:
    """The conditions that do not hold."""
    names = {name for name in CONDITIONS if not float(getattr(found.residuals, name)) <= tolerance}
    return names | ({"second order"} if found.second_order == "not a minimum" else set())


def _agree(judged) -> bool:
    return all(found.passed == (not point.fails) for point, found in judged)


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    residuals, names = curves["residuals"], curves["names"]
    figure = style.figure(9.5, 0.3 * len(names) + 1.5)
    axes = figure.subplots()
    tolerance, rows = curves["tolerance"], np.arange(len(names))
    floor = 1e-20  # where a residual of 0 is drawn
    axes.axvspan(tolerance, 1e4, color=style.RED, alpha=0.08, linewidth=0)
    axes.axvline(tolerance, color=style.RED, linewidth=1.0, label="tolerance")
    for k, (title, colour, marker) in enumerate(zip(TITLES, style.COLOURS, "os^Dv")):
        values = np.maximum(residuals[:, k], floor)
        height = rows + 0.13 * (k - 2)  # beside each other where they are equal
        axes.plot(values, height, marker, color=colour, markersize=4.5, linestyle="", label=title)
    for i, row in enumerate(residuals):
        word = {"strict minimum": "minimum", "necessary": "flat", "undecided": "open"}.get(
            curves["second"][i], "no minimum"
        )
        axes.text(2e4, i, "–" if max(row) > tolerance else word, va="center", fontsize=8.5, clip_on=False)
    axes.text(2e4, -1.0, TITLES[-1], va="center", fontsize=9, clip_on=False)
    axes.axhline(curves["points"] - 0.5, color=style.BLACK, linewidth=1.0)
    axes.set(xscale="log", xlim=(floor / 3, 1e4), ylim=(len(names) - 0.5, -0.5), xlabel="residual (0 at the left edge)")
    axes.set_yticks(rows, names)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=6, columnspacing=1.0, handletextpad=0.3)
    caption = (
        "Each row is a point with multipliers, each mark a condition and how far it is from holding; those in the "
        "shaded part, above the tolerance, fail. The ticked points are certified. On the right the second order, "
        "judged where all else holds. Below the line: where the solver ended, and what it said; where it is stuck, the "
        "conditions hold ever better with multipliers that grow without end, so there is none."
    )
    return [Picture("conditions", caption, figure), _the_line()]


def _the_line() -> Picture:
    """min (x - 2)^2 s.t. x <= 1: the optimum, and the point that a judge without mu >= 0 and g <= 0 accepts."""
    figure = style.figure(8.0, 3.3)
    axes = figure.subplots()
    x = np.linspace(-0.5, 3.2, 300)
    axes.axvspan(1, 3.2, color=style.RED, alpha=0.08)
    axes.plot(x, (x - 2) ** 2, color=style.BLACK)
    axes.plot(1, 1, "o", color=style.GREEN, markersize=9)
    axes.annotate("x = 1, μ = 2: certified\n∇f + μ ∇g = −2 + 2 = 0", (1, 1), (-0.35, 0.35), fontsize=9,
                  arrowprops={"arrowstyle": "-", "color": style.GREY})  # fmt: skip
    axes.plot(2, 0, "X", color=style.RED, markersize=9)
    axes.annotate("x = 2, μ = 0: refused\nstationary, but g = 1 > 0", (2, 0), (2.15, 1.6), fontsize=9,
                  arrowprops={"arrowstyle": "-", "color": style.GREY})  # fmt: skip
    axes.text(2.9, 5.4, "infeasible: x > 1", color=style.RED, ha="right", fontsize=9)
    axes.set(xlabel="x", ylabel="f(x) = (x − 2)²", xlim=(-0.5, 3.2), ylim=(-0.5, 6.2))
    caption = (
        "The gradient vanishes at x = 2 and multipliers of 0 satisfy all equations there; only g ≤ 0 says that the "
        "point is none. At x = 1 the constraint pushes back with μ = 2."
    )
    return Picture("line", caption, figure)
