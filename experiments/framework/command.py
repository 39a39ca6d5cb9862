"""The commands of `python -m experiments`, their options, and what they print."""

import contextlib
import dataclasses
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.framework import config_file, journal, progress, registry, suite
from experiments.framework.registry import Experiment
from experiments.framework.suite import Task

PROG = "python -m experiments"
ABOUT = """Runs experiments: one claim each, borne out or refuted by its numbers.

Without names, those of the preset's suite. One that is finished is not run again unless its code, settings or versions
have changed, so a suite that was stopped goes on where it was. Look at DIR/index.html.

Other commands: list, compare RUN_A RUN_B, book; NAME --help shows the settings of one experiment. The exit status is 1
if an experiment fails or its numbers do not bear its claim out."""


@dataclass(frozen=True)
class Options:
    """How experiments are run."""

    preset: Annotated[Literal["quick", "standard", "full"] | None, tyro.conf.arg(metavar="quick|standard|full")] = None
    """Which experiments, and how large: quick takes minutes (the default), standard ten, full has no bound."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Settings from a TOML file, a table an experiment, or the config.json of a result."""
    fresh: bool = False
    """Run what is finished again."""
    jobs: Annotated[int, tyro.conf.arg(metavar="N")] = 2
    """Processes that run experiments at a time; those that measure times run alone."""
    results: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("results")
    """Where results go; DIR/index.html shows them."""


@dataclass(frozen=True)
class Suite(Options):
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Experiments; without any, those of the preset's suite."""


@dataclass(frozen=True)
class List:
    """Lists the experiments, one a line: the smallest preset whose suite has it, and its claim."""


