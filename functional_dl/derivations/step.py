"""The parts of a derivation: a line of mathematics with its reason and its code, and an oracle that checks lines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from functional_dl import arguments
from functional_dl.aliases import Key

Kind: TypeAlias = Literal["equal", "limit", "upper_bound", "element_of"]
Line: TypeAlias = Literal["first", "last", "both"]
KINDS: dict[Kind, str] = {
    "equal": "equal to the line above",
    "limit": "limit of the line above, as h tends to 0",
    "upper_bound": "the line above is at most this one, entry by entry, and equal where equality is claimed",
    "element_of": "an element of the set of intervals [low, high] that the line above is",
}


@dataclass(frozen=True)
class Step:
    """One line of a derivation.

    Fields:
      latex: the line, as it is written.
      reason: why it follows from the line above; for the first of a chain, what it says.
      evaluate: evaluate(*point) is the line as code, an array or a pytree; a `Limit` where the line stands under a
        limit sign.
      kind: what its check tests, of KINDS.  The first line of a chain has no line above and is held to the oracles.
      chain: which of several results the line belongs to: the name of the argument whose cotangent is derived, or of
        a lemma.  "" in a derivation of one result.
      tight: for "upper_bound", tight(key) draws a point at which equality holds.
    """

    latex: str
    reason: str
    evaluate: Callable[..., Any]
    kind: Kind = "equal"
    chain: str = ""
    tight: Callable[[Key], tuple[Any, ...]] | None = None

    def __post_init__(self) -> None:
        arguments.choice("kind", self.kind, KINDS)
        if (self.kind == "upper_bound") != (self.tight is not None):
            raise ValueError(f"tight: expected for lines of the kind upper_bound and for no other; got {self.kind!r}")
        if not callable(self.evaluate):
            raise TypeError(f"evaluate: expected a callable, got {self.evaluate!r}")


@dataclass(frozen=True)
class Oracle:
    """An independent computation of a chain's first or last line, or of both.

    Fields:
      name: what it is, in a few words.
      evaluate: evaluate(*point) is the value, or a check.Estimate of it with a bound of its error.
      chain: the chain whose line it checks.
      line: "first", "last" or "both" (for chains of equalities).
      tolerance: relative to the largest entry (at least 1); above rounding only where the oracle approximates.
    """

    name: str
    evaluate: Callable[..., Any]
    chain: str = ""
    line: Line = "both"
    tolerance: float = 2.0**-36

    def __post_init__(self) -> None:
        arguments.choice("line", self.line, get_args(Line))
