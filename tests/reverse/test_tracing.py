"""What the backward pass is made of when it is traced: no more equations than the formulas need."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import jaxprs, reverse


def count(fun, *args):
    """The equations by primitive."""
    return Counter(eqn.primitive.name for eqn in jaxprs.all_equations(jax.make_jaxpr(fun)(*args)))


BIASES = {
    "added": (lambda x, b: x + b[None], (4,), 1, 0),
    "subtracted from": (lambda x, b: b[None] - x, (4,), 1, 0),
    "multiplied": (lambda x, b: x * b[None], (4,), 1, 0),
    "of a row": (lambda x, b: lax.add(x, lax.broadcast_in_dim(b, (1, 4), (1,))), (4,), 1, 0),
    "through several shapes": (lambda x, b: x + b[None, :, None].reshape(1, 4), (4,), 1, 0),
    "a row itself": (lambda x, b: lax.add(x, b), (1, 4), 1, 1),
    "twice": (lambda x, b: x + b[None] * (b[None] + x), (4,), 3, 0),
}


@pytest.mark.parametrize("name", BIASES)
def test_what_was_broadcast_is_summed_once(name):
    fun, shape, sums, reshapes = BIASES[name]
    x, b = jnp.ones((3, 4)), jnp.linspace(0.5, 1.0, 4).reshape(shape)
    ct = jnp.arange(12.0).reshape(3, 4)
    ours = lambda b, ct: reverse.vjp(lambda b: fun(x, b), b)[1](ct)[0]
    forward = count(lambda b: fun(x, b), b)
    found = count(ours, b, ct)
    assert found["reduce_sum"] - forward["reduce_sum"] <= sums
    assert found["reshape"] - forward["reshape"] <= reshapes
    np.testing.assert_allclose(ours(b, ct), jax.vjp(lambda b: fun(x, b), b)[1](ct)[0], rtol=1e-14)


def test_a_transposing_reshape_is_not_taken_for_a_plain_one():
    x, b = jnp.ones((2, 3, 2)), jnp.arange(6.0).reshape(2, 3)
    fun = lambda b: x + lax.reshape(lax.reshape(b, (3, 2), dimensions=(1, 0)), (1, 3, 2))
    ct = jnp.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_allclose(reverse.vjp(fun, b)[1](ct)[0], jax.vjp(fun, b)[1](ct)[0], rtol=1e-14)


@pytest.mark.parametrize("length", [1, 2, 8, 13, 64])
def test_a_product_of_a_power_of_two_has_no_rest(length):
    x = jnp.linspace(0.5, 1.5, length)
    shapes = [
        var.aval.shape for eqn in jaxprs.all_equations(jax.make_jaxpr(reverse.grad(jnp.prod))(x)) for var in eqn.outvars
    ]
    assert all(0 not in shape for shape in shapes)
    np.testing.assert_allclose(reverse.grad(jnp.prod)(x), jax.grad(jnp.prod)(x), rtol=1e-13)
