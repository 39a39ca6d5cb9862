"""The chain rule, factor by factor and path by path.

A derivative is written as the rule says it: along each path from x to the result the product of the local
derivatives, over all paths the sum. These factors are written by hand, below; nothing differentiates them.

Polynomial cases are decided exactly, in rational arithmetic: two polynomials of degree n that agree at n + 1 points
are the same polynomial. Their gradients by functional_dl.reverse and jax.grad must be exactly equal at whole
numbers, where float64 does not round. All cases are then compared on a grid with both, and with the complex step
Im f(x + ih)/h, which knows no rule of differentiation; the unit of error is eps times the sum of the paths'
magnitudes, and as many units are allowed as the expression has factors, plus eight for the library functions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import EngFormatter

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl import reverse

CLAIM = (
    "The derivative of a composition is the product of its local derivatives, summed over all paths: worked out by "
    "hand it is exactly what the hand-written reverse mode and jax.grad compute, 3(2x²)⁵ giving 960x⁹."
)
Factor = tuple[str, Callable]  # a local derivative: its formula, and its value (m, x) for a module of functions m


@dataclass(frozen=True)
class Case:
    """A function of x with its derivative as a sum over paths of products of factors, innermost factor first."""

    formula: str
    fun: Callable  # (m, x) -> value; m is numpy or jax.numpy
    paths: Sequence[Sequence[Factor]]
    closed: Callable | None = None  # for a polynomial: the derivative, simplified
    closed_formula: str = ""
    degree: int = 0

    def derivative(self, m, x):
        """(sum over paths, sum of the paths' magnitudes)."""
        products = [_product(factor(m, x) for _, factor in path) for path in self.paths]
        return sum(products), sum(map(abs, products))

    @property
    def factors(self) -> int:
        return sum(len(path) for path in self.paths)


def _product(values):
    result = 1
    for value in values:
        result = result * value
    return result


Y, Z = Fraction(3, 4), Fraction(5, 2)  # the other variables of f(g(y, h(x, z))); both exact in binary
DEPTH = 30


def _number(m, value):
    return value if m is None else float(value)


def _h(m, x):
    return x * x * _number(m, Z)


def _g(m, x):
    return _number(m, Y) * _h(m, x) + _h(m, x) ** 2


def _sines(m, x, n):
    for _ in range(n):
        x = m.sin(x)
    return x


CASES = {
    "power of a power": Case(
        "3(2x²)⁵",
        lambda m, x: 3 * (2 * x**2) ** 5,
        [[("4x", lambda m, x: 4 * x), ("15(2x²)⁴", lambda m, x: 15 * (2 * x**2) ** 4)]],
        lambda x: 960 * x**9,
        "960x⁹",
        9,
    ),
    "three functions": Case(
        "f(g(y, h(x, z))), f = u³, g = yv + v², h = x²z",
        lambda m, x: _g(m, x) ** 3,
        [
            [
                ("∂h/∂x = 2xz", lambda m, x: 2 * x * _number(m, Z)),
                ("∂g/∂v = y + 2v", lambda m, x: _number(m, Y) + 2 * _h(m, x)),
                ("f' = 3u²", lambda m, x: 3 * _g(m, x) ** 2),
            ]
        ],
        # u = yzx² + z²x⁴, so u³ = x⁶ (yz + z²x²)³
        lambda x: 6 * x**5 * (Y * Z + Z**2 * x**2) ** 3 + 3 * x**6 * (Y * Z + Z**2 * x**2) ** 2 * 2 * Z**2 * x,
        "6x⁵(yz + z²x²)³ + 6z²x⁷(yz + z²x²)²",
        11,
    ),
    "several paths": Case(
        "xu + uv, u = x², v = x³",
        lambda m, x: x * x**2 + x**2 * x**3,
        [
            [("∂/∂x = u", lambda m, x: x**2)],
            [("du/dx = 2x", lambda m, x: 2 * x), ("∂/∂u = x + v", lambda m, x: x + x**3)],
            [("dv/dx = 3x²", lambda m, x: 3 * x**2), ("∂/∂v = u", lambda m, x: x**2)],
        ],
        lambda x: 3 * x**2 + 5 * x**4,
        "3x² + 5x⁴",
        4,
    ),
    "sum and power": Case(
        "(x³ + 2x)⁴",
        lambda m, x: (x**3 + 2 * x) ** 4,
        [
            [("d(x³)/dx = 3x²", lambda m, x: 3 * x**2), ("4s³", lambda m, x: 4 * (x**3 + 2 * x) ** 3)],
            [("d(2x)/dx = 2", lambda m, x: 2), ("4s³", lambda m, x: 4 * (x**3 + 2 * x) ** 3)],
        ],
        lambda x: 4 * x**3 * (x**2 + 2) ** 3 * (3 * x**2 + 2),
        "4x³(x² + 2)³(3x² + 2)",
        11,
    ),
    "exponential of sine": Case(
        "e^sin(x²)",
        lambda m, x: m.exp(m.sin(x**2)),
        [
            [
                ("2x", lambda m, x: 2 * x),
                ("cos(x²)", lambda m, x: m.cos(x**2)),
                ("e^sin(x²)", lambda m, x: m.exp(m.sin(x**2))),
            ]
        ],
    ),
    "product and quotient": Case(
        "x² sin(x)/(1 + x)",
        lambda m, x: x**2 * m.sin(x) / (1 + x),
        [
            [("d(x²)/dx = 2x", lambda m, x: 2 * x), ("sin(x)/(1+x)", lambda m, x: m.sin(x) / (1 + x))],
            [("d sin/dx = cos x", lambda m, x: m.cos(x)), ("x²/(1+x)", lambda m, x: x**2 / (1 + x))],
            [("d(1+x)/dx = 1", lambda m, x: 1), ("−x² sin(x)/(1+x)²", lambda m, x: -(x**2) * m.sin(x) / (1 + x) ** 2)],
        ],
    ),
    f"{DEPTH} sines": Case(
        f"sin(sin(… sin(x))), {DEPTH} times",
        lambda m, x: _sines(m, x, DEPTH),
        [[(f"cos(x_{k})", lambda m, x, k=k: m.cos(_sines(m, x, k))) for k in range(DEPTH)]],
    ),
}


@dataclass(frozen=True)
class Config:
    """Settings of the chain rule experiment."""

    points: int = 81
    """Points of the grid."""
    low: float = 0.05
    """Its left end, above -1, where 1/(1 + x) has its pole."""
    high: float = 2.0
    """Its right end."""
    listed_at: float = 1.5
    """Where the table lists the factors."""

    def __post_init__(self):
        settings.at_least(self, 2, "points")
        settings.at_least(self, -0.9, "low", "listed_at")
        if not self.high > self.low:
            raise ValueError(f"high: expected more than low = {self.low}, got {self.high}")


SMOKE = Config(points=3)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        found = {name: _measure(case, config) for name, case in CASES.items()}
    polynomials = [name for name, case in CASES.items() if case.closed]
    checks = [
        Check(
            f"{CASES[name].formula}: product of factors is {CASES[name].closed_formula}, in rational arithmetic",
            f"equal at {found[name]['exact_points']} of {CASES[name].degree + 2} points",
            found[name]["exact_points"] == CASES[name].degree + 2,
        )
        for name in polynomials
    ]
    whole = sum(found[name]["whole_equal"] for name in polynomials)
    total = sum(found[name]["whole_total"] for name in polynomials)
    checks.append(
        Check(
            "polynomials at integers: reverse and jax.grad equal, no rounding",
            f"{whole} of {total}",
            whole == total,
        )
    )
    worst = {way: max(entry["errors"][way].max() / entry["allowed"] for entry in found.values()) for way in WAYS}
    checks += [
        Check(f"by hand and {way}: within the allowed rounding on the grid", f"{share:.2f} of it at most", share <= 1)
        for way, share in worst.items()
    ]
    coefficient = CASES["power of a power"].derivative(None, Fraction(1))[0]
    metrics = [
        {"case": name, "x": x, "by_hand": hand}
        | {way: entry["ways"][way][i] for way in WAYS}
        | {f"error_units, {way}": entry["errors"][way][i] for way in WAYS}
        for name, entry in found.items()
        for i, (x, hand) in enumerate(zip(entry["x"], entry["hand"]))
    ]
    rows = [row for name, case in CASES.items() for row in _factor_rows(name, case, config.listed_at, found[name])]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={
            "d/dx 3(2x²)⁵ at x = 1": str(coefficient),
            "compositions": len(CASES),
            **{f"largest error in units, {way}": max(e["errors"][way].max() for e in found.values()) for way in WAYS},
        },
        metrics=metrics,
        table=Table(
            ["case", "path", f"factors at x = {config.listed_at:g}", "their product", "sum of paths", "reverse"], rows
        ),
        curves=found,
    )


