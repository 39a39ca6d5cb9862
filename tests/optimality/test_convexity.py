"""What is_convex refutes and what it does not; every witness is checked by its own numbers."""

import jax
import jax.numpy as jnp
import pytest

from functional_dl.optimality import convexity

KEY = jax.random.key(0)


def normal(n):
    return lambda key: 2 * jax.random.normal(key, (n,))


def positive(n):
    return lambda key: jax.random.uniform(key, (n,), minval=0.1, maxval=3.0)


CONVEX = {
    "linear, steep": (lambda x: 1e9 * x[0] - 3 * x[1] + 1, normal(2)),
    "quadratic, flat": (lambda x: (x[0] - x[1]) ** 2, normal(2)),
    "quadratic, cancelling": (lambda x: (x[0] + 1e7) ** 2 - 1e14, normal(1)),
    "linear, in float32": (lambda x: 3 * jnp.sum(x.astype(jnp.float32)), normal(3)),
    "quadratic, in float16": (lambda x: jnp.sum(x.astype(jnp.float16) ** 2), normal(2)),
    "terms that cancel": (lambda x: 1 - jnp.cos(1e-7 * x[0]) + 1e-12 * x[0] ** 2, normal(1)),
    "absolute": (lambda x: jnp.sum(jnp.abs(x)), normal(4)),
    "maximum": (jnp.max, normal(5)),
    "logsumexp": (jax.nn.logsumexp, normal(4)),
    "norm": (jnp.linalg.norm, normal(3)),
    "entropy": (lambda x: jnp.sum(x * jnp.log(x)), positive(3)),
    "barrier": (lambda x: -jnp.sum(jnp.log(x)), positive(3)),
    "quadratic over linear": (lambda x: x[0] ** 2 / x[1], positive(2)),
    "constant": (lambda x: jnp.sum(0 * x), normal(2)),
    "exponential": (lambda x: jnp.exp(x[0] + x[1]), normal(2)),
    "matrix fractional": (lambda x: jnp.ones(2) @ jnp.linalg.solve(jnp.diag(x), jnp.ones(2)), positive(2)),
}
NOT = {
    "saddle": (lambda x: x[0] * x[1], normal(2)),
    "sine": (lambda x: jnp.sin(x[0]), normal(1)),
    "concave": (lambda x: -jnp.sum(x**2), normal(3)),
    "almost convex": (lambda x: jnp.sum(x**2) - 1.001 * x[0] ** 2, normal(3)),
    "root": (lambda x: jnp.sum(jnp.sqrt(x)), positive(2)),
    "minimum": (jnp.min, normal(3)),
    "double well": (lambda x: (x[0] ** 2 - 1) ** 2, normal(1)),
    "tiny": (lambda x: -1e-12 * jnp.sum(x**2), normal(2)),
    "quartic beside a quadratic": (lambda x: x[0] ** 4 - 0.01 * x[0] ** 2, lambda key: 0.1 * normal(1)(key)),
}


@pytest.mark.parametrize("name", CONVEX)
@pytest.mark.sampled(4)
def test_what_is_convex_is_not_refuted(name):
    found = convexity.is_convex(*CONVEX[name], KEY)
    assert found.witness is None, found
    assert found.verdict == "no counterexample found"
    assert found.convex is None


@pytest.mark.parametrize("name", NOT)
def test_what_is_not_is_refuted_by_a_witness_that_holds(name):
    f, sampler = NOT[name]
    found = convexity.is_convex(f, sampler, KEY)
    assert found.verdict == "not convex"
    assert found.convex is False
    x, y, t, violation, _ = found.witness
    chord = t * f(x) + (1 - t) * f(y)
    assert f(t * x + (1 - t) * y) > chord
    assert violation == pytest.approx(float(f(t * x + (1 - t) * y) - chord), rel=1e-3)


def test_trees_and_single_precision():
    found = convexity.is_convex(
        lambda p: jnp.sum(p["w"] ** 2) - p["b"] ** 2,
        lambda key: {"w": jax.random.normal(key, (3,), jnp.float32), "b": jax.random.normal(key, (), jnp.float32)},
        KEY,
    )
    assert found.convex is False
    assert set(found.witness.x) == {"w", "b"}


def test_bad_input():
    with pytest.raises(ValueError, match=r"f: expected one real number, got float64 of shape \(2,\)"):
        convexity.is_convex(lambda x: x, normal(2), KEY)
    with pytest.raises(TypeError, match="sampler: expected a function"):
        convexity.is_convex(jnp.sum, jnp.ones(2), KEY)
    with pytest.raises(ValueError, match="points: expected an integer of at least 1"):
        convexity.is_convex(jnp.sum, normal(2), KEY, points=0)
