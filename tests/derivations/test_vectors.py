"""Derivations of functions of vectors and matrices: softmax and its losses, penalties, matrices, optimisation."""

import pytest

from tests.derivations.judge import assert_verified, names

FAMILIES = (
    "softmax",
    "categorical_losses",
    "distribution_losses",
    "penalties",
    "proximal_maps",
    "matrices",
    "factorisations",
    "descent",
    "least_squares",
    "duality",
)


@pytest.mark.parametrize("name", names(*FAMILIES))
def test_every_line_holds(name):
    assert_verified(name)