WAYS = ("reverse", "jax.grad", "complex step")


def _measure(case: Case, config: Config) -> dict:
    fun = lambda x: case.fun(jnp, x)
    x = np.linspace(config.low, config.high, config.points)
    hand, magnitude = case.derivative(np, x)
    ways = {
        "reverse": np.asarray(jax.vmap(reverse.grad(fun))(jnp.asarray(x))),
        "jax.grad": np.asarray(jax.vmap(jax.grad(fun))(jnp.asarray(x))),
        "complex step": case.fun(np, x + 1e-200j).imag / 1e-200,
    }
    unit = np.finfo(np.float64).eps * magnitude
    at = jnp.asarray(config.listed_at)
    return {
        "x": x,
        "hand": hand,
        "ways": ways,
        "errors": {way: np.abs(values - hand) / unit for way, values in ways.items()},
        "allowed": case.factors + 8,
        "at": float(reverse.grad(fun)(at)),
        **(_exactly(case, case.closed, fun) if case.closed else {}),
    }


def _exactly(case: Case, closed: Callable, fun) -> dict:
    """The polynomial cases: by hand against the simplified form in fractions, and by machine at integers."""
    points = [Fraction(k, 7) for k in range(-2, case.degree)]
    equal = [case.derivative(None, x)[0] == closed(x) for x in points]
    machine = [
        float(differentiate(fun)(jnp.asarray(float(k)))) == float(closed(Fraction(k)))
        for k in (-2, -1, 0, 1, 2)
        for differentiate in (reverse.grad, jax.grad)
    ]
    return {"exact_points": sum(equal), "whole_equal": sum(machine), "whole_total": len(machine)}


