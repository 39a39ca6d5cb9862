"""Experiments: one claim a file, run and judged by its numbers.  `python -m experiments` runs them all."""
