"""What is wrong with a chapter, and where: a build with a fault writes nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A chapter, the place in it, and what is wrong there."""

    chapter: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.chapter}: {self.place}: {self.message}"


class BuildError(Exception):
    """The book was not written.  `faults` says why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults
