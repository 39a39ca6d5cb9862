"""The order of the chapters: contents.toml, a list of parts, each a title and the names of its chapters."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from experiments.book.faults import BuildError, Fault

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Part:
    """Chapters that belong together."""

    title: str
    chapters: tuple[str, ...]


def read(folder: Path = HERE) -> tuple[Part, ...]:
    """Raises BuildError where a chapter is named without a file, or has a file and is not named."""
    said = tomllib.loads((folder / "contents.toml").read_text(encoding="utf-8"))
    parts = tuple(Part(part["title"], tuple(part["chapters"])) for part in said["part"])
    named = [name for part in parts for name in part.chapters]
    there = {path.stem for path in (folder / "chapters").glob("*.md")}
    wrong = {name: "named, but chapters/ has no such file" for name in named if name not in there}
    wrong |= {name: "has a file, but is not named" for name in sorted(there - set(named))}
    faults = [Fault(name, "contents.toml", message) for name, message in wrong.items()]
    if faults:
        raise BuildError(faults)
    return parts
