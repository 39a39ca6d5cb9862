"""Building the book: chapters executed, on several processes, then the site, if nothing is wrong with any."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import jax

from experiments.book import chapter, contents, reference, site, source
from experiments.book.chapter import Chapter
from experiments.book.faults import BuildError, Fault
from experiments.book.reference import Room


@dataclass(frozen=True)
class Settings:
    """Builds the book, results/book/index.html: chapters executed and checked, and the reference."""

    only: tuple[str, ...] = ()
    """Chapters to build; all without any. Links to others are not looked at then."""
    jobs: int = 2
    """Processes that execute chapters."""


def build(
    results: Path,
    settings: Settings = Settings(),
    folder: Path = contents.HERE,
    rooms: Sequence[Room] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """results/book/index.html, after every chapter was executed and found right.

    Raises:
      BuildError: something is wrong; nothing is written.
    """
    parts = contents.read(folder)
    rooms = reference.rooms() if rooms is None else rooms
    names = [name for part in parts for name in part.chapters]
    if unknown := [name for name in settings.only if name not in names]:
        message = f"no such chapter; there are {', '.join(names)}"
        raise BuildError([Fault(name, "command line", message) for name in unknown])
    names = [name for name in names if not settings.only or name in settings.only]
    public = reference.addresses(rooms)
    tasks = [(folder / "chapters" / f"{name}.md", results, public) for name in names]
    executed: dict[str, Chapter] = {}
    for done, seconds in _executed(tasks, min(settings.jobs, len(tasks))):
        executed[done.name] = done
        say(f"{len(executed):3} of {len(tasks)}  {done.name}  {seconds:.1f} s" + ("  WRONG" if done.faults else ""))
    faults = [fault for name in names for fault in executed[name].faults]
    if not faults:
        made = site.files(parts, {name: executed[name] for name in names}, rooms)
        faults = [] if settings.only else site.dead_links(made)
        if not faults:
            site.write(made, results / "book")
    if faults:
        raise BuildError(faults)
    return results / "book" / "index.html"


def _executed(tasks: list[tuple[Path, Path, dict[str, str]]], jobs: int):
    if jobs <= 1:
        yield from map(_execute, tasks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_execute, tasks)


def _execute(task: tuple[Path, Path, dict[str, str]]) -> tuple[Chapter, float]:
    began = time.perf_counter()
    path, results, public = task
    try:
        read = source.read(path)
    except BuildError as error:
        return Chapter(path.stem, "", "", faults=error.faults), time.perf_counter() - began
    done = chapter.execute(read, results, public)
    jax.clear_caches()  # what a chapter compiled is a gigabyte, and no other chapter's
    return done, time.perf_counter() - began
