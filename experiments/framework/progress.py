"""What the terminal shows while experiments run: which ones of how many, and how far each is.

An experiment says how far it is by `for x in over(things, "what")`; where nobody watches nothing is shown.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Part = Callable[[str, int, int | None], None]  # what, done, total

_PART: ContextVar[Part | None] = ContextVar("part", default=None)


def over(things: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The things, one after the other; the bar shows which one of how many is in work.

    Args:
      what: in a word or two, in the plural: "activations".
      total: how many; len(things) without it, or unknown.
    """
    if total is None:
        total = len(things) if isinstance(things, Sized) else None
    for done, thing in enumerate(things):
        part(what, done, total)
        yield thing
    part("", 0, None)


def part(what: str, done: int = 0, total: int | None = None) -> None:
    """Says what is in work: a word or two, and how much of it is done."""
    tell = _PART.get()
    if tell is not None:
        tell(what, done, total)


@contextmanager
def told_to(tell: Part | None) -> Iterator[None]:
    """Within it, what experiments say of their progress goes to `tell`."""
    token = _PART.set(tell)
    try:
        yield
    finally:
        _PART.reset(token)


@dataclass(frozen=True)
class Bar:
    """say(line); begin(experiment) and end(experiment); part(experiment, what, done, total)."""

    say: Callable[[str], None]
    begin: Callable[[str], None]
    end: Callable[[str], None]
    part: Callable[[str, str, int, int | None], None]


@contextmanager
def bar(total: int) -> Iterator[Bar]:
    """A bar over `total` experiments, if rich is installed and somebody watches; else lines alone."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield _PLAIN
        return
    console = Console()
    if not console.is_terminal:
        yield _PLAIN
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        suite = progress.add_task("experiments", total=total, visible=total > 1)
        tasks = {}

        def begin(name: str) -> None:
            tasks[name] = progress.add_task(name, total=None)

        def end(name: str) -> None:
            progress.remove_task(tasks.pop(name))
            progress.advance(suite)

        def part(name: str, what: str, done: int, total: int | None) -> None:
            if name in tasks:
                words = f"{name}: {what}" if what else name
                progress.update(tasks[name], description=words, completed=done, total=total, refresh=True)

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield Bar(say, begin, end, part)


def _say(text: str) -> None:
    print(text)
    sys.stdout.flush()


_PLAIN = Bar(_say, lambda name: None, lambda name: None, lambda name, what, done, total: None)
