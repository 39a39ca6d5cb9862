"""Derivations of functions that work entry by entry: the rules themselves, activations, losses of numbers."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = (
    "rules",
    "compositions",
    "sigmoids",
    "rectifiers",
    "gelu",
    "regression_losses",
    "binary_losses",
    "conventions",
    "maximum",
)


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
