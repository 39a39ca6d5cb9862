"""Where a run's batches come from: arrays on the device, arrays on the host, or any iterable of batches."""

import abc
import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import tree
from functional_dl.aliases import Array, Key, PyTree
from functional_dl.training import batches, validate
from functional_dl.training.layout import Layout

CHUNK_BYTES = 2**26  # of the batches that one chunk of steps takes to the device, unless its length is given


class Taken(NamedTuple):
    """What a chunk of steps needs, and where the source stands after it."""

    data: PyTree
    position: Any  # JSON


class Source(abc.ABC):
    """Batches by chunks of steps."""

    examples: int | None = None  # for the order of the examples, if the steps themselves draw the batches
    batch_size: int
    batch: PyTree  # the shapes and dtypes of one batch, which all processes hold together
    longest: int | None = None  # steps a chunk, by the memory that their batches take

    @abc.abstractmethod
    def take(self, step: int, length: int, rows: int) -> Taken:
        """For the `length` steps from `step` on; arrays of batches have `rows` rows, those beyond `length` zeros."""

    @abc.abstractmethod
    def go_to(self, position: Any) -> None:
        """As after the step that the position was noted at."""

    @abc.abstractmethod
    def description(self) -> dict[str, Any]:
        """What has to be the same in both parts of a run that is resumed, as JSON."""


def source_of(data: Any, batch_size: int | None, key: Key, layout: Layout, micro_batches: int) -> Source:
    """The source that `data` is: arrays, an iterable of batches, or a function from an epoch's number to one."""
    if streams(data):
        return Stream(data, batch_size, layout, micro_batches)
    kind = OnDevice if layout.mesh is None else OnHost
    return kind(data, batch_size, key, layout, micro_batches)


def streams(data: Any) -> bool:
    """Whether `data` is one thing that gives batches, rather than a pytree of arrays."""
    if hasattr(data, "__next__"):
        return True
    if isinstance(data, (str, bytes)) or hasattr(data, "shape") or not jax.tree_util.all_leaves([data]):
        return False
    return callable(data) or hasattr(data, "__iter__")


class _Arrays(Source):
    """What the two sources of arrays share: the same key gives both the same batches."""

    def __init__(self, data: PyTree, batch_size: int | None, key: Key, layout: Layout, micro_batches: int) -> None:
        self._count = validate.common_length(data)
        validate.finite_data(data)
        self.batch_size = validate.batch_size(batch_size, self._count)
        layout.checked_batch(self.batch_size, micro_batches)
        self._data, self._key, self._layout, self._micro = data, key, layout, micro_batches
        self.batch = jax.tree.map(lambda leaf: _shape((self.batch_size, *np.shape(leaf)[1:]), leaf), data)

    def go_to(self, position: Any) -> None:
        del position  # the step says all

    def description(self) -> dict[str, Any]:
        return {"data": _listed(self._data), "data_digest": digest(self._data)}


