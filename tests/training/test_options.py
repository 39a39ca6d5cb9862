"""What a run can do beside its steps: carry, micro-batches, precision, averages, evaluation, early end, reports."""

import json
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from functional_dl import layers, reverse, training, tree
from functional_dl.training import mixed

KEY = jax.random.key(3)
X = np.random.default_rng(0).normal(size=(32, 4))
Y = np.sin(X.sum(1))
START = {"w": 0.3 * np.random.default_rng(1).normal(size=(4,)), "b": np.zeros(())}
ADAM = optax.adam(0.05)
SINGLE = jax.tree.map(lambda x: np.asarray(x, np.float32), (START, (X, Y)))


def loss(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w"] + params["b"]) - y) ** 2)


def run(loss=loss, params=START, data=(X, Y), optimizer=ADAM, **change):
    arguments = dict(steps=24, batch_size=8, key=KEY, progress=False, report_every=5)
    return training.fit(loss, params, data, optimizer, **(arguments | change))


@pytest.fixture(scope="module")
def usual():
    return run()


def same_bits(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in leaves)


# -- micro-batches, what the loss carries ------------------------------------------------------------


def test_micro_batches_are_the_whole_batch(usual):
    fit = run(micro_batches=4)
    np.testing.assert_allclose(fit.history["loss"], usual.history["loss"], rtol=1e-12)
    np.testing.assert_allclose(fit.params["w"], usual.params["w"], rtol=1e-10)


def test_micro_batches_to_the_bit_where_the_sums_order_is_the_same():
    """Whole numbers, whose sums are exact in any order."""
    whole = lambda p, batch: jnp.sum(batch @ p) / 8
    given = dict(loss=whole, params=jnp.zeros(3), data=np.arange(96.0).reshape(32, 3), optimizer=optax.sgd(0.5))
    scaled = lambda p, batch: 4 * whole(p, batch)  # the mean over a quarter of the batch
    assert same_bits(run(**given).params, run(**(given | dict(loss=scaled)), micro_batches=4).params)


def test_batch_moments_are_carried():
    norm = layers.batch_norm(4, momentum=0.75)

    def normed(params, moments, batch):
        moments, x = norm.apply(params["norm"], moments, batch[0])
        return loss(params, (x, batch[1])), moments

    params = START | {"norm": norm.init(KEY)}
    for differentiate in (jax.value_and_grad, reverse.value_and_grad):
        fit = run(normed, params, carry=norm.initial(), batch_size=None, differentiate=differentiate, steps=9)
        expected = (1 - 0.75**9) * X.mean(0)
        np.testing.assert_allclose(fit.carry["mean"], expected, rtol=1e-12)
        assert fit.history["loss"][-1] < fit.history["loss"][0]


def test_a_carry_beside_a_key():
    def counted(params, count, batch, key):
        return loss(params, batch) + 0.0 * jax.random.uniform(key), count + 1

    assert int(run(counted, carry=jnp.array(0)).carry) == 24


# -- precision, averages -----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_sixteen_bits(precision):
    params, data = SINGLE
    seen = []

    def typed(params, batch):
        seen.append((params["w"].dtype, batch[0].dtype))
        return loss(params, batch)

    fit, full = run(typed, params, data, precision=precision), run(loss, params, data)
    assert {str(dtype) for pair in seen[1:] for dtype in pair} == {precision}
    assert fit.params["w"].dtype == fit.opt_state[0].mu["w"].dtype == fit.history["loss"].dtype == np.float32
    np.testing.assert_allclose(fit.history["loss"], full.history["loss"], atol=0.02)
    assert not np.array_equal(fit.history["loss"], full.history["loss"])


def test_float16_finds_gradients_that_it_cannot_hold():
    """Gradients near 1e-9 are 0 in float16; scaled they are not.  A factor that overflows is halved, nothing else."""
    small = lambda p, batch: jnp.sum(p * jnp.mean(batch, 0)) * jnp.asarray(1e-4, p.dtype)
    params, data = jnp.ones(3, jnp.float32), np.full((8, 3), 1e-4, np.float32)
    fit = run(small, params, data, optax.sgd(1.0), precision="float16", steps=3)
    np.testing.assert_allclose(fit.history["grad_norm"], np.sqrt(3) * 1e-8, rtol=0.02)
    large = lambda p, batch: jnp.sum(p * jnp.mean(batch, 0))
    fit = run(large, params, np.full((8, 3), 100, np.float32), optax.sgd(1e-3), precision="float16", steps=9)
    scales = fit.history["loss_scale"]
    assert scales[0] == mixed.FIRST
    assert scales[-1] == scales[-2] < mixed.FIRST
    skipped = int(np.sum(~np.isfinite(fit.history["grad_norm"])))
    assert 0 < skipped < 9
    assert not fit.stopped
    np.testing.assert_allclose(fit.params, 1 - (9 - skipped) * 0.1, rtol=1e-3)


def test_the_scale_grows_again():
    def after(factor, good, finite):
        scale = mixed.Scale(jnp.float32(factor), jnp.int32(good))
        state, finite = training.State(jnp.ones(2), (), jnp.int32(0), KEY, scale=scale), jnp.bool_(finite)
        kept, metrics = mixed.skip_overflow(state, state._replace(params=jnp.zeros(2)), finite, {"finite": finite})
        return float(kept.scale.factor), int(kept.scale.good), float(kept.params[0]), bool(metrics["finite"])

    assert after(8, 3, True) == (8.0, 4, 0.0, True)
    assert after(8, mixed.PATIENCE - 1, True) == (16.0, 0, 0.0, True)
    assert after(8, 3, False) == (4.0, 0, 1.0, True)
    assert after(1, 3, False) == (0.5, 0, 1.0, False)  # no smaller factor cures it: the run stops


def test_the_average_is_the_formula():
    fit, average = run(average=0.9, steps=3, report_every=1), START
    for steps in (1, 2, 3):
        average = tree.add(tree.scale(0.9, average), tree.scale(0.1, run(steps=steps, report_every=1).params))
    np.testing.assert_allclose(fit.average["w"], average["w"], rtol=1e-12)


def test_steps_with_a_convolution_are_the_same_steps():
    """On a CPU they are called one by one."""
    convolution = layers.conv(1, 1, (3,))

    def convolved(params, batch):
        return loss(params["rest"], (convolution.apply(params["conv"], batch[0][..., None])[..., 0], batch[1]))

    params = {"conv": convolution.init(KEY), "rest": START}
    fit = run(convolved, params, steps=12)
    step = training.make_step(convolved, ADAM, 8)
    _, metrics = training.run_steps(step, training.start(fit.params | params, ADAM, KEY, 32, 8), (X, Y), 12)
    np.testing.assert_allclose(fit.history["loss"], metrics["loss"], rtol=1e-10)
    assert same_bits(fit.history, run(convolved, params, steps=12, report_every=7).history)
    bad = lambda params, batch: convolved(params, batch) + jnp.where(params["rest"]["b"] == 0, 0.0, jnp.nan)
    stopped = run(bad, params, steps=12)
    assert (stopped.steps, len(stopped.history["loss"])) == (0, 2)


# -- evaluation, early end, reports, callbacks -------------------------------------------------------


@jax.jit
def evaluate(params):
    return {"test": loss(params, (X, Y)), "size": jnp.sum(params["w"] ** 2)}


def test_evaluations_and_the_best_of_them(usual):
    fit = run(evaluate=evaluate, evaluate_every=7, early_stopping=training.EarlyStopping("size", "min", None))
    assert same_bits(fit.params, usual.params)
    np.testing.assert_array_equal(fit.evaluations["step"], [0, 7, 14, 21, 24])
    np.testing.assert_allclose(fit.evaluations["test"][-1], evaluate(fit.params)["test"], rtol=1e-14)
    best = int(np.argmin(fit.evaluations["size"]))
    assert (fit.best.step, fit.best.value) == (fit.evaluations["step"][best], fit.evaluations["size"][best])
    np.testing.assert_allclose(evaluate(fit.best.params)["size"], fit.best.value, rtol=1e-14)


def test_a_run_ends_early_and_goes_on_to_the_same_end(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    stopping = training.EarlyStopping("size", "min", patience=3, minimum_change=1e-3)
    given = dict(evaluate=evaluate, evaluate_every=2, early_stopping=stopping, optimizer=optax.adam(0.3), average=0.5)
    whole = run(**given)
    assert whole.stopped
    assert whole.steps == whole.best.step + 6 < 24
    assert "size was no better than" in whole.reason
    assert f"in 3 evaluations, the last at step {whole.steps}" in whole.reason
    end = dict(callbacks=[lambda report: report.step >= whole.best.step + 2])
    assert "a callback ended the run at step" in run(**given, **end, checkpoint_dir=tmp_path).reason
    resumed = run(**given, checkpoint_dir=tmp_path, resume=True)
    assert resumed.reason == whole.reason
    assert run(**given, checkpoint_dir=tmp_path, resume=True).reason == whole.reason  # it does not go on
    assert same_bits(
        (whole.params, whole.average, whole.best, whole.history, whole.evaluations),
        (resumed.params, resumed.average, resumed.best, resumed.history, resumed.evaluations),
    )


def test_callbacks_are_told(usual):
    told = []
    run(callbacks=[told.append], evaluate=evaluate, evaluate_every=10)
    assert [report.step for report in told] == [5, 10, 15, 20, 24]
    np.testing.assert_array_equal(np.concatenate([r.history["loss"] for r in told]), usual.history["loss"])
    assert [report.evaluation is not None for report in told] == [False, True, False, True, True]


def test_lines_of_json(usual, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    where = dict(checkpoint_dir=tmp_path / "checkpoints", log_dir=tmp_path)
    run(steps=12, evaluate=evaluate, evaluate_every=12, **where)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 40, "loss": 1.0}\n{"step": 41, "lo')  # cut short, then resumed
    run(evaluate=evaluate, evaluate_every=12, resume=True, **where)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [5, 10, 15, 20]
    np.testing.assert_allclose([line["loss"] for line in steps], usual.history["loss"][:20].reshape(4, 5).mean(1))
    assert [line["step"] for line in lines if "evaluation/test" in line] == [0, 12, 24]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_saves_and_does_what_it_does(usual, number, tmp_path):
    pytest.importorskip("orbax.checkpoint")

    class Ended(Exception):
        pass

    def end(*_):
        raise Ended

    def press(report):
        if report.step == 10:
            signal.raise_signal(number)

    before = signal.signal(number, end if number == signal.SIGTERM else signal.default_int_handler)
    try:
        with pytest.raises(Ended if number == signal.SIGTERM else KeyboardInterrupt):
            run(callbacks=[press], checkpoint_dir=tmp_path, checkpoint_every=1000)
        assert signal.getsignal(number) in (end, signal.default_int_handler)
    finally:
        signal.signal(number, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step_10"]
    assert same_bits(run(checkpoint_dir=tmp_path, resume=True).history, usual.history)


def test_a_handler_that_returns_lets_the_run_go_on(usual, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    try:
        press = lambda report: signal.raise_signal(signal.SIGTERM) if report.step in (10, 20) else None
        fit = run(callbacks=[press], checkpoint_dir=tmp_path, checkpoint_every=1000)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == [1, 1]
    assert same_bits(fit.params, usual.params)


def test_another_thread_can_train(usual, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    found = []
    thread = threading.Thread(target=lambda: found.append(run(checkpoint_dir=tmp_path)))
    thread.start()
    thread.join()
    assert same_bits(found[0].params, usual.params)


# -- bad input ---------------------------------------------------------------------------------------

COUNT = jnp.array(0)
BAD = [
    (dict(precision="float8"), ValueError, r"precision: expected one of bfloat16, float16; got 'float8'"),
    (dict(average=1.0), ValueError, r"average: expected None or a decay in \[0, 1\), got 1.0"),
    (dict(average="a"), TypeError, r"average: expected one real number, got 'a'"),
    (dict(micro_batches=0), ValueError, r"micro_batches: expected an integer of at least 1, got 0"),
    (dict(keep=0), ValueError, r"keep: expected an integer of at least 1, got 0"),
    (
        dict(optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 15))),
        ValueError,
        r"optimizer: .* of the run's 24 steps",
    ),
    (dict(optimizer=optax.sgd(optax.linear_schedule(0.1, 0, 9))), ValueError, r"whose updates are 0 from step 9 on"),
    (dict(callbacks=[3]), TypeError, r"callbacks: expected a function, got 3"),
    (dict(evaluate=3), TypeError, r"evaluate: expected a function, got 3"),
    (dict(evaluate=lambda p: 1.0), TypeError, r"evaluate: expected a function to a dict of numbers, it returns 1.0"),
    (dict(evaluate=lambda p: {"a": p}), TypeError, r"evaluate: expected numbers, got .* for 'a'"),
    (dict(early_stopping="loss"), TypeError, r"early_stopping: expected a training.EarlyStopping, got 'loss'"),
    (dict(early_stopping=training.EarlyStopping("a")), ValueError, r"early_stopping: expected an `evaluate` whose"),
    (
        dict(early_stopping=training.EarlyStopping("tst"), evaluate=lambda p: {"test": 1.0}),
        ValueError,
        r"early_stopping: expected one of test; got 'tst'; did you mean 'test'",
    ),
    (dict(loss=lambda p, c, b: loss(p, b), carry=COUNT), TypeError, r"loss: expected a function to \(number, carry\)"),
    (
        dict(loss=lambda p, c, b: (loss(p, b), (c, c)), carry=COUNT),
        TypeError,
        r"carry: expected the loss to return the st",
    ),
    (
        dict(loss=lambda p, c, b: (loss(p, b), jnp.stack([c, c])), carry=COUNT),
        ValueError,
        r"carry: expected shape \(\) back from the loss, got \(2,\)",
    ),
    (dict(checkpoint_dir="/dev/null/a"), OSError, r"checkpoint_dir: expected a directory that can be written to"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input(change, error, message):
    if "checkpoint_dir" in change:
        pytest.importorskip("orbax.checkpoint")
    with pytest.raises(error, match=message):
        run(**change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(metric=3), TypeError, "metric: expected a name, got 3"),
        (dict(mode="least"), ValueError, "mode: expected one of max, min; got 'least'"),
        (dict(patience=0), ValueError, "patience: expected an integer of at least 1, got 0"),
        (dict(minimum_change=-1), ValueError, "minimum_change: expected a number >= 0, got -1"),
    ],
)
def test_bad_early_stopping(change, error, message):
    with pytest.raises(error, match=message):
        training.EarlyStopping(**(dict(metric="test") | change))
