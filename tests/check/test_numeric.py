"""The numeric oracle: its value within its error of the truth, its error not far above it; kinks seen."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from functional_dl import check
from functional_dl.check import numeric

# name -> (function, derivative in multiple precision, points)
FUNCTIONS = {
    "sin": (jnp.sin, lambda mp, x: mp.cos(x), (0.0, 1e-8, 0.3, 2.0, -50.0)),
    "exp": (jnp.exp, lambda mp, x: mp.exp(x), (-20.0, -1.0, 0.0, 1.0, 20.0)),
    "log": (jnp.log, lambda mp, x: 1 / x, (1e-6, 0.1, 1.0, 1e6)),
    "tanh": (jnp.tanh, lambda mp, x: mp.sech(x) ** 2, (-3.0, 0.0, 0.5, 6.0)),
    "cube": (lambda x: x**3, lambda mp, x: 3 * x**2, (-1e4, 1e-6, 2.0)),
    "root": (jnp.sqrt, lambda mp, x: 1 / (2 * mp.sqrt(x)), (1e-10, 1.0, 1e10)),
    "reciprocal": (lambda x: 1 / x, lambda mp, x: -1 / x**2, (-2.0, 1e-3, 1e3)),
    "fast wave": (lambda x: jnp.sin(300 * x), lambda mp, x: 300 * mp.cos(300 * x), (0.1, 1.0)),
    "small on large": (lambda x: 1e6 + 1e-3 * jnp.sin(x), lambda mp, x: mp.cos(x) / 1000, (0.7,)),
    "pole nearby": (lambda x: 1 / (x - 1) + x, lambda mp, x: 1 - 1 / (x - 1) ** 2, (1.01, 0.998, 1.0005)),
    "bend nearby": (lambda x: jnp.sqrt(jnp.abs(x - 1)), lambda mp, x: 1 / (2 * mp.sqrt(x - 1)), (1.01, 1.0001)),
    "kink nearby": (lambda x: jnp.abs(x - 1), lambda mp, x: mp.mpf(1), (1.01, 1.00001, 1.000001)),
    "steep": (lambda x: jnp.tanh(1e3 * (x - 1)), lambda mp, x: 1000 * mp.sech(1000 * (x - 1)) ** 2, (1.0, 1.001)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_not_understated(name):
    fun, derivative, points = FUNCTIONS[name]
    for x in points:
        found = check.estimate_jvp(fun, (np.float64(x),), (np.float64(1.0),))
        with mpmath.workdps(40):
            exact = float(derivative(mpmath, mpmath.mpf(x)))
        off = abs(float(found.value) - exact)
        assert off <= float(found.error), (x, off, found.error)
        # and the estimate is worth something
        assert off <= 1e-5 * abs(exact) + 1e-12, (x, off)


@pytest.mark.parametrize("distance", [10.0**-n for n in range(2, 12)])
def test_a_pole_nearer_than_the_steps_is_not_overlooked(distance):
    """Of 1 / (t a - d) + b t the wide steps see a smooth function; an error may be infinite, never too small."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=2)
        found = numeric.derivative(lambda t, a=a, b=b: np.asarray(1 / (t * a - distance) + b * t))
        exact = b - a / distance**2
        assert abs(found.value - exact) <= found.error + 1e-13 * abs(exact), (a, b)
        if distance > 1e-3:
            assert found.error <= 1e-3 * abs(exact)


def test_precision_within_a_function_is_seen():
    """Values that move in steps of 2^-8 say nothing of a derivative; of 24 bits they say little."""
    fun = check.function.Function(lambda x: x + jnp.sin(x).astype(jnp.bfloat16).astype(x.dtype), (np.float64(0.5),))
    assert fun.eps == 2.0**-7
    found = check.estimate_jvp(fun.fun, fun.primals, (np.float64(1.0),))
    assert np.isinf(found.error)
    once = check.estimate_jvp(lambda x: jnp.sin(x.astype(jnp.float32)), (np.float64(0.5),), (np.float64(1.0),))
    assert abs(float(once.value) - np.cos(0.5)) <= float(once.error) < 1e-2


def test_error_says_so_where_values_are_noisy():
    """A function of 24 bits evaluated as if it had 53: the noise is in the error."""

    def noisy(x):
        return jnp.asarray(jnp.sin(x), jnp.float32).astype(jnp.float64)

    found = check.estimate_jvp(noisy, (np.float64(0.8),), (np.float64(1.0),))
    assert float(found.error) > 1e-8
    assert abs(float(found.value) - np.cos(0.8)) <= float(found.error)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_low_precision_is_estimated_in_double(dtype):
    x = jnp.asarray([0.5, -1.25], dtype)
    found = check.estimate_vjp(lambda x: jnp.sum(x * jnp.sin(x)), (x,), jnp.ones((), dtype))
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(found.value[0], np.sin(wide) + wide * np.cos(wide), rtol=1e-9)