@dataclass(frozen=True)
class Compare:
    """Says what differs between two folders of results: verdicts, settings, versions, figures, but not seconds.

    The exit status is 1 if something does.
    """

    run_a: tyro.conf.Positional[Path]
    """A folder of results, or of one result."""
    run_b: tyro.conf.Positional[Path]
    """Another one."""


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except _UsageError as error:
        print(f"{error}; see {PROG} --help", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    commands: dict[str, Callable[[list[str]], int]] = {"list": _list, "compare": _compare, "book": _book}
    for name, command in commands.items():
        if name in arguments:
            arguments.remove(name)
            return command(arguments)
    found = registry.discover()
    if arguments and not arguments[0].startswith("-"):
        _find(arguments[0], found, commands)
    named = [word for word in arguments if word in found]
    if len(named) == 1:
        return _one(found[named[0]], arguments, found)
    options = _parse(Suite, arguments, PROG, ABOUT)
    chosen = [_find(name, found, commands) for name in options.names]
    return _run(_planned(chosen, options, found), options)


def _one(experiment: Experiment, arguments: list[str], found: dict[str, Experiment]) -> int:
    """One experiment, whose settings are options."""
    config_type = experiment.module.Config

    def parsed(config: Any):
        settings = Annotated[config_type, tyro.conf.arg(name="")]
        name = Annotated[Literal[experiment.name], tyro.conf.Positional]  # pyright: ignore[reportInvalidTypeArguments]
        fields = [("settings", settings, field(default=config)), ("name", name, field(default=experiment.name))]
        command = dataclasses.make_dataclass("One", fields, bases=(Options,), frozen=True)
        return _parse(command, arguments, PROG, f"{experiment.claim}\n\n{experiment.about}")

    options = parsed(experiment.settings("quick"))
    (task,) = _planned([experiment], options, found)
    # what is not said on the command line is the preset's, or the file's
    options = parsed(experiment.settings(task.preset) if task.config is None else task.config)
    return _run([dataclasses.replace(task, config=options.settings)], options)


def _planned(chosen: list[Experiment], options: Any, found: dict[str, Experiment]) -> list[Task]:
    """The experiments chosen, or of the suite, with the settings that the file gives, or None for the preset's."""
    try:
        file = (
            config_file.ConfigFile(Path()) if options.config is None else config_file.read(options.config, list(found))
        )
        preset = options.preset or file.preset or "quick"
        if not chosen:
            chosen = [
                one for one in found.values() if (one.name in file.tables if file.tables else one.in_suite(preset))
            ]
        configs = [file.apply(one.name, one.settings(preset)) if one.name in file.tables else None for one in chosen]
    except config_file.ConfigError as error:
        raise _UsageError(str(error)) from None
    return [Task(one, preset, config, options.results, options.fresh) for one, config in zip(chosen, configs)]


def _run(tasks: list[Task], options: Any) -> int:
    _writable(options.results)
    from experiments.framework import page

    began, good = time.perf_counter(), 0
    log = journal.Journal("", len(tasks), results=str(options.results)).written()
    shown = options.results / "index.html"
    with progress.bar(len(tasks)) as bar:
        for outcome in suite.run(tasks, options.jobs, bar, log):
            good += outcome.verdict
            bar.say(outcome.said)
            page.write(options.results)
    if len(tasks) > 1:
        print(f"{good} of {len(tasks)} claims borne out in {time.perf_counter() - began:.0f} s; see {shown}")
    else:
        print(f"see {shown}")
    return 0 if good == len(tasks) else 1


def _list(arguments: list[str]) -> int:
    _parse(List, arguments, f"{PROG} list")
    found = registry.discover()
    name_width = max(map(len, found), default=0)
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for name, experiment in found.items():
        line = f"{name:{name_width}}  {experiment.suite:8}  {experiment.claim}"
        print(line if limit is None or len(line) <= limit else line[: limit - 1] + "…")
    return 0


def _compare(arguments: list[str]) -> int:
    from experiments.framework import compare

    options = _parse(Compare, arguments, f"{PROG} compare")
    try:
        first, second = compare.read(options.run_a), compare.read(options.run_b)
    except ValueError as error:
        raise _UsageError(str(error)) from None
    lines, same = compare.lines(first, second), compare.same(first, second)
    if lines:
        print(compare.table(lines, (str(options.run_a), str(options.run_b))))
    print(f"{same} of {len(first.keys() | second.keys())} experiments are the same in both")
    return 1 if lines else 0


def _book(arguments: list[str]) -> int:
    try:
        from experiments.book import build, contents
        from experiments.book.faults import BuildError
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    fields = [
        ("book", Annotated[build.Settings, tyro.conf.arg(name="")], field(default=build.Settings())),
        ("results", Annotated[Path, tyro.conf.arg(metavar="DIR")], field(default=Path("results"))),
    ]
    command = dataclasses.make_dataclass("Book", fields, frozen=True)
    options = _parse(command, arguments, f"{PROG} book", build.Settings.__doc__)
    names = [name for part in contents.read() for name in part.chapters]
    if unknown := [name for name in options.book.only if name not in names]:
        raise _UsageError(f"--only: no chapter '{unknown[0]}': there are {', '.join(names)}")
    _writable(options.results)
    log = journal.Journal("the book").written()
    began = time.perf_counter()
    try:
        page = build.build(options.results, options.book)
    except BuildError as error:
        print(f"\n{error}\nthe book was not written", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{log.stopped()}", file=sys.stderr)
        return 130
    from experiments.framework import page as results_page

    results_page.write(options.results, everything=True)  # which link to the chapters
    print(f"built in {time.perf_counter() - began:.0f} s; see {page}")
    return 0


def _parse(command: Any, arguments: list[str], prog: str, about: str | None = None) -> Any:
    marks, said = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(command, prog=prog, description=about, args=arguments, config=marks)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        from functional_dl.arguments import refusal  # JAX with it, which a right command may not need

        raise _UsageError(refusal(said.getvalue())) from None


def _writable(results: Path) -> None:
    """Before anything is computed: results can be written there."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise _UsageError(f"--results: cannot write to {results}: {error.strerror}") from None


def _find(name: str, found: dict, commands: Any):
    try:
        return registry.find(name, found, commands)
    except KeyError as error:
        raise _UsageError(error.args[0]) from None


class _UsageError(Exception):
    """The command line makes no sense; the message says why."""
