"""What a command has done so far, written down for the process that watches over it."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

VARIABLE = "FUNCTIONAL_DL_JOURNAL"


@dataclass(frozen=True)
class Journal:
    """What is finished and what is running.

    Fields:
      what: what is being done; of experiments, total: how many.
      running: those that run.  finished: those that have ended and whose results are kept, in the folder `results`.
    """

    what: str = "the command"
    total: int = 0
    running: Sequence[str] = ()
    finished: Sequence[str] = ()
    results: str = ""

    def begin(self, name: str) -> "Journal":
        return replace(self, running=[*self.running, name]).written()

    def end(self, name: str, kept: bool) -> "Journal":
        running = [other for other in self.running if other != name]
        return replace(self, running=running, finished=[*self.finished, *([name] if kept else [])]).written()

    def written(self) -> "Journal":
        if VARIABLE in os.environ:
            path = Path(os.environ[VARIABLE])
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(asdict(self)), encoding="utf-8")
            fresh.replace(path)
        return self

    def stopped(self) -> str:
        """One line for somebody who has stopped it."""
        if not self.total:
            return f"stopped; {self.what} was not finished"
        running = f" while {' and '.join(self.running)} ran" if self.running else ""
        if not self.finished:
            return f"stopped{running}; none of {self.total} is finished"
        return (
            f"stopped{running}; {len(self.finished)} of {self.total} finished and kept in {self.results}: "
            f"{', '.join(self.finished)}; the same command goes on from there"
        )


def read() -> Journal:
    """That of the process that this one watches over; an empty one before it has written anything."""
    try:
        return Journal(**json.loads(Path(os.environ[VARIABLE]).read_text(encoding="utf-8")))
    except (KeyError, OSError, ValueError):
        return Journal()
