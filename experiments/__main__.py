"""The command line of the experiments.

python -m experiments                        lists the experiments, then runs the default suite
python -m experiments list                   lists them
python -m experiments NAME --help            shows an experiment's settings
python -m experiments NAME --field value     runs one
python -m experiments book                   builds the book, DIR/book/index.html
"""

import sys
import time
from pathlib import Path

USAGE = """usage: python -m experiments [--results DIR] [list | book | NAME [--help | --field value ...]]

Without a name: lists the experiments and runs the default suite.  Results go to DIR (default: results);
look at DIR/index.html.  The exit status is 1 if an experiment fails or its numbers do not bear its claim out.
"""


def main(arguments: list[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        results = _take_results(arguments)
        if arguments[:1] in (["-h"], ["--help"]):
            print(USAGE)
            return 0
        return _dispatch(arguments, results)
    except _UsageError as error:
        print(f"{error}\n\n{USAGE}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str], results: Path) -> int:
    if arguments[:1] == ["book"]:
        return _book(arguments[1:], results)
    found = _discover()
    if not arguments:
        _list(found)
        return _suite([experiment for experiment in found.values() if experiment.in_suite], results)
    name, *rest = arguments
    if name == "list" and not rest:
        _list(found)
        return 0
    from experiments.framework import registry

    try:
        experiment = registry.find(name, found)
    except KeyError as error:
        raise _UsageError(error.args[0]) from None
    return _one(experiment, rest, results)


def _book(rest: list[str], results: Path) -> int:
    import tyro

    try:
        from experiments.book import build
        from experiments.book.faults import BuildError
    except ModuleNotFoundError as error:
        raise _missing(error) from error

    settings = tyro.cli(build.Settings, prog="python -m experiments book", args=rest)
    began = time.perf_counter()
    try:
        page = build.build(results, settings)
    except BuildError as error:
        print(f"\n{error}\nthe book was not written", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the book was not written", file=sys.stderr)
        return 130
    print(f"built in {time.perf_counter() - began:.0f} s; see {page}")
    return 0


def _one(experiment, rest: list[str], results: Path) -> int:
    import tyro

    from experiments.framework import runner

    config = tyro.cli(
        experiment.module.Config,
        prog=f"python -m experiments {experiment.name}",
        description=f"{experiment.claim}\n\n{experiment.about}",
        args=rest,
    )
    began = time.perf_counter()
    result = runner.run(experiment, config, results)
    print(_report(experiment.name, result, time.perf_counter() - began))
    print(f"see {results / 'index.html'}")
    return 0 if result.verdict else 1


def _suite(chosen: list, results: Path) -> int:
    from experiments.framework import runner
    from experiments.framework.console import suite_bar

    good, began = 0, time.perf_counter()
    with suite_bar(len(chosen)) as (say, begin, advance):
        for experiment in chosen:
            begin(experiment.name)
            start, config = time.perf_counter(), experiment.module.Config()
            try:
                result = runner.run(experiment, config, results)
            except Exception as error:  # one failure must not cost the others; it is shown and counted
                runner.record_failure(experiment, config, results, error, start)
                say(f"\n{experiment.name}: FAILED, {type(error).__name__}: {error}")
            else:
                good += result.verdict
                say("\n" + _report(experiment.name, result, time.perf_counter() - start))
            advance()
    seconds = time.perf_counter() - began
    print(f"\n{good} of {len(chosen)} claims borne out in {seconds:.0f} s; see {results / 'index.html'}")
    return 0 if good == len(chosen) else 1


def _report(name: str, result, seconds: float) -> str:
    words = "borne out" if result.verdict else "NOT borne out"
    lines = [f"{name}: {words} ({seconds:.1f} s)", f"  {result.claim}"]
    lines += [f"  {'ok ' if c.holds else 'NO '} {c.statement}: {c.measured}" for c in result.checks]
    return "\n".join(lines)


def _list(found: dict) -> None:
    width = max(map(len, found), default=0)
    for name, experiment in found.items():
        note = "" if experiment.in_suite else "  (not in the default suite)"
        print(f"{name:{width}}  {experiment.claim}{note}")


def _discover() -> dict:
    try:
        from experiments.framework import registry

        return registry.discover()
    except ModuleNotFoundError as error:
        raise _missing(error) from error


def _missing(error: ModuleNotFoundError) -> BaseException:
    """What is said where a package of the experiments is not installed; a missing file of ours is the error itself."""
    if (error.name or "").startswith(("experiments", "functional_dl")):
        return error
    return SystemExit(f"experiments need {error.name}; install it with: pip install 'functional_dl[experiments]'")


def _take_results(arguments: list[str]) -> Path:
    """Removes --results DIR (or --results=DIR) from the arguments."""
    for place, argument in enumerate(arguments):
        if argument.startswith("--results="):
            del arguments[place]
            return Path(argument.partition("=")[2])
        if argument == "--results":
            if place + 1 == len(arguments):
                raise _UsageError("--results: expected a directory, got nothing")
            directory = arguments[place + 1]
            del arguments[place : place + 2]
            return Path(directory)
    return Path("results")


class _UsageError(Exception):
    """The command line makes no sense; the message says why."""


if __name__ == "__main__":
    sys.exit(main())
