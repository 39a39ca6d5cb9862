"""Derivations of layers, from the dense one to attention."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("dense", "delta_recurrence", "convolution", "pooling", "normalisation", "selection", "attention")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
