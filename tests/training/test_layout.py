"""Data parallelism over eight virtual devices equals one device to rounding."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from functional_dl import layers, training
from functional_dl.training import step
from functional_dl.training.layout import Layout

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
@pytest.mark.sampled(3)
def test_sharded_equals_single(single, mesh):
    sharded = run(mesh=MESHES[mesh]())
    np.testing.assert_allclose(sharded.history["loss"], single.history["loss"], rtol=1e-11)
    chex.assert_trees_all_close(sharded.params, single.params, rtol=1e-9, atol=1e-12)
    devices = 2 if mesh == "two devices" else 8
    assert all(len(leaf.devices()) == devices for leaf in jax.tree_util.tree_leaves(sharded.params))
    assert all(leaf.is_fully_replicated for leaf in jax.tree_util.tree_leaves(sharded.params))


P = PartitionSpec
TENSOR = {"w": [P(None, "chip"), P("chip")], "b": P("chip")}
PLACEMENTS = {  # placement, batch_axes, what is split: the first weight's spec
    "fully sharded": ("fully_sharded", None, P(None, ("host", "chip"))),
    "tensor": (TENSOR, None, P(None, "chip")),
    "both": (lambda name, leaf: P("host", "chip") if name == "w/0" else P(), "host", P("host", "chip")),
}


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.sampled(4)
def test_split_parameters_equal_whole_ones(single, placement, axis_type):
    given, batch_axes, first = PLACEMENTS[placement]
    mesh = jax.make_mesh((2, 4), ("host", "chip"), axis_types=(axis_type,) * 2)
    fit = run(mesh=mesh, placement=given, batch_axes=batch_axes, micro_batches=1 + (placement == "fully sharded"))
    np.testing.assert_allclose(fit.history["loss"], single.history["loss"], rtol=1e-11)
    chex.assert_trees_all_close(jax.device_get(fit.params), single.params, rtol=1e-9, atol=1e-12)
    weight, moment = fit.params["w"][0], fit.opt_state[0].mu["w"][0]
    assert tuple(weight.sharding.spec) == tuple(first)
    assert weight.sharding == moment.sharding == NamedSharding(mesh, first)
    if placement == "fully sharded":
        held = lambda x: sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(x))
        state = (fit.params, fit.opt_state)
        assert 8 * held(state) <= 1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def test_each_device_works_on_its_share_and_only_gradients_travel():
    """Each device multiplies its two rows of the batch, (2, 6) by (6, 16); one all-reduce sums all gradients."""
    optimizer, layout = optax.sgd(0.1), Layout(MESHES["auto"]())
    update = step.make_update(loss, optimizer, layout=layout)
    state = step.start(START, optimizer, KEY, None, 16)
    state = layout.placed(state, layout.state_specs(state))
    batch = jax.device_put({"x": X[:16], "y": DATA["y"][:16]}, layout.batch_sharding(0))
    with layout.current():
        text = jax.jit(lambda s, b: update(s, b)[0]).lower(state, batch).compile().as_text()
    assert re.search(r"f64\[2,16\]\S* (dot|custom-call)\(|f64\[2,16\]\S* fusion\(", text)
    assert not re.search(r"f64\[16,16\]\S* dot\(", text)
    assert len(re.findall(r" all-reduce(?:-start)?\(", text)) == 1
    assert not re.search(r" (all-gather|all-to-all|collective-permute)(?:-start)?\(", text)


def test_layers_sum_their_cotangents_on_each_device_first():
    """On Explicit axes: what is broadcast along the batch lies as the batch does, so that nothing is gathered."""
    mesh = MESHES["explicit"]()
    convolution, norm, dense = layers.conv(1, 2, (3,)), layers.layer_norm(2), layers.dense(2, 3)
    params = {"conv": convolution.init(KEY), "norm": norm.init(KEY), "dense": dense.init(KEY)}
    x = jax.device_put(np.ones((16, 4, 1)), NamedSharding(mesh, P("data")))

    def gradient(params, x):
        def total(p):
            return jnp.sum(dense.apply(p["dense"], norm.apply(p["norm"], convolution.apply(p["conv"], x))) ** 2)

        return jax.grad(total)(params)

    with jax.set_mesh(mesh):
        text = jax.jit(gradient).lower(jax.device_put(params, NamedSharding(mesh, P())), x).compile().as_text()
    assert "all-reduce" in text
    assert not re.search(r" (all-gather|all-to-all|collective-permute)(?:-start)?\(", text)


def test_a_loss_may_speak_of_the_axes():
    """On Explicit axes the batch's type says how it is split."""
    seen = []

    def typed(params, batch):
        seen.append(jax.typeof(batch["x"]).sharding.spec)
        hidden = jnp.dot(batch["x"], params["w"][0], out_sharding=P("data", None))
        return jnp.mean((jnp.dot(jnp.tanh(hidden), params["w"][1])[:, 0] - batch["y"]) ** 2)

    fit = training.fit(
        typed, START, DATA, optax.sgd(0.1), steps=3, batch_size=16, key=KEY, progress=False, mesh=MESHES["explicit"]()
    )
    assert P("data", None) in seen
    assert np.isfinite(fit.history["loss"]).all()


def test_arrays_on_an_explicit_mesh_need_no_mesh_argument(single):
    whole = NamedSharding(jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]), P())
    fit = training.fit(
        loss,
        START,
        jax.device_put(DATA, whole),
        optax.adam(0.01),
        steps=50,
        batch_size=16,
        key=KEY,
        progress=False,
    )
    np.testing.assert_allclose(fit.history["loss"], single.history["loss"], rtol=1e-11)


BAD = [
    (dict(batch_size=12), ValueError, r"batch_size: expected a multiple of the mesh's 8 devices along 'data', got 12"),
    (dict(micro_batches=5), ValueError, r"batch_size: expected a multiple of micro_batches = 5, got 16"),
    (dict(micro_batches=4), ValueError, r"batch_size: expected a multiple of the mesh's 8 .* got .* = 16/4"),
    (dict(batch_axes="rows"), ValueError, r"batch_axes: expected axes of the mesh, \('data',\), got 'rows'"),
    (dict(mesh="cpu"), TypeError, r"mesh: expected a jax.sharding.Mesh or None, got 'cpu'"),
    (dict(mesh=None, placement="fully_sharded"), ValueError, r"placement: expected a mesh beside it"),
    (dict(mesh=None, batch_axes="data"), ValueError, r"batch_axes: expected a mesh beside it"),
    (dict(placement="full"), ValueError, r"placement: expected one of fully_sharded, replicated; got 'full'"),
    (dict(placement={"w": P()}), ValueError, r"placement: expected a PartitionSpec for each of params"),
    (dict(placement=lambda name, leaf: "data"), TypeError, r"placement\[b\]: expected a jax.sharding.PartitionSpec"),
    (dict(placement=lambda name, leaf: P("x")), ValueError, r"placement\[b\]: expected axes of the mesh, .*got 'x'"),
    (
        dict(placement=lambda name, leaf: P("data") if name == "w/0" else P()),
        ValueError,
        r"placement\[w/0\]: expected axis 0 of shape \(6, 16\) to be a multiple of the mesh's 8 devices",
    ),
    (
        dict(placement=lambda name, leaf: P(None, None, None)),
        ValueError,
        r"placement\[b\]: expected at most 1 entries for shape \(16,\)",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        run(**({"mesh": MESHES["auto"]()} | change))
