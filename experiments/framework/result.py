"""What an experiment hands back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One measurable part of a claim: what must hold, what was measured, whether it holds."""

    statement: str
    measured: str
    holds: bool

    def __post_init__(self):
        object.__setattr__(self, "holds", bool(self.holds))  # NumPy's and JAX's booleans are not JSON's


@dataclass(frozen=True)
class Table:
    """Columns and rows; a cell is a number or a text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"rows: expected {len(self.columns)} cells {self.columns}, got {row}")


@dataclass(frozen=True)
class Result:
    """The outcome of `run(config)`.

    Attributes:
      claim: one sentence.
      checks: the claim in parts that numbers decide; the claim is borne out if all hold.
      numbers: the key figures, by a readable name; shown first.
      metrics: records for metrics.jsonl.
      table: the table of the page and of table.csv.
      curves: arrays for `plot`; not stored.
      pages: further HTML files of the result's folder, file name -> text; the first is linked to.
      timed: names of numbers and of metrics' fields, and statements of checks, that depend on the machine's speed.
    """

    claim: str
    checks: Sequence[Check]
    numbers: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    table: Table
    curves: Mapping[str, Any] = field(default_factory=dict, repr=False)
    pages: Mapping[str, str] = field(default_factory=dict, repr=False)
    timed: Sequence[str] = ()

    def __post_init__(self):
        known = {
            *self.numbers,
            *(check.statement for check in self.checks),
            *(name for record in self.metrics for name in record),
        }
        if unknown := set(self.timed) - known:
            raise ValueError(
                f"timed: expected names of numbers or metrics, or statements of checks, got {sorted(unknown)}"
            )
        if not self.checks:
            raise ValueError("checks: expected at least one, or nothing could refute the claim; got none")

    @property
    def verdict(self) -> bool:
        """Whether the numbers bear the claim out."""
        return all(check.holds for check in self.checks)


@dataclass(frozen=True)
class Picture:
    """A plot: file name without ending, a caption that says what to see, and the matplotlib figure."""

    name: str
    caption: str
    figure: Any
