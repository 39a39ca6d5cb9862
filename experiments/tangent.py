"""Secants turn into the tangent, and how far a difference quotient can be trusted.

The slope of the secant through x and x + h has an error of two parts: truncation, |f''(x)| h / 2 for a one-sided
quotient and |f'''(x)| h^2 / 6 for a central one, and the rounding of f, about eps |f(x)| / h.  On doubly logarithmic
axes they are lines of slope 1, 2 and -1; the best step lies where they cross, and the extrapolated derivative knows
its own error.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl import calculus

CLAIM = (
    "Secants turn into the tangent: the error of a one-sided quotient falls like h, that of a central one like h², "
    "until rounding, which grows like 1/h, takes over; extrapolation beats any single step, and its error is honest."
)


@dataclass(frozen=True)
class Config:
    """Settings of the tangent experiment."""

    x: float = 1.0
    """Where the tangent of e^sin(x) touches."""
    steps: int = 48
    """Steps h = 1/2, 1/4, ..., halved this many times."""

    def __post_init__(self):
        settings.at_least(self, 30, "steps")


SMOKE = Config(steps=30)


def curve(x):
    return jnp.exp(jnp.sin(x))


def slope(x):
    return np.exp(np.sin(x)) * np.cos(x)


def run(config: Config) -> Result:
    h = 2.0 ** -np.arange(1, config.steps + 1)
    with jax.enable_x64(True):
        x = jnp.float64(config.x)
        here, ahead, behind = (np.asarray(v) for v in (curve(x), curve(x + h), curve(x - h)))
    true = slope(config.x)
    errors = {
        "one-sided": np.abs((ahead - here) / h - true),
        "central": np.abs((ahead - behind) / (2 * h) - true),
    }
    found = calculus.derivative(curve, config.x)
    off = abs(float(found.value) - true)
    # where truncation rules, and where rounding does
    wide, narrow = slice(3, 10), h < 2.0**-28
    orders = {name: float(np.polyfit(np.log(h[wide]), np.log(e[wide]), 1)[0]) for name, e in errors.items()}
    rounding = np.finfo(np.float64).eps * float(here) / h
    drowned = float(np.max(errors["central"][narrow] / rounding[narrow])) if narrow.any() else 0.0
    df = calculus.differential(curve, config.x)
    remainder = df.remainder_slope(1.0)
    best = min(float(e.min()) for e in errors.values())
    checks = [
        Check(
            "one-sided quotient: order of its error is 1",
            f"{orders['one-sided']:.3f}",
            bool(abs(orders["one-sided"] - 1) < 0.05),
        ),
        Check(
            "central quotient: order of its error is 2",
            f"{orders['central']:.3f}",
            bool(abs(orders["central"] - 2) < 0.05),
        ),
        Check("rounding stays below 4 eps |f| / h", f"{drowned:.2f} eps |f| / h at most", bool(drowned < 4)),
        Check("differential: order of the remainder is 2", f"{remainder:.3f}", bool(abs(remainder - 2) < 0.02)),
        Check(
            "extrapolated derivative: error within its bound",
            f"{off:.1e} of {float(found.error):.1e}",
            off <= found.error,
        ),
        Check("and not larger than that of the best single step", f"{off:.1e} against {best:.1e}", bool(off <= best)),
    ]
    rows = [[f"2^-{k + 1}", float(h[k]), *(float(e[k]) for e in errors.values())] for k in range(0, len(h), 6)]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"f'(x)": float(true), "extrapolated": float(found.value), "its error bound": float(found.error)},
        metrics=[{"h": float(h[k])} | {name: float(e[k]) for name, e in errors.items()} for k in range(len(h))],
        table=Table(["step", "h", "error, one-sided", "error, central"], rows),
        curves={"h": h, "errors": errors, "rounding": rounding, "bound": float(found.error), "x": config.x},
    )


def plot(result: Result) -> list[Picture]:
    return [_plot_secants(result.curves), _plot_errors(result.curves)]


def _plot_secants(found) -> Picture:
    figure = style.figure(6.5, 4.2)
    axes, x = figure.subplots(), found["x"]
    grid = np.linspace(x - 1.2, x + 1.6, 200)
    y = lambda t: np.exp(np.sin(t))
    axes.plot(grid, y(grid), color=style.BLACK, linewidth=2, label="e^sin(x)")
    for h, shade in zip((1.4, 0.7, 0.35), (0.35, 0.6, 0.85)):
        secant = y(x) + (y(x + h) - y(x)) / h * (grid - x)
        axes.plot(grid, secant, color=style.SKY, alpha=shade, label=f"secant, h = {h:g}")
        axes.plot([x + h], [y(x + h)], ".", color=style.SKY)
    axes.plot(grid, y(x) + slope(x) * (grid - x), color=style.COLOURS[1], linewidth=2, label="tangent")
    axes.plot([x], [y(x)], "o", color=style.BLACK)
    axes.set(xlabel="x", ylabel="y", title="Secants turn into the tangent")
    axes.legend()
    return Picture(
        "secants", "Secants through a fixed point and ever nearer ones, and the tangent they turn into.", figure
    )


def _plot_errors(found) -> Picture:
    figure = style.figure(7, 4.4)
    axes, h = figure.subplots(), found["h"]
    for (name, errors), colour, marker in zip(found["errors"].items(), style.COLOURS, "os"):
        axes.loglog(h, np.maximum(errors, 1e-18), marker, color=colour, markersize=4, label=f"{name} quotient")
    axes.loglog(h, found["rounding"], "--", color=style.BLACK, linewidth=1, label="rounding, eps |f| / h")
    axes.axhline(found["bound"], color=style.SKY, label="bound of the extrapolated derivative")
    axes.set(xlabel="h", ylabel="error of the slope", title="Truncation falls, rounding grows", ylim=(1e-16, 10))
    axes.legend(fontsize=8)
    return Picture(
        "errors", "Error of one-sided and central quotients against the step, with the lines of rounding.", figure
    )
