"""What a verification found: a comparison per line and oracle, printed as a table."""

from dataclasses import dataclass

from functional_dl.derivations.step import Step


@dataclass(frozen=True)
class Comparison:
    """A line and what it was compared with.

    Fields:
      line: number of the line, from 1.
      against: the line above, or the oracle.
      error: of the worst entry at the worst point; tolerance: what was allowed there.
      passed: whether every entry at every point was within the tolerance.
      note: the numbers of the worst entry.
    """

    line: int
    against: str
    error: float
    tolerance: float
    passed: bool
    note: str = ""

    @property
    def share(self) -> float:
        """How much of the tolerance was used."""
        return self.error / self.tolerance if self.tolerance else (0.0 if self.passed else float("inf"))


@dataclass(frozen=True)
class Verification:
    """The report of `Derivation.verify`.

    Fields:
      name, title: of the derivation.
      steps: its lines.
      points: at how many points each line was checked.
      comparisons: one per line and oracle, in the order of the lines.
      notes: oracles that could not be evaluated, and why.
    """

    name: str
    title: str
    steps: tuple[Step, ...]
    points: int
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(c.passed for c in self.comparisons)

    @property
    def first_wrong(self) -> int | None:
        """The number (from 1) of the first line that failed; None where all passed."""
        return next((c.line for c in self.comparisons if not c.passed), None)

    def of_line(self, line: int) -> tuple[Comparison, ...]:
        """All comparisons of one line, numbered from 1."""
        return tuple(c for c in self.comparisons if c.line == line)

    @property
    def headline(self) -> str:
        count = f"{len(self.steps)} lines, {len(self.comparisons)} comparisons, {self.points} points"
        if self.passed:
            return f"{self.name}: passed ({count})"
        wrong = self.first_wrong
        assert wrong is not None
        return f"{self.name}: FAILED, line {wrong} is wrong ({count})\n  {self.steps[wrong - 1].latex}"

    def __str__(self) -> str:
        width = max(len(c.against) for c in self.comparisons)
        rows = [f"  line  {'held to':{width}}  {'error':>9}  {'allowed':>9}"]
        for c in self.comparisons:
            verdict = "" if c.passed else f"  WRONG  {c.note}".rstrip()
            rows.append(f"  {c.line:4d}  {c.against:{width}}  {c.error:9.2g}  {c.tolerance:9.2g}{verdict}")
        return "\n".join([self.headline, *rows, *(f"  note: {note}" for note in self.notes)])

    def _repr_markdown_(self) -> str:
        head = [
            f"**{self.headline.splitlines()[0]}**",
            "",
            "| line | | held to | error | allowed | |",
            "|---|---|---|---|---|---|",
        ]
        rows = [
            f"| {c.line} | ${self.steps[c.line - 1].latex.replace('|', chr(92) + 'vert ')}$ | {c.against} "
            f"| {c.error:.2g} | {c.tolerance:.2g} | {'' if c.passed else '**wrong**'} |"
            for c in self.comparisons
        ]
        return "\n".join([*head, *rows, *(f"\n{note}" for note in self.notes)])
