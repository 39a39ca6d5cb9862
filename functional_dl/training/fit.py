"""`fit`: mini-batch training with an optax optimiser, compiled in chunks, with the host in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from functional_dl import arguments, tree
from functional_dl.aliases import Key, Params, PyTree
from functional_dl.training import batches, checkpoint, mixed, optimizers, sources, step, validate
from functional_dl.training.evaluation import Best, EarlyStopping, Evaluations
from functional_dl.training.layout import WHOLE, Layout, Placement, mesh_of
from functional_dl.training.loop import Done, Options, Run, program
from functional_dl.training.reports import Log, Report, progress_bar


@dataclass(frozen=True, repr=False)
class Fit:
    """The result of a training run.

    Attributes:
      params: the parameters at the end; after a stop at a bad number, the last good ones: the newest at which the loss
        was finite.
      history: one NumPy array per quantity, one entry per step, taken before the step's update: "loss" on the
        step's batch and "grad_norm", the Euclidean norm of its gradient; in float16 "loss_scale".  After a stop the
        last entry is the step that stopped it.
      opt_state: the optimiser's state that belongs to `params`.
      steps: how many updates `params` has seen.
      stopped: whether the run ended before its last step.
      reason: None, or why it stopped and at which step (counted from 0).
      carry: what the loss carries, after the last step.
      average: the moving average of the parameters, if one was asked for.
      evaluations: "step" and each metric of `evaluate`, one entry per evaluation.
      best: with `early_stopping`, the best evaluated parameters.
    """

    params: Params
    history: dict[str, np.ndarray]
    opt_state: Any
    steps: int
    stopped: bool = False
    reason: str | None = None
    carry: PyTree = None
    average: Params | None = None
    evaluations: dict[str, np.ndarray] = field(default_factory=dict)
    best: Best | None = None

    def __repr__(self) -> str:
        losses = self.history.get("loss", np.zeros(0))
        went = f"loss {losses[0]:.4g} -> {losses[-1]:.4g}" if len(losses) else "no loss"
        held = f"{len(jax.tree_util.tree_leaves(self.params))} arrays of {tree.size(self.params)} numbers"
        return f"Fit({self.steps} steps, {went}, params: {held}{f', stopped: {self.reason}' if self.stopped else ''})"


def fit(
    loss: Callable[..., Any],
    params: Params,
    data: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int | None,
    key: Key,
    carry: PyTree = None,
    differentiate: Callable[..., Any] = jax.value_and_grad,
    micro_batches: int = 1,
    precision: mixed.Precision | None = None,
    average: float | None = None,
    evaluate: Callable[..., dict[str, Any]] | None = None,
    evaluate_every: int | None = None,
    early_stopping: EarlyStopping | None = None,
    callbacks: Sequence[Callable[[Report], Any]] = (),
    mesh: jax.sharding.Mesh | None = None,
    placement: Placement = "replicated",
    batch_axes: str | Sequence[str] | None = None,
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    keep: int = 2,
    log_dir: str | Path | None = None,
    progress: bool = True,
    report_every: int | None = None,
    checkpoint_every: int | None = None,
) -> Fit:
    """Trains `params` on mini-batches of `data`.

        theta_{t+1} = theta_t + optimizer(grad J_{B_t}(theta_t)),    t = 0, ..., steps - 1.

    Arrays are drawn from in epochs: each takes the examples in a fresh order, examples // batch_size batches of it; the
    remaining examples are skipped in that epoch.  Steps run compiled, many at a time; between these chunks the host
    checks that all numbers are finite, takes the next batches to the device, evaluates, reports and writes checkpoints.
    A run is a pure function of its arguments: the same key gives the same bits, with or without interruption, bar,
    reports and checkpoints.

    Args:
      loss: (params, batch) -> one real number, the mean over the batch's examples; or (params, batch, key) if
        it draws random numbers: a parameter named `key`, or one more without default, gets a fresh PRNG
        key each step.  With a `carry` it is (params, carry, batch[, key]) -> (number, carry).
      params: initial parameters, a pytree of floating arrays.
      data: a pytree of arrays with one common leading axis of examples, a batch has the same structure; or an iterable
        of batches (a grain dataset or loader, any object that can be iterated over again), or a function from an
        epoch's number to one.  Of an iterator's state, if it has `get_state` and `set_state`, checkpoints keep a copy.
      optimizer: an optax optimiser, with a schedule, clipping and whatever else `optax.chain` puts together.
      steps: number of updates in all, those before a resumed checkpoint included.
      batch_size: examples per batch; None takes all examples, in their own order, or an iterable's batches as they are.
      key: PRNG key for the order of the data and for the loss.
      carry: what the loss is given beside the parameters and returns anew, such as the moments of batch norms.
      differentiate: fun -> (function to (value, gradient of the first argument)); jax.value_and_grad, or
        `functional_dl.reverse.value_and_grad`, or any other with that signature (with a carry: and has_aux=).
      micro_batches: the gradient is the mean of those of so many parts of the batch, one after the other.
      precision: "bfloat16" or "float16": the loss is computed in it, from copies of parameters and batch; parameters,
        gradients and updates keep their dtype.  In float16 the loss is scaled, see `training.mixed.Scale`.
      average: decay of an exponential moving average of the parameters, which is then what is evaluated.
      evaluate: (params) -> {name: number}, or (params, carry) with a carry; before the first step, every
        `evaluate_every` steps (a tenth of `steps` by default) and after the last.
      early_stopping: see `EarlyStopping`.
      callbacks: each is given a `Report` after each chunk of steps, and ends the run by returning True.
      mesh: devices, with Auto or Explicit axes: each is given its part of each batch; the result equals that of one
        device to rounding.  By default the mesh with Explicit axes that params or data lie on.
      placement: how parameters lie on the mesh, and the optimiser's state with them: "replicated", "fully_sharded"
        (each array split along its longest axis that the devices divide), a pytree of PartitionSpecs, or a function
        (path, array) -> PartitionSpec.
      batch_axes: the mesh axes that split the batch; all of them, or those that a pytree `placement` does not name.
      checkpoint_dir: where to keep checkpoints (needs orbax-checkpoint).  Ctrl-C and SIGTERM then save first.
      resume: continue from the newest whole checkpoint in `checkpoint_dir`, if there is one.
      keep: how many checkpoints stay.
      log_dir: where to write metrics.jsonl, and TensorBoard's events if tensorboardX is installed.
      progress: show a bar (if rich is installed and the output is a terminal or a notebook).
      report_every: steps per compiled chunk; by default a fiftieth of `steps`, or what two seconds are enough for.
      checkpoint_every: steps between checkpoints, rounded up to whole chunks; by default a tenth of `steps`.
    Returns:
      Fit.  If a loss, gradient or updated parameter is not finite the run stops: `stopped` and `reason` say
      so, a warning is logged, and `params` are the last good ones.  No exception: what was learnt is kept.
    Raises:
      ValueError: data that is empty, ragged or not finite, or an iterable that ends early or changes shape; params that
        are not finite; batch_size outside 1..examples or not a multiple of micro_batches and the mesh's devices; an
        axis that the mesh has not; an optimiser that ascends (negative learning rate) or whose schedule ends
        before the run; a checkpoint of another run, or
        checkpoints left by an earlier run where a fresh run starts.
      TypeError: arguments of the wrong kind; a loss that does not return one real number.
      OSError: checkpoint_dir cannot be written to, or is full.
      ImportError: checkpoint_dir is given and orbax-checkpoint is not installed.
    Example:
      >>> x = jnp.linspace(-1.0, 1.0, 64)
      >>> loss = lambda w, batch: jnp.mean((batch[0] * w - batch[1]) ** 2)
      >>> fit = training.fit(
      ...     loss,
      ...     jnp.array(0.0),
      ...     (x, 3 * x),
      ...     optax.adam(0.1),
      ...     steps=200,
      ...     batch_size=32,
      ...     key=jax.random.key(0),
      ...     progress=False,
      ... )
      >>> fit.steps, round(float(fit.params), 2)
      (200, 3.0)
    """
    arguments.function("loss", loss)
    arguments.function("differentiate", differentiate)
    steps = arguments.integer("steps", steps, 0)
    params = validate.floating_params(params)
    validate.finite_params(params)
    key = arguments.key("key", key)
    optimizers.check(optimizer, params, steps)
    for name, value in (("micro_batches", micro_batches), ("keep", keep)):
        arguments.integer(name, value)
    mixed.checked(precision)
    if average is not None and not 0 <= arguments.number("average", average) < 1:
        raise ValueError(f"average: expected None or a decay in [0, 1), got {average}")
    for callback in callbacks:
        arguments.function("callbacks", callback)
    if resume and checkpoint_dir is None:
        raise ValueError("resume: expected a checkpoint_dir to resume from, got None")
    evaluations = Evaluations(evaluate, _every("evaluate_every", evaluate_every, steps, 10), early_stopping)
    chunk = _every("report_every", report_every, steps, 50)
    checkpoint_every = _every("checkpoint_every", checkpoint_every, steps, 10)

    arrays = None if sources.streams(data) else data
    layout = Layout(mesh or mesh_of(params, carry, arrays), placement, batch_axes)
    source = sources.source_of(data, batch_size, key, layout, micro_batches)
    if report_every is None and source.longest is not None:
        chunk = min(chunk, source.longest)
    params, carry = jax.tree_util.tree_map(_strong, (params, carry))
    options = Options(
        differentiate, source.batch_size, micro_batches, precision, average, source.examples is not None, chunk
    )
    advance = program(loss, optimizer, options, layout)
    types = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (params, carry, source.batch))
    advance.admit(types, lambda types: _checked_loss(loss, types, key, layout, micro_batches))
    state = step.start(
        params, optimizer, key, source.examples, source.batch_size, carry=carry, precision=precision, average=average
    )
    specs = None if layout.mesh is None else layout.state_specs(state)
    state = layout.placed(state, specs)
    run = Run(advance, source, layout, chunk, report_every is None, evaluations, tuple(callbacks))
    history = run.no_history(state, source.take(0, 0, chunk).data)

    def finish(state, history, checkpoints=None):
        done = int(np.asarray(state.step))
        lines = Log(log_dir, done, _every("report_every", report_every, steps, 50))
        with lines as log, progress_bar(progress, done, steps) as report:
            end = run.to_the_end(state, history, steps, report, log, checkpoints, checkpoint_every)
        return _fit(end, evaluations)

    if checkpoint_dir is None:
        return finish(state, history)
    settings = checkpoint.settings(params, state.opt_state, key, source.batch_size, source.description())
    settings |= {"processes": jax.process_count(), "carry": tree.path_names(carry), "average": average}
    settings |= {"precision": precision, "micro_batches": micro_batches}
    needed = checkpoint.size(state._replace(step=None, key=None, order=None))
    with checkpoint.Checkpoints(checkpoint_dir, settings, keep, needed, run.checksums) as checkpoints:
        there = checkpoints.steps()
        if there and not resume:
            raise ValueError(
                f"checkpoint_dir: expected no checkpoints in {checkpoint_dir} for a fresh run, got one at "
                f"step {there[0]}; pass resume=True to continue from it, or another directory"
            )
        if there:
            if there[0] > steps:
                raise ValueError(f"steps: expected at least the checkpoint's {there[0]}, got {steps}")
            kinds = {f"history/{name}": values.dtype for name, values in history.items()} | {
                "evaluation/step": np.dtype(np.int64)
            }
            best = state.params if evaluations.watches else None
            empty = state._replace(step=None, key=None, order=None)
            done, (carried, best), measured, notes = checkpoints.restore((empty, best), kinds)
            order = (
                None if source.examples is None else batches.order_before(key, done, source.examples, source.batch_size)
            )
            state = carried._replace(
                step=layout.placed(jnp.asarray(done, jnp.int32), WHOLE), key=state.key, order=order
            )
            history = _named(measured, "history/")
            evaluations.go_to(notes, _named(measured, "evaluation/"), best)
            position = notes["position"][jax.process_index()]
            source.go_to(position)
            run.position = position
        return finish(state, history, checkpoints)


def _fit(end: Done, evaluations: Evaluations) -> Fit:
    state = end.state
    return Fit(
        state.params,
        end.history,
        state.opt_state,
        end.steps,
        end.reason is not None,
        end.reason,
        state.carry,
        state.average,
        evaluations.found,
        evaluations.best,
    )


def _checked_loss(loss, types, key, layout: Layout, micro_batches: int) -> None:
    """The loss returns one real number (and what it carries), as its shapes tell."""
    params, carry, batch = types
    small = jax.tree.map(lambda t: jax.ShapeDtypeStruct((t.shape[0] // micro_batches, *t.shape[1:]), t.dtype), batch)
    carried = carry is not None
    keyed = step.with_key(loss, carried)
    with layout.current():
        found = jax.eval_shape(keyed, params, *((carry,) if carried else ()), small, key)
    if not carried:
        validate.scalar_loss(found)
        return
    if not (isinstance(found, tuple) and len(found) == 2):
        raise TypeError(f"loss: expected a function to (number, carry), as a carry is given, it returns {found}")
    validate.scalar_loss(found[0])
    validate.same_carry(carry, found[1])


def _strong(leaf):
    """As a JAX array that is not weakly typed: else the first chunk would be compiled for another type."""
    return jnp.asarray(leaf, jnp.result_type(leaf))


def _every(name: str, value, steps: int, parts: int) -> int:
    return max(1, -(-steps // parts)) if value is None else arguments.integer(name, value, 1)


def _named(measured: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in measured.items() if name.startswith(prefix)}
