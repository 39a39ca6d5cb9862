"""The reference: every public name of every room, from its docstring and signature."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A public name."""

    name: str
    text: str


@dataclass(frozen=True)
class Room:
    """A room of the library and its public names."""

    name: str
    summary: str
    entries: tuple[Entry, ...]
