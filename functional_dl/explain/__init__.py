"""Showing a gradient: every step forward and backward, graph, generated source, cost ledger; a network by layers."""

from functional_dl.explain.api import explain
from functional_dl.explain.explanation import Check, Explanation, FanIn, Group, Ledger, Row, Step, Summary, Value
from functional_dl.explain.tabulate import LayerRow, Table, tabulate

__all__ = [
    "Check",
    "Explanation",
    "FanIn",
    "Group",
    "LayerRow",
    "Ledger",
    "Row",
    "Step",
    "Summary",
    "Table",
    "Value",
    "explain",
    "tabulate",
]


def __dir__() -> list[str]:  # what dir() and completion show
    return __all__
