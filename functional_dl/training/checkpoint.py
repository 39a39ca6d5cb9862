"""Checkpoints of a run through orbax: saved whole or not at all, while the run goes on; restored bitwise."""

import errno
import gc
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl import arguments, tree
from functional_dl.aliases import Array, Key, PyTree

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run in one directory; the `keep` newest are kept.

    Each holds the run's state, what was measured so far, where its data stood, and the settings that must be the
    same for a run to go on bitwise as if it had never stopped: key, batch size, shapes (the optimiser's state
    shows its kind) and a digest of the data.
    """

    def __init__(
        self,
        directory: str | Path,
        settings: dict[Any, Any],
        keep: int = 2,
        size: int = 0,
        checksums: Callable[[PyTree], Array] | None = None,
    ) -> None:
        self._ocp = _orbax()
        self._settings, self._checksums = settings, checksums or jax.jit(checksums_of)
        self._writing: int | None = None
        self._directory = Path(directory).absolute()
        _writable(self._directory, size)
        options = self._ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=True,
            step_prefix="step",
            cleanup_tmp_directories=True,
            async_options=self._ocp.options.AsyncOptions(timeout_secs=3600),
        )
        self._manager = self._ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        logging.getLogger("absl").addFilter(_told_by_us)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            self._manager.close()
        except Exception as error:  # what ended the run is what the user has to see
            if kind is None:
                raise self._unwritten(error) from error
        finally:
            logging.getLogger("absl").removeFilter(_told_by_us)

    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there, the newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def save(self, step: int, carried: PyTree, measured: dict[str, Any], notes: dict[str, Any]) -> None:
        """Begins to write a checkpoint; it is there when the next one begins, or after `wait`."""
        if step in self._manager.all_steps():
            return
        args = self._ocp.args
        self.wait()
        self._writing = step
        try:
            self._manager.save(
                step,
                args=args.Composite(
                    carried=args.StandardSave(_numbered(carried)),
                    measured=args.StandardSave(measured),
                    notes=args.JsonSave(_sealed(notes | self._seals(carried, measured) | {"settings": self._settings})),
                ),
            )
        except Exception as error:
            raise self._unwritten(error) from error

    def wait(self) -> None:
        """Until what is being written is there."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> OSError:
        whole = [step for step in self.steps() if step != self._writing]
        kept = f"the newest whole one is that of step {whole[0]}" if whole else "there is none yet"
        full = "RESOURCE_EXHAUSTED" in str(error) or getattr(error, "errno", None) == errno.ENOSPC
        return OSError(
            f"checkpoint_dir: the checkpoint of step {self._writing} could not be written to {self._directory}: "
            f"{'no space is left there' if full else _first_line(error)}; {kept}"
        )

    def restore(self, like: PyTree, measured_like: dict[str, Any]) -> tuple[int, PyTree, dict, dict]:
        """(step, carried, measured, notes) of the newest checkpoint that can be read; carried is structured and placed
        as `like`.  A damaged one is named in a warning, and the one before it is used."""
        damaged = []
        for step in self.steps():
            try:
                found = self._restored(step, like, measured_like)
            except _Different as error:
                raise ValueError(str(error)) from None
            except Exception as error:
                reason = _first_line(error)
            else:
                break
            _drop_what_failed()
            damaged.append(step)
            logger.warning("resume: the checkpoint of step %d in %s is damaged (%s)", step, self._directory, reason)
        else:
            listed = ", ".join(map(str, damaged))
            raise ValueError(
                f"resume: expected a whole checkpoint in {self._directory}, those of steps {listed} are damaged"
            )
        for step in damaged:  # its number is needed when the run gets there again
            self._manager.delete(step)
        return found

    def _restored(self, step, like, measured_like):
        args = self._ocp.args
        notes = _unsealed(self._manager.restore(step, args=args.Composite(notes=args.JsonRestore())).notes)
        for name, value in self._settings.items():
            if notes["settings"].get(name) != value:
                raise _Different(
                    f"resume: the checkpoint at step {step} in {self._directory} was made with "
                    f"{name} = {notes['settings'].get(name)!r}, this run has {name} = {value!r}"
                )
        abstract = jax.tree_util.tree_map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), _numbered(like)
        )
        empty = {
            name: np.empty(shape, measured_like.get(name, np.float64)) for name, shape in notes["measured"].items()
        }
        restored = self._manager.restore(
            step,
            args=args.Composite(carried=args.StandardRestore(abstract), measured=args.StandardRestore(empty)),
        )
        leaves = [restored.carried[name] for name in _numbered(like)]
        carried = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), leaves)
        measured = {name: np.asarray(values) for name, values in restored.measured.items()}
        for name, seal in self._seals(carried, measured).items():
            if notes[name] != seal:
                raise ValueError(f"its numbers are not those that were saved: {name} differ")
        return step, carried, measured, notes

    def _seals(self, carried: PyTree, measured: dict[str, Any]) -> dict[str, Any]:
        """What tells that the numbers read are the numbers written."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(measured):
            digest.update(np.ascontiguousarray(measured[name]).tobytes())
        return {
            "checksums": np.asarray(self._checksums(carried)).tolist(),
            "digest": digest.hexdigest(),
            "measured": {name: list(values.shape) for name, values in measured.items()},
        }


def checksums_of(x: PyTree) -> Array:
    """One number for each array, whatever devices it lies on: sum_i w_i (2 i + 1) mod 2^32 over its 32-bit words w_i.

    A change of any one word changes it, as 2 i + 1 is odd.
    """

    def of(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            leaf = jnp.stack([leaf.real, leaf.imag], -1)
        bits = 8 * min(leaf.dtype.itemsize, 4)
        words = leaf.astype(jnp.uint8) if leaf.dtype == jnp.bool_ else leaf
        words = jax.lax.bitcast_convert_type(words, f"uint{bits}").astype(jnp.uint32)
        place = jnp.zeros(words.shape, jnp.uint32)
        for axis, size in enumerate(words.shape):
            place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        return jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)

    leaves = jax.tree_util.tree_leaves(x)
    return jnp.stack([of(leaf) for leaf in leaves]) if leaves else jnp.zeros(0, jnp.uint32)


class _Different(Exception):
    """A checkpoint of another run."""


def _sealed(notes: dict[str, Any]) -> dict[str, Any]:
    return {"notes": notes, "digest": _digest(notes)}


def _unsealed(found: dict[str, Any]) -> dict[str, Any]:
    if found["digest"] != _digest(found["notes"]):
        raise ValueError("its notes are not those that were saved")
    return found["notes"]


def _digest(notes: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(notes, sort_keys=True).encode(), digest_size=16).hexdigest()


def _drop_what_failed() -> None:
    """Reads that orbax began in an event loop which it then closed complain when they are collected: quietly, now."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _told_by_us(record: logging.LogRecord) -> bool:
    """A filter of orbax's own records of errors that it raises as well: pages of its threads' frames."""
    return record.levelno < logging.ERROR or "orbax" not in record.pathname


