"""Data parallelism over eight virtual devices equals one device to rounding."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from functional_dl import training
from functional_dl.training import step
from functional_dl.training.parallel import Layout

KEY = jax.random.key(2)
X = jax.random.normal(jax.random.key(0), (64, 6))
DATA = {"x": X, "y": jnp.cos(X).sum(1)}
START = {"w": [jax.random.normal(jax.random.key(1), (6, 16)), jnp.zeros((16, 1))], "b": jnp.zeros(16)}
MESHES = {
    "explicit": lambda: jax.make_mesh((8,), ("data",)),
    "auto": lambda: jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,)),
    "two axes": lambda: jax.make_mesh((2, 4), ("host", "chip")),
    "two devices": lambda: jax.make_mesh((2,), ("data",), devices=jax.devices()[:2]),
}


def loss(params, batch):
    hidden = jnp.tanh(jnp.dot(batch["x"], params["w"][0]) + params["b"][None])
    return jnp.mean((jnp.dot(hidden, params["w"][1])[:, 0] - batch["y"]) ** 2)


def run(**change):
    arguments = dict(optimizer=optax.adam(0.01), steps=50, batch_size=16, key=KEY, progress=False)
    return training.fit(loss, START, DATA, **(arguments | change))


@pytest.fixture(scope="module")
def single():
    return run()


@pytest.mark.parametrize("mesh", MESHES)
def test_sharded_equals_single(single, mesh):
    sharded = run(mesh=MESHES[mesh]())
    np.testing.assert_allclose(sharded.history["loss"], single.history["loss"], rtol=1e-11)
    chex.assert_trees_all_close(sharded.params, single.params, rtol=1e-9, atol=1e-12)
    devices = 2 if mesh == "two devices" else 8
    assert all(len(leaf.devices()) == devices for leaf in jax.tree_util.tree_leaves(sharded.params))
    assert all(leaf.is_fully_replicated for leaf in jax.tree_util.tree_leaves(sharded.params))


def test_each_device_works_on_its_share_and_only_gradients_travel():
    """Each device multiplies its two rows of the batch, (2, 6) by (6, 16), and nothing is gathered."""
    optimizer, layout = optax.sgd(0.1), Layout(MESHES["auto"](), 16)
    one_step = step.make_step(loss, optimizer, 16, place=layout.split)
    state, data = layout.replicate((step.start(START, optimizer, KEY, 64, 16), DATA))
    text = jax.jit(lambda s, d: layout.keep(one_step(s, d)[0])).lower(state, data).compile().as_text()
    assert re.search(r"f64\[2,16\]\S* (dot|custom-call)\(|f64\[2,16\]\S* fusion\(", text)
    assert not re.search(r"f64\[16,16\]\S* dot\(", text)
    assert "all-reduce" in text
    assert "all-gather" not in text
    assert "all-to-all" not in text


def test_batch_must_split_evenly():
    with pytest.raises(ValueError, match=r"batch_size: expected a multiple of the mesh's 8 devices, got 12"):
        run(mesh=MESHES["auto"](), batch_size=12)
