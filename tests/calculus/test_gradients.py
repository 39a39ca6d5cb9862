"""Partial derivatives, gradients and their kin: the exact cases of the textbooks, pytrees, JAX's and our own
derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import calculus, reverse

# name -> (f, point, partial derivatives)
PARTIALS = {
    "x + y": (lambda x, y: x + y, (2.0, 3.0), (1.0, 1.0)),
    "2x + 3y^2": (lambda x, y: 2 * x + 3 * y**2, (2.0, 3.0), (2.0, 18.0)),
    "3x^3 - y^2 + 5x + 2": (lambda x, y: 3 * x**3 - y**2 + 5 * x + 2, (2.0, 3.0), (41.0, -6.0)),
    "xy": (lambda x, y: x * y, (2.0, 3.0), (3.0, 2.0)),
    "xyz": (lambda x, y, z: x * y * z, (2.0, 3.0, 5.0), (15.0, 10.0, 6.0)),
    "3x^3 z - y^2 + 5z + 2yz": (
        lambda x, y, z: 3 * x**3 * z - y**2 + 5 * z + 2 * y * z,
        (2.0, 3.0, 5.0),
        (180.0, 4.0, 35.0),
    ),
    "max(x, y), x larger": (lambda x, y: jnp.maximum(x, y), (4.0, 3.0), (1.0, 0.0)),
    "max(x, y), y larger": (lambda x, y: jnp.maximum(x, y), (2.0, 3.0), (0.0, 1.0)),
    "max(x, 0), x > 0": (lambda x: jnp.maximum(x, 0.0), (2.0,), (1.0,)),
    "max(x, 0), x < 0": (lambda x: jnp.maximum(x, 0.0), (-2.0,), (0.0,)),
}


@pytest.mark.parametrize("name", PARTIALS)
def test_partial_derivatives(name):
    f, x, true = PARTIALS[name]
    assert tuple(calculus.partial(f, x, i) for i in range(len(x))) == true
    of_vector = lambda v: f(*v)
    assert tuple(calculus.partial(of_vector, jnp.array(x), i) for i in range(len(x))) == true
    assert tuple(calculus.gradient(f, x)) == true
    assert tuple(calculus.gradient(f, x, differentiate=reverse.grad)) == true
    assert np.asarray(calculus.gradient(of_vector, np.array(x))).tolist() == list(true)


def test_coordinates_by_name_and_path():
    params = {"layer": {"w": jnp.array([1.0, 2.0]), "b": 3.0}}
    f = lambda p: jnp.sum(p["layer"]["w"] ** 2) * p["layer"]["b"]
    assert calculus.partial(f, params, "layer/b") == 5.0
    assert calculus.partial(f, params, "layer/w").tolist() == [6.0, 12.0]
    assert calculus.partial(lambda x, y: x * y, (2.0, 3.0), "y") == 2.0
    assert calculus.partial(lambda m: m[0, 1] ** 2, jnp.array([[1.0, 3.0]]), (0, 1)) == 6.0
    assert calculus.partial(lambda v: v * v[1], jnp.array([2.0, 3.0]), -1).tolist() == [2.0, 6.0]


def test_numbers_of_python_are_read_in_double_precision():
    with jax.enable_x64(False):
        assert calculus.gradient(lambda x: x**2, 3).dtype == np.float64
        assert calculus.gradient(lambda x: x**2, jnp.float32(3)).dtype == np.float32


def test_steepest_ascent_is_steepest():
    f = lambda v: v[0] ** 2 + jnp.sin(v[1]) * v[2]
    x = jnp.array([1.0, 0.5, -2.0])
    u, rate = calculus.steepest_ascent(f, x)
    assert calculus.directional_derivative(f, x, u) == pytest.approx(float(rate), rel=1e-14)
    assert jnp.linalg.norm(u) == pytest.approx(1.0, rel=1e-15)
    others = np.random.default_rng(0).normal(size=(200, 3))
    slopes = [calculus.directional_derivative(f, x, v / np.linalg.norm(v)) for v in others[:20]]
    assert max(slopes) < rate
    assert f(x - 1e-3 * u) < f(x)


def test_directional_derivative_is_the_limit_of_its_quotient():
    f, x, v = (lambda v: jnp.exp(v[0]) * v[1]), np.array([0.3, 2.0]), np.array([1.0, -2.0])
    found = calculus.derivative(lambda t: f(jnp.asarray(x) + t * jnp.asarray(v)), 0.0)
    assert abs(found.value - calculus.directional_derivative(f, x, v)) <= found.error


def test_jacobian_and_hessian():
    f = lambda v: jnp.stack([v[0] * v[1], jnp.sin(v[0]), v[1] ** 2])
    x = jnp.array([2.0, 3.0])
    true = [[3, 2], [np.cos(2), 0], [0, 6]]
    assert np.asarray(calculus.jacobian(f, x)) == pytest.approx(np.array(true))
    assert np.asarray(calculus.jacobian(f, x, differentiate=reverse.jacrev)) == pytest.approx(np.array(true))
    g = lambda v: jnp.exp(v[0] * v[1]) + v[0] ** 3
    h = calculus.hessian(g, x)
    assert (h == h.T).all() or np.asarray(h) == pytest.approx(np.asarray(h.T), rel=1e-14)
    assert np.asarray(calculus.hessian(g, x, differentiate=reverse.hessian)) == pytest.approx(np.asarray(h), rel=1e-13)


def test_fields():
    x = jnp.array([1.0, 2.0, 3.0])
    field = lambda v: jnp.stack([v[0] ** 2 * v[1], v[1] * v[2], v[0] * v[2] ** 2])
    assert calculus.divergence(field, x) == 2 * 1 * 2 + 3 + 2 * 1 * 3
    assert calculus.curl(field, x).tolist() == [-2.0, -9.0, -1.0]
    assert calculus.curl(lambda v: jnp.stack([-v[1], v[0]]), x[:2]) == 2.0
    # curl grad = 0, div curl = 0, div grad = Laplace
    g = lambda v: jnp.sin(v[0]) * v[1] ** 2 * jnp.exp(v[2])
    assert np.asarray(calculus.curl(jax.grad(g), x)) == pytest.approx(0.0, abs=1e-12)
    assert calculus.divergence(lambda v: calculus.curl(field, v), x) == pytest.approx(0.0, abs=1e-12)
    assert calculus.laplacian(g, x) == pytest.approx(float(jnp.trace(jax.hessian(g)(x))), rel=1e-13)
    assert calculus.laplacian(lambda x, y: x**2 + y**3, (1.0, 2.0)) == 14.0


def test_jit_and_vmap():
    f = lambda v: jnp.sum(v**3)
    xs = jnp.arange(6.0).reshape(2, 3)
    assert np.asarray(jax.jit(jax.vmap(lambda v: calculus.gradient(f, v)))(xs)) == pytest.approx(np.asarray(3 * xs**2))
    assert np.asarray(jax.vmap(lambda v: calculus.laplacian(f, v))(xs)) == pytest.approx(np.asarray(6 * xs.sum(1)))


V = jnp.array([1.0, 2.0])
REFUSALS = [
    (lambda: calculus.gradient(lambda v: v, V), ValueError, "f: expected one real number.*\\(2,\\)"),
    (lambda: calculus.gradient(jnp.sum, jnp.array([1.0, np.nan])), ValueError, "x: expected numbers, got NaN"),
    (lambda: calculus.gradient(jnp.sum, jnp.array([1j])), TypeError, "x: expected real numbers, got dtype complex128"),
    (lambda: calculus.gradient(jnp.sum, "a"), TypeError, "x: expected"),
    (lambda: calculus.gradient(jnp.sum, {}), ValueError, "x: expected at least one number"),
    (lambda: calculus.gradient(3, V), TypeError, "f: expected a function"),
    (lambda: calculus.partial(jnp.sum, V, 2), IndexError, "index: expected a position.*\\(2,\\), got 2"),
    (lambda: calculus.partial(jnp.sum, V, "x"), IndexError, "index: expected a position"),
    (lambda: calculus.partial(lambda p: p["a"], {"a": 1.0}, "b"), KeyError, "expected one of a; got 'b'"),
    (lambda: calculus.directional_derivative(jnp.sum, V, jnp.ones(3)), ValueError, "v: expected shape \\(2,\\)"),
    (lambda: calculus.directional_derivative(jnp.sum, V, (1.0, 2.0)), ValueError, "v: expected the structure of x"),
    (lambda: calculus.steepest_ascent(lambda v: jnp.sum(v**2), jnp.zeros(2)), ValueError, "stationary"),
    (lambda: calculus.divergence(jnp.sum, V), ValueError, "f: expected a vector"),
    (lambda: calculus.curl(lambda v: v, jnp.ones(4)), ValueError, "x: expected an array of shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
