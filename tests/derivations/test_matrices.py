"""Derivations of softmax, of functions of matrices, and of what an equation defines."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("softmax", "matrices", "factorisations", "implicit")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
