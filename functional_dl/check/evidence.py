"""What is known of one wrong cotangent: the evidence that each cause is held against."""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Hypothesis:
    """A cause that fits.

    Fields:
      cause: its name.
      weight: how well it fits, from 0 to 1; 1 where nothing else could explain the numbers.
      message: the sentence for the user.
    """

    cause: str
    weight: float
    message: str


class Evidence:
    """One leaf's cotangents over several trials, and ways to ask for more.

    Attributes:
      function, reference: see there.
      k: position of the leaf among the differentiable ones.
      trials: calls with different cotangents.
      call: call(cts) -> the user's cotangents of all differentiable leaves.
      rng: for random choices.
      blank: entries that are not compared, for the derivative is not finite there; they are 0 in all that is returned.
      bad: entries that are wrong in some trial; beyond their tolerances, where none are given.
      until: time.monotonic() at which the search for a cause ends with the best that is found.
    """

    function: Function
    reference: Reference
    k: int
    trials: list[Trial]
    call: Any
    rng: Any
    blank: np.ndarray
    bad: np.ndarray
    until: float

    def __init__(
        self,
        function: Function,
        reference: Reference,
        k: int,
        trials: Sequence[Trial],
        call: Callable[..., Any],
        rng: np.random.Generator,
        blank: np.ndarray,
        bad: np.ndarray | None = None,
        until: float = float("inf"),
    ) -> None:
        self.function, self.reference, self.k = function, reference, k
        self.trials, self.call, self.rng = list(trials), call, rng
        self.blank, self.until = blank, until
        self.bad = self._beyond() if bad is None else bad

    def until_then(self, until: float) -> "Evidence":
        """The same evidence, for a search that ends then."""
        return Evidence(
            self.function, self.reference, self.k, self.trials, self.call, self.rng, self.blank, self.bad, until
        )

    @property
    def late(self) -> bool:
        """Whether the time for the search has passed."""
        return time.monotonic() > self.until

    @property
    def path(self) -> str:
        return self.function.paths[self.function.active[self.k]]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.function.wide_point[self.k].shape

    @property
    def x(self) -> np.ndarray:
        """The leaf itself, in double precision."""
        return self.function.wide_point[self.k]

    @property
    def outs(self) -> list[np.ndarray]:
        """The differentiable outputs, in double precision."""
        return self._outs

    @functools.cached_property
    def _outs(self):
        return self.function.evaluate(self.function.wide_point)

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

    def _beyond(self) -> np.ndarray:
        """Entries that are beyond their tolerances in some trial."""
        return np.any([~(np.abs(a - e) <= t) for a, e, t in zip(self.actual, self.expected, self.tolerance)], axis=0)

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
