"""Derivations of layers that normalise, choose or attend."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("normalisation", "selection", "attention")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
