"""What the terminal shows: lines, and a bar if rich is installed and somebody watches."""

import sys
from contextlib import contextmanager


@contextmanager
def suite_bar(total: int):
    """Gives (say, begin, advance): print a line, name the running experiment, count it as done."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield _say, lambda name: None, lambda: None
        return
    console = Console()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)

        def say(text: str) -> None:
            if console.is_terminal:
                console.print(text, markup=False, highlight=False)
            else:
                _say(text)

        yield say, lambda name: bar.update(task, description=name), lambda: bar.advance(task)


def _say(text: str) -> None:
    print(text)
    sys.stdout.flush()
