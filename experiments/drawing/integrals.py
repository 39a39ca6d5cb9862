"""The pictures of experiments/integrals.py."""

from collections.abc import Mapping

import numpy as np

from experiments.cases.quadrature import BETWEEN, INTEGRANDS, RULES, SPECTRAL
from experiments.drawing import solids
from experiments.framework import style
from experiments.framework.result import Picture, Result

COLOURS = dict(zip(RULES, (style.SKY, style.BLUE, style.GREEN, style.ORANGE, style.RED, style.PURPLE)))
MARKERS = dict(zip(RULES, "<>o^sD"))


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    return [
        _plot_rectangles(curves["single"]["smooth"]["true"]),
        _plot_orders(curves["orders"], curves["single"]),
        _plot_areas(curves["areas"]),
        solids.plot_solids(curves["solids"]),
        solids.plot_slices(),
    ]


# ---- rectangles ----------------------------------------------------------------------------------------

COUNTS = (4, 8, 16, 64)


def _plot_rectangles(true: float) -> Picture:
    case = INTEGRANDS["smooth"]
    figure = style.figure(10.5, 6.4)
    places = figure.subplots(3, len(COUNTS), sharex=True, sharey=True)
    grid = np.linspace(case.a, case.b, 400)
    for across, rule in zip(places, ("left", "midpoint", "trapezoid")):
        for axes, n in zip(across, COUNTS):
            total, _ = RULES[rule](lambda x: case.fun(np, x), case.a, case.b, n)
            _pieces(axes, case, rule, n)
            axes.plot(grid, case.fun(np, grid), color=style.BLACK, linewidth=1.4)
            axes.set_title(f"{total:.5f}  ({total - true:+.5f})".replace("-", "−"), fontsize=9.5, fontweight="normal")
            axes.set_ylim(0, 0.62)
        across[0].set_ylabel(rule, fontsize=10.5)
    for axes, n in zip(places[-1], COUNTS):
        axes.set_xlabel(f"x  (n = {n})")
    figure.suptitle(f"Areas of n pieces turn into ∫ x² e⁻ˣ dx = {true:.5f}", fontsize=10.5, fontweight="bold")
    return Picture(
        "rectangles",
        "The area under x² e⁻ˣ from 0 to 4, by rectangles as high as f at their left ends, by rectangles as high as at "
        "their middles, and by trapezoids. Above each: the sum, and in brackets its error. Twice as many pieces halve "
        "the error of the first, and quarter that of the other two; trapezoids err twice as much as midpoints, to the "
        "other side.",
        figure,
    )


def _pieces(axes, case, rule: str, n: int) -> None:
    edges = np.linspace(case.a, case.b, n + 1)
    low, high = edges[:-1], edges[1:]
    line = {"facecolor": style.SKY, "alpha": 0.55, "edgecolor": "white", "linewidth": 0.7 if n < 60 else 0.25}
    if rule == "trapezoid":
        for a, b in zip(low, high):
            axes.fill([a, a, b, b], [0, case.fun(np, a), case.fun(np, b), 0], **line)
        return
    at = low if rule == "left" else (low + high) / 2
    axes.bar(low, case.fun(np, at), width=high - low, align="edge", **line)
    if n < 60:
        axes.plot(at, case.fun(np, at), ".", color=style.BLUE, markersize=5)


# ---- orders --------------------------------------------------------------------------------------------


