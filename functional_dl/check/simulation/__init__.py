"""Faults simulated in a function's own equations."""
