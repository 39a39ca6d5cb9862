"""Lagrange multipliers seen and measured: at the optimum the level curve of f touches the constraint.

Four problems with one equality h(x, y) = c, each solved by `optimality.solve` and known on paper. Stationarity
grad f = -lambda grad h says that the two gradients are parallel, so the level curve through the optimum is tangent to
the constraint. lambda is also a price: the best value as a function of the right-hand side c has the slope
df*/dc = -lambda (L = f + lambda (h - c)). That is measured by solving the problem again for other c, and the
differences of the best values are held against the multiplier of the first solution.

A maximum of f is found as a minimum of -f; in the table f is the function as stated, and the price is that of f.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import Problem, solution_map, solve

CLAIM = (
    "At a constrained optimum the gradients of objective and constraint are parallel, and the factor between them, "
    "lambda, is the rate at which the best value changes with the constraint."
)


class Known(NamedTuple):
    """sign = -1: maximise f; h(x) = level; on paper: the point, the value and the price df*/dlevel."""

    title: str
    f: Callable
    sign: float
    h: Callable
    level: float
    start: tuple[float, float]
    point: tuple[float, float]
    value: float
    price: float
    window: tuple[float, float, float, float]


KNOWN = (
    Known("max xy,  x + y = 1", lambda x: x[0] * x[1], -1, lambda x: x[0] + x[1], 1.0, (0.2, 0.3), (0.5, 0.5), 0.25,
          0.5, (-0.2, 1.2, -0.2, 1.2)),
    Known("min x² + y²,  x + 2y = 5", lambda x: x[0] ** 2 + x[1] ** 2, 1, lambda x: x[0] + 2 * x[1], 5.0, (0.0, 0.0),
          (1.0, 2.0), 5.0, 2.0, (-1.5, 3.5, -0.7, 3.6)),
    Known("max x + y,  x² + y² = 2", lambda x: x[0] + x[1], -1, lambda x: x[0] ** 2 + x[1] ** 2, 2.0, (0.5, 1.0),
          (1.0, 1.0), 2.0, 0.5, (-1.9, 2.3, -1.7, 2.1)),
    Known("max x²y,  x² + y² = 3", lambda x: x[0] ** 2 * x[1], -1, lambda x: x[0] ** 2 + x[1] ** 2, 3.0, (1.0, 0.7),
          (np.sqrt(2.0), 1.0), 2.0, 1.0, (-0.2, 2.6, -0.5, 2.2)),
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Settings of the Lagrange experiment."""

    problems: int = 4
    """How many of the four problems."""
    shift: float = 1e-3
    """How far the right-hand side moves for the central difference of the best value."""
    grid: int = 200
    """Points a side of the level curves."""

    def __post_init__(self):
        settings.at_least(self, 1, "problems")
        settings.at_least(self, 8, "grid")
        settings.positive(self, "shift")
        if self.problems > len(KNOWN):
            raise ValueError(f"problems: expected at most {len(KNOWN)}, got {self.problems}")


SMOKE = Config(problems=1, grid=8)
COLUMNS = ["problem", "x", "y", "f", "lambda", "df*/dc solved anew", "price on paper", "angle / rad"]


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        found = [_examine(known, config) for known in progress.over(KNOWN[: config.problems], "problems")]
    worst = {name: max(entry[name] for entry in found) for name in ("angle", "off_point", "off_price", "off_paper")}
    checks = [
        Check("every solution comes with a certificate", f"{sum(e['certified'] for e in found)} of {len(found)}",
              all(e["certified"] for e in found)),
        Check("points and values are those on paper, to 1e-6", f"{worst['off_point']:.1e}", worst["off_point"] <= 1e-6),
        Check("the gradients are parallel: the angle between them is at most 1e-6", f"{worst['angle']:.1e} rad",
              worst["angle"] <= 1e-6),
        Check("lambda equals the difference quotient of best values, to 1e-5", f"{worst['off_price']:.1e}",
              worst["off_price"] <= 1e-5),
        Check("lambda equals the price on paper, to 1e-6", f"{worst['off_paper']:.1e}", worst["off_paper"] <= 1e-6),
    ]  # fmt: skip
    rows = [
        [e["title"], *e["point"], e["value"], e["multiplier"], e["quotient"], e["paper"], e["angle"]] for e in found
    ]
    numbers = {
        "worst angle between gradients": f"{worst['angle']:.1e} rad",
        "worst error of a price": worst["off_price"],
    }
    metrics = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    return Result(CLAIM, checks, numbers, metrics, Table(COLUMNS, rows), {"found": found})


