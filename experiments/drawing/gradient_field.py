"""The pictures of experiments/gradient_field.py."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D

from experiments.cases.surfaces import SURFACES, Surface, petals, rarity
from experiments.framework import style
from experiments.framework.result import Picture, Result

TEARING = 0.02  # a rate that is too large for Himmelblau's function
BASINS = (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE)


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    return [
        _plot_fields(curves["paths"]),
        _plot_directions(curves["directions"]),
        _plot_basins(curves["basins"], curves["torn"], curves["thresholds"]),
        _plot_rates(curves["bowl"]),
    ]


def _contours(axes, surface: Surface, count: int = 16, **line) -> None:
    """Contours at quantiles of f, so that flat parts get some too."""
    x, y = surface.grid(160)
    values = surface.fun(np, x, y)
    levels = np.unique(np.quantile(values, np.linspace(0.01, 0.99, count)))
    axes.contour(x, y, values, levels, **({"colors": "#b9c0c8", "linewidths": 0.8, "linestyles": "solid"} | line))
    axes.set(xlim=surface.window[0], ylim=surface.window[1])
    axes.grid(visible=False)


def _differences(surface: Surface, x, y):
    """The gradient by central differences: what is drawn does not rest on what is claimed."""
    h = 1e-5
    u = (surface.fun(np, x + h, y) - surface.fun(np, x - h, y)) / (2 * h)
    v = (surface.fun(np, x, y + h) - surface.fun(np, x, y - h)) / (2 * h)
    return u, v


def _petals(axes, surface: Surface) -> None:
    if surface.fun is rarity:
        axes.plot(*petals()[0].T, ".", color=style.BLACK, markersize=2.5, alpha=0.55)


def _plot_fields(paths: Mapping) -> Picture:
    figure = style.figure(10, 8.8)
    for axes, (name, surface) in zip(figure.subplots(2, 2).ravel(), SURFACES.items()):
        _contours(axes, surface)
        x, y = surface.grid(15)
        u, v = _differences(surface, x, y)
        size = np.hypot(u, v)
        with np.errstate(invalid="ignore", divide="ignore"):
            short = np.where(size > 0, (size / size.max()) ** 0.3 / size, 0)  # lengths squeezed, or most would vanish
        axes.quiver(x, y, u * short, v * short, angles="xy", color=style.BLUE, width=0.0035, alpha=0.8, scale=16)
        _petals(axes, surface)
        for run in paths[name]:
            axes.plot(*run.T, color=style.RED, linewidth=1.6)
            axes.plot(*run[0], "o", color="white", markeredgecolor=style.RED, markersize=5)
            axes.plot(*run[-1], "o", color=style.RED, markersize=5)
        axes.set(title=f"{name}: {surface.formula}", xlabel=surface.labels[0], ylabel=surface.labels[1])
        axes.set_aspect("equal" if name != "iris petals" else "auto")
    arrow = Line2D([], [], color=style.BLUE, marker=">", markersize=6, linewidth=1.4, alpha=0.8, label="gradient")
    descent = Line2D([], [], color=style.RED, linewidth=1.6, label="descent")
    start, end = (
        Line2D([], [], color=face, marker="o", linestyle="", markeredgecolor=style.RED, markersize=5, label=label)
        for face, label in (("white", "its start"), (style.RED, "its end"))
    )
    contour = Line2D([], [], color=style.GREY, linewidth=0.8, label="contour")
    figure.legend(handles=[contour, arrow, descent, start, end], loc="outside lower center", ncols=5)
    return Picture(
        "fields",
        "Contours (grey), gradients (blue arrows, uphill; the longer, the steeper) and descent against them (red, from "
        "open to filled circles), at right angles to the contours. The bowl leads everybody to one place, the saddle "
        "away from its middle, the other two to a minimum that depends on the start. On iris petals the axes have "
        "different scales, so there right angles do not look right.",
        figure,
    )


def _plot_directions(directions: Mapping) -> Picture:
    figure = style.figure(10, 4.3)
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    grid = np.linspace(-180, 180, 400)
    left.plot(grid, np.cos(np.radians(grid)), color=style.BLACK, linewidth=1, label="cosine")
    for (name, found), colour, marker in zip(directions.items(), style.COLOURS, "os^D"):
        turned = (np.degrees(found["angles"] - found["turn"]) + 180) % 360 - 180
        some = slice(None, None, max(1, len(turned) // 30))
        left.plot(turned[some], found["slopes"][some], marker, color=colour, markersize=4.5, label=name)
    left.set_xticks([-180, -90, 0, 90, 180])
    left.set(title="Slope in every direction, measured from values", xlabel="angle to the gradient / degrees")
    left.set_ylabel("slope / |∇f|")
    left.legend(loc="lower center")
    _rose(right)
    return Picture(
        "directions",
        "Left: slopes around one point of each function, divided by the length of its gradient, lie on one cosine: 1 "
        "along the gradient, 0 along the contour, −1 against it. Right: the slopes around one point as arrows, blue "
        "where f grows and red where it falls; their tips lie on two circles, and the longest is the gradient.",
        figure,
    )


def _rose(axes) -> None:
    """Slopes in all directions as arrows from one point."""
    surface, point = SURFACES["Himmelblau"], np.array([-0.6, 1.1])
    gradient = np.array(_differences(surface, *point))
    size = np.linalg.norm(gradient)
    reach = 0.9
    x, y = np.meshgrid(*(np.linspace(c - 1.25, c + 1.25, 120) for c in point))
    axes.contour(x, y, surface.fun(np, x, y), 14, colors="#b9c0c8", linewidths=0.8)
    for angle in np.arange(0, 360, 10) * np.pi / 180 + np.arctan2(gradient[1], gradient[0]):
        u = np.array([np.cos(angle), np.sin(angle)])
        slope = float(u @ gradient) / size * reach
        colour = style.BLUE if slope > 0 else style.RED
        tip = point + abs(slope) * u
        axes.annotate("", tip, point, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 0.9})
    tip = point + reach * gradient / size
    axes.annotate("∇f", tip, tip + 0.16 * gradient / size, ha="center", va="center", fontsize=11)
    axes.plot(*point, "o", color=style.BLACK, markersize=4)
    axes.set(title="One point of Himmelblau's function", xlabel="x", ylabel="y")
    axes.set_aspect("equal")
    axes.grid(visible=False)


def _plot_basins(basins: Mapping, torn: Mapping, thresholds: list) -> Picture:
    figure = style.figure(11, 4.2)
    figure.get_layout_engine().set(w_pad=0.1)  # type: ignore[union-attr]
    places = figure.subplots(1, 3)
    shown = [
        ("Himmelblau", basins["Himmelblau"], f"Himmelblau, rate {SURFACES['Himmelblau'].rate:g}"),
        ("Himmelblau", torn, f"Himmelblau, rate {TEARING:g}"),
        ("iris petals", basins["iris petals"], f"iris petals, rate {SURFACES['iris petals'].rate:g}"),
    ]
    for axes, (name, found, title) in zip(places, shown):
        surface, count = SURFACES[name], len(found["minima"])
        colours = ListedColormap(["#3a3a3a", *BASINS[:count]])
        axes.pcolormesh(
            *surface.grid(len(found["which"])), found["which"], cmap=colours, vmin=-1.5, vmax=count - 0.5, alpha=0.55,
            rasterized=True, linewidth=0, antialiased=False,
        )  # fmt: skip
        _contours(axes, surface, 12, colors="white", linewidths=0.5)
        _petals(axes, surface)
        for k, (x, y) in enumerate(found["minima"]):
            axes.plot(x, y, "o", color=BASINS[k], markeredgecolor=style.BLACK, markersize=7)
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
            axes.annotate(f"{found['shares'][k]:.1%}", (x, y), (0, 9), textcoords="offset points", ha="center",
                          fontsize=9, bbox=box)  # fmt: skip
        axes.set(title=title, xlabel=surface.labels[0], ylabel=surface.labels[1])
    nowhere, lost = 1 - sum(torn["shares"]), [row["predicted"] for row in thresholds if row["predicted"] < TEARING]
    return Picture(
        "basins",
        "Every place coloured by the minimum (dot) in which descent from there ends, with each minimum's share of the "
        "starts. A rate ten times as large (middle) tears the basins apart, and "
        f"{len(lost)} of the minima, where 2/L is below it, attract nobody any more: from {nowhere:.1%} of the starts "
        "no minimum is found (dark). On real data (right; black dots) the minimum on the right is a trap: it is the "
        "higher one.",
        figure,
    )


def _plot_rates(bowl: Mapping) -> Picture:
    figure = style.figure(11, 5.6)
    places = figure.subplot_mosaic([["a", "b", "f"], ["c", "d", "f"]], width_ratios=[1, 1, 1.45])
    colours = (style.SKY, style.GREEN, style.ORANGE, style.RED)
    for key, (label, rate), run, colour in zip("abcd", bowl["shown"].items(), bowl["runs"], colours):
        axes = places[key]
        _contours(axes, SURFACES["bowl"], 12)
        axes.plot(*run.T, ".-", color=colour, linewidth=1.2, markersize=4)
        axes.plot(*run[0], "o", color="white", markeredgecolor=style.BLACK, markersize=5)
        axes.plot(0, 0, "+", color=style.BLACK, markersize=8)
        axes.set_title(f"{rate:.3g}: {label}", fontsize=10)
        axes.set_aspect("equal")
    axes = places["f"]
    axes.plot(bowl["rates"], bowl["predicted"], color=style.BLACK, linewidth=1, label="max |1 − rate · curvature|")
    some = slice(None, None, max(1, len(bowl["rates"]) // 50))
    axes.plot(bowl["rates"][some], bowl["factor"][some], "o", color=style.BLUE, markersize=4, label="measured")
    axes.axhline(1, color=style.GREY, linewidth=0.8, linestyle="--")
    axes.axvspan(0.2, bowl["rates"][-1], color=style.RED, alpha=0.08, linewidth=0)
    for rate, colour in zip(bowl["shown"].values(), colours):
        factor = max(abs(1 - rate), abs(1 - 10 * rate))
        axes.plot(rate, factor, "o", color=colour, markeredgecolor=style.BLACK, markersize=8)
    axes.text(0.22, 0.84, "diverges:\nrate > 2/L", color=style.RED, ha="center")
    axes.set(title="What a step leaves of the distance", xlabel="learning rate", ylabel="factor a step")
    axes.legend(loc="lower left")
    return Picture(
        "rates",
        "Forty steps down the bowl with four rates: too small, it creeps along the valley; best; nearly 2/L, it "
        "bounces from wall to wall; above, it leaves. Right: the factor by which a step shrinks the distance from the "
        "minimum, against the rate (the four are ringed); above 1 it grows.",
        figure,
    )
