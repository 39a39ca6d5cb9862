"""The shell of all pages: head, colours, and the few things that scripts and notebooks need."""

from functional_dl.pages.shell import asset, frame, has_templates, island, mathematics, policy, render

__all__ = ["asset", "frame", "has_templates", "island", "mathematics", "policy", "render"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