def _plot_orders(orders: Mapping, single: Mapping) -> Picture:
    figure = style.figure(11, 6.8)
    places = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
    for axes, (name, rules) in zip(places, orders.items()):
        for rule, found in rules.items():
            errors = np.maximum(found["errors"], 1e-17)
            shown = np.isfinite(errors)
            if shown.any():
                axes.loglog(found["evaluations"][shown], errors[shown], MARKERS[rule], color=COLOURS[rule],
                            markersize=2.6, alpha=0.8)  # fmt: skip
        entry = single[name]
        at = entry["evaluations"]
        axes.plot(at, max(entry["error"] / abs(entry["true"]), 1e-17), "*", color=style.BLACK, markersize=11)
        axes.plot(at, entry["reported"] / abs(entry["true"]), "_", color=style.BLACK, markersize=11, markeredgewidth=2)
        axes.set_title(f"{name}: {INTEGRANDS[name].formula}", fontsize=10)
        axes.text(0.98, 0.98, _words(rules), transform=axes.transAxes, ha="right", va="top", fontsize=7.8)
        axes.set_ylim(3e-18, 1e5)
    for axes in (places[3], places[4]):
        axes.set_xlabel("evaluations of f")
    places[2].tick_params(labelbottom=True)
    places[2].set_xlabel("evaluations of f")
    for axes in (places[0], places[3]):
        axes.set_ylabel("relative error")
    _legend(places[-1])
    return Picture(
        "orders",
        "Errors of the rules against evaluations; the slope is minus the order, measured values in the corner. On a "
        "smooth function they are 1, 1, 2, 2, 4, and Gauss's rule falls off a cliff; over a full period all do. A kink "
        "holds everybody at 2, a steep end at 1.5 (Gauss at 3), an infinite one at less; rules that evaluate f there "
        "are missing. Stars: integrals.integrate, which is told nothing of f and spends some 40,000 evaluations on "
        "being sure; bars: the error it reports. Errors below 1e-17 are drawn there.",
        figure,
    )


def _words(rules: Mapping) -> str:
    lines = []
    for rule, found in rules.items():
        order = {None: "–", SPECTRAL: "∞"}.get(found["theory"]) or f"{found['order']:.2f}"
        lines.append(f"{rule} {order}")
    return "\n".join(lines)


def _legend(axes) -> None:
    axes.axis("off")
    handles = [axes.plot([], [], MARKERS[rule], color=COLOURS[rule], markersize=6, label=rule)[0] for rule in RULES]
    handles += axes.plot([], [], "*", color=style.BLACK, markersize=11, label="integrals.integrate, true error")
    handles += axes.plot(
        [], [], "_", color=style.BLACK, markersize=11, markeredgewidth=2, label="and the one it reports"
    )
    axes.legend(handles=handles, loc="center", fontsize=10, labelspacing=0.8)


# ---- areas between curves ------------------------------------------------------------------------------


def _plot_areas(areas: list) -> Picture:
    figure = style.figure(11, 3.5)
    for axes, case, found in zip(figure.subplots(1, 3), BETWEEN, areas):
        x = np.linspace(case.a, case.b, 800)
        f, g = case.f(np, x), case.g(np, x)
        first, second = case.name.split(" and ")
        axes.fill_between(x, f, g, where=f >= g, color=style.BLUE, alpha=0.22, linewidth=0, interpolate=True)
        axes.fill_between(x, f, g, where=f < g, color=style.RED, alpha=0.22, linewidth=0, interpolate=True)
        axes.plot(x, f, color=style.BLUE, label=first)
        axes.plot(x, g, color=style.RED, label=second)
        crossings = np.array(found["crossings"])
        axes.plot(crossings, case.f(np, crossings), "o", color="white", markeredgecolor=style.BLACK, markersize=5.5)
        words = f"area {found['value']:.5f},  ∫ (f − g) = {found['net'] + 0.0:.5f}"
        axes.set_title(words.replace("-0.00000", "0").replace("-", "−"), fontsize=10)
        axes.set_xlabel("x")
        axes.set_ylim(top=axes.get_ylim()[1] + 0.25 * np.ptp(axes.get_ylim()))
        axes.legend(loc="upper left", ncols=2)
    return Picture(
        "areas",
        "Areas between two curves: blue where the first is above, red where the second is. Circles: the crossings, at "
        "which the integral of |f − g| is cut. The integral of f − g alone lets the colours cancel.",
        figure,
    )
