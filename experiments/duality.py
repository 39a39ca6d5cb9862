r"""Duality watched: every multiplier gives a lower bound, ascent raises it, and the gap closes where theory says so.

    q(lambda, mu) = inf_x f + lambda . h + mu . g  <=  f(x) for mu >= 0 and every feasible x        (weak duality)

Four problems: the least-norm solution of A x = b, whose dual is q(lambda) = -|A' lambda|^2 / 4 - lambda . b; the point
of a polyhedron nearest to another; logistic regression with a bounded norm (iris petals); and one that is not convex,
where a gap remains.  Supergradient ascent climbs q, and an interior point method moves x, lambda and mu at once: at
each of their iterates q is held against the optimum.  The least norm has a closed form, x = A' (A A')^-1 b with
lambda = -2 (A A')^-1 b.  A support vector machine is solved on its dual, and its gap is measured.

A multiplier is a price as well: the optimum as a function of the right-hand side of its constraint has the slope
-lambda (or -mu), which solving again for other right-hand sides shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_iris

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import Problem, dual_ascent, dual_function, solution_map, solve, svm
from functional_dl.optimality.problem import flatten
from functional_dl.optimality.solvers import interior_point

SUITE = "standard"
CLAIM = (
    "The dual value never exceeds the optimum, dual ascent closes the gap of convex problems, and where convexity "
    "fails a gap remains."
)
NEAR = 0.02
SHIFT = 1e-3  # of the right-hand side, for the difference of the optimum
SHOWN = np.linspace(-0.3, 0.3, 9)  # right-hand sides of the picture


class Case(NamedTuple):
    """A problem, a start, the rate of ascent; gap: what theory says remains.

    On paper: dual, its dual function; solution, (x, lambda).
    """

    name: str
    problem: Problem
    start: Any
    rate: float | Callable
    dual: Callable | None = None
    solution: tuple | None = None
    gap: float = 0.0


@dataclass(frozen=True)
class Config:
    """Settings of the ascent."""

    steps: int = 300
    """Steps of dual ascent."""
    path: int = 40
    """Iterations of the interior point method."""
    problems: int = 4
    """How many of the problems; the last is the one that is not convex."""
    gap: float = 1e-9
    """What is to be left of the gap, relative to 1 + |optimum|."""
    seed: int = 0
    """Seed of the random matrices."""

    def __post_init__(self):
        settings.at_least(self, 2, "steps", "path")
        settings.at_least(self, 1, "problems")
        settings.positive(self, "gap")


SMOKE = Config(steps=5, path=3, problems=1, gap=10.0)


def cases(seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    A, b = jnp.asarray(rng.normal(size=(3, 8))), jnp.asarray(rng.normal(size=3))
    least = Problem(lambda x: x @ x, lambda x: A @ x - b)
    curvature = float(jnp.linalg.eigvalsh(A @ A.T)[-1]) / 2  # of -q
    inverse = jnp.linalg.inv(A @ A.T)
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
             lambda lam: -jnp.sum((A.T @ lam) ** 2) / 4 - lam @ b, (A.T @ inverse @ b, -2 * inverse @ b)),
        Case("nearest point of a polyhedron", polyhedron, jnp.zeros(4), 1 / steep),
        Case("logistic regression, |w|² ≤ 4", logistic, jnp.zeros(3), 2e-3),
        Case("three signs: not convex", triangle, jnp.array([1.0, 0.9, -0.8]), 0.01, gap=0.5),
    ]  # fmt: skip


COLUMNS = ["problem", "optimum f*", "best dual value", "gap", "dual above f*", "iterations", "price", "slope of f*"]


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        found = [_one(case, config) for case in progress.over(cases(config.seed)[: config.problems], "problems")]
        machine = _machine()
    rows = [[entry[name] for name in ("name", "optimum", "dual", "gap", "above", "iterations", "price", "slope")]
            for entry in found]  # fmt: skip
    rows.append(["support vector machine, iris", machine["primal"], machine["dual"], machine["gap"], machine["above"],
                 machine["iterations"], None, None])  # fmt: skip
    convex = [entry for entry in found if not entry["expected"]]
    worst = max(entry["gap"] / (1 + abs(entry["optimum"])) for entry in convex)
    above = max(entry["above"] for entry in [*found, machine])
    paper = max(entry["paper"] for entry in found)
    remaining = [entry for entry in found if entry["expected"]]
    off = max((abs(entry["gap"] - entry["expected"]) for entry in remaining), default=0.0)
    price = max(abs(entry["price"] - entry["slope"]) / (1 + abs(entry["price"])) for entry in found)
    bounds = sum(entry["bounds"] for entry in found)
    checks = [
        Check("every problem is solved, with a certificate", f"{sum(e['solved'] for e in found)} of {len(found)}",
              all(entry["solved"] for entry in found)),
        Check("weak duality: no dual value of either method exceeds the optimum by more than rounding",
              f"{above:.1e} in {bounds} values", above <= 1e-8),
        Check(f"convex: ascent leaves a gap of at most {config.gap:g}, relative", f"{worst:.1e}", worst <= config.gap),
        Check("dual function and solution are those on paper, to 1e-8", f"{paper:.1e}", paper <= 1e-8),
        Check(f"not convex: the gap on paper remains, to {NEAR:g}", f"{off:.1e} off", off <= max(NEAR, config.gap)),
        Check("the support vector machine's gap is at most 1e-8", f"{machine['gap']:.1e}", machine["gap"] <= 1e-8),
        Check("multipliers are prices: solving again shows them, to 1e-5", f"{price:.1e} off", price <= 1e-5),
    ]  # fmt: skip
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"problems": len(found) + 1, "bounds checked": bounds, "worst error of a price": f"{price:.1e}"},
        metrics=[{"problem": e["name"], "method": method, "step": k, "dual": float(v)}
                 for e in found for method in ("ascent", "interior") for k, v in enumerate(e[method])],
        table=Table(COLUMNS, rows),
        curves={"found": found},
    )  # fmt: skip


def _one(case: Case, config: Config) -> dict:
    """The optimum, the two methods on their way to it, and the price of a constraint."""
    solution = solve(case.problem, case.start, tolerance=1e-11)
    optimum = float(solution.objective)
    ascent = dual_ascent(case.problem, case.start, config.steps, case.rate)
    paper = 0.0
    if case.dual is not None:
        q = dual_function(case.problem, case.start)
        paper = abs(float(q(ascent.eq_multipliers) - case.dual(ascent.eq_multipliers)))
    if case.solution is not None:
        ours = solution.x, solution.eq_multipliers
        paper = max(paper, *(float(jnp.max(jnp.abs(a - b))) for a, b in zip(ours, case.solution, strict=True)))
    values, (primal, interior) = np.asarray(ascent.values), _path(case, config.path)
    bounds = np.concatenate([values, interior])
    bounds = bounds[np.isfinite(bounds)]
    return {
        "name": case.name,
        "optimum": optimum,
        "dual": float(ascent.value),
        "gap": optimum - float(ascent.value),
        "above": float(max(np.max(bounds) - optimum, 0.0)) / (1 + abs(optimum)),
        "bounds": bounds.size,
        "iterations": solution.iterations,
        "ascent": values,
        "interior": interior,
        "primal": primal,
        "paper": paper,
        "expected": case.gap,
        "solved": solution.converged,
        **_price(case, solution),
    }


def _path(case: Case, length: int):
    """Objective and dual value after 0, 1, 2, ... iterations of the interior point method."""
    flat, dual = flatten(case.problem, case.start), dual_function(case.problem, case.start)

    def after(count):
        end = interior_point.minimise(flat, flat.x0, jnp.asarray(1e-12), count)
        return flat.objective(end.x), dual(flat.unpack_equality(end.lam), flat.unpack_inequality(end.mu))

    return tuple(np.asarray(values) for values in jax.jit(jax.vmap(after))(jnp.arange(length + 1)))


def _price(case: Case, solution) -> dict:
    """The constraint with the largest multiplier, its price, and the optimum for other right-hand sides."""
    problem, equality = case.problem, case.problem.equalities is not None
    multipliers = jnp.ravel(solution.eq_multipliers if equality else solution.ineq_multipliers)
    unit = jnp.zeros(multipliers.size).at[jnp.argmax(jnp.abs(multipliers))].set(1.0)

    def shifted(c):
        relaxed = lambda fun: lambda x: jnp.ravel(fun(x)) - c * unit
        if equality:
            return Problem(problem.objective, relaxed(problem.equalities), problem.inequalities)
        return Problem(problem.objective, None, relaxed(problem.inequalities))

    sides = jnp.concatenate([jnp.asarray(SHOWN), jnp.array([-SHIFT, SHIFT])])
    best = jax.jit(jax.vmap(lambda c: problem.objective(solution_map(shifted, solution.x)(c))))(sides)
    return {
        "price": -float(unit @ multipliers),
        "slope": float(best[-1] - best[-2]) / (2 * SHIFT),
        "prices": np.asarray(best[:-2]),
    }


def _machine() -> dict:
    """A support vector machine: one flower of iris against the others."""
    iris = load_iris()
    x = (iris.data - iris.data.mean(0)) / iris.data.std(0)
    machine = jax.jit(svm.fit_dual)(jnp.asarray(x), jnp.asarray(np.where(iris.target == 0, 1.0, -1.0)), 1.0)
    primal, dual = float(machine.primal_value), float(machine.dual_value)
    return {"primal": primal, "dual": dual, "gap": primal - dual, "above": max(dual - primal, 0.0),
            "iterations": int(machine.iterations)}  # fmt: skip


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    found = result.curves["found"]
    return [_ascents(found), _gaps(found), _prices(found)]


def _panels(found, width, height, label):
    """A panel for each problem, two in a row; the last row is labelled below."""
    figure = style.figure(width, height if len(found) > 2 else 0.55 * height)
    panels = np.ravel(figure.subplots((len(found) + 1) // 2, 2))
    for axes in panels[len(found) :]:
        axes.remove()
    for axes in panels[: len(found)][-2:]:
        axes.set_xlabel(label)
    return figure, panels[: len(found)]


def _best(values):
    """The greatest so far."""
    return np.maximum.accumulate(np.where(np.isfinite(values), values, -np.inf))


def _ascents(found) -> Picture:
    figure, panels = _panels(found, 9.5, 5.6, "step of dual ascent")
    for axes, entry in zip(panels, found, strict=True):
        steps, best = np.arange(1, len(entry["ascent"]) + 1), _best(entry["ascent"])
        axes.axhline(entry["optimum"], color=style.BLACK, linewidth=1.0, label="optimum f*")
        axes.plot(steps, entry["ascent"], color=style.BLUE, label="dual value q")
        axes.plot(steps, best, color=style.BLUE, linewidth=1.0, linestyle=":", label="best bound so far")
        axes.fill_between(steps, best, entry["optimum"], color=style.ORANGE, alpha=0.25, label="gap", linewidth=0)
        axes.set(xscale="log", title=entry["name"], xlim=(1, len(steps)))
    panels[0].legend(loc="lower right")
    figure.supylabel("value", fontsize=10)
    caption = (
        "The dual value climbs to the optimum from below and never passes it; a dip is a step that was too long. Where "
        "the problem is not convex (last panel: the best choice of three signs) no multiplier proves more than 0.75, "
        "half a unit short; one step further q is −∞, and the line ends."
    )
    return Picture("ascent", caption, figure)


def _gaps(found) -> Picture:
    figure, panels = _panels(found, 9.5, 5.6, "iteration")
    for axes, entry in zip(panels, found, strict=True):
        lines = (
            ("dual ascent: f* − best q", entry["optimum"] - _best(entry["ascent"]), style.BLUE, "-"),
            ("interior point: f* − q", entry["optimum"] - entry["interior"], style.RED, "-"),
            ("interior point: |f(x) − f*|", np.abs(entry["primal"] - entry["optimum"]), style.RED, ":"),
        )
        for label, values, colour, kind in lines:
            shown = np.where(np.isfinite(values), np.maximum(values, 1e-16), np.nan)
            axes.plot(np.arange(1, len(values) + 1), shown, color=colour, linestyle=kind, label=label)
        axes.set(xscale="log", yscale="log", ylim=(1e-11, 30), title=entry["name"])
    panels[0].legend(loc="upper right")
    figure.supylabel("distance from the optimum", fontsize=10)
    caption = (
        "What is left of the gap. An iteration of the interior point method solves a linear system; of the ascent, a "
        "minimisation over x. Dotted: the objective of iterates that may break constraints, so it may be on either "
        "side of f*. In the last panel the multipliers of the optimum give q = −∞: no bound at all."
    )
    return Picture("gaps", caption, figure)


def _prices(found) -> Picture:
    figure, panels = _panels(found, 9.5, 5.2, "change of the right-hand side")
    for axes, entry in zip(panels, found, strict=True):
        axes.plot(SHOWN, entry["optimum"] + entry["price"] * SHOWN, color=style.RED, label="slope −λ or −μ")
        axes.plot(SHOWN, entry["prices"], "o", color=style.BLUE, markersize=5, label="solved anew")
        axes.set(title=entry["name"])
    panels[0].legend()
    figure.supylabel("optimum", fontsize=10)
    caption = (
        "Dots: the optimum when the right-hand side of the constraint with the largest multiplier is changed. Line: "
        "the slope that this multiplier predicts. For a convex problem the line bounds the dots from below."
    )
    return Picture("prices", caption, figure)
