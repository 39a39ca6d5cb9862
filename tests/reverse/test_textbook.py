"""The textbook's partial derivatives and compositions, exactly: at integers nothing rounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse

# function -> its partial derivatives, by hand
PARTIALS = {
    "x + y": (lambda x, y: x + y, lambda x, y: (1, 1)),
    "2x + 3y²": (lambda x, y: 2 * x + 3 * y**2, lambda x, y: (2, 6 * y)),
    "3x³ - y² + 5x + 2": (lambda x, y: 3 * x**3 - y**2 + 5 * x + 2, lambda x, y: (9 * x**2 + 5, -2 * y)),
    "xy": (lambda x, y: x * y, lambda x, y: (y, x)),
    "xyz": (lambda x, y, z: x * y * z, lambda x, y, z: (y * z, x * z, x * y)),
    "3x³z - y² + 5z + 2yz": (
        lambda x, y, z: 3 * x**3 * z - y**2 + 5 * z + 2 * y * z,
        lambda x, y, z: (9 * x**2 * z, -2 * y + 2 * z, 3 * x**3 + 5 + 2 * y),
    ),
    "max(x, y)": (jnp.maximum, lambda x, y: (1 * (x > y), 1 * (y > x)) if x != y else (0.5, 0.5)),
    "max(x, 0)": (lambda x: jnp.maximum(x, 0.0), lambda x: (1 * (x > 0) if x else 0.5,)),
}
POINTS = [(1.0, 2.0, 3.0), (-2.0, 5.0, 7.0), (4.0, 4.0, -1.0), (0.0, -3.0, 2.0)]


@pytest.mark.parametrize("name", PARTIALS)
def test_partial_derivatives(name):
    fun, partials = PARTIALS[name]
    points = [point[: partials.__code__.co_argcount] for point in POINTS]
    gradient = reverse.grad(fun, tuple(range(len(points[0]))))
    every_gradient = jax.jit(lambda points: [gradient(*point) for point in points])(points)
    for point, found in zip(points, every_gradient, strict=True):
        assert [float(g) for g in found] == [float(p) for p in partials(*point)], point
    assert [float(g) for g in gradient(*points[0])] == [float(p) for p in partials(*points[0])]


# composition -> its derivative, multiplied out by hand; integers, so both are exact
COMPOSITIONS = {
    "3(2x²)⁵": (lambda x: 3 * (2 * x**2) ** 5, lambda x: 960 * x**9),
    "x² + x³ along two paths": (lambda x: x * x**2 + x**2 * x**3, lambda x: 3 * x**2 + 5 * x**4),
    "(x³ + 2x)⁴": (lambda x: (x**3 + 2 * x) ** 4, lambda x: 4 * (x**3 + 2 * x) ** 3 * (3 * x**2 + 2)),
    "f(g(y, h(x, z))), y = 2, z = 3": (
        lambda x: (2 * (3 * x**2) + (3 * x**2) ** 2) ** 3,
        lambda x: 3 * (6 * x**2 + 9 * x**4) ** 2 * (12 * x + 36 * x**3),
    ),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions(name):
    fun, derivative = COMPOSITIONS[name]
    points = [1.0, 2.0, -3.0]
    every_slope = jax.jit(lambda points: [reverse.grad(fun)(x) for x in points])(points)
    for x, found in zip(points, every_slope, strict=True):
        assert float(found) == derivative(x), x
    assert float(reverse.grad(fun)(2.0)) == derivative(2.0)


def test_compositions_of_other_functions():
    x = np.array([0.3, 1.7, -0.4])
    functions = (lambda x: jnp.exp(jnp.sin(x**2)), lambda x: x**2 * jnp.sin(x) / (1 + x))
    found = jax.jit(lambda x: [jax.vmap(reverse.grad(fun))(x) for fun in functions])(x)
    sine = np.exp(np.sin(x**2)) * np.cos(x**2) * 2 * x
    np.testing.assert_allclose(found[0], sine, rtol=1e-14)
    quotient = (2 * x * np.sin(x) + x**2 * np.cos(x)) / (1 + x) - x**2 * np.sin(x) / (1 + x) ** 2
    np.testing.assert_allclose(found[1], quotient, rtol=1e-13)
