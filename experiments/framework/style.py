"""One look for all plots: light, plain, with colours that colour-blind readers can tell apart."""

from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

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
DARK, LIGHT = "#15181c", "#e4e6e8"  # ground and ink of dark pages

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


def darken(figure: Figure) -> None:
    """Draws a figure for a dark page: greys turn over, so that black becomes light; colours stay, a little lighter."""
    for artist in figure.findobj():
        if isinstance(artist, Text):
            artist.set_color(_turned(artist.get_color()))
            box = artist.get_bbox_patch()
            if box is not None:
                box.set(facecolor=_turned(box.get_facecolor()), edgecolor=_turned(box.get_edgecolor()))
        elif isinstance(artist, Line2D):
            face, edge = _turned(artist.get_markerfacecolor()), _turned(artist.get_markeredgecolor())
            artist.set(color=_turned(artist.get_color()), markerfacecolor=face, markeredgecolor=edge)
        elif isinstance(artist, Patch):
            artist.set(facecolor=_turned(artist.get_facecolor()), edgecolor=_turned(artist.get_edgecolor()))
        elif isinstance(artist, Collection) and artist.get_array() is None:
            artist.set(facecolor=_turned_all(artist.get_facecolor()), edgecolor=_turned_all(artist.get_edgecolor()))


def _turned_all(drawn: Any) -> Any:
    return drawn if isinstance(drawn, str) else [_turned(colour) for colour in drawn]


def _turned(colour: Any) -> Any:
    """A colour on the dark ground."""
    if isinstance(colour, str) and colour in ("none", "auto", "face"):
        return colour
    *rgb, alpha = colors.to_rgba(colour)
    rgb = np.array(rgb)
    if np.ptp(rgb) < 0.06:  # a grey
        ground, ink = (np.array(colors.to_rgb(end)) for end in (DARK, LIGHT))
        return (*(ink + (ground - ink) * rgb.mean()), alpha)
    return (*(rgb + 0.2 * (1 - rgb)), alpha)
