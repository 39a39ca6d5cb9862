"""Networks over sequences with the batch split over two devices: by types (Explicit axes) and by jax.shard_map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from models.golden import golden, tokens
from models.networks import close

from functional_dl import models, reverse

KEY = jax.random.key(0)
LENGTHS = np.array([5, 2, 3, 4])
NETWORKS = {
    "recurrent": (models.recurrent(3, 4, 2, "gru", bidirectional=True), golden("x", (4, 5, 3), 4.0)),
    "transformer": (models.transformer(7, 8, 2, 1, 6, tied=True), tokens("ids", (4, 5), 7)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.sampled(3)
def test_a_split_batch_has_the_same_gradient(name):
    model, x = NETWORKS[name]
    params = jax.jit(model.init)(KEY)

    def loss(params, x, lengths):
        return jnp.mean(model.apply(params, x, lengths) ** 2)

    expected = jax.jit(jax.grad(loss))(params, x, LENGTHS)
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        split = [jax.device_put(jnp.asarray(a), NamedSharding(mesh, PartitionSpec("data"))) for a in (x, LENGTHS)]
        by_types = jax.jit(reverse.grad(loss))(params, *split)

        def of_a_part(params, x, lengths):
            varying = jax.tree.map(lambda p: jax.lax.pcast(p, ("data",), to="varying"), params)
            return jax.lax.pmean(jax.grad(loss)(varying, x, lengths), "data")

        specs = PartitionSpec(), PartitionSpec("data"), PartitionSpec("data")
        by_parts = jax.jit(jax.shard_map(of_a_part, in_specs=specs, out_specs=PartitionSpec()))(params, *split)
    for found in (by_types, by_parts):
        jax.tree.map(close, found, expected)


def test_what_is_generated_for_a_split_batch():
    model, ids = NETWORKS["transformer"]
    params = jax.jit(model.init)(KEY)
    expected = np.asarray(model.generate(params, KEY, ids[:, :2], 3, 0.0))
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2], axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        split = jax.device_put(jnp.asarray(ids[:, :2]), NamedSharding(mesh, PartitionSpec("data")))
        np.testing.assert_array_equal(model.generate(params, KEY, split, 3, 0.0), expected)
