"""An interrupted run, resumed, is bitwise the run that was never interrupted."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from functional_dl import training

pytest.importorskip("orbax.checkpoint")

ADAM = optax.adam(0.01)
KEY = jax.random.key(5)
X = jax.random.normal(jax.random.key(0), (50, 4))
DATA = (X, jnp.sin(X.sum(1)))
START = {"w": 0.1 * jax.random.normal(jax.random.key(1), (4,)), "b": jnp.zeros((), jnp.float32)}


def loss(params, batch, key):
    x, y = batch
    noise = 0.1 * jax.random.normal(key, x.shape, x.dtype)
    return jnp.mean((jnp.tanh((x + noise) @ params["w"] + params["b"].astype(x.dtype)) - y) ** 2)


def run(directory=None, *, loss=loss, **change):
    arguments = dict(params=START, data=DATA, optimizer=ADAM, steps=60, batch_size=8, key=KEY, progress=False)
    arguments |= dict(checkpoint_dir=directory, report_every=5, checkpoint_every=10) | change
    return training.fit(loss, **arguments)


@pytest.fixture(scope="module")
def whole():
    """The run that nothing interrupts."""
    return run()


def assert_same_bits(a, b):
    for x, y in zip(jax.tree_util.tree_leaves(a), jax.tree_util.tree_leaves(b), strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def assert_same_fit(a, b):
    assert_same_bits((a.params, a.history, a.opt_state), (b.params, b.history, b.opt_state))
    assert (a.steps, a.stopped) == (b.steps, b.stopped)


def test_killed_and_resumed_is_bitwise_the_same(whole, tmp_path, monkeypatch):
    """The run dies in its ninth chunk, at step 40 of 60; the newest checkpoint then is that of step 40."""
    from functional_dl.training.loop import Run

    calls, advance = [], Run.advance

    def dying(self, state, data, length):
        calls.append(length)
        if len(calls) == 9:
            raise RuntimeError("the power went")
        return advance(self, state, data, length)

    monkeypatch.setattr(Run, "advance", dying)
    with pytest.raises(RuntimeError, match="the power went"):
        run(tmp_path)
    monkeypatch.undo()
    seen = []
    monkeypatch.setattr(Run, "advance", lambda self, s, d, n: (seen.append(int(s.step)), advance(self, s, d, n))[1])
    resumed = run(tmp_path, resume=True)
    assert seen == [40, 45, 50, 55]
    assert_same_fit(resumed, whole)


def test_keyboard_interrupt_saves_what_was_done(whole, tmp_path, monkeypatch):
    from functional_dl.training.loop import Run

    calls, advance = [], Run.advance

    def interrupted(self, state, data, length):
        calls.append(length)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return advance(self, state, data, length)

    monkeypatch.setattr(Run, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert calls == [5, 5, 5, 5]
    monkeypatch.setattr(Run, "advance", lambda self, s, d, n: (calls.append(int(s.step)), advance(self, s, d, n))[1])
    assert_same_fit(run(tmp_path, resume=True), whole)
    assert calls[4] == 15  # the last whole chunk, though checkpoints were due at 10 and 20


@pytest.mark.parametrize("first", [13, 30])
def test_a_run_can_be_made_longer(whole, tmp_path, first):
    run(tmp_path, steps=first)
    assert_same_fit(run(tmp_path, resume=True), whole)


def test_resuming_a_finished_run_gives_it_back(whole, tmp_path):
    assert_same_fit(run(tmp_path), whole)
    assert_same_fit(run(tmp_path, resume=True), whole)


def test_resume_without_checkpoints_starts(whole, tmp_path):
    assert_same_fit(run(tmp_path / "new", resume=True), whole)


def test_resume_on_a_mesh(whole, tmp_path):
    run(tmp_path, steps=30)
    mesh = jax.make_mesh((8,), ("data",))
    resumed = run(tmp_path, resume=True, mesh=mesh)
    np.testing.assert_allclose(resumed.history["loss"], whole.history["loss"], rtol=1e-10)


def test_another_run_is_refused(tmp_path):
    run(tmp_path, steps=20)
    with pytest.raises(ValueError, match=r"checkpoint_dir: expected no checkpoints .* got one at step 20"):
        run(tmp_path)
    with pytest.raises(ValueError, match=r"steps: expected at least the checkpoint's 20, got 10"):
        run(tmp_path, resume=True, steps=10)
    with pytest.raises(ValueError, match=r"resume: .* was made with batch_size = 8, this run has batch_size = 10"):
        run(tmp_path, resume=True, batch_size=10)
    with pytest.raises(ValueError, match=r"resume: .* was made with key"):
        run(tmp_path, resume=True, key=jax.random.key(6))
    with pytest.raises(ValueError, match=r"resume: .* was made with data_digest"):
        run(tmp_path, resume=True, data=(X + 1, DATA[1]))
    with pytest.raises(ValueError, match=r"resume: .* was made with params"):
        run(tmp_path, resume=True, params=START | {"b": jnp.zeros(())})
    with pytest.raises(ValueError, match=r"resume: .* was made with optimizer"):
        run(tmp_path, resume=True, optimizer=optax.sgd(0.1))


def test_missing_orbax_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(
        ImportError, match=r"checkpoint_dir needs orbax-checkpoint, which is not installed: pip install"
    ):
        run(tmp_path)


def test_missing_rich_is_silent(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    run(progress=True)
    assert capsys.readouterr() == ("", "")


DAMAGES = {
    "numbers": lambda step: max((step / "carried" / "d").iterdir(), key=lambda path: path.stat().st_size),
    "notes": lambda step: step / "notes" / "metadata",
    "history": lambda step: step / "measured" / "manifest.ocdbt",
}


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # orbax's reads, in an event loop that it has closed
@pytest.mark.parametrize("how", ["cut", "one bit"])
@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.sampled(4)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(whole, what, how, tmp_path, caplog):
    run(tmp_path, steps=40)
    path = DAMAGES[what](tmp_path / "step_40")
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)
    resumed = run(tmp_path, resume=True)
    assert f"the checkpoint of step 40 in {tmp_path} is damaged" in caplog.text
    assert_same_fit(resumed, whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_50", "step_60"]


def test_nothing_but_damage(tmp_path):
    run(tmp_path, steps=20, keep=1)
    (tmp_path / "step_20" / "notes" / "metadata").write_text("{")
    with pytest.raises(ValueError, match=r"resume: expected a whole checkpoint in .*, those of steps 20 are damaged"):
        run(tmp_path, resume=True)


def test_as_many_are_kept_as_asked(tmp_path):
    run(tmp_path, keep=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_40", "step_50", "step_60"]


def test_a_checkpoint_that_cannot_be_written_is_an_error_that_says_so(tmp_path, monkeypatch):
    from orbax.checkpoint import CheckpointManager

    save = CheckpointManager.save

    def full(self, step, **given):
        if step == 30:
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device")
        return save(self, step, **given)

    monkeypatch.setattr(CheckpointManager, "save", full)
    expected = r"checkpoint of step 30 could not be written to .*: no space is left there; the newest whole .* step 20"
    with pytest.raises(OSError, match=expected):
        run(tmp_path)


def test_a_disk_too_small_is_refused_first(tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=8))
    with pytest.raises(OSError, match=r"checkpoint_dir: expected room for a checkpoint of .* MiB in"):
        run(tmp_path)


def test_one_bit_among_many_numbers_is_noticed(whole, tmp_path, caplog):
    """Long arrays lie in the files as they are, without a check of orbax's."""
    large = dict(params=START | {"rest": np.random.default_rng(0).normal(size=(64, 64))}, optimizer=optax.sgd(0.01))
    run(tmp_path, steps=40, **large)
    path = max((p for p in (tmp_path / "step_40").rglob("d/*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    resumed = run(tmp_path, resume=True, **large)
    assert "the checkpoint of step 40" in caplog.text
    assert_same_bits(resumed.params, run(**large).params)


def test_checksums_tell_every_change_and_not_the_devices():
    from functional_dl.training.checkpoint import checksums_of

    numbers, sums = np.random.default_rng(0).integers(0, 2, size=(4, 6)), jax.jit(checksums_of)
    kinds = ("bfloat16", "bool", "complex64", "float32", "float64", "int64", "int8")
    arrays = {kind: jnp.array(numbers.astype(jnp.dtype(kind))) for kind in kinds}
    first, other = np.asarray(sums(arrays)), numbers.copy()
    other[2, 3] = 1 - other[2, 3]
    for row, kind in enumerate(kinds):
        changed = {**arrays, kind: jnp.array(other.astype(jnp.dtype(kind)))}
        np.testing.assert_array_equal(np.flatnonzero(np.asarray(sums(changed)) != first), [row])
        moved = {**arrays, kind: jnp.array(numbers[::-1].astype(jnp.dtype(kind)))}
        assert np.asarray(sums(moved))[row] != first[row]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    split = jax.device_put(arrays, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    np.testing.assert_array_equal(sums(split), first)
