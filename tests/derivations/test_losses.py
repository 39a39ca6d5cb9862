"""Derivations of losses, of numbers and of distributions, and of what popular texts get wrong about them."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("regression_losses", "binary_losses", "categorical_losses", "distribution_losses", "conventions")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
