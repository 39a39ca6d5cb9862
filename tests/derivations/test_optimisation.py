"""Derivations of penalties with their proximal maps, descent, least squares, duality."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("penalties", "proximal_maps", "descent", "least_squares", "duality")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