class OnDevice(_Arrays):
    """All examples on the one device; each step draws its own batch."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.examples = self._count
        self._data = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), self._data)

    def take(self, step: int, length: int, rows: int) -> Taken:
        del step, length, rows
        return Taken(self._data, None)


class OnHost(_Arrays):
    """Examples in host memory (or mapped from a file); each device is given its rows of each batch, and each process
    reads no others."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._data = jax.tree.map(np.asarray, self._data)
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, int))
        self.longest = longest(self.batch)

    def _indices(self, step: int) -> np.ndarray:
        if self.batch_size == self._count:
            return np.arange(self._count)
        epoch, place = divmod(step, self._count // self.batch_size)
        if self._order[0] != epoch:
            self._order = epoch, np.asarray(batches.epoch_order(self._key, epoch, self._count))
        return self._order[1][place * self.batch_size : (place + 1) * self.batch_size]

    def take(self, step: int, length: int, rows: int) -> Taken:
        indices = np.zeros((rows, self.batch_size), int)
        for row in range(length):
            indices[row] = self._indices(step + row)
        indices = _in_micro_batches(indices, self._micro)
        sharding = self._layout.batch_sharding(indices.ndim - 1)
        assert sharding is not None

        def laid(leaf):
            shape, dtype = (*indices.shape, *leaf.shape[1:]), jax.dtypes.canonicalize_dtype(leaf.dtype)
            axes = indices.ndim
            rows_of = lambda index: leaf[(indices[index[:axes]], *index[axes:])].astype(dtype, copy=False)
            return jax.make_array_from_callback(shape, sharding, rows_of)

        return Taken(jax.tree.map(laid, self._data), None)


class Stream(Source):
    """An iterable of batches, such as a grain dataset or a loader; a new pass begins where one ends.

    Its place is its iterator's own `get_state()`, if there is one, else the number of the pass and of the batch in it.
    On several processes each gives its own part of every batch.
    """

    def __init__(self, data: Any, batch_size: int | None, layout: Layout, micro_batches: int) -> None:
        self._data, self._layout, self._micro = data, layout, micro_batches
        self._by_epoch = callable(data) and not hasattr(data, "__iter__")
        self._epoch, self._offset = 0, 0
        self._ahead: tuple[PyTree, Any] | None = None
        self._iterator = self._open()
        first = self._peek()
        self._types = jax.tree.map(lambda leaf: _shape(leaf.shape, leaf), first)
        local = validate.common_length(first)
        self.batch_size = local * jax.process_count()
        if batch_size is not None and batch_size != self.batch_size:
            raise ValueError(
                f"batch_size: expected None or the size of the iterable's batches, {self.batch_size}, got {batch_size}"
            )
        layout.checked_batch(self.batch_size, micro_batches)
        self.batch = jax.tree.map(lambda t: _shape((self.batch_size, *t.shape[1:]), t), self._types)
        self.longest = longest(self._types)

    def _open(self) -> Iterator[Any]:
        of_epoch = self._data(self._epoch) if self._by_epoch else self._data
        if not isinstance(of_epoch, Iterable):
            raise TypeError(f"data: expected an iterable of batches for epoch {self._epoch}, got {of_epoch!r}")
        iterator = iter(of_epoch)
        self._once = iterator is of_epoch and not self._by_epoch
        return iterator

    def _position(self) -> Any:
        if not hasattr(self._iterator, "get_state"):
            return {"epoch": self._epoch, "batches": self._offset}
        state = self._iterator.get_state()  # type: ignore[attr-defined]
        coded = {"bytes": base64.b64encode(state).decode()} if isinstance(state, bytes) else {"value": state}
        return {"epoch": self._epoch, "batches": self._offset, "state": coded}

    def _peek(self) -> PyTree:
        if self._ahead is None:
            self._ahead = self._next()
        return self._ahead[0]

    def _next(self) -> tuple[PyTree, Any]:
        """(the next batch as NumPy arrays, the position after it)."""
        for _ in range(2):
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self._offset == 0:
                    raise ValueError(f"data: expected at least one batch in pass {self._epoch}, got none") from None
                if self._once:
                    raise ValueError(
                        f"data: the iterator ended after {self._offset} batches; give an iterable that can be begun "
                        "anew (a list's or a loader's, or a function from an epoch's number to one), or fewer steps"
                    ) from None
                self._epoch, self._offset = self._epoch + 1, 0
                self._iterator = self._open()
                continue
            self._offset += 1
            host = jax.tree.map(lambda leaf: validate.host_array("data", leaf), batch)
            return host, self._position()
        raise ValueError(f"data: expected at least one batch in pass {self._epoch}, got none")

    def _taken_batch(self, step: int) -> tuple[PyTree, Any]:
        batch, position = self._ahead if self._ahead is not None else self._next()
        self._ahead = None
        validate.same_batch(batch, self._types, step)
        validate.finite_data(batch, f" of the batch for step {step}")
        return batch, position

    def take(self, step: int, length: int, rows: int) -> Taken:
        found = [self._taken_batch(step + i) for i in range(length)]
        sharding, processes = self._layout.batch_sharding(1 if self._micro == 1 else 2), jax.process_count()

        def laid(kind, *leaves):
            dtype = jax.dtypes.canonicalize_dtype(kind.dtype)
            stacked = np.zeros((rows, *kind.shape), dtype)
            for i, leaf in enumerate(leaves):
                stacked[i] = leaf
            stacked = _in_micro_batches(stacked, self._micro)
            if sharding is None:
                return jnp.array(stacked)
            whole = list(stacked.shape)
            whole[1 if self._micro == 1 else 2] *= processes
            return jax.make_array_from_process_local_data(sharding, stacked, tuple(whole))

        data = jax.tree.map(laid, self._types, *[batch for batch, _ in found])
        return Taken(data, found[-1][1] if found else None)

    def go_to(self, position: Any) -> None:
        if position is None:
            return
        if self._once and not position["batches"]:
            return  # nothing was taken
        self._ahead, self._epoch, self._offset = None, position["epoch"], 0
        if "state" in position:
            self._iterator = self._open()
            coded = position["state"]
            state = base64.b64decode(coded["bytes"]) if "bytes" in coded else coded["value"]
            self._iterator.set_state(state)  # type: ignore[attr-defined]
            self._offset = position["batches"]
            return
        if not self._once:
            self._iterator = self._open()
        elif position["batches"]:  # the first of them was taken when the source was made
            self._offset = 1
        while self._offset < position["batches"]:
            try:
                next(self._iterator)
            except StopIteration:
                raise ValueError(
                    f"data: expected an iterable of at least {position['batches']} batches, which the run had taken "
                    f"from it when it was interrupted, got {self._offset}"
                ) from None
            self._offset += 1

    def description(self) -> dict[str, Any]:
        return {"data": _listed(self._types)}


def longest(batch: PyTree) -> int:
    """How many steps' batches of these shapes fit CHUNK_BYTES."""
    size = sum(int(np.prod(t.shape)) * np.dtype(t.dtype).itemsize for t in jax.tree.leaves(batch))
    return max(1, CHUNK_BYTES // max(1, size))


def row(data: PyTree, i: Array) -> PyTree:
    """The batch of the chunk's step number i."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), data)


def digest(data: PyTree) -> str:
    """Of the arrays' bytes: all of them up to 256 MB, 1024 examples spread over them beyond that."""
    found = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(data):
        leaf = np.asarray(leaf)
        if leaf.nbytes > 2**28:
            leaf = leaf[np.unique(np.linspace(0, len(leaf) - 1, 1024).astype(int))]
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def _listed(x: PyTree) -> list[str]:
    leaves = zip(tree.path_names(x), jax.tree.leaves(x))
    return [f"{name}: {np.dtype(leaf.dtype)}{list(np.shape(leaf))}" for name, leaf in leaves]


def _shape(shape: tuple[int, ...], leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(jnp.result_type(leaf)))


def _in_micro_batches(x: np.ndarray, micro_batches: int) -> np.ndarray:
    """(rows, batch, ...) as (rows, micro-batches, batch / micro-batches, ...)."""
    return x if micro_batches == 1 else x.reshape(x.shape[0], micro_batches, -1, *x.shape[2:])
