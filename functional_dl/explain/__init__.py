"""Showing a gradient: every step forward and backward, graph, generated source, cost ledger."""

from functional_dl.explain.api import explain as explain
from functional_dl.explain.explanation import Check as Check
from functional_dl.explain.explanation import Explanation as Explanation
from functional_dl.explain.explanation import Group as Group
from functional_dl.explain.explanation import Ledger as Ledger
from functional_dl.explain.explanation import Meeting as Meeting
from functional_dl.explain.explanation import Row as Row
from functional_dl.explain.explanation import Step as Step
from functional_dl.explain.explanation import Summary as Summary
from functional_dl.explain.explanation import Value as Value
