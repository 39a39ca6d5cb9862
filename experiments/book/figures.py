"""Figures as SVG that takes the page's colours, so that one picture serves light and dark."""

import io
import re
from typing import Any

import matplotlib

from experiments.framework import style

# drawn in these colours, which become the page's
ROLES = {"#010203": "var(--ink)", "#010204": "var(--line)", "#010205": "var(--soft)", "#010206": "var(--ground)"}
INK, LINE, SOFT, GROUND = ROLES
RC: Any = style.RC | {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": LINE,
    "svg.hashsalt": "book",
    "svg.fonttype": "path",
    "font.size": 10,
}


def to_svg(figure: Any, label: str, prefix: str) -> str:
    """The figure as an element of a page; prefix keeps its ids apart from another figure's."""
    buffer = io.StringIO()
    with matplotlib.rc_context(RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for drawn, role in ROLES.items():
        text = text.replace(drawn, role)
    text = re.sub(r'<svg ([^>]*?)width="([\d.]+)pt" height="([\d.]+)pt"', r"<svg \1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{_attribute(label)}" ', 1)


def _attribute(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;"))
