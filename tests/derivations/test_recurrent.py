"""Derivations of recurrent networks."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = ("recurrent", "gated_cells")


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
