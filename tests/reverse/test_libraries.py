"""Losses written with other libraries differentiate unchanged: Flax (linen and nnx), Equinox, Haiku, optax.

Skipped where a library is not installed.  Each loss has normalisation, dropout or recurrence, so that state, keys and
custom derivatives pass through the sweep too.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import reverse

# the libraries promote dtypes, and warn of what they will drop
pytestmark = [pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


X = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(6) % 4


def assert_same_gradient(loss, params, **options):
    (value, ours), (reference_value, reference) = jax.jit(
        lambda params: [d.value_and_grad(loss, **options)(params) for d in (reverse, jax)]
    )(params)
    chex.assert_trees_all_equal_dtypes(ours, reference)
    leaves = jax.tree.leaves(reference)
    assert len(leaves) >= 4
    assert any(np.abs(leaf).max() > 1e-3 for leaf in leaves)
    np.testing.assert_allclose(jax.tree.leaves(value)[0], jax.tree.leaves(reference_value)[0], rtol=1e-6)
    chex.assert_trees_all_close(ours, reference, rtol=1e-4, atol=1e-6)


def test_flax_linen():
    nn = pytest.importorskip("flax.linen")
    import optax

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(5, (3, 3))(x)))
            x = nn.avg_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1, 5)
            x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(num_heads=1)(x))
            x = nn.Dropout(0.3, deterministic=not train)(nn.gelu(x)).mean(1)
            return nn.Dense(4)(x)

    network = Network()
    variables = network.init(jax.random.key(0), X, False)

    def loss(params):
        logits, changed = network.apply(
            {**variables, "params": params}, X, True, rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean(), changed

    assert_same_gradient(loss, variables["params"], has_aux=True)


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 5, (3, 3), rngs=rngs)
            self.norm = nnx.LayerNorm(5, rngs=rngs)
            self.head = nnx.Linear(5, 4, rngs=rngs)

        def __call__(self, x):
            return self.head(nnx.silu(self.norm(self.conv(x))).mean((1, 2)))

    graph, params = nnx.split(Network(nnx.Rngs(0)))

    def loss(params):
        logits = nnx.merge(graph, params)(X)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), LABELS])

    assert_same_gradient(loss, params)


def test_equinox():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    network = {
        "cell": eqx.nn.GRUCell(24, 7, key=keys[0]),
        "mlp": eqx.nn.MLP(7, 4, 9, 2, activation=jax.nn.softplus, key=keys[1]),
        "norm": eqx.nn.RMSNorm(7),
    }
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def loss(params):
        model = eqx.combine(params, static)

        def one(image, label):
            state, _ = jax.lax.scan(
                lambda s, row: (model["cell"](row.reshape(-1), s), None), jnp.zeros(7), image.astype(jnp.float64)
            )
            return -jax.nn.log_softmax(model["mlp"](model["norm"](state)))[label]

        return jnp.mean(jax.vmap(one)(X, LABELS))

    assert_same_gradient(loss, params)


def test_equinox_filtered_jit():
    eqx = pytest.importorskip("equinox")
    layer = eqx.nn.Linear(3, 4, key=jax.random.key(0))

    @eqx.filter_jit
    def loss(layer):
        return jnp.sum(jnp.tanh(jax.vmap(layer)(X[0, 0])) ** 2)

    ours, reference = (eqx.filter_jit(grad(loss))(layer) for grad in (reverse.grad, jax.grad))
    np.testing.assert_allclose(ours.weight, reference.weight, rtol=1e-6)
    np.testing.assert_allclose(ours.bias, reference.bias, rtol=1e-6)


def test_haiku():
    hk = pytest.importorskip("haiku")

    def network(x):
        x = hk.BatchNorm(True, True, 0.9)(hk.Conv2D(4, 3)(x), is_training=True)
        x = jax.nn.elu(x).reshape(6, 8, -1).swapaxes(0, 1)
        core = hk.LSTM(5)
        outs, _ = hk.dynamic_unroll(core, x, core.initial_state(6))
        outs = hk.dropout(hk.next_rng_key(), 0.2, outs[-1])
        return hk.nets.MLP([6, 4])(outs)

    transformed = hk.transform_with_state(network)
    params, state = transformed.init(jax.random.key(0), X)

    def loss(params):
        logits, _ = transformed.apply(params, state, jax.random.key(1), X)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(6), LABELS])

    assert_same_gradient(loss, params)


def test_optax_losses_and_a_step():
    import optax

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    params = {"w": jnp.asarray(X[0, 0]), "b": jnp.zeros(8)}

    def loss(params):
        logits = params["w"].T @ params["w"] + params["b"][:3]
        return (
            optax.sigmoid_binary_cross_entropy(logits, jnp.eye(3)).mean()
            + optax.losses.huber_loss(logits, jnp.eye(3)).sum()
            + optax.losses.ctc_loss(
                jnp.tile(logits[None], (2, 1, 1)), jnp.zeros((2, 3)), jnp.ones((2, 1), int), jnp.zeros((2, 1))
            ).mean()
        )

    def step(params, gradient):
        updates, _ = optimizer.update(gradient(loss)(params), optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    ours, expected = jax.jit(lambda params: [step(params, grad) for grad in (reverse.grad, jax.grad)])(params)
    chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_unrolled_optimisation_is_differentiated():
    """A gradient through ten steps of Adam: reverse over reverse, through optax."""
    import optax

    target = jnp.asarray([1.0, -2.0, 0.5])

    def after(rate, differentiate):
        optimizer = optax.adam(rate)

        def step(state, _):
            x, inner = state
            updates, inner = optimizer.update(differentiate(lambda x: jnp.sum((x - target) ** 4))(x), inner, x)
            return (optax.apply_updates(x, updates), inner), None

        start = jnp.zeros(3)
        (x, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=10)
        return jnp.sum((x - target) ** 2)

    ours, reference = jax.jit(
        lambda rate: [grad(lambda rate: after(rate, grad))(rate) for grad in (reverse.grad, jax.grad)]
    )(0.1)
    np.testing.assert_allclose(ours, reference, rtol=1e-9)
    assert abs(reference) > 1e-3