def _factor_rows(name: str, case: Case, at: float, entry: dict) -> list[list]:
    rows, total = [], float(case.derivative(np, at)[0])
    for number, path in enumerate(case.paths, 1):
        values = [float(factor(np, at)) for _, factor in path]
        parts = [f"{formula}: {value:.6g}" for (formula, _), value in zip(path, values)]
        if len(parts) > 4:
            parts = [*parts[:3], f"… {len(parts) - 4} more", parts[-1]]
        first = number == 1
        rows.append(
            [
                f"{name}: {case.formula}" if first else "",
                number,
                "; ".join(parts),
                float(np.prod(values)),
                total if first else None,
                entry["at"] if first else None,
            ]
        )
    return rows


def plot(result: Result) -> list[Picture]:
    return [_plot_derivatives(result.curves), _plot_errors(result.curves)]


def _plot_derivatives(found: Mapping) -> Picture:
    figure = style.figure(10.5, 4.8)
    places = figure.subplots(2, 4, sharex=True).ravel()
    for axes, (name, entry) in zip(places, found.items()):
        axes.plot(entry["x"], entry["hand"], color=style.SKY, linewidth=4, label="by hand")
        some = slice(None, None, max(1, len(entry["x"]) // 12))
        axes.plot(entry["x"][some], entry["ways"]["reverse"][some], ".", color=style.BLACK, label="reverse")
        axes.set_title(name, fontsize=9.5)
        if max(abs(entry["hand"])) > 1000:
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.tick_params(labelsize=8)
    for axes in places[len(found) :]:
        axes.axis("off")
        axes.legend(*places[0].get_legend_handles_labels(), loc="center", fontsize=11)
    figure.supxlabel("x", fontsize=10)
    figure.supylabel("derivative", fontsize=10)
    return Picture(
        "derivatives",
        "Derivatives of the compositions in the table: the sum of products by hand (line), the reverse mode (dots).",
        figure,
    )


def _plot_errors(found: Mapping) -> Picture:
    figure = style.figure(8.5, 3.4)
    axes = figure.subplots()
    rows = np.arange(len(found))
    for shift, way, colour, marker in zip((-0.2, 0, 0.2), WAYS, style.COLOURS, "os^"):
        worst = [entry["errors"][way].max() for entry in found.values()]
        axes.plot(worst, rows + shift, marker, color=colour, label=f"by hand − {way}")
    axes.plot(
        [entry["allowed"] for entry in found.values()], rows, "|", color=style.BLACK, markersize=14, label="allowed"
    )
    axes.set_yticks(rows, list(found))
    axes.set(xlabel="largest difference on the grid, in eps · Σ |paths|", title="Rounding is all that is left")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.05)
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), labelspacing=0.9)
    return Picture("errors", "What separates the derivative by hand from three others, in units of rounding.", figure)
