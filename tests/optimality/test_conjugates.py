"""Conjugates against suprema that are computed, Fenchel and Young, and the table itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.optimality import conjugates
from functional_dl.optimality.conjugates import CONJUGATES

SCALARS = [name for name, c in CONJUGATES.items() if not c.vector]
VECTORS = [name for name, c in CONJUGATES.items() if c.vector]


def _points(c, shape, rng):
    low, high = c.domain
    return jnp.array(rng.uniform(max(low, -3.0) + 0.05 * np.isfinite(low), min(high, 3.0), shape))


@pytest.mark.parametrize("name", CONJUGATES)
def test_fenchel_and_young(name):
    """f(x) + f*(u) >= u x for all x and u, with equality where u is the gradient at x."""
    c, rng = CONJUGATES[name], np.random.default_rng(1)
    shape = (40, 3) if c.vector else (40,)
    x, z = _points(c, shape, rng), _points(c, shape, rng)
    u = c.gradient(z)
    product = jnp.sum(u * x, -1) if c.vector else u * x
    own = jnp.sum(u * z, -1) if c.vector else u * z
    assert jnp.all(jnp.isfinite(c.conjugate(u)))
    assert jnp.all(c.fun(x) + c.conjugate(u) >= product - 1e-12)
    np.testing.assert_allclose(c.fun(z) + c.conjugate(u), own, atol=1e-12)
    assert len(c.derivation) > 10


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.sampled(4)
def test_the_supremum(name):
    """sup u x - f(x) over a grid, where it is reached inside; beyond all bounds where the conjugate is inf."""
    c = CONJUGATES[name]
    low, high = c.domain
    grid = jnp.linspace(max(low, -60.0) + (1e-9 if np.isfinite(low) else 0), min(high, 60.0), 600_001)
    for u in (-1.7, -0.6, 0.0, 0.3, 0.95, 1.4):
        values = u * grid - c.fun(grid)
        expected = c.conjugate(jnp.asarray(u))
        best = int(jnp.argmax(values))
        if jnp.isinf(expected):
            assert best in (0, len(grid) - 1)
            assert values[best] > 4  # log 60, and all others grow faster
        elif 0 < best < len(grid) - 1:
            np.testing.assert_allclose(values[best], expected, atol=1e-6)
        else:
            assert values[best] <= expected + 1e-12


@pytest.mark.parametrize("name", VECTORS)
def test_outside_of_its_domain_a_conjugate_is_infinite(name):
    far = jnp.array([5.0, -4.0, 3.0])
    assert jnp.isinf(CONJUGATES[name].conjugate(far)) or name == "half_l2_square"


def test_quadratic():
    q = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    c, x = conjugates.quadratic(q), jnp.array([0.3, -2.0])
    u = c.gradient(x)
    np.testing.assert_allclose(c.fun(x) + c.conjugate(u), u @ x, rtol=1e-14)
    np.testing.assert_allclose(
        c.conjugate(jnp.array([1.0, 1.0])), 0.5 * jnp.array([1.0, 1.0]) @ jnp.linalg.inv(q) @ jnp.ones(2)
    )
    with pytest.raises(ValueError, match="square matrix"):
        conjugates.quadratic(jnp.ones((2, 3)))


def test_names():
    np.testing.assert_allclose(conjugates.conjugate("exponential")(jnp.array([1.0, jnp.e])), [-1.0, 0.0], atol=1e-15)
    with pytest.raises(ValueError, match="expected one of absolute"):
        conjugates.conjugate("nothing")
