"""A progress bar, if rich is installed and somebody watches; otherwise nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(wanted: bool, done: int, total: int) -> Iterator[Any]:
    """Gives report(done, loss); it does nothing without a terminal or without rich."""
    try:
        if not wanted:
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda done, loss: None
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4g}"),
        TimeRemainingColumn(),
    )
    seen = console.is_terminal or console.is_jupyter
    with Progress(*columns, console=console, disable=not seen) as bar:
        task = bar.add_task("training", total=total, completed=done, loss=float("nan"))
        yield lambda done, loss: bar.update(task, completed=done, loss=loss)
