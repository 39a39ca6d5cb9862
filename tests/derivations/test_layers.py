"""Derivations of layers: dense, deep, convolution, pooling."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("dense", "delta_recurrence", "convolution", "pooling")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
