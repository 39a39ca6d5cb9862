"""`fit`: mini-batch training with an optax optimiser, compiled in chunks, with the host in between."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from functional_dl import arguments, tree
from functional_dl.aliases import Key, Params, PyTree, Scalar
from functional_dl.training import checkpoint, optimizers, step, validate
from functional_dl.training.parallel import Layout
from functional_dl.training.progress import progress_bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Fit:
    """The result of a training run.

    Attributes:
      params: the parameters at the end; after a stop, the last good ones: the newest at which the loss was
        finite.
      history: one NumPy array per quantity, one entry per step, taken before the step's update: "loss" on the
        step's batch and "grad_norm", the Euclidean norm of its gradient.  After a stop the last entry is the
        step that stopped it.
      opt_state: the optimiser's state that belongs to `params`.
      steps: how many updates `params` has seen.
      stopped: whether the run ended before its last step because a number was not finite.
      reason: None, or why it stopped and at which step (counted from 0).
    """

    params: Params
    history: dict[str, np.ndarray]
    opt_state: Any
    steps: int
    stopped: bool = False
    reason: str | None = None

    def __repr__(self) -> str:
        losses = self.history.get("loss", np.zeros(0))
        went = f"loss {losses[0]:.4g} -> {losses[-1]:.4g}" if len(losses) else "no loss"
        held = f"{len(jax.tree_util.tree_leaves(self.params))} arrays of {tree.size(self.params)} numbers"
        return f"Fit({self.steps} steps, {went}, params: {held}{f', stopped: {self.reason}' if self.stopped else ''})"


def fit(
    loss: Callable[..., Scalar],
    params: Params,
    data: PyTree,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int | None,
    key: Key,
    differentiate: Callable[..., Any] = jax.value_and_grad,
    mesh: jax.sharding.Mesh | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    report_every: int | None = None,
    checkpoint_every: int | None = None,
) -> Fit:
    """Trains `params` on mini-batches of `data`.

    Every epoch takes the examples in a fresh order, examples // batch_size batches of it; the remaining examples
    are skipped in that epoch.  Steps run compiled, `report_every` at a time; between these chunks the host checks
    that all numbers are finite, updates the progress bar and writes checkpoints.  A run is a pure function of its
    arguments: the same key gives the same bits, with or without interruption, bar and checkpoints.

    Args:
      loss: (params, batch) -> one real number, the mean over the batch's examples; or (params, batch, key) if
        it draws random numbers: a parameter named `key`, or a third one without default, gets a fresh PRNG
        key each step.
      params: initial parameters, a pytree of floating arrays.
      data: a pytree of arrays with one common leading axis of examples; a batch has the same structure.
      optimizer: an optax optimiser.
      steps: number of updates in all, those before a resumed checkpoint included.
      batch_size: examples per batch; None takes all examples, in their own order.
      key: PRNG key for the order of the data and for the loss.
      differentiate: fun -> (function to (value, gradient of the first argument)); jax.value_and_grad, or
        `functional_dl.reverse.value_and_grad`, or any other with that signature.
      mesh: data parallelism: the batch is split over all devices of the mesh, parameters and data are copied
        to each. The result equals that of one device to rounding.
      checkpoint_dir: where to keep checkpoints (needs orbax-checkpoint).
      resume: continue from the newest checkpoint in `checkpoint_dir`, if there is one.
      progress: show a bar (if rich is installed and the output is a terminal).
      report_every: steps per compiled chunk; by default a fiftieth of `steps`.
      checkpoint_every: steps between checkpoints, rounded up to whole chunks; by default a tenth of `steps`.
    Returns:
      Fit.  If a loss, gradient or updated parameter is not finite the run stops: `stopped` and `reason` say
      so, a warning is logged, and `params` are the last good ones.  No exception: what was learnt is kept.
    Raises:
      ValueError: data that is empty, ragged or not finite; params that are not finite; batch_size outside
        1..examples or not a multiple of the mesh's devices; an optimiser that ascends (negative learning rate); a
        checkpoint of another run, or checkpoints left by an earlier run where a fresh run starts.
      TypeError: arguments of the wrong kind; a loss that does not return one real number.
      ImportError: checkpoint_dir is given and orbax-checkpoint is not installed.
    """
    arguments.function("loss", loss)
    arguments.function("differentiate", differentiate)
    steps = arguments.integer("steps", steps, 0)
    params = validate.floating_params(params)
    validate.finite_params(params)
    examples = validate.common_length(data)
    validate.finite_data(data)
    batch_size = validate.batch_size(batch_size, examples)
    key = arguments.key("key", key)
    optimizers.check(optimizer, params)
    chunk = _every("report_every", report_every, steps, 50)
    checkpoint_every = _every("checkpoint_every", checkpoint_every, steps, 10)
    if resume and checkpoint_dir is None:
        raise ValueError("resume: expected a checkpoint_dir to resume from, got None")

    layout = Layout(mesh, batch_size)
    data, params = layout.replicate(jax.tree_util.tree_map(_strong, (data, params)))
    key = layout.replicate(key)
    batch = jax.eval_shape(lambda d: jax.tree_util.tree_map(lambda leaf: leaf[:batch_size], d), data)
    validate.scalar_loss(jax.eval_shape(step.with_key(loss), params, batch, key))
    run = _Run(_program(loss, optimizer, batch_size, differentiate, mesh, chunk), data, chunk)
    state = layout.replicate(step.start(params, optimizer, key, examples, batch_size))

    if checkpoint_dir is None:
        return run.to_the_end(state, run.no_history(state), steps, progress)
    settings = checkpoint.settings(params, state.opt_state, data, key, batch_size)
    with checkpoint.Checkpoints(checkpoint_dir, settings) as checkpoints:
        latest = checkpoints.latest_step()
        if latest is not None and not resume:
            raise ValueError(
                f"checkpoint_dir: expected no checkpoints in {checkpoint_dir} for a fresh run, got one at "
                f"step {latest}; pass resume=True to continue from it, or another directory"
            )
        history = run.no_history(state)
        if latest is not None:
            if latest > steps:
                raise ValueError(f"steps: expected at least the checkpoint's {latest}, got {steps}")
            dtypes = {name: values.dtype for name, values in history.items()}
            done, carried, history = checkpoints.restore((state.params, state.opt_state), dtypes)
            state = layout.replicate(step.start(carried[0], optimizer, key, examples, batch_size, done))
            state = state._replace(opt_state=carried[1])
        return run.to_the_end(state, history, steps, progress, checkpoints, checkpoint_every)


def _strong(leaf):
    """As a JAX array that is not weakly typed: else the first chunk would be compiled for another type."""
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _every(name: str, value, steps: int, parts: int) -> int:
    return max(1, -(-steps // parts)) if value is None else arguments.integer(name, value, 1)


def _program(*description):
    """The compiled chunk; the same for the same objects, so that a second run does not compile again."""
    try:
        return _remembered_program(*description)
    except TypeError:  # something that cannot be hashed
        return _new_program(*description)


def _new_program(loss, optimizer, batch_size: int, differentiate, mesh, chunk: int):
    """advance(state, data, length) -> (state, metrics in rows): `length` steps, at most `chunk`.

    The number of steps is an argument, so chunks of any length (the last one, the one after a resume, the one that
    is replayed after a NaN) are one program: that makes their bits equal by construction.
    """
    layout = Layout(mesh, batch_size)
    one_step = step.make_step(loss, optimizer, batch_size, differentiate=differentiate, place=layout.split)

    def advance(state, data, length):
        _, shapes = jax.eval_shape(one_step, state, data)
        rows = jax.tree_util.tree_map(lambda shape: jnp.zeros((chunk, *shape.shape), shape.dtype), shapes)

        def body(i, carry):
            state, rows = carry
            state, metrics = one_step(state, data)
            rows = jax.tree_util.tree_map(lambda row, value: row.at[i].set(value), rows, metrics)
            return layout.keep(state), rows

        return jax.lax.fori_loop(0, length, body, (state, rows))

    return jax.jit(advance)


_remembered_program = lru_cache(maxsize=8)(_new_program)


class _Run:
    """The host's side of a run: chunks of compiled steps, and what happens between them."""

    def __init__(self, program: Any, data: PyTree, chunk: int) -> None:
        self._program, self._data, self._chunk = program, data, chunk

    def advance(self, state: Any, length: int) -> Any:
        state, rows = self._program(state, self._data, jnp.asarray(length, jnp.int32))
        return state, {name: np.asarray(row)[:length] for name, row in rows.items()}

    def no_history(self, state: Any) -> dict[str, np.ndarray]:
        _, shapes = jax.eval_shape(self._program, state, self._data, jnp.asarray(0, jnp.int32))
        return {name: np.zeros((0,), shape.dtype) for name, shape in shapes.items() if name != "finite"}

    def to_the_end(
        self, state: Any, history: Any, steps: Any, progress: Any, checkpoints: Any = None, checkpoint_every: Any = 1
    ) -> Fit:
        done = saved = int(state.step)
        parts = [history]
        before = None  # the chunk before this one: (its first state, its length)

        def save():
            nonlocal saved
            if checkpoints is not None and done > saved:
                checkpoints.save(done, (state.params, state.opt_state), _joined(parts))
                saved = done

        with progress_bar(progress, done, steps) as report:
            try:
                while done < steps:
                    length = min(self._chunk, steps - done)
                    after, rows = self.advance(state, length)
                    finite = rows.pop("finite") & np.isfinite(rows["loss"])
                    if not finite.all():
                        bad = int(np.argmin(finite))
                        parts.append({name: row[: bad + 1] for name, row in rows.items()})
                        return self._stopped(before, state, bad, _joined(parts))
                    parts.append(rows)
                    before, state, done = (state, length), after, done + length
                    report(done, float(rows["loss"][-1]))
                    if done - saved >= checkpoint_every:
                        save()
            except KeyboardInterrupt:
                save()
                raise
            save()
        return Fit(state.params, _joined(parts), state.opt_state, done)

    def _stopped(self, before, state, bad: int, history) -> Fit:
        """The run up to the last parameters with a finite loss, found by replaying the chunk up to there."""
        at, value = int(state.step) + bad, float(history["loss"][-1])
        if np.isfinite(value):
            reason, updates = f"the gradient or the updated parameters are not finite at step {at}", bad
        else:
            reason, updates = f"the loss is {value} at step {at}", bad - 1
        if updates < 0 and before is not None:  # the last finite loss was the last step of the chunk before
            state, updates = before[0], before[1] - 1
        # updates < 0 with nothing before: the first loss of the run (or after a resume) is not finite, and
        # the parameters it began with are all there is
        good, _ = self.advance(state, max(updates, 0))
        kept = int(good.step)
        reason += f" (steps counted from 0); kept the parameters after {kept} updates, the last with a finite loss"
        logger.warning("training stopped: %s", reason)
        return Fit(good.params, history, good.opt_state, kept, stopped=True, reason=reason)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    parts[:] = [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}]
    return dict(parts[0])
