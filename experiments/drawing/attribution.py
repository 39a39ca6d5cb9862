"""The pictures of experiments/attribution.py."""

from collections.abc import Mapping

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import PercentFormatter

from experiments.framework import style
from experiments.framework.result import Picture, Result

COLOURS = {
    "integrated gradients": style.BLUE,
    "saliency": style.RED,
    "SmoothGrad": style.GREEN,
    "gradient × input": style.PURPLE,
    "darkest first": style.ORANGE,
    "random": style.BLACK,
}
SIGNED = ("integrated gradients", "gradient × input")


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    return [
        _plot_maps(curves),
        _plot_deletions(curves["deletions"], curves["areas"]),
        _plot_strip(curves),
        _plot_completeness(curves),
    ]


def _one_a_digit(curves: Mapping) -> list[int]:
    """The first image of each digit that there is."""
    return [int(np.flatnonzero(curves["y"] == digit)[0]) for digit in range(10) if (curves["y"] == digit).any()]


def _image(axes, values, **look) -> None:
    axes.imshow(np.reshape(values, (8, 8)), **look)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color="#c8ccd2", linewidth=0.6)


def _plot_maps(curves: Mapping) -> Picture:
    chosen, maps = _one_a_digit(curves), curves["maps"]
    figure = style.figure(11, 1.16 * (1 + len(maps)) + 0.3)
    places = figure.subplots(1 + len(maps), len(chosen), squeeze=False)
    for column, image in enumerate(chosen):
        right = curves["chosen"][image] == curves["y"][image]
        _image(places[0, column], curves["x"][image], cmap="Greys", vmin=0, vmax=1)
        places[0, column].set_title(
            f"{curves['chosen'][image]}" + ("" if right else f", not {curves['y'][image]}"),
            loc="center", color=style.BLACK if right else style.RED,
        )  # fmt: skip
        for axes, (name, values) in zip(places[1:, column], maps.items()):
            most = np.abs(values[image]).max()
            signed = {"cmap": "RdBu", "vmin": -most, "vmax": most}
            _image(axes, values[image], **(signed if name in SIGNED else {"cmap": "Purples", "vmin": 0, "vmax": most}))
    for axes, name in zip(places[:, 0], ("ink", *maps)):
        axes.set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center", fontsize=10)
    figure.suptitle("predicted", fontsize=10, x=0.02, ha="left")
    for row, name in enumerate(("ink", *maps)):
        least = -1 if name in SIGNED else 0
        scale = ScalarMappable(Normalize(least, 1), "RdBu" if least else "Purples" if row else "Greys")
        bar = figure.colorbar(scale, ax=places[row], location="right", aspect=8, pad=0.01)
        bar.set_ticks([least, 0, 1] if least else [0, 1])
        bar.set_label("share of\nlargest" if row else "ink", fontsize=8)
    return Picture(
        "maps",
        "The first test image of each digit (above: the class predicted; red where it is wrong), and how its pixels "
        "are held responsible. Blue speaks for the class, red against it; the maps without signs are the darker, the "
        "more. Integrated gradients and gradient × input can mark nothing but ink, since the blank page is what they "
        "compare with; the other two mark paper as well, on which ink would matter.",
        figure,
    )


