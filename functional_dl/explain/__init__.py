"""Showing a gradient: every step forward and backward, graph, generated source, cost ledger."""

from functional_dl.explain.api import explain
from functional_dl.explain.explanation import Check, Explanation, FanIn, Group, Ledger, Row, Step, Summary, Value

__all__ = ["Check", "Explanation", "FanIn", "Group", "Ledger", "Row", "Step", "Summary", "Value", "explain"]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