def test_vjp_of_trees_and_of_numpy():
    def fun(args, n):
        return {"a": args["x"] @ args["y"], "n": n}

    x, y = np.arange(6.0).reshape(2, 3), np.array([0.5, -1.0, 2.0])
    ct = {"a": np.array([1.0, -2.0]), "n": np.zeros((), jax.float0)}
    (bars, n_bar), error = check.estimate_vjp(fun, ({"x": x, "y": y}, 3), ct)
    np.testing.assert_allclose(bars["x"], np.outer(ct["a"], y), atol=1e-9)
    np.testing.assert_allclose(bars["y"], x.T @ ct["a"], atol=1e-9)
    assert n_bar.dtype == jax.float0
    assert np.max(error[0]["x"]) < 1e-7


def test_complex_pairing_is_jaxs():
    def fun(z):
        return z**2 * jnp.exp(1j * z)

    z = np.array([0.3 + 0.4j, -1.0 + 0.2j])
    ct = np.array([1.0 - 2.0j, 0.5 + 0.25j])
    found = check.estimate_vjp(fun, (z,), ct)
    np.testing.assert_allclose(found.value[0], jax.vjp(fun, z)[1](jnp.asarray(ct))[0], atol=1e-8)


def test_kink_is_an_interval():
    found = numeric.derivative(lambda t: np.asarray(abs(t)))
    assert bool(found.kink)
    low, high = found.interval
    assert -1.0 - 1e-6 <= low <= -1.0 + 1e-6
    assert 1.0 - 1e-6 <= high <= 1.0 + 1e-6
    smooth = numeric.derivative(lambda t: np.asarray(np.sin(t)))
    assert not bool(smooth.kink)


@pytest.mark.parametrize(
    ("fun", "x", "low", "high"),
    [
        (jnp.abs, 0.0, -1.0, 1.0),
        (jax.nn.relu, 0.0, 0.0, 1.0),
        (lambda x: jnp.maximum(x, 2 * x), 0.0, 1.0, 2.0),
        (lambda x: jnp.minimum(x, 0), 0.0, 0.0, 1.0),
        (lambda x: jnp.clip(x, -1, 1), 1.0, 0.0, 1.0),
        (lambda x: jax.nn.leaky_relu(x, 0.1), 0.0, 0.1, 1.0),
        (jax.nn.relu6, 6.0, 0.0, 1.0),
        (lambda x: jnp.sin(x) + jnp.abs(x - 1), 1.0, np.cos(1.0) - 1, np.cos(1.0) + 1),
        (lambda x: jax.nn.hard_sigmoid(x), 3.0, 0.0, 1 / 6),
        (lambda x: jax.nn.hard_tanh(x), -1.0, 0.0, 1.0),
        (jnp.sin, 1.0, np.cos(1.0), np.cos(1.0)),
    ],
)
def test_subdifferential(fun, x, low, high):
    found = check.subdifferential(fun, x)
    assert found.low == pytest.approx(low, abs=1e-6)
    assert found.high == pytest.approx(high, abs=1e-6)
    assert found.kink == (high > low)
    assert (low + high) / 2 in found
    assert high + 0.01 not in found
    assert low - 0.01 not in found


def test_subdifferential_along_a_direction():
    found = check.subdifferential(lambda x: jnp.max(x), np.array([1.0, 1.0, 0.0]), np.array([1.0, -1.0, 0.0]))
    assert (found.low, found.high) == (pytest.approx(-1.0, abs=1e-6), pytest.approx(1.0, abs=1e-6))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: check.subdifferential(lambda x: x, np.ones(2)), TypeError, "real scalar"),
        (lambda: check.subdifferential(jnp.sum, np.ones(2)), ValueError, "direction"),
        (lambda: check.subdifferential(jnp.sum, np.ones(2), np.ones(3)), ValueError, "direction"),
        (lambda: check.estimate_jvp(jnp.sin, (1.0,), (1.0, 2.0)), ValueError, "tangents"),
        (lambda: check.estimate_vjp(jnp.sin, (1.0,), (1.0, 2.0)), ValueError, "ct"),
        (lambda: check.estimate_jvp(3, (1.0,), (1.0,)), TypeError, "fun"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()
