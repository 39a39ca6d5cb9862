"""python -m tests.affected [GIT_REF] [--list] [pytest's options]: the tests that a change reaches.

A change is what differs from GIT_REF (HEAD, if none is given), files that git does not know yet included.  It reaches
the rooms that import what changed, by way of others too (the import graph of tests/architecture.py), and of the tests

- those that import a reached room, or a helper that changed or imports one;
- those that mirror one: tests/ROOM/ and tests/test_ROOM.py;
- those beside a file of a folder of tests that changed and is no Python, or is its conftest.py;
- those directly under tests/ that mirror no room: they look at the whole tree.

Everything is run where everything can change: the set-up of the tests, the dependencies, the package's root.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tests.architecture import PACKAGE, import_graph, modules

ROOT = Path(__file__).resolve().parents[1]
EVERYTHING = {"pyproject.toml", "requirements.lock", "tests/conftest.py", f"{PACKAGE}/__init__.py"}


def changed_since(ref: str, root: Path = ROOT) -> set[str]:
    """Paths, from the root, that differ from the ref, or that git does not know."""

    def lines(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"git {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.splitlines()

    renamed = lines("diff", "--name-only", "--no-renames", "--relative", ref, "--")
    return {*renamed, *lines("ls-files", "--others", "--exclude-standard")}


def unit(path: str) -> str:
    """What is looked at as one: a room of the package, the experiments, a file of the tests.

    Files of a room find each other by name (rules, causes, printers), and so do the experiments.
    """
    parts = PurePosixPath(path).parts
    if parts[0] == PACKAGE and len(parts) > 1:
        return f"{PACKAGE}/{PurePosixPath(parts[1]).stem}"
    return "experiments" if parts[0] == "experiments" else path


def folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def mirrored(path: str) -> str:
    """The room that a test stands for: tests/reverse/test_api.py -> functional_dl/reverse, if there is such a room."""
    first = PurePosixPath(path).parts[1]
    name = PurePosixPath(first).stem.removeprefix("test_")
    return "experiments" if name == "experiments" else f"{PACKAGE}/{name}"


def units(root: Path) -> dict[str, set[str]]:
    """Unit -> the units that it needs."""
    found = {name: path for top in (PACKAGE, "experiments", "tests") for name, path in modules(root, top).items()}
    # Helpers directly under tests/ are imported by their bare names too.
    found |= {path.stem: path for path in (root / "tests").glob("*.py")}
    of = {name: unit(path.relative_to(root).as_posix()) for name, path in found.items()}
    sources = {name: (path.read_text(), path.name == "__init__.py") for name, path in found.items()}
    needs: dict[str, set[str]] = {name: set() for name in of.values()}
    for name, targets in import_graph(sources).items():
        needs[of[name]] |= {of[target] for target in targets}
    for path in needs:
        if path.startswith("tests/"):
            needs[path] |= {mirrored(path), f"{folder(path)}/conftest.py"} & set(needs) - {path}
    return needs


def affected(changed: Iterable[str], root: Path = ROOT) -> list[str]:
    """The test files, or "tests" for all of them, that a change of these files reaches."""
    changed = set(changed)
    if changed & EVERYTHING:
        return ["tests"]
    needs = units(root)
    reached = {unit(path) for path in changed}
    folders = {folder(path) for path in changed if path.startswith("tests/") and not path.endswith(".py")}
    while more := {name for name, own in needs.items() if own & reached} - reached:
        reached |= more
    tests = [name for name in needs if name.startswith("tests/") and PurePosixPath(name).name.startswith("test_")]
    return sorted(
        path
        for path in tests
        if path in reached or folder(path) in folders or (folder(path) == "tests" and mirrored(path) not in needs)
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.affected", description="the tests that a change reaches")
    parser.add_argument("ref", nargs="?", default="HEAD", help="what the working tree is compared with (HEAD)")
    parser.add_argument("--list", action="store_true", help="name the files and run nothing")
    options, rest = parser.parse_known_args(arguments)
    changed = changed_since(options.ref)
    files = affected(changed)
    print(f"{len(changed)} files differ from {options.ref}; tests in {len(files)} files:", *files, sep="\n  ")
    if options.list:
        return 0
    return subprocess.run([sys.executable, "-m", "pytest", "-n", "2", *rest, *files], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
