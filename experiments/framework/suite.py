"""Running experiments: on several processes, those that measure times alone; what is finished is not run again."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

from experiments.framework import fingerprint, progress
from experiments.framework.journal import Journal
from experiments.framework.progress import Bar
from experiments.framework.registry import Experiment


@dataclass(frozen=True)
class Task:
    """An experiment and its settings: a config, or None for the preset's."""

    experiment: Experiment
    preset: str
    config: Any
    results: Path
    fresh: bool


@dataclass(frozen=True)
class Outcome:
    """verdict; kept: the result is there and need not be computed again; said: lines for the terminal."""

    verdict: bool
    kept: bool
    said: str


def run(tasks: Sequence[Task], jobs: int, bar: Bar, log: Journal) -> Iterator[Outcome]:
    """The outcomes, in the order in which they come.  One failure, or the death of a process, costs no other."""
    if jobs <= 1 or len(tasks) == 1:
        for task in tasks:
            log = log.begin(task.experiment.name)
            bar.begin(task.experiment.name)
            with progress.told_to(_teller(task, bar.part)):
                outcome = _execute(task)
            log = log.end(task.experiment.name, outcome.kept)
            bar.end(task.experiment.name)
            yield outcome
        return
    together = [task for task in tasks if not task.experiment.alone]
    alone = [task for task in tasks if task.experiment.alone]
    pool = _Pool(bar, log)
    yield from pool.run(together, jobs)
    yield from pool.run([*alone, *pool.broken], 1)
    pool.close()


def _teller(task: Task, tell: Callable[[str, str, int, int | None], None]) -> progress.Part:
    return lambda what, done, total: tell(task.experiment.name, what, done, total)


def _execute(task: Task) -> Outcome:
    """Runs an experiment in this process, unless its result is there already."""
    from experiments.framework import runner

    name, began, config = task.experiment.name, time.perf_counter(), task.config
    try:
        config = task.experiment.settings(task.preset) if config is None else config
        mark = fingerprint.of(task.experiment.path, config)
        entry = None if task.fresh else fingerprint.unchanged(task.results, name, mark)
        if entry is not None:
            words = f"{name}: {verdict_words(entry['verdict'])} (unchanged since {entry['finished']})"
            return Outcome(entry["verdict"], True, words)
        result = runner.run(task.experiment, config, task.results, mark, show=False)
    except Exception as error:  # one failure must not cost the others; it is shown and counted
        return _failed(task, config, error, began)
    lines = [f"{name}: {verdict_words(result.verdict)} ({time.perf_counter() - began:.1f} s)", f"  {result.claim}"]
    lines += [f"  {'ok ' if c.holds else 'NO '} {c.statement}: {c.measured}" for c in result.checks]
    return Outcome(result.verdict, True, "\n".join(lines))


def _failed(task: Task, config: Any, error: Exception, began: float) -> Outcome:
    from experiments.framework import runner

    runner.record_failure(task.experiment, config, task.results, error, began)
    return Outcome(False, False, f"{task.experiment.name}: FAILED, {type(error).__name__}: {error}")


def verdict_words(verdict: bool) -> str:
    return "borne out" if verdict else "NOT borne out"


class _Pool:
    """Processes that run experiments, as many at a time as asked."""

    def __init__(self, bar: Bar, log: Journal):
        self.bar, self.log = bar, log
        self.context = get_context("spawn")
        self.heard = self.context.SimpleQueue()
        self.broken: list[Task] = []  # those that ran when a process died: it is not known whose fault it was
        self.listener = Thread(target=self._listen, daemon=True)
        self.listener.start()

    def run(self, tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
        waiting, running = list(tasks), dict[Future, Task]()
        while waiting or running:
            with ProcessPoolExecutor(jobs, self.context, _begin_worker, (self.heard,)) as pool:
                try:
                    yield from self._run(pool, jobs, waiting, running)
                except BrokenProcessPool:
                    for task in running.values():
                        self.log = self.log.end(task.experiment.name, False)
                        self.bar.end(task.experiment.name)
                        if jobs > 1:
                            self.broken.append(task)
                        else:
                            yield _failed(
                                task, task.config, RuntimeError("the process that ran it died"), time.perf_counter()
                            )
                    running.clear()

    def _run(self, pool, jobs: int, waiting: list[Task], running: dict[Future, Task]) -> Iterator[Outcome]:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                running[pool.submit(_work, task)] = task
                self.log = self.log.begin(task.experiment.name)
                self.bar.begin(task.experiment.name)
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                name = running.pop(future).experiment.name
                self.log = self.log.end(name, outcome.kept)
                self.bar.end(name)
                yield outcome

    def close(self) -> None:
        self.heard.put(None)
        self.listener.join()

    def _listen(self) -> None:
        while (message := self.heard.get()) is not None:
            self.bar.part(*message)


_HEARD: list[Any] = []  # in a worker: the queue to the process that shows progress


def _begin_worker(heard: Any) -> None:
    _HEARD.append(heard)


def _work(task: Task) -> Outcome:
    import jax

    with progress.told_to(_teller(task, lambda *message: _HEARD[0].put(message))):
        outcome = _execute(task)
    jax.clear_caches()  # what an experiment compiled can be a gigabyte, and is no other's
    return outcome
