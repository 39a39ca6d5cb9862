"""Normalisation by its formula and derivation, in both modes and twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check, derivations, layers, reverse
from functional_dl.derivations.families import normalisation


def _plain(x, axes, epsilon, centred):
    if centred:
        x = x - jnp.mean(x, axes, keepdims=True)
    return x / jnp.sqrt(jnp.mean(x**2, axes, keepdims=True) + epsilon)


FUNCTIONS = {"standardize": (layers.standardize, True), "rms_normalize": (layers.rms_normalize, False)}
X = 3 + jax.random.normal(jax.random.key(0), (4, 3, 5))


@pytest.mark.parametrize("axis", [-1, (1, 2), (0, -1)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_formula_and_derivatives(name, axis):
    fun, centred = FUNCTIONS[name]
    axes = (axis,) if isinstance(axis, int) else axis
    ct, direction = (jax.random.normal(jax.random.key(i), X.shape) for i in (1, 2))

    def figures(f):
        value, pullback = jax.vjp(f, X)
        _, ours = reverse.vjp(f, X)
        second = jax.jvp(lambda x: reverse.vjp(f, x)[1](ct)[0], (X,), (direction,))[1]
        third = reverse.grad(lambda x: jnp.vdot(reverse.vjp(f, x)[1](ct)[0], direction))(X)
        return value, pullback(ct)[0], ours(ct)[0], jax.jvp(f, (X,), (direction,))[1], second, third

    found, expected = jax.jit(
        lambda: (figures(lambda x: fun(x, axis, 1e-3)), figures(lambda x: _plain(x, axes, 1e-3, centred)))
    )()
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_their_derivations_are_the_layers():
    """The textbook's last lines, held against the functions that networks call."""
    x, gain, shift = X[:, 0], jnp.arange(1.0, 6.0), jnp.arange(5.0)
    epsilon = normalisation.EPSILON
    for name, fun, args in (
        ("layer_norm", lambda x, g, b: g[None] * layers.standardize(x, epsilon=epsilon) + b[None], (x, gain, shift)),
        ("rms_norm", lambda x, g: g[None] * layers.rms_normalize(x, epsilon=epsilon), (x, gain)),
    ):
        derivation = derivations.get(name)
        check.assert_vjp(fun, lambda *a, f=fun, d=derivation: (f(*a), d.vjp(*a)[1]), *args)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_constants_half_precision_and_bad_input(name):
    fun, _ = FUNCTIONS[name]
    bar = reverse.grad(lambda x: jnp.sum(fun(x) ** 2))(jnp.ones((2, 4)))
    assert np.isfinite(bar).all()
    half = fun(1000 + 4 * X.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert np.isfinite(np.asarray(half, np.float32)).all()
    with pytest.raises(ValueError, match="axis: expected an axis of x"):
        fun(X, 3)
    with pytest.raises(TypeError, match="x"):
        fun(X.astype(complex))
