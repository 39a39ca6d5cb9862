"""Derivations of functions that work entry by entry: the rules themselves, worked cases, activations."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("rules", "compositions", "sigmoids", "rectifiers", "gelu", "maximum")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
