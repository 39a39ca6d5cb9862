"""What a result depends on: the code that it imports, its settings, the versions.

As long as all three are the same, so is the result, and it need not be computed again.
"""

import ast
import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from experiments.framework import store

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("experiments", "functional_dl")
PACKAGES = ("jax", "jaxlib", "optax", "numpy", "scipy", "scikit-learn", "matplotlib", "clarabel")
HERE = "experiments.framework"
# which runs and shows an experiment, and computes none of its numbers
SHELL = {f"{HERE}.{name}" for name in ("page", "progress", "registry", "runner", "fingerprint", "store", "environment")}


def of(path: Path, config: Any) -> dict[str, Any]:
    """{code, settings, versions} of an experiment's file and a config."""
    return {"code": code(path), "settings": settings(config), "versions": versions()}


def settings(config: Any) -> str:
    return _digest(repr(config).encode())


def versions() -> dict[str, str | None]:
    import platform

    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def code(path: Path) -> str:
    """The digest of an experiment's file and of all files that it imports."""
    found = files(path)
    return _digest(*(part for name in sorted(found) for part in (name.encode(), found[name].read_bytes())))


def files(path: Path) -> dict[str, Path]:
    """Those whose code an experiment's file runs, itself and all that it imports, by the import graph: name -> file."""
    found = {path.name: path}
    wanted, seen = set(_imports(path)), set[str]()
    while wanted:
        name = wanted.pop()
        seen.add(name)
        for file in _files(name):
            found[file.relative_to(ROOT).as_posix()] = file
            wanted |= _imports(file) - seen
    return found


@functools.cache
def _files(name: str) -> tuple[Path, ...]:
    """The files that an import of a name of ours reads: a module; or a package, whose files may find each other by name
    (rules, causes, families) where its __init__ does more than import."""
    place = ROOT.joinpath(*name.split("."))
    if name in TOPS or name in SHELL:  # functional_dl/__init__.py has no code
        return ()
    if place.with_suffix(".py").is_file():
        return (place.with_suffix(".py"),)
    face = place / "__init__.py"
    if not face.is_file():
        return ()  # a name that a module defines
    text = face.read_text(encoding="utf-8")
    by_name = "import_module" in text or "pkgutil" in text or "glob(" in text
    return tuple(sorted(place.rglob("*.py"))) if by_name else (face,)


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    """The modules of ours that a file imports, wherever it does, by all their names: a.b.c, a.b, a."""
    package = path.parent.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, *([node.module] if node.module else [])]
            found |= {".".join([*base, name.name]) for name in node.names}
    ours = [name.split(".") for name in found if name.split(".")[0] in TOPS]
    return frozenset(".".join(parts[:n]) for parts in ours for n in range(1, len(parts) + 1))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def unchanged(results: Path, name: str, mark: dict[str, Any]) -> dict[str, Any] | None:
    """The stored result of an experiment, if it was finished with the same mark."""
    try:
        entry = store.read_json(results / name / "result.json")
    except (OSError, ValueError):
        return None
    return entry if entry.get("status") == "done" and entry.get("made_with") == mark else None
