"""Solids of revolution in three dimensions, a quarter cut out so that one sees into them."""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LightSource, to_rgb
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from experiments.cases.quadrature import SOLIDS, Solid
from experiments.framework import style
from experiments.framework.result import Picture

FROM, TO = 0.25 * np.pi, 1.75 * np.pi  # what is left of the turn; the cut faces a viewer who looks along the x axis
ANGLES = 49
PALE = 0.55  # of white in the colour of a cut


def plot_solids(solids: Mapping) -> Picture:
    figure = style.figure(11, 3.3)
    for place, (name, solid) in enumerate(SOLIDS.items(), 1):
        axes = figure.add_subplot(1, 4, place, projection="3d", computed_zorder=False)
        _draw(axes, solid, style.COLOURS[place - 1])
        value = solids[name]["ways"][0]["value"]
        axes.set_title(f"{name}\n{solid.formula} = {value:.6f}", loc="center", fontsize=10)
    return Picture(
        "solids",
        "Solids of revolution, a quarter cut out; pale: the region that is turned. Volumes by integrals.volume_of_"
        "revolution. The horn goes on for ever (it is drawn to 7) and holds π; the integral of its surface diverges, "
        "and the library says so.",
        figure,
    )


def _draw(axes, solid: Solid, colour: str) -> None:
    # dense at the ends, where a profile may be steep
    along = (solid.start + solid.end) / 2 - (solid.end - solid.start) / 2 * np.cos(np.linspace(0, np.pi, 61))
    outer, inner = solid.outer(along), solid.inner(along)
    region = np.concatenate([np.stack([outer, along], 1), np.stack([inner, along], 1)[::-1]])
    _turn(axes, np.concatenate([region, region[:1]]), [colour] * len(region))
    _cut(axes, [region], [colour])
    _frame(axes, solid.start, solid.end, float(outer.max()))


def plot_slices() -> Picture:
    """The ball by discs, and by shells."""
    figure, true = style.figure(11, 2.8), 4 * np.pi / 3
    slices = [(_discs, "discs", n) for n in (6, 12, 40)] + [(_shells, "shells", n) for n in (6, 14)]
    for place, (cut, word, n) in enumerate(slices, 1):
        axes = figure.add_subplot(1, 5, place, projection="3d", computed_zorder=False)
        regions, volume = cut(n)
        colours = [(style.SKY, style.BLUE)[k % 2] for k in range(n)]
        if word == "shells":  # from the outside in: what is inside is taller
            regions, colours = regions[::-1], colours[::-1]
        outline = np.concatenate([np.concatenate([region, region[:1]]) for region in regions])
        _turn(axes, outline, np.repeat(colours, 5)[:-1])
        _cut(axes, regions, colours)
        words = f"{n} {word}\n{volume:.4f} ({volume - true:+.4f})"
        axes.set_title(words.replace("-", "−"), loc="center", fontsize=10)
        _frame(axes, -1.0, 1.0, 1.0)
    return Picture(
        "slices",
        f"The unit ball by discs and by shells, each as large as the ball is at its middle, in two shades. Below the "
        f"title: the sum of their volumes, and how far it is from 4π/3 = {true:.4f}. Both sums are integrals in the "
        "making: π ∫ (1 − x²) dx along the axis, and 2π ∫ ρ · 2√(1 − ρ²) dρ across it.",
        figure,
    )


def _discs(n: int) -> tuple[list[np.ndarray], float]:
    """Rectangles (radius, height) that make the discs when turned, and the sum of the volumes."""
    edges = np.linspace(-1, 1, n + 1)
    regions, volume = [], 0.0
    for low, high in itertools.pairwise(edges):
        radius = np.sqrt(1 - ((low + high) / 2) ** 2)
        regions.append(np.array([[0, low], [radius, low], [radius, high], [0, high]]))
        volume += np.pi * radius**2 * (high - low)
    return regions, float(volume)


def _shells(n: int) -> tuple[list[np.ndarray], float]:
    regions, volume = [], 0.0
    for a, b in itertools.pairwise(np.linspace(0, 1, n + 1)):
        half = np.sqrt(1 - ((a + b) / 2) ** 2)
        regions.append(np.array([[a, -half], [b, -half], [b, half], [a, half]]))
        volume += np.pi * (b**2 - a**2) * 2 * half
    return regions, float(volume)


def _turn(axes, outline: np.ndarray, colours) -> None:
    """The surface swept by a polygon (radius, height), one colour for each of its edges."""
    angle, radius = np.meshgrid(np.linspace(FROM, TO, ANGLES), outline[:, 0])
    height = np.broadcast_to(outline[:, 1:], angle.shape)
    edges = np.array([to_rgb(colour) for colour in colours])[: len(outline) - 1]
    faces = np.broadcast_to(edges[:, None], (len(edges), ANGLES - 1, 3))
    axes.plot_surface(
        radius * np.cos(angle), radius * np.sin(angle), height, facecolors=faces, shade=True,
        lightsource=LightSource(-45, 50), linewidth=0, antialiased=False, rstride=1, cstride=1, zorder=1,
    )  # fmt: skip


def _cut(axes, regions, colours) -> None:
    """The two cut faces: the regions themselves, in pale colours."""
    for angle in (FROM, TO):
        faces = [np.stack([r[:, 0] * np.cos(angle), r[:, 0] * np.sin(angle), r[:, 1]], 1) for r in regions]
        pale = [tuple(PALE + (1 - PALE) * np.array(to_rgb(colour))) for colour in colours]
        edge = style.BLACK if len(regions) == 1 else "white"
        axes.add_collection3d(Poly3DCollection(faces, facecolors=pale, edgecolors=edge, linewidths=0.8, zorder=2))


def _frame(axes, low: float, high: float, reach: float) -> None:
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(low, high))
    size = np.array([2 * reach, 2 * reach, high - low])
    axes.set_box_aspect(tuple(size), zoom=0.82 * float(np.linalg.norm(size) / size.max()))
    axes.view_init(elev=22, azim=-10)
    axes.set_axis_off()
