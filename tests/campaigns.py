"""Tables of which the default tests take a part, and the marked campaign the rest."""

from collections.abc import Callable, Iterable

import pytest


def quick(cases: Iterable, *names: str, name: Callable = str) -> list:
    """Parameters for all cases: those named run by default, the others are marked `campaign`."""
    cases = list(cases)
    unknown = set(names) - {name(case) for case in cases}
    if unknown:
        raise ValueError(f"names: expected names of cases, got {sorted(unknown)}")
    return [pytest.param(c, id=name(c), marks=() if name(c) in names else pytest.mark.campaign) for c in cases]
