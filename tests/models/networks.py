"""Small helpers for the tests of networks."""

import jax
import numpy as np


def zeros(model):
    """Parameters of the model's shapes, quickly."""
    return jax.tree.map(lambda p: np.zeros(p.shape, p.dtype), jax.eval_shape(model.init, jax.random.key(0)))


def shape_of(model, *args):
    """The shape that apply gives: a wrong argument is refused where JAX traces."""
    return jax.eval_shape(model.apply, *args)


def close(found, expected, tolerance=1e-10):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def parameters(model) -> int:
    """How many numbers init makes; none is made."""
    return sum(p.size for p in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))
