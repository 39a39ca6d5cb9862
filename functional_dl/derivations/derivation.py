"""A derivation: its data, and what can be done with it."""

from dataclasses import dataclass

from functional_dl.aliases import Key
from functional_dl.derivations.record import Record
from functional_dl.derivations.report import Verification
from functional_dl.derivations.show import to_latex, to_markdown, to_text
from functional_dl.derivations.verify import verify


@dataclass(frozen=True, repr=False)
class Derivation(Record):
    """A textbook result with its derivation; it can check itself and show itself.

    Fields: as `Record`.
    """

    def verify(self, key: Key | None = None, points: int = 3) -> Verification:
        """Checks every line at random points in float64: see `functional_dl.derivations.verify.verify`."""
        return verify(self, key, points)

    def __repr__(self) -> str:
        return f"Derivation({self.name!r}: {self.title}, {len(self.steps)} lines)"

    def to_markdown(self) -> str:
        """The derivation as a page of Markdown with LaTeX between dollar signs."""
        return to_markdown(self)

    def to_text(self) -> str:
        """The derivation for a terminal: statement, lines and reasons, with LaTeX as it is."""
        return to_text(self)

    def _repr_markdown_(self) -> str:
        return to_markdown(self)

    def _repr_latex_(self) -> str:
        return to_latex(self)
