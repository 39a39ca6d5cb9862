"""`fit`: its batches, its history, its keys, its stop on a bad number, and what it refuses."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from functional_dl import training, tree
from functional_dl.training import step

SGD = optax.sgd(0.1)
KEY = jax.random.key(3)
INPUTS = jnp.array(np.random.default_rng(0).normal(size=(30, 3)))
TARGETS = jnp.asarray(INPUTS @ np.array([1.0, -2.0, 0.5]) + 0.25)
DATA = {"x": INPUTS, "y": TARGETS}
START = {"w": jnp.zeros(3), "b": jnp.zeros(())}


def loss(params, batch):
    return jnp.mean((batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2)


def run(**change):
    arguments = dict(
        loss=loss,
        params=START,
        data=DATA,
        optimizer=SGD,
        steps=40,
        batch_size=8,
        key=KEY,
        progress=False,
    )
    return training.fit(**(arguments | change))


@pytest.fixture(scope="module")
def usual():
    return run()


def same_bits(a, b):
    leaves = zip(jax.tree_util.tree_leaves(a), jax.tree_util.tree_leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in leaves)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.1),
        optax.sgd(0.05, momentum=0.9, nesterov=True),
        optax.adam(0.1),
        optax.rmsprop(0.01),
        optax.lbfgs(),
    ],
    ids=["sgd", "nesterov", "adam", "rmsprop", "lbfgs"],
)
@pytest.mark.sampled(3)
def test_learns_the_line(optimizer):
    fit = run(optimizer=optimizer, steps=400, batch_size=None)
    assert not fit.stopped
    assert fit.reason is None
    assert fit.steps == 400
    np.testing.assert_allclose(fit.params["w"], [1.0, -2.0, 0.5], atol=0.02)
    np.testing.assert_allclose(fit.params["b"], 0.25, atol=0.02)
    assert {name: values.shape for name, values in fit.history.items()} == {
        "loss": (400,),
        "grad_norm": (400,),
    }


def test_full_batch_sgd_is_gradient_descent():
    fit = run(batch_size=None, steps=25)
    params, losses = training.gradient_descent(lambda p: loss(p, DATA), START, 0.1, 25)
    np.testing.assert_allclose(fit.params["w"], params["w"], rtol=1e-13)
    np.testing.assert_allclose(fit.history["loss"], losses, rtol=1e-13)


def test_history_is_taken_before_the_update():
    fit = run(batch_size=None, steps=1)
    value, gradient = jax.value_and_grad(loss)(START, DATA)
    np.testing.assert_allclose(fit.history["loss"][0], value, rtol=1e-14)
    np.testing.assert_allclose(fit.history["grad_norm"][0], tree.norm(gradient), rtol=1e-14)


def test_every_epoch_is_a_fresh_order_of_distinct_examples():
    """The loss is a sum of powers of two, one an example, so the history tells which were in each batch."""
    ids = 2.0 ** np.arange(10)
    fit = run(
        loss=lambda p, b: jnp.sum(b) + 0.0 * p,
        params=jnp.zeros(()),
        data=ids,
        steps=9,
        batch_size=3,
        report_every=2,
    )
    batches = [{i for i in range(10) if int(total) >> i & 1} for total in fit.history["loss"]]
    assert all(len(batch) == 3 for batch in batches)
    epochs = [frozenset().union(*batches[e : e + 3]) for e in (0, 3, 6)]
    assert all(len(epoch) == 9 for epoch in epochs)  # 10 // 3 batches, one example sits out
    assert len({tuple(map(tuple, map(sorted, batches[e : e + 3]))) for e in (0, 3, 6)}) == 3


@pytest.mark.parametrize("report_every", [1, 7, 1000])
def test_chunks_do_not_change_a_bit(usual, report_every):
    assert same_bits(run(report_every=report_every).history, usual.history)


def test_key_decides(usual):
    assert same_bits(run().params, usual.params)
    assert not same_bits(run(key=jax.random.key(4)).params, usual.params)
    assert not run(key=jax.random.PRNGKey(1)).stopped  # an old-style key will do


@pytest.mark.parametrize("named", ["by name", "by place"])
def test_loss_gets_a_fresh_key_each_step(named):
    draw = lambda p, b, k: jax.random.uniform(k, (), p.dtype) + 0.0 * p
    losses = {"by name": lambda p, b, *, key: draw(p, b, key), "by place": lambda p, b, k: draw(p, b, k)}
    fit = run(loss=losses[named], params=jnp.zeros(()), steps=50)
    assert len(set(fit.history["loss"].tolist())) == 50
    assert 0.3 < fit.history["loss"].mean() < 0.7


def test_run_steps_is_fit_without_the_host():
    optimizer = optax.adam(0.1)
    step = training.make_step(loss, optimizer, 8)
    state, metrics = training.run_steps(step, training.start(START, optimizer, KEY, 30, 8), DATA, 40)
    fit = run(optimizer=optimizer)
    np.testing.assert_allclose(metrics["loss"], fit.history["loss"], rtol=1e-12)
    np.testing.assert_allclose(state.params["w"], fit.params["w"], rtol=1e-12)


def test_differentiate_is_used():
    negative = lambda fun: lambda *a: jax.tree_util.tree_map(jnp.negative, jax.value_and_grad(fun)(*a))
    fit = run(differentiate=negative)
    assert fit.history["loss"][0] < 0
    assert loss(fit.params, DATA) > loss(START, DATA)


def test_a_second_run_does_not_compile_again():
    traced = []

    def counted(params, batch):
        traced.append(1)
        return loss(params, batch)

    run(loss=counted)
    first = len(traced)
    run(loss=counted, key=jax.random.key(9), params=START | {"b": jnp.array(1.0)})
    assert len(traced) - first < first  # only the look at its output's shape is repeated


def test_an_unhashable_loss_will_do():
    class Loss:
        __hash__ = None

        def __call__(self, params, batch):
            return loss(params, batch)

    assert same_bits(run(loss=Loss(), steps=3).params, run(steps=3, report_every=1).params)


def test_float32_stays_float32():
    single = jax.tree_util.tree_map(lambda leaf: leaf.astype(jnp.float32), (START, DATA))
    fit = run(params=single[0], data=single[1], optimizer=optax.adam(0.1))
    assert fit.params["w"].dtype == jnp.float32
    assert fit.history["loss"].dtype == np.float32


# -- non-finite numbers ----------------------------------------------------------------------------

LOG = dict(loss=lambda p, b: jnp.log(p) + 0.0 * jnp.sum(b), params=jnp.array(1.0), data=jnp.zeros(4), batch_size=None)


@pytest.mark.parametrize("report_every", [1, 3, 100])
def test_stops_at_the_first_bad_loss_and_keeps_the_last_good_params(report_every, caplog):
    """log p by steps of 0.3/p: 1, 0.7, 0.27, then below 0, where the log is nan: step 3 stops the run."""
    with caplog.at_level(logging.WARNING):
        fit = run(**LOG, optimizer=optax.sgd(0.3), steps=20, report_every=report_every)
    assert fit.stopped
    assert "the loss is nan at step 3 " in fit.reason
    assert fit.reason in caplog.text
    assert fit.steps == 2
    expected = 1.0
    for _ in range(2):
        expected -= 0.3 / expected
    np.testing.assert_allclose(fit.params, expected, rtol=1e-14)
    assert fit.history["loss"].shape == (4,)
    assert np.isfinite(fit.history["loss"]).tolist() == [True, True, True, False]


def test_stops_on_a_bad_gradient_even_at_the_last_step():
    """sqrt has an infinite derivative at 0: the loss there is finite, the step from it is not."""
    bad = dict(loss=lambda p, b: jnp.sqrt(p) + 0.0 * jnp.sum(b), params=jnp.zeros(()), data=jnp.zeros(4))
    fit = run(**bad, batch_size=None, steps=1)
    assert fit.stopped
    assert "gradient or the updated parameters are not finite at step 0" in fit.reason
    assert fit.steps == 0
    assert float(fit.params) == 0.0


def test_stops_at_once_if_the_first_loss_is_bad():
    fit = run(**(LOG | dict(params=jnp.array(-1.0))))
    assert fit.stopped
    assert "at step 0" in fit.reason
    assert fit.steps == 0
    assert float(fit.params) == -1.0


def test_the_optimiser_state_kept_belongs_to_the_params_kept():
    fit = run(**LOG, optimizer=optax.sgd(0.3, momentum=0.0), steps=20)
    trace = jax.tree_util.tree_leaves(fit.opt_state)
    np.testing.assert_allclose(trace[0], 1 / (1 - 0.3), rtol=1e-14)  # the gradient of the second, last good update


# -- bad input -------------------------------------------------------------------------------------

NAN = jnp.array(np.where(np.arange(90).reshape(30, 3) == 22, np.nan, INPUTS))
BAD = [
    (dict(loss=3), TypeError, r"loss: expected a function, got 3"),
    (dict(loss=lambda p, b: p["w"]), TypeError, r"loss: expected a function to one real floating number"),
    (dict(params={}), ValueError, r"params: expected a pytree with at least one array"),
    (
        dict(params={"w": jnp.zeros(3, int), "b": 0.0}),
        TypeError,
        r"params\[w\]: expected floating numbers, got int64",
    ),
    (dict(params=START | {"b": jnp.array(jnp.inf)}), ValueError, r"params\[b\]: expected finite numbers"),
    (dict(data={}), ValueError, r"data: expected a pytree of arrays, got an empty one"),
    (
        dict(data=DATA | {"y": jnp.array(1.0)}),
        ValueError,
        r"data\[y\]: expected an array with a leading axis",
    ),
    (dict(data=DATA | {"y": TARGETS[:-1]}), ValueError, r"one common leading axis, got lengths x: 30, y: 29"),
    (dict(data={"x": INPUTS[:0], "y": TARGETS[:0]}), ValueError, r"data: expected at least one example"),
    (dict(data=DATA | {"x": NAN}), ValueError, r"data\[x\]: .*got nan at index \(7, 1\) \(1 of 90 entries"),
    (dict(optimizer=0.1), TypeError, r"optimizer: expected an optax optimiser"),
    (dict(optimizer=optax.sgd(-0.1)), ValueError, r"optimizer: .*learning rate is negative"),
    (dict(optimizer=optax.adam(-1e-3)), ValueError, r"optimizer: .*learning rate is negative"),
    (dict(steps=-5), ValueError, r"steps: expected an integer of at least 0, got -5"),
    (dict(steps=2.0), TypeError, r"steps: expected an integer, got 2.0 \(float\)"),
    (dict(batch_size=0), ValueError, r"batch_size: expected an integer of at least 1, got 0"),
    (dict(batch_size=31), ValueError, r"batch_size: expected at most the number of examples, 30, got 31"),
    (dict(batch_size=True), TypeError, r"batch_size: expected an integer, got True"),
    (dict(key=0), TypeError, r"key: expected one PRNG key such as jax.random.key\(0\), got 0 \(int\)"),
    (dict(key=jax.random.split(KEY, 2)), TypeError, r"key: expected one PRNG key .* of shape \(2,\)"),
    (dict(differentiate=None), TypeError, r"differentiate: expected a function"),
    (dict(mesh=8), TypeError, r"mesh: expected a jax.sharding.Mesh or None, got 8"),
    (dict(report_every=0), ValueError, r"report_every: expected an integer of at least 1"),
    (dict(resume=True), ValueError, r"resume: expected a checkpoint_dir"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message[:50] for _, _, message in BAD])
def test_bad_input(change, error, message):
    with pytest.raises(error, match=message):
        run(**change)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd(0.0),
        optax.noisy_sgd(0.1, 100.0, key=0),
        optax.adamw(0.1, weight_decay=9.0),
        optax.lion(0.01),
    ],
)
def test_downhill_optimisers_are_let_through(optimizer):
    run(optimizer=optimizer, steps=1, batch_size=None)


def test_one_entry_that_is_not_finite_is_seen():
    clean = {"a": np.array([[1.0, -2.0], [0.0, 3e38]], np.float32), "none": np.zeros((0, 3), np.float32)}
    assert step.all_finite(clean)
    for bad in (np.inf, -np.inf, np.nan):
        assert not step.all_finite(clean | {"b": np.array([0.0, bad, 1.0], np.float32)})
