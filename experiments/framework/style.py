"""One look for all plots: light, plain, with colours that colour-blind readers can tell apart."""

from typing import Any

from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow, which is too pale for lines on white.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#222222",
)
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY = "#8a8a8a"

RC: Any = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "mathtext.fontset": "dejavusans",
    "savefig.dpi": 130,
}


def figure(width: float = 8.0, height: float = 3.6) -> Figure:
    """An empty figure, in inches; made without pyplot, so nothing global is touched."""
    return Figure(figsize=(width, height), layout="constrained")


def band(axes, x, mean, half, *, colour, label, **line):
    """A line with its 95 % interval over seeds as a band."""
    axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, mean, color=colour, label=label, **line)
