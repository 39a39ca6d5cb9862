"""Checks of an experiment's settings."""

import math


def at_least(config, low: float, *names: str) -> None:
    """Each named field of the config must be finite and >= low."""
    for name in names:
        value = getattr(config, name)
        if not math.isfinite(value) or value < low:
            raise ValueError(f"{name}: expected a number of at least {low}, got {value}")


def positive(config, *names: str) -> None:
    """Each named field of the config must be finite and > 0."""
    for name in names:
        value = getattr(config, name)
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")