def _examine(known: Known, config: Config) -> dict:
    def problem(level):
        return Problem(lambda x: known.sign * known.f(x), lambda x: known.h(x) - level)

    solution = solve(problem(known.level), jnp.asarray(known.start))
    x, multiplier = solution.x, float(solution.eq_multipliers)
    # every other right-hand side in one batch, none of them told of the multiplier
    levels = known.level + np.concatenate([np.linspace(-0.4, 0.4, 7), [config.shift, -config.shift]])
    others = jax.jit(jax.vmap(solution_map(problem, jnp.asarray(known.start))))(jnp.asarray(levels))
    values = np.asarray(jax.vmap(known.f)(others))
    quotient = float(values[-2] - values[-1]) / (2 * config.shift)
    of_f, of_h = jax.grad(known.f)(x), jax.grad(known.h)(x)
    cross = of_f[0] * of_h[1] - of_f[1] * of_h[0]
    price = -known.sign * multiplier
    return {
        "title": known.title,
        "certified": bool(solution.converged),
        "point": [float(v) for v in x],
        "value": float(known.f(x)),
        "multiplier": multiplier,
        "price": price,
        "quotient": quotient,
        "paper": known.price,
        "angle": float(jnp.abs(jnp.arcsin(cross / jnp.linalg.norm(of_f) / jnp.linalg.norm(of_h)))),
        "off_point": max(float(jnp.max(jnp.abs(x - jnp.asarray(known.point)))), abs(float(known.f(x)) - known.value)),
        "off_price": abs(price - quotient),
        "off_paper": abs(price - known.price),
        "gradients": (np.asarray(of_f), np.asarray(of_h)),
        "values": (levels[:-2], values[:-2]),
        "levels": _levels(known, config.grid),
    }


def _levels(known: Known, grid: int):
    left, right, low, high = known.window
    across, up = np.linspace(left, right, grid), np.linspace(low, high, grid)
    points = np.stack(np.meshgrid(across, up))
    return across, up, np.asarray(known.f(points)), np.asarray(known.h(points)) - known.level


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    found = result.curves["found"]
    return [_tangents(found), _prices(found)]


def _tangents(found) -> Picture:
    figure = style.figure(10.5, 9.2 if len(found) > 2 else 4.8)
    panels = np.ravel(figure.subplots((len(found) + 1) // 2, 2))
    for axes, entry in zip(panels, found, strict=False):
        across, up, f, h = entry["levels"]
        step = (f.max() - f.min()) / 16
        axes.contour(across, up, f, np.sort(entry["value"] + step * np.arange(-16, 17)), colors=style.GREY,
                     linewidths=0.7, alpha=0.6)  # fmt: skip
        axes.contour(across, up, f, [entry["value"]], colors=style.BLUE, linewidths=2)
        axes.contour(across, up, h, [0], colors=style.BLACK, linewidths=2)
        size = 0.24 * (across[-1] - across[0])
        for gradient, colour, name, width in zip(
            entry["gradients"], (style.BLUE, style.RED), ("∇f", "∇h"), (7, 3), strict=True
        ):
            length = size * (1 if name == "∇f" else 0.7)
            arrow = gradient / np.linalg.norm(gradient) * length
            tip = np.add(entry["point"], arrow)
            head = {"arrowstyle": "-|>", "color": colour, "linewidth": width / 2, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", tip, entry["point"], arrowprops=head)
            side = np.array([-arrow[1], arrow[0]]) / length * 0.22 * size
            axes.text(
                *(tip - side * (1 if name == "∇f" else -1)), name, color=colour, ha="center", va="center", fontsize=11
            )
        axes.plot(*entry["point"], "o", color=style.BLACK, markersize=6)
        axes.set(
            title=f"{entry['title']}:  f* = {entry['value']:g},  |λ| = {abs(entry['multiplier']):.4g}",
            aspect="equal",
            xlabel="x",
            ylabel="y",
        )
        axes.grid(visible=False)
    for axes in panels[len(found) :]:
        axes.remove()
    caption = (
        "Black: the constraint. Blue: the level curve of f through the optimum; it touches the constraint. There both "
        "gradients stand on one line, and λ is the ratio of their lengths (the arrows show directions only)."
    )
    return Picture("tangents", caption, figure)


def _prices(found) -> Picture:
    figure = style.figure(10.5, 3.0)
    panels = np.ravel(figure.subplots(1, len(found)))
    for axes, entry in zip(panels, found, strict=True):
        levels, values = entry["values"]
        middle = levels.mean()
        axes.plot(levels, entry["value"] + entry["price"] * (levels - middle), color=style.RED, label="slope by λ")
        axes.plot(levels, values, "o", color=style.BLUE, markersize=5, label="solved anew")
        axes.set(title=entry["title"].split(",")[0], xlabel="right-hand side c")
    panels[0].set(ylabel="best value f*(c)")
    panels[0].legend()
    caption = (
        "Dots: the best value when the constraint's right-hand side is changed and the problem solved again. Lines: "
        "the slope that the multiplier of the middle problem predicts. It is the tangent there."
    )
    return Picture("prices", caption, figure)
