r"""Duality watched: every multiplier gives a lower bound, ascent raises it, and the gap closes where theory says so.

    q(lambda, mu) = inf_x f + lambda . h + mu . g  <=  f(x) for mu >= 0 and every feasible x        (weak duality)

Four problems: the least-norm solution of A x = b, whose dual is q(lambda) = -|A' lambda|^2 / 4 - lambda . b; the point
of a polyhedron nearest to another; logistic regression with a bounded norm (iris petals); and one that is not convex,
where a gap remains.  Supergradient ascent climbs q, whose value at every iterate is held against the optimum that an
interior point method finds.  The multiplier is a price as well: the optimum as a function of the right-hand side of a
constraint falls by -lambda a unit, which solving again shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_iris

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import Problem, dual_ascent, dual_function, solve

CLAIM = (
    "The dual value never exceeds the optimum, dual ascent closes the gap of convex problems, and where convexity "
    "fails a gap remains."
)
NEAR = 0.02


class Case(NamedTuple):
    """A problem, a start, the rate of ascent; dual: its dual function on paper; gap: what theory says remains."""

    name: str
    problem: Problem
    start: Any
    rate: float | Callable
    dual: Callable | None = None
    gap: float = 0.0


@dataclass(frozen=True)
class Config:
    """Settings of the ascent."""

    steps: int = 300
    """Steps of dual ascent."""
    problems: int = 4
    """How many of the problems; the last is the one that is not convex."""
    gap: float = 1e-6
    """What is to be left of the gap, relative to 1 + |optimum|."""
    seed: int = 0

    def __post_init__(self):
        settings.at_least(self, 2, "steps")
        settings.at_least(self, 1, "problems")
        settings.positive(self, "gap")


SMOKE = Config(steps=5, problems=1, gap=10.0)


def cases(seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    A, b = jnp.asarray(rng.normal(size=(3, 8))), jnp.asarray(rng.normal(size=3))
    least = Problem(lambda x: x @ x, lambda x: A @ x - b)
    curvature = float(jnp.linalg.eigvalsh(A @ A.T)[-1]) / 2  # of -q
    G, center = jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(2 * rng.normal(size=4))
    polyhedron = Problem(lambda x: jnp.sum((x - center) ** 2), None, lambda x: G @ x - 1)
    steep = float(jnp.linalg.eigvalsh(G @ G.T)[-1]) / 2
    iris = load_iris()
    two = iris.target > 0
    x = jnp.asarray(np.c_[np.ones(two.sum()), iris.data[two][:, 2:] - iris.data[two][:, 2:].mean(0)])
    y = jnp.asarray(np.where(iris.target[two] == 2, 1.0, -1.0))
    logistic = Problem(lambda w: jnp.mean(jax.nn.softplus(-y * (x @ w))), None, lambda w: w @ w - 4)
    # x_i = 1 or -1: two of three neighbours agree, f* = 1.25; L is bounded below for lambda_i >= -1/4, q* = 0.75
    triangle = Problem(lambda x: x[0] * x[1] + x[1] * x[2] + x[2] * x[0] + 0.75 * x @ x, lambda x: x**2 - 1)
    return [
        Case("least norm: min |x|², A x = b", least, jnp.zeros(8), 1 / curvature,
             lambda lam: -jnp.sum((A.T @ lam) ** 2) / 4 - lam @ b),
        Case("nearest point of a polyhedron", polyhedron, jnp.zeros(4), 1 / steep),
        Case("logistic regression, |w|² ≤ 4", logistic, jnp.zeros(3), 2e-3),
        Case("three signs: not convex", triangle, jnp.array([1.0, 0.9, -0.8]), 0.01, gap=0.5),
    ]  # fmt: skip


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        found = [_one(case, config) for case in cases(config.seed)[: config.problems]]
    rows = [
        [entry["name"], entry["optimum"], entry["dual"], entry["gap"], entry["above"], entry["iterations"]]
        for entry in found
    ]
    convex = [entry for entry in found if not entry["expected"]]
    worst = max(entry["gap"] / (1 + abs(entry["optimum"])) for entry in convex)
    above = max(entry["above"] for entry in found)
    paper = max(entry["paper"] for entry in found)
    remaining = [entry for entry in found if entry["expected"]]
    off = max((abs(entry["gap"] - entry["expected"]) for entry in remaining), default=0.0)
    with jax.enable_x64(True):
        price = _price()
    checks = [
        Check("weak duality: no dual value exceeds the optimum by more than rounding", f"{above:.1e}", above <= 1e-8),
        Check(f"convex: ascent leaves a gap of at most {config.gap:g}, relative", f"{worst:.1e}", worst <= config.gap),
        Check("the dual on paper equals inf L, to 1e-10", f"{paper:.1e}", paper <= 1e-10),
        Check(f"not convex: the gap on paper remains, to {NEAR:g}", f"{off:.1e} off", off <= max(NEAR, config.gap)),
        Check("lambda is the price of the right-hand side, to 1e-5", f"{price:.1e} off", price <= 1e-5),
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"problems": len(found), "steps of ascent": config.steps},
        metrics=[{"problem": e["name"], "step": k, "dual": float(v)} for e in found for k, v in enumerate(e["values"])],
        table=Table(["problem", "optimum f*", "best dual value", "gap", "dual above f*", "solver's iterations"], rows),
        curves={"found": found},
    )


def _one(case: Case, config: Config) -> dict:
    """The optimum, the ascent, and how the two compare."""
    solution = solve(case.problem, case.start)
    ascent = dual_ascent(case.problem, case.start, config.steps, case.rate)
    values, optimum = np.asarray(ascent.values), float(solution.objective)
    paper = 0.0
    if case.dual is not None:
        q = dual_function(case.problem, case.start)
        paper = abs(float(q(ascent.eq_multipliers) - case.dual(ascent.eq_multipliers)))
    finite = values[np.isfinite(values)]
    return {
        "name": case.name,
        "optimum": optimum,
        "dual": float(ascent.value),
        "gap": optimum - float(ascent.value),
        "above": float(max(np.max(finite) - optimum, 0.0)) / (1 + abs(optimum)),
        "iterations": solution.iterations,
        "values": values,
        "paper": paper,
        "expected": case.gap,
        "solved": solution.converged,
    }


def _price() -> float:
    """min |x|^2 s.t. a . x = c: how far the difference quotient of the optimum is from -lambda."""
    a, c, h = jnp.array([1.0, 2.0, 2.0]), 3.0, 1e-3
    best = lambda c: solve(Problem(lambda x: x @ x, lambda x: a @ x - c), jnp.zeros(3), tolerance=1e-10)
    slope = (float(best(c + h).objective) - float(best(c - h).objective)) / (2 * h)
    return abs(slope + float(best(c).eq_multipliers))


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    found = result.curves["found"]
    figure = style.figure(9.5, 5.6)
    panels = figure.subplots(2, 2)
    for axes, entry in zip(panels.flat, found):
        steps = np.arange(1, len(entry["values"]) + 1)
        axes.axhline(entry["optimum"], color=style.BLACK, linewidth=1.0, label="optimum f*")
        axes.plot(steps, entry["values"], color=style.BLUE, label="dual value q")
        axes.fill_between(steps, entry["values"], entry["optimum"], color=style.ORANGE, alpha=0.25, label="gap")
        axes.set(xscale="log", title=entry["name"])
    for axes in panels[1]:
        axes.set_xlabel("step of dual ascent")
    panels[0, 0].legend(loc="lower right")
    caption = (
        "The dual value climbs to the optimum from below and never passes it; a dip is a step that was too long. Where "
        "the problem is not convex (last panel: the best choice of three signs) it stops half a unit short: no "
        "multiplier proves more."
    )
    return [Picture("ascent", caption, figure)]
