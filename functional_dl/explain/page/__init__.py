"""The explanation as a page and as a graph."""

from functional_dl.explain.page.html import notebook, render, to_html

__all__ = ["notebook", "render", "to_html"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
