"""The host's side of a run: chunks of compiled steps, and what happens between them."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import PyTree
from functional_dl.jaxprs import primitive_names
from functional_dl.training import sources, step
from functional_dl.training.checkpoint import Checkpoints, checksums_of
from functional_dl.training.evaluation import Evaluations
from functional_dl.training.interrupt import Interruptions
from functional_dl.training.layout import WHOLE, Layout
from functional_dl.training.reports import Log, Report

logger = logging.getLogger(__name__)

SECONDS = 2.0  # what a chunk may last if its length is not given: so long do Ctrl-C and the bar wait
FAILED = -1  # what a process tells the others if it has no data for the next steps


class Options(NamedTuple):
    """What a compiled chunk depends on beside the loss and the optimiser; hashable."""

    differentiate: Callable[..., Any]
    batch_size: int
    micro_batches: int
    precision: Any
    average: float | None
    on_device: bool  # whether the steps draw their batches from all examples
    chunk: int


def program(loss: Any, optimizer: Any, options: Options, layout: Layout) -> Any:
    """The compiled chunk; the same for the same objects, so that a second run does not compile again."""
    try:
        return _remembered_program(loss, optimizer, options, layout)
    except TypeError:  # something that cannot be hashed
        return _new_program(loss, optimizer, options, layout)


def _new_program(loss, optimizer, options: Options, layout: Layout):
    chunk = options.chunk
    how: dict[str, Any] = dict(
        differentiate=options.differentiate,
        micro_batches=options.micro_batches,
        precision=options.precision,
        average=options.average,
    )
    if options.on_device:
        drawn = step.make_step(loss, optimizer, options.batch_size, **how)
        one_step = lambda state, data, i: drawn(state, data)
    else:
        update = step.make_update(loss, optimizer, layout=layout, **how)
        one_step = lambda state, data, i: update(state, sources.row(data, i))

    return _Chunk(one_step, chunk)


class _Chunk:
    """chunk(state, data, length) -> (state, metrics in rows): `length` steps, at most `chunk`.

    The number of steps is no part of what is compiled, so chunks of any length (the last one, the one after a resume,
    the one that is replayed after a NaN) are one program: that makes their bits equal by construction.

    The steps are one compiled loop; but on a CPU, where a convolution within a loop takes some four times as long as
    outside of one, each is called by itself.
    """

    def __init__(self, one_step: Callable[..., Any], chunk: int) -> None:
        self._one_step, self._chunk = one_step, chunk
        self._loop, self._single = jax.jit(self._looped), jax.jit(one_step)
        self._by_itself: bool | None = None
        self._passed: set[Any] = set()

    def admit(self, types: PyTree, check: Callable[[PyTree], None]) -> None:
        """Calls check(types), unless types like these have passed."""
        leaves, structure = jax.tree_util.tree_flatten(types)
        signature = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if signature not in self._passed:
            check(types)
            self._passed.add(signature)

    def metrics(self, state: Any, data: Any) -> Any:
        """The shapes of what a step measures."""
        return jax.eval_shape(self._single, state, data, jnp.asarray(0, jnp.int32))[1]

    def _looped(self, state, data, length):
        shapes = self.metrics(state, data)
        rows = jax.tree_util.tree_map(lambda shape: jnp.zeros((self._chunk, *shape.shape), shape.dtype), shapes)

        def body(i, carry):
            state, rows = carry
            state, metrics = self._one_step(state, data, i)
            return state, jax.tree_util.tree_map(lambda row, value: row.at[i].set(value), rows, metrics)

        return jax.lax.fori_loop(0, length, body, (state, rows))

    def _convolves(self, state, data) -> bool:
        traced = jax.make_jaxpr(self._one_step)(state, data, jnp.asarray(0, jnp.int32))
        return "conv_general_dilated" in primitive_names(traced)

    def __call__(self, state, data, length):
        if self._by_itself is None:
            self._by_itself = jax.default_backend() == "cpu" and self._convolves(state, data)
        if not self._by_itself:
            return self._loop(state, data, jnp.asarray(length, jnp.int32))
        rows = []
        for i in range(length):
            state, metrics = self._single(state, data, np.int32(i))
            rows.append(metrics)
        names = rows[0] if rows else self.metrics(state, data)
        return state, {name: [row[name] for row in rows] for name in names}


_remembered_program = lru_cache(maxsize=8)(_new_program)


class Ahead(NamedTuple):
    """The next chunk of steps: its length and its data, or why there are none."""

    length: int
    taken: sources.Taken | None
    error: Exception | None = None


class Done(NamedTuple):
    """Where a run ended."""

    state: step.State
    history: dict[str, np.ndarray]
    steps: int
    reason: str | None


class Run:
    """A run on its way from step to step."""

    def __init__(
        self,
        advance: Any,
        source: sources.Source,
        layout: Layout,
        chunk: int,
        timed: bool,
        evaluations: Evaluations,
        callbacks: Sequence[Callable[[Report], Any]],
    ) -> None:
        self._program, self._source, self._layout, self._chunk = advance, source, layout, chunk
        self._timed = timed and jax.process_count() == 1  # processes have to take chunks of one length
        self._evaluations, self._callbacks = evaluations, callbacks
        self._step_seconds = 0.0
        self.position: Any = None  # where the data stood after the last step

    def no_history(self, state: Any, data: Any) -> dict[str, np.ndarray]:
        with self._layout.current():
            shapes = self._program.metrics(state, data)
        return {name: np.zeros((0,), shape.dtype) for name, shape in shapes.items() if name != "finite"}

    def advance(self, state: Any, data: PyTree, length: int) -> Any:
        """`length` steps, begun but perhaps not finished."""
        with self._layout.current():
            return self._program(state, data, length)

    def checksums(self, carried: PyTree) -> Any:
        """See `checkpoint.checksums_of`."""
        with self._layout.current():
            return jax.jit(self._layout.freely(checksums_of, lambda _: WHOLE))(carried)

    def _ahead(self, done: int, steps: int) -> Ahead | None:
        """What the steps after `done` need, made while those before them are computed."""
        if done >= steps:
            return None
        length = min(self._chunk, steps - done)
        if self._timed:
            fitting = math.floor(SECONDS / self._step_seconds) if self._step_seconds else 8
            length = max(1, min(length, fitting))
        stop = self._evaluations.next_after(done)
        length = length if stop is None else min(length, stop - done)
        try:
            return Ahead(length, self._source.take(done, length, self._chunk))
        except Exception as error:  # it is told when these steps are due, and what was done until then is kept
            return Ahead(length, None, error)

    def to_the_end(
        self,
        state: step.State,
        history: dict[str, np.ndarray],
        steps: int,
        report: Callable[[int, float], None],
        log: Log,
        checkpoints: Checkpoints | None,
        checkpoint_every: int,
    ) -> Done:
        done = saved = int(np.asarray(state.step))
        parts, reason = [history], None
        before = None  # the chunk before this one: (its first state, its data, its length)

        def save():
            nonlocal saved
            if checkpoints is not None and done > saved:
                evaluations, best = self._evaluations, self._evaluations.best
                measured = {f"history/{name}": values for name, values in _joined(parts).items()}
                measured |= {f"evaluation/{name}": values for name, values in evaluations.found.items()}
                carried = state._replace(step=None, key=None, order=None), None if best is None else best.params
                notes = {"position": every_process(self.position), **evaluations.notes()}
                saved = done  # once only, should it fail
                checkpoints.save(done, carried, measured, notes)

        def evaluate(last=False):
            if not self._evaluations.due(done, last):
                return None, None
            judged = state.params if state.average is None else state.average
            with self._layout.current():
                found, reason = self._evaluations.make(done, judged, state.carry)
            log.evaluation(done, found)
            return found, reason

        with Interruptions(checkpoints is not None) as interruptions:
            try:
                evaluate(last=done >= steps)
                reason = self._evaluations.ended()  # perhaps before this run was resumed
                ahead = self._ahead(done, steps)
                while ahead is not None and reason is None:
                    self._agree(ahead, interruptions)
                    if interruptions.noted is not None:
                        save()
                        if checkpoints is not None:
                            checkpoints.wait()
                        interruptions.act()
                    began, (length, taken, missing) = time.perf_counter(), ahead
                    if taken is None:
                        assert missing is not None
                        raise missing
                    running = self.advance(state, taken.data, length)
                    ahead = self._ahead(done + length, steps)
                    after, rows = running[0], _fetched(running[1], length)
                    if self._step_seconds or not self._timed:
                        self._step_seconds = (time.perf_counter() - began) / length
                    else:  # the first call compiled; the next tells the time
                        self._step_seconds = SECONDS / 8
                    finite = rows.pop("finite") & np.isfinite(rows["loss"])
                    if not finite.all():
                        bad = int(np.argmin(finite))
                        parts.append({name: row[: bad + 1] for name, row in rows.items()})
                        return self._stopped(before, (state, taken.data, length), bad, _joined(parts))
                    parts.append(rows)
                    before, state, done = (state, taken.data, length), after, done + length
                    self.position = taken.position
                    report(done, float(rows["loss"][-1]))
                    log.steps(done, _joined(parts))
                    found, reason = evaluate(last=done >= steps)
                    told = Report(done, state.params, state.carry, rows, found)
                    if any([callback(told) is True for callback in self._callbacks]) and reason is None:
                        reason = f"a callback ended the run at step {done}"
                    if done - saved >= checkpoint_every:
                        save()
            except BaseException as error:
                try:
                    save()
                    if checkpoints is not None and not isinstance(error, OSError):
                        checkpoints.wait()
                except Exception as unsaved:
                    logger.warning("what was done could not be saved: %s", unsaved)
                raise
            save()
            if checkpoints is not None:
                checkpoints.wait()
        return Done(state, _joined(parts), done, reason)

    def _agree(self, ahead: Ahead, interruptions: Interruptions) -> None:
        """Every process learns of a signal or of missing data of any: all of them end at the same step."""
        if jax.process_count() == 1:
            return
        own = FAILED if ahead.error is not None else interruptions.noted or 0
        codes = [int(code) for code in every_process(own)]
        if FAILED in codes and own != FAILED:
            raise RuntimeError(f"data: process {codes.index(FAILED)} of {len(codes)} has no batch for the next steps")
        interruptions.noted = next((code for code in codes if code > 0), None)

    def _stopped(self, before, current, bad: int, history) -> Done:
        """The run up to the last parameters with a finite loss, found by replaying the chunk up to there."""
        state, data, _ = current
        at, value = int(np.asarray(state.step)) + bad, float(history["loss"][-1])
        if np.isfinite(value):
            reason, updates = f"the gradient or the updated parameters are not finite at step {at}", bad
        else:
            reason, updates = f"the loss is {value} at step {at}", bad - 1
        if updates < 0 and before is not None:  # the last finite loss was the last step of the chunk before
            state, data, updates = before[0], before[1], before[2] - 1
        # updates < 0 with nothing before: the first loss of the run (or after a resume) is not finite, and
        # the parameters it began with are all there is
        good, _ = self.advance(state, data, max(updates, 0))
        kept = int(np.asarray(good.step))
        reason += f" (steps counted from 0); kept the parameters after {kept} updates, the last with a finite loss"
        logger.warning("training stopped: %s", reason)
        return Done(good, history, kept, reason)


def every_process(value: Any) -> list[Any]:
    """A JSON value of each process, by its number."""
    if jax.process_count() == 1:
        return [value]
    import json

    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
    padded = np.zeros(longest + 1, np.uint8)
    padded[: len(text)] = text
    rows = np.asarray(multihost_utils.process_allgather(padded)).reshape(jax.process_count(), -1)
    return [json.loads(bytes(row).split(b"\0")[0]) for row in rows]


def _fetched(rows: dict[str, Any], length: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(jax.device_get(row))[:length] for name, row in rows.items()}


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    parts[:] = [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}]
    return dict(parts[0])
