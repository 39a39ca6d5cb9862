"""What is marked for the compiler stays marked in the backward pass: calls with attributes, equal shardings."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.scheduling_groups import xla_metadata_call

from functional_dl import reverse
from functional_dl.reverse.rules.identities import placed_call

try:
    from jax.experimental.shard_alike import shard_alike
except ImportError:  # from JAX 0.12 on

    def shard_alike(x, y):
        return x, y


X = np.array([0.3, -1.2, 2.0])


@xla_metadata_call(inlineable="false")
def marked(x, w):
    return jnp.sin(x * w), jnp.sum(w)


@placed_call()(compute_type="device_host", out_memory_spaces=jax.memory.Space.Device)
def on_the_host(x, w):
    return jnp.exp(-x * x) * w, w


def fun(x, w):
    x, w = on_the_host(x, w)
    y, total = marked(x, w)
    y, z = shard_alike(jax.checkpoint(marked)(y, w)[0], x * total)
    return jnp.sum(y * z * z)


def test_gradients_are_jaxs():
    def second(d):
        return lambda x: jnp.sum(jnp.sin(d.grad(fun, 1)(x, 2 * x)))

    @jax.jit
    def both(x):
        return [(d.grad(fun, (0, 1))(x, 2 * x), d.grad(second(d))(x), jax.vmap(d.grad(fun))(
            jnp.stack([x, -x]), jnp.stack([x, x])
        )) for d in (reverse, jax)]  # fmt: skip

    ours, theirs = both(X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), ours, theirs)
    eager = reverse.grad(fun, (0, 1))(jnp.asarray(X), jnp.asarray(2 * X))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), eager, theirs[0])


def test_the_backward_pass_is_marked():
    """The first call's forward pass, of which the second reads, and both backward passes; of the second call's result
    nobody reads."""

    def twice(x):
        return jnp.sum(marked(marked(x, x)[0], x)[0])

    text = jax.jit(reverse.grad(twice)).lower(X).as_text()
    assert text.count('inlineable = "false"') == 3
