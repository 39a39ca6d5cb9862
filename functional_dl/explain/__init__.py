"""Showing a gradient: every step forward and backward, graph, generated source, cost ledger."""
