"""What is known of one wrong cotangent: the evidence that each cause is held against."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from functional_dl.check.function import Function
from functional_dl.check.reference import Reference, Rounding


@dataclass(frozen=True)
class Trial:
    """One call of the pullback.

    Fields:
      cts: cotangents of the differentiable outputs.
      expected, actual: cotangents of all differentiable leaves, right and the user's, in double precision.
      tolerance: what each entry may be off by.
      rounding: what that was made of.
    """

    cts: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    actual: tuple[np.ndarray, ...]
    tolerance: tuple[np.ndarray, ...]
    rounding: tuple[Rounding, ...] = ()


# How a cause was found, the surest first: of several that fit, the one that stands first is named.  What relates the
# whole cotangent to the right one by a single number or place comes before a fault of one of fun's equations, that
# before a part of the cotangent that looks like a cause's.
PRECEDENCE = (
    "not finite", "all zero", "outside the subdifferential", "negative", "mean of uses", "the Jacobian itself",
    "a multiple", "lines in another order", "one index of an axis", "zeros exchanged", "a mask at hand",
    "a factor at hand", "another argument's", "axes permuted", "a conjugate", "a lost output",
    "certain",
    "equation's mask", "incoming axes", "only one output", "one use", "split by a value", "incoming shifted", "shifted",
    "equation's reduction", "equation's conjugate", "equation's transpose", "equation's case", "a lost path",
    "one use of many", "equation's factor", "equation's formula given its input", "equation's axis", "the other case",
    "equation at another value", "rows rolled", "two lost paths", "some uses of many", "equation's gather",
    "edges of a kind", "the diagonal", "equation transposed, perhaps", "equation's block", "truncated",
    "faults of a kind", "a power at hand", "another forward pass", "one window", "split of few", "another point",
    "constant along an axis", "proportional to a value",
    "good",
    "equation's shift", "shifted inside", "rows in another order", "digits", "sign of the imaginary part", "low rank",
    "a path's sign", "zero or negative point", "a factor a row", "a path's size",
    "fair",
    "equation's overlap", "split with another derivative", "a mean, perhaps", "one use, perhaps", "looks alike",
    "another derivative",
)  # fmt: skip
# up to here fun's equations are not taken apart to find another; up to there no further faults of them are tried
CERTAIN, GOOD, FAIR = (PRECEDENCE.index(mark) for mark in ("certain", "good", "fair"))


@dataclass(frozen=True)
class Hypothesis:
    """A cause that fits.

    Fields:
      cause: its name.
      ground: how it was found, one of PRECEDENCE.
      message: the sentence for the user.
    """

    cause: str
    ground: str
    message: str

    @property
    def rank(self) -> int:
        """Its place in PRECEDENCE."""
        return PRECEDENCE.index(self.ground)


@dataclass(frozen=True, eq=False)
class Evidence:
    """One leaf's cotangents over several trials, and ways to ask for more.

    Fields:
      function, reference: see there.
      k: position of the leaf among the differentiable ones.
      trials: calls with different cotangents.
      call: call(cts) -> the user's cotangents of all differentiable leaves.
      rng: for random choices.
      blank: entries that are not compared, for the derivative is not finite there; they are 0 in all that is returned.
      simulate: simulate() -> what is known of fun's own equations, taken apart once for all leaves; None where they
        cannot be.
      ratio: |actual - expected| over what is allowed, entry by entry, the worst trial's; beyond 1 an entry is wrong.
      excused: wrong entries at kinks that are generalised derivatives; None where no kink was found.
      kinked: a sentence, where all wrong entries lie at kinks.
      until: time.monotonic() at which the search for a cause ends with the best that is found.
    """

    function: Function
    reference: Reference
    k: int
    trials: tuple[Trial, ...]
    call: Callable[..., Any]
    rng: np.random.Generator
    blank: np.ndarray
    simulate: Callable[[], Any]
    ratio: np.ndarray
    excused: np.ndarray | None = None
    kinked: str = ""
    until: float = float("inf")

    @property
    def bad(self) -> np.ndarray:
        """Entries that are wrong in some trial."""
        return self.ratio > 1

    @property
    def late(self) -> bool:
        """Whether the time for the search has passed."""
        return time.monotonic() > self.until

    @property
    def path(self) -> str:
        return self.function.paths[self.function.active[self.k]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def x(self) -> np.ndarray:
        """The leaf itself, in double precision."""
        return self.function.wide_point[self.k]

    @property
    def outs(self) -> list[np.ndarray]:
        """The differentiable outputs, in double precision."""
        return self.function.wide_outs

    @property
    def expected(self) -> list[np.ndarray]:
        """Right cotangents of this leaf, one for each trial."""
        return [t.expected[self.k] for t in self.trials]

    @property
    def actual(self) -> list[np.ndarray]:
        return [t.actual[self.k] for t in self.trials]

    @property
    def tolerance(self) -> list[np.ndarray]:
        return [t.tolerance[self.k] for t in self.trials]

    @property
    def stacked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`actual`, `expected` and `tolerance`, with the trials as the first axis."""
        return np.stack(self.actual), np.stack(self.expected), np.stack(self.tolerance)

    @property
    def values(self) -> list[tuple[str, np.ndarray]]:
        """Names and values of what a pass has at hand: the differentiable leaves, then the outputs."""
        names = [self.function.paths[i] for i in self.function.active]
        outs = ["the output"] if len(self.outs) == 1 else [f"output {n}" for n in range(len(self.outs))]
        return [*zip(names, self.function.wide_point), *zip(outs, self.outs)]

    def with_ratio(self, allowed: Sequence[Any] | None = None) -> "Evidence":
        """The evidence with the ratio of its trials, to their tolerances and what else is allowed in each."""
        more = [0.0] * len(self.trials) if allowed is None else allowed
        found = [np.abs(a - e) / (t + m) for a, e, t, m in zip(self.actual, self.expected, self.tolerance, more)]
        worst = np.max(found, axis=0)
        left_out = self.blank if self.excused is None else self.blank | self.excused
        return replace(self, ratio=np.where(left_out, 0.0, np.where(np.isnan(worst), np.inf, worst)))

    def explains(self, guesses: Sequence[np.ndarray], slack: float = 3.0, where: Any = None) -> bool:
        """Whether the user's cotangents are the guesses, trial by trial, within `slack` tolerances (of the guess's own
        size); with `where` only those entries are looked at."""
        for guess, a, e, t in zip(guesses, self.actual, self.expected, self.tolerance):
            guess = np.asarray(guess)
            if guess.shape != a.shape:
                return False
            guess = np.where(self.blank, 0.0, guess)
            typical = np.max(np.abs(e), initial=0.0)
            grown = t * np.maximum(1.0, np.abs(guess) / np.maximum(np.abs(e), 1e-3 * typical + 1e-300))
            close = np.abs(a - guess) <= slack * grown
            if not (close if where is None else close[where]).all():
                return False
        return True

    def fits(self, guess: Callable[[Sequence[Any]], np.ndarray]) -> bool:
        """Whether the user's cotangents are guess(cts) in every trial; the first one rules most guesses out."""
        first = guess(self.trials[0].cts)
        return self.explains([first]) and self.explains([first, *(guess(t.cts) for t in self.trials[1:])])

    @property
    def relative_error(self) -> float:
        """The largest over trials of |actual - expected| / |expected|, both as root mean squares."""
        return max(
            float(np.sqrt(np.mean(np.abs(a - e) ** 2)) / (np.sqrt(np.mean(np.abs(e) ** 2)) or 1.0))
            for a, e in zip(self.actual, self.expected)
        )

    def pull(self, cts: Sequence[Any]) -> np.ndarray:
        """The right cotangent of this leaf for other cotangents."""
        return np.where(self.blank, 0.0, self.reference.pull(cts)[self.k])

    def pull_at(self, active: Any, cts: Sequence[Any]) -> np.ndarray:
        """The right cotangent of this leaf at other primals."""
        return np.where(self.blank, 0.0, self.reference.pull_at(active, cts)[self.k])

    @functools.cached_property
    def elementwise(self) -> bool:
        """Whether each entry of the one output of this shape depends on the same entry of the leaf alone."""
        matching = [i for i, y in enumerate(self.outs) if y.shape == self.shape]
        if len(matching) != 1 or len(self.outs) != 1 or self.x.size < 2:
            return False
        mask = np.zeros(self.shape)
        # at random: entries that are mixed may lie any number apart
        mask.reshape(-1)[np.random.default_rng(0).permutation(self.x.size)[: max(1, self.x.size // 3)]] = 1.0
        ct = self.trials[0].cts[0] * mask
        bar = self.pull([ct])
        return bool(np.all(np.abs(bar[mask == 0]) <= self.tolerance[0][mask == 0])) and bool(
            np.any(bar[mask == 1] != 0)
        )


def mask_values(x: np.ndarray) -> bool:
    """Whether an array holds zeros and one other number."""
    kept = np.unique(np.asarray(x))
    return len(kept) == 2 and bool(np.any(kept == 0))
