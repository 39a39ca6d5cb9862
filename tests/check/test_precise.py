"""The 50-digit derivative, against derivatives that are known."""

import numpy as np
import pytest

from functional_dl.check import precise


def test_partial_derivative_of_each_argument():
    x, y = np.array([0.3, -1.2, 4.0]), np.array([2.0, 0.5, 1.5])

    def exact(mp, x, y):
        return mp.sin(x * y) + y**3

    np.testing.assert_allclose(precise.partial_derivative(exact, (x, y), 0), y * np.cos(x * y), rtol=1e-15)
    np.testing.assert_allclose(precise.partial_derivative(exact, (x, y), 1), x * np.cos(x * y) + 3 * y**2, rtol=1e-15)


@pytest.mark.parametrize("x", [1e-8, 30.0])
def test_digits_are_there_where_floats_cancel(x):
    found = precise.partial_derivative(lambda mp, x: mp.tanh(x), (np.float64(x),))
    assert found == pytest.approx(1 / np.cosh(x) ** 2, rel=1e-14)


def test_numbers_are_read_with_arrays():
    found = precise.partial_derivative(lambda mp, x, c: c * x**2, (np.ones((2, 3)), 5.0), 0)
    np.testing.assert_array_equal(found, np.full((2, 3), 10.0))


def test_available():
    assert precise.available()