def settings(params: PyTree, opt_state: PyTree, key: Key, batch_size: int, rest: dict[str, Any]) -> dict[Any, Any]:
    """What must not change between the two parts of a run, as JSON."""
    raw = jax.random.key_data(key) if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return {
        "batch_size": batch_size,
        "key": np.asarray(raw).tolist(),
        "params": _shapes(params),
        "optimizer": _shapes(opt_state),
        **rest,
    }


def size(x: PyTree) -> int:
    """Bytes of a checkpoint of these arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree_util.tree_leaves(x))


def _shapes(x: PyTree) -> list[str]:
    leaves = jax.tree_util.tree_leaves(x)
    return [f"{name}: {leaf.dtype}{list(leaf.shape)}" for name, leaf in zip(tree.path_names(x), leaves)]


def _numbered(x: PyTree) -> dict[str, jax.Array]:
    """The leaves by number: optax's states are named tuples, whose classes a checkpoint would lose."""
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree_util.tree_leaves(x))}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _writable(directory: Path, size: int) -> None:
    """Refuses a directory that cannot take a checkpoint, before any work is done."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise OSError(
            f"checkpoint_dir: expected a directory that can be written to, got {directory} ({error.strerror or error})"
        ) from error
    free = shutil.disk_usage(directory).free
    if free < size:
        raise OSError(
            f"checkpoint_dir: expected room for a checkpoint of {size / 2**20:.1f} MiB in {directory}, "
            f"got {free / 2**20:.1f} MiB free"
        )


def _orbax():
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(arguments.missing("orbax-checkpoint", "checkpoint_dir", "training")) from error
    return ocp
