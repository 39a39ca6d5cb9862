"""Batches from iterables: the same steps, taken up where they were left, each example once an epoch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from functional_dl import training
from functional_dl.training import batches, sources
from functional_dl.training.layout import Layout

KEY = jax.random.key(4)
IDS = np.arange(24)
X = np.random.default_rng(0).normal(size=(24, 3))
Y = X.sum(1)
SGD = optax.sgd(0.1)


def loss(params, seen, batch):
    """Beside the loss, how often each example was seen."""
    i, x, y = batch
    return jnp.mean((x @ params - y) ** 2), seen.at[i].add(1)


def run(data, **change):
    arguments = dict(steps=20, batch_size=None, key=KEY, carry=jnp.zeros(24, int), progress=False, report_every=3)
    return training.fit(loss, jnp.zeros(3), data, SGD, **(arguments | change))


def epoch(number):
    order = np.random.default_rng(number).permutation(24)
    return [(IDS[rows], X[rows], Y[rows]) for rows in order.reshape(4, 6)]


class Loader:
    """Can be iterated over again and again, and knows no place."""

    def __iter__(self):
        return iter(epoch(0))


class Placed:
    """A loader whose iterators know their place, as grain's do."""

    def __iter__(self):
        return PlacedIterator()


class PlacedIterator:
    opened = 0

    def __init__(self):
        self.next_index = 0
        PlacedIterator.opened += 1

    def __iter__(self):
        return self

    def __next__(self):
        batch = epoch(self.next_index // 4)[self.next_index % 4]
        self.next_index += 1
        return batch

    def get_state(self):
        return {"next_index": self.next_index}

    def set_state(self, state):
        self.next_index = state["next_index"]


class BytesIterator(PlacedIterator):
    def get_state(self):
        return str(self.next_index).encode()

    def set_state(self, state):
        self.next_index = int(state)


class Bytes:
    def __iter__(self):
        return BytesIterator()


def by_hand(count, of=epoch):
    """Parameters after `count` steps, in NumPy."""
    w = np.zeros(3)
    for step in range(count):
        _, x, y = of(step // 4)[step % 4]
        w = w - 0.1 * 2 / len(y) * x.T @ (x @ w - y)
    return w


KINDS = {
    "function": (epoch, epoch),
    "loader": (Loader(), lambda _: epoch(0)),
    "placed": (Placed(), epoch),
    "bytes": (Bytes(), epoch),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.sampled(3)
def test_a_run_and_the_same_run_in_two_parts(kind, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    data, of = KINDS[kind]
    whole = run(data)
    np.testing.assert_allclose(whole.params, by_hand(20, of), rtol=1e-12)
    np.testing.assert_array_equal(whole.carry, 5)  # 20 steps of 6 examples: five epochs
    run(data, steps=7, checkpoint_dir=tmp_path)
    resumed = run(data, checkpoint_dir=tmp_path, resume=True)
    parts = [jax.tree.leaves((fit.params, fit.history, fit.carry)) for fit in (whole, resumed)]
    for a, b in zip(*parts, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_an_iterator_is_taken_as_it_comes():
    fit = run(iter(epoch(0) + epoch(1)), steps=8, batch_size=6)
    np.testing.assert_allclose(fit.params, by_hand(8), rtol=1e-12)
    with pytest.raises(ValueError, match=r"data: the iterator ended after 4 batches; give an iterable"):
        run(iter(epoch(0)), steps=5)


def test_what_was_done_before_the_data_ended_is_kept(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    with pytest.raises(ValueError, match="ended after 4 batches"):
        run(iter(epoch(0)), checkpoint_dir=tmp_path, report_every=1, checkpoint_every=100)
    assert [path.name for path in tmp_path.iterdir()] == ["step_4"]


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_a_stream_over_devices_in_micro_batches(axis_type):
    mesh = jax.make_mesh((3,), ("data",), axis_types=(axis_type,), devices=jax.devices()[:3])
    fit = run(epoch, mesh=mesh, micro_batches=2)
    np.testing.assert_allclose(fit.params, by_hand(20), rtol=1e-12)


def test_arrays_give_the_same_batches_on_a_mesh_as_on_a_device():
    layout = Layout(jax.make_mesh((3,), ("data",), devices=jax.devices()[:3]))
    on_host = sources.OnHost((IDS, X), 6, KEY, layout, 1)
    taken = on_host.take(5, 4, 6).data[0]
    assert taken.shape == (6, 6)
    order = jnp.arange(24)
    for step in range(9):
        indices, order = batches.batch_indices(KEY, step, order, 6)
        if step >= 5:
            np.testing.assert_array_equal(taken[step - 5], indices)
    np.testing.assert_array_equal(taken[4:], IDS[0])


def test_grain():
    grain = pytest.importorskip("grain")
    data = grain.MapDataset.source(list(zip(IDS, X, Y))).shuffle(seed=1).batch(6)
    fit = run(data.to_iter_dataset())
    np.testing.assert_array_equal(fit.carry, 5)


CUT = lambda _: [(IDS[:6], X[:6], Y[:6]), (IDS[:4], X[:4], Y[:4])]
BAD = [
    (
        CUT,
        ValueError,
        r"data\[0\]: expected int64\[6\] in every batch, as in the first, got int64\[4\] for",
    ),
    (lambda _: [(IDS[:6], X[:6], Y[:6]), (IDS[:6], X[:6])], ValueError, r"data: expected batches of the structure"),
    (
        lambda _: [(IDS[:6], X[:6] * np.nan, Y[:6])],
        ValueError,
        r"data\[1\]: .*got nan at index \(0, 0\) of the batch",
    ),
    (lambda _: [(IDS[:6], X[:6], Y[:5])], ValueError, r"data: expected one common leading axis"),
    (lambda _: [("a", X[:6], Y[:6])], TypeError, r"data: expected batches of numbers, got"),
    (lambda _: [], ValueError, r"data: expected at least one batch in pass 0, got none"),
    (lambda _: 3, TypeError, r"data: expected an iterable of batches for epoch 0, got 3"),
    (object(), TypeError, r"data: expected an array of numbers"),
]


@pytest.mark.parametrize(("data", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_input(data, error, message):
    with pytest.raises(error, match=message):
        run(data)


def test_another_batch_size_than_the_iterables():
    with pytest.raises(ValueError, match=r"batch_size: expected None or the size of the iterable's batches, 6, got 8"):
        run(epoch, batch_size=8)


def test_an_error_of_the_users_is_the_users():
    with pytest.raises(ZeroDivisionError):
        run(lambda _: (1 / 0 for _ in range(3)))
