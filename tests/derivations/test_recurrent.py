"""Derivations of recurrent networks and of what an equation defines."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("recurrent", "gated_cells", "implicit")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