def _plot_deletions(deletions: Mapping, areas: Mapping) -> Picture:
    figure = style.figure(11, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    share = np.arange(65) / 64
    for name, colour in COLOURS.items():
        flat = deletions[name].reshape(-1, 65)
        error = 1.96 * flat.std(0, ddof=1) / np.sqrt(len(flat))
        style.band(left, share, flat.mean(0), error, colour=colour, label=name,
                   linestyle="--" if name in ("darkest first", "random") else "-")  # fmt: skip
    left.axhline(0, color=style.GREY, linewidth=0.8)
    left.text(0.99, 0.25, "p = ½", color=style.GREY, ha="right", fontsize=9)
    left.set(xlabel="pixels blanked", ylabel="log-odds of the class predicted (nats)", xlim=(0, 1))
    left.set_title("Blanking the most important pixels first")
    left.xaxis.set_major_formatter(PercentFormatter(1.0))
    left.legend(loc="upper right", bbox_to_anchor=(1.0, 0.93))
    rows = np.arange(len(COLOURS))
    for row, (name, colour) in zip(rows, COLOURS.items()):
        values = areas[name].ravel()
        error = values.std(ddof=1) / np.sqrt(len(values))
        right.errorbar(values.mean(), row, xerr=1.96 * error, fmt="o", color=colour, capsize=4, markersize=6)
        right.text(values.mean(), row - 0.22, f"{values.mean():.2f} ± {error:.2f}".replace("-", "−"), ha="center",
                   fontsize=9)  # fmt: skip
    right.set_yticks(rows, list(COLOURS))
    right.set_ylim(len(COLOURS) - 0.4, -0.7)
    right.margins(x=0.15)
    right.set(xlabel="area under the curve (nats)", title="The further left, the better the order")
    return Picture(
        "deletions",
        "Left: the log-odds while pixels are blanked, the most important first by each method: mean over all images, "
        "and its 95 % band. They may well fall below those of the blank page, where all curves end: what is left then "
        "speaks for another class. Right: the areas under the curves with their standard errors (numbers) and 95 % "
        "intervals (bars).",
        figure,
    )


SHOWN = (0, 2, 4, 8, 16, 32, 64)


def _plot_strip(curves: Mapping) -> Picture:
    """One image losing its pixels in three orders."""
    image = _one_a_digit(curves)[-1]
    orders = {name: curves["maps"][name][image] for name in ("integrated gradients", "saliency")}
    orders["darkest first"] = curves["x"][image]
    figure = style.figure(9.5, 4.6)
    places = figure.subplots(len(orders), len(SHOWN))
    for across, (name, scores) in zip(places, orders.items()):
        rank = np.argsort(np.argsort(-scores, kind="stable"), kind="stable")
        for axes, count in zip(across, SHOWN):
            _image(axes, np.where(rank < count, np.nan, curves["x"][image]), cmap="Greys", vmin=0, vmax=1)
            axes.set_facecolor("#cfe3f3")
            log_odds = curves["deletions"][name][0, image, count]
            axes.set_title(f"{log_odds:+.1f}".replace("-", "−"), loc="center", fontsize=10,
                           color=style.BLACK if log_odds > 0 else style.RED)  # fmt: skip
        across[0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center", fontsize=10)
    for axes, count in zip(places[-1], SHOWN):
        axes.set_xlabel(f"{count} blanked")
    return Picture(
        "strip",
        f"A {curves['chosen'][image]} losing its pixels (blue) in three orders; above each: the log-odds that it is a "
        f"{curves['chosen'][image]}, red where it is no longer the likely class.",
        figure,
    )


def _plot_completeness(curves: Mapping) -> Picture:
    figure = style.figure(11, 4)
    left, right = figure.subplots(1, 2)
    change, totals = curves["change"].ravel(), curves["totals"].ravel()
    ends = [min(change.min(), 0) - 1, change.max() + 1]
    left.plot(ends, ends, color=style.BLACK, linewidth=1)
    left.plot(change, totals, "o", color=style.BLUE, markersize=4, alpha=0.5)
    left.set(xlabel="f(x) − f(blank) (nats)", ylabel="sum of the attributions (nats)")
    left.set_title("Nothing is left over")
    floor = 1e-17
    counts = list(curves["sums"])
    right.loglog(counts, list(curves["sums"].values()), "s-", color=style.ORANGE, label="sum over m points, median")
    gaps = np.maximum(curves["gaps"].ravel(), floor)
    middle = float(np.median(gaps))
    right.errorbar(curves["steps"], middle, yerr=[[middle - gaps.min()], [gaps.max() - middle]], fmt="o",
                   color=style.BLUE, capsize=4, label="adaptive, median and range")  # fmt: skip
    relu = curves["relu"]
    right.plot(relu["steps"], np.maximum(relu["gaps"], floor), "D", color=style.RED, markersize=5, alpha=0.8,
               label="adaptive, ReLU network, an image each")  # fmt: skip
    right.set(xlabel="gradients on the way", ylabel="gap, relative")
    right.set_ylim(3e-18, 30)
    right.set_title("What completeness costs")
    right.legend(loc="upper right")
    return Picture(
        "completeness",
        "Left: every test image of every network. Right: how far the sum of the attributions is from what it must be, "
        "against the gradients spent. The common mean over m points errs by 1/m; the adaptive integral is exact to "
        "rounding on a smooth network, and on a ReLU network pays for closing in on every jump of the gradient.",
        figure,
    )
