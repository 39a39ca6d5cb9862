"""What a run tells while it goes on: a bar, lines of JSON, TensorBoard's events, the user's callbacks."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from functional_dl.aliases import Params, PyTree


class Report(NamedTuple):
    """What a callback is given after each chunk of steps; if it returns True the run ends there."""

    step: int  # how many steps are done
    params: Params
    carry: PyTree
    history: dict[str, np.ndarray]  # of the chunk's steps
    evaluation: dict[str, float] | None  # if one was made after them


@contextmanager
def progress_bar(wanted: bool, done: int, total: int) -> Iterator[Any]:
    """Gives report(done, loss); it does nothing without a terminal or notebook, or without rich."""
    try:
        if not wanted or jax.process_index() > 0:
            raise ImportError
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text
    except ImportError:
        yield lambda done, loss: None
        return
    console = Console(stderr=True)
    if console.is_jupyter and not _has_widgets():  # where rich would warn
        yield _line(total)
        return

    class Rate(ProgressColumn):
        def render(self, task):
            return Text(f"{task.speed:.3g} steps/s" if task.speed else "")

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TextColumn("loss {task.fields[loss]:.4g}"),
        TimeRemainingColumn(),
    )
    seen = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not seen, refresh_per_second=4) as bar:
        task = bar.add_task("training", total=total, completed=done, loss=float("nan"))
        yield lambda done, loss: bar.update(task, completed=done, loss=loss)


def _has_widgets() -> bool:
    try:
        import ipywidgets  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def _line(total: int):
    began = time.monotonic()

    def report(done, loss):
        rate = done / max(time.monotonic() - began, 1e-9)
        end = "\n" if done == total else ""
        sys.stdout.write(f"\rtraining {done}/{total}, {rate:.3g} steps/s, loss {loss:.4g}{end}")
        sys.stdout.flush()

    return report


class Log:
    """A directory with `metrics.jsonl`, one line for every `every` steps and for each evaluation, and TensorBoard's
    events if tensorboardX is installed.  Lines of steps that a resumed run takes again are dropped first."""

    def __init__(self, directory: str | Path | None, done: int, every: int) -> None:
        self._file = self._events = None
        if directory is None or jax.process_index() > 0:
            return
        self._every, self._written = every, done
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        lines = path / "metrics.jsonl"
        kept = _lines_until(lines, done) if lines.exists() and done else []
        lines.write_text("".join(kept), encoding="utf-8")
        self._file = lines.open("a", encoding="utf-8")
        try:
            from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
        except ImportError:
            return
        self._events = SummaryWriter(str(path), purge_step=done or None)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: Any) -> None:
        for sink in (self._file, self._events):
            if sink is not None:
                sink.close()

    def steps(self, done: int, joined: dict[str, np.ndarray]) -> None:
        """The means over each `every` steps that are not written yet; the history `joined` ends with step `done`."""
        if self._file is None:
            return
        first = done - len(joined["loss"])  # the step of the history's first entry
        for end in range((self._written // self._every + 1) * self._every, done + 1, self._every):
            rows = slice(max(0, end - self._every - first), end - first)
            self._write(end, {name: float(np.mean(values[rows])) for name, values in joined.items()})
            self._written = end

    def evaluation(self, step: int, found: dict[str, float]) -> None:
        if self._file is not None:
            self._write(step, {f"evaluation/{name}": value for name, value in found.items()})

    def _write(self, step: int, values: dict[str, float]) -> None:
        assert self._file is not None
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)


def _lines_until(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            found = json.loads(line)
        except json.JSONDecodeError:  # cut short when the run was killed
            continue
        if found["step"] <= step:
            kept.append(line)
    return kept
