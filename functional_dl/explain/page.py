"""The explanation as one HTML file: outline, graph, and the mathematics of each step.

The file holds everything that it shows; it asks nothing of the network, and its policy forbids it to.  Formulas and the
graph are drawn by the browser when they are looked at, so that a long program's page opens at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from functional_dl.explain import inline, page_data
from functional_dl.explain.explanation import Explanation

SCRIPTS = (
    "model.js", "format.js", "outline.js", "graph_view.js", "graph_shapes.js", "graph.js", "detail.js", "search.js",
    "app.js",
)  # fmt: skip


def to_html(explanation: Explanation, path: str | Path | None = None) -> str:
    """The page; written to `path` too, if given.

    Raises:
      ImportError: jinja2 is not installed.
    """
    text = render(page_data.collect(explanation))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def notebook(explanation: Explanation) -> str:
    """The page in a frame."""
    return inline.frame(to_html(explanation), f"Explanation of {explanation.name}")


def render(data: dict[str, Any]) -> str:
    """The page of what `page_data.collect` returns."""
    app = "(() => {\n'use strict';\n" + "\n".join(inline.asset(f"templates/{name}") for name in SCRIPTS) + "\n})();"
    mathematics, mathematics_style = inline.mathematics()
    scripts = [mathematics, inline.asset("vendor/dagre/dagre.min.js"), app]
    return inline.environment().from_string(inline.asset("templates/page.html")).render(
        data=data,
        title=f"{data['name']}: value and cotangents",
        island=inline.island(data),
        policy=inline.policy(*scripts),
        scripts=scripts,
        style=mathematics_style + inline.asset("templates/tokens.css") + inline.asset("templates/page.css"),
    )  # fmt: skip
