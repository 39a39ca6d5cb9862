"""The explanation as one HTML file: outline, graph, and the mathematics of each step.

The file holds everything that it shows; it asks nothing of the network, and its policy forbids it to.  Formulas and the
graph are drawn by the browser when they are looked at, so that a long program's page opens at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from functional_dl import pages
from functional_dl.explain.explanation import Explanation
from functional_dl.explain.page import data

SCRIPTS = (
    "model.js", "format.js", "outline.js", "graph_view.js", "graph_shapes.js", "graph.js", "detail.js", "search.js",
    "app.js",
)  # fmt: skip


def to_html(explanation: Explanation, path: str | Path | None = None) -> str:
    """The page, written to `path` too, if given; the explanation as text where jinja2 is not installed."""
    text = render(data.collect(explanation), explanation.to_markdown() if not pages.has_templates() else "")
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def notebook(explanation: Explanation) -> str | None:
    """The page in a frame; None, whereupon a notebook shows the text, where jinja2 is not installed."""
    if not pages.has_templates():
        return None
    return pages.frame(to_html(explanation), f"Explanation of {explanation.name}")


def render(collected: dict[str, Any], text: str = "") -> str:
    """The page of what `data.collect` returns; `text` stands for it where jinja2 is not installed."""
    own = lambda name: pages.asset(f"templates/{name}", __package__)
    app = "(() => {\n'use strict';\n" + "\n".join([pages.asset("combobox.js"), *map(own, SCRIPTS)]) + "\n})();"
    mathematics, mathematics_style = pages.mathematics()
    return pages.render(
        own("page.html"),
        title=f"{collected['name']}: value and cotangents",
        text=text,
        style=mathematics_style + own("page.css"),
        scripts=[mathematics, pages.asset("vendor/dagre/dagre.min.js"), app],
        data=collected,
        island=pages.island(collected),
    )
