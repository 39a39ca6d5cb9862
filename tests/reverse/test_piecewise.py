"""Corners of the functions with kinks that JAX's own derivative refuses or gets wrong, against values by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse


@pytest.mark.parametrize(("extremum", "first_wins"), [(lax.max, [0, 1, 0, 0.5]), (lax.min, [1, 0, 1, 0.5])])
def test_extrema_of_complex_numbers_are_ordered_by_real_and_then_imaginary_part(extremum, first_wins):
    x = jnp.array([1 + 5j, 2 - 1j, 3 + 1j, 1 + 1j])
    y = jnp.array([2 + 0j, 1 + 9j, 3 + 2j, 1 + 1j])
    ct = jnp.array([1 + 1j, 2.0, 3j, 4 - 2j])
    x_bar, y_bar = reverse.vjp(extremum, x, y)[1](ct)
    np.testing.assert_array_equal(x_bar, ct * jnp.array(first_wins).astype(ct.dtype))
    np.testing.assert_array_equal(y_bar, ct - x_bar)


def test_clamp_between_scalars_that_are_differentiated():
    x = jnp.array([[-2.0, 0.25, 3.0], [0.5, -1.0, 0.75]])
    low_bar, x_bar, high_bar = reverse.vjp(lax.clamp, 0.0, x, 0.6)[1](jnp.arange(6.0).reshape(2, 3))
    assert (float(low_bar), float(high_bar)) == (0.0 + 4.0, 2.0 + 5.0)
    np.testing.assert_array_equal(x_bar, [[0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])


def test_clamp_whose_bounds_are_exchanged_is_its_upper_bound():
    # min(max(x, low), high) = high wherever high < low
    bars = reverse.vjp(lax.clamp, 2.0, jnp.array([-5.0, 1.5, 7.0]), 1.0)[1](jnp.ones(3))
    assert float(bars[0]) == 0.0
    np.testing.assert_array_equal(bars[1], [0.0, 0.0, 0.0])
    assert float(bars[2]) == 3.0
