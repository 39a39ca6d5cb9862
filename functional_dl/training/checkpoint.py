"""Checkpoints of a run through orbax: saved whole or not at all, restored bitwise."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from functional_dl import arguments, tree
from functional_dl.aliases import Key, PyTree


class Checkpoints:
    """The checkpoints of one run in one directory; the two newest are kept.

    Each holds the parameters, the optimiser's state, the history so far, and the settings that must be the
    same for a run to go on bitwise as if it had never stopped: key, batch size, shapes (the optimiser's state
    shows its kind) and a digest of the data.
    """

    def __init__(self, directory: str | Path, settings: dict[Any, Any]) -> None:
        self._ocp = _orbax()
        self._settings = settings
        self._directory = Path(directory).absolute()
        options = self._ocp.CheckpointManagerOptions(
            max_to_keep=2, create=True, enable_async_checkpointing=False, step_prefix="step"
        )
        self._manager = self._ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, step: int, carried: PyTree, history: dict[str, np.ndarray]) -> None:
        if self._manager.latest_step() == step:
            return
        args = self._ocp.args
        self._manager.save(
            step,
            args=args.Composite(
                carried=args.StandardSave(_numbered(carried)),
                history=args.StandardSave(history),
                settings=args.JsonSave(self._settings),
            ),
        )
        self._manager.wait_until_finished()

    def restore(self, like: PyTree, history_like: dict[Any, Any]) -> tuple[int, PyTree, dict[str, np.ndarray]]:
        """(step, carried, history) of the newest checkpoint; carried is structured and placed as `like`."""
        step, args = self._manager.latest_step(), self._ocp.args
        if step is None:
            raise FileNotFoundError(f"checkpoint_dir: expected a checkpoint in {self._directory}, found none")
        saved = self._manager.restore(step, args=args.Composite(settings=args.JsonRestore())).settings
        for name, value in self._settings.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"resume: the checkpoint at step {step} in {self._directory} was made with "
                    f"{name} = {saved.get(name)!r}, this run has {name} = {value!r}"
                )
        abstract = jax.tree_util.tree_map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), _numbered(like)
        )
        empty = {name: np.empty((step,), dtype) for name, dtype in history_like.items()}
        restored = self._manager.restore(
            step,
            args=args.Composite(carried=args.StandardRestore(abstract), history=args.StandardRestore(empty)),
        )
        leaves = [restored.carried[name] for name in _numbered(like)]
        carried = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), leaves)
        return step, carried, {name: np.asarray(values) for name, values in restored.history.items()}


def settings(params: PyTree, opt_state: PyTree, data: PyTree, key: Key, batch_size: int) -> dict[Any, Any]:
    """What must not change between the two parts of a run, as JSON."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree_util.tree_leaves(data):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    raw = jax.random.key_data(key) if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return {
        "batch_size": batch_size,
        "key": np.asarray(raw).tolist(),
        "params": _shapes(params),
        "optimizer": _shapes(opt_state),
        "data": _shapes(data),
        "data_digest": digest.hexdigest(),
    }


def _shapes(x: PyTree) -> list[str]:
    leaves = jax.tree_util.tree_leaves(x)
    return [f"{name}: {leaf.dtype}{list(leaf.shape)}" for name, leaf in zip(tree.path_names(x), leaves)]


def _numbered(x: PyTree) -> dict[str, jax.Array]:
    """The leaves by number: optax's states are named tuples, whose classes a checkpoint would lose."""
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree_util.tree_leaves(x))}


def _orbax():
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(arguments.missing("orbax-checkpoint", "checkpoint_dir", "training")) from error
    return ocp
