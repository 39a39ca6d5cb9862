"""Judging a run while it goes on: the user's metrics, the best parameters, an early end."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from functional_dl import arguments
from functional_dl.aliases import Params

Mode: TypeAlias = Literal["min", "max"]
MODES = ("min", "max")


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a run when a metric of `evaluate` has stopped to improve, and keeps the best parameters.

    Attributes:
      metric: its name.
      mode: "min" if less is better, "max" if more is.
      patience: how many evaluations in a row may bring no better value; None never ends the run.
      minimum_change: what a value must differ by from the best one to be better, in the metric's units.
    """

    metric: str
    mode: Mode = "min"
    patience: int | None = 10
    minimum_change: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise TypeError(f"metric: expected a name, got {self.metric!r}")
        arguments.choice("mode", self.mode, MODES)
        if self.patience is not None:
            arguments.integer("patience", self.patience, 1)
        if not self.minimum_change >= 0:
            raise ValueError(f"minimum_change: expected a number >= 0, got {self.minimum_change!r}")


class Best(NamedTuple):
    """The best parameters that were evaluated: after how many steps, the metric's value, the parameters."""

    step: int
    value: float
    params: Params


class Evaluations:
    """What was evaluated so far, and the best of it."""

    def __init__(self, evaluate: Callable[..., Any] | None, every: int, stopping: EarlyStopping | None) -> None:
        if evaluate is not None:
            arguments.function("evaluate", evaluate)
        if stopping is not None and not isinstance(stopping, EarlyStopping):
            raise TypeError(f"early_stopping: expected a training.EarlyStopping, got {stopping!r}")
        if stopping is not None and evaluate is None:
            raise ValueError("early_stopping: expected an `evaluate` whose metric it watches, got evaluate = None")
        self._evaluate, self._every, self._stopping = evaluate, every, stopping
        self.found: dict[str, np.ndarray] = {}
        self.best: Best | None = None
        self._without = 0  # evaluations since the best one

    def next_after(self, step: int) -> int | None:
        """The step of the next evaluation."""
        return None if self._evaluate is None else (step // self._every + 1) * self._every

    def due(self, step: int, last: bool) -> bool:
        if self._evaluate is None or (len(self.found) and int(self.found["step"][-1]) == step):
            return False
        return last or step % self._every == 0

    def make(self, step: int, params: Params, carry: Any) -> tuple[dict[str, float], str | None]:
        """(the metrics of these parameters, why the run should end or None)."""
        assert self._evaluate is not None
        given = self._evaluate(params) if carry is None else self._evaluate(params, carry)
        if not isinstance(given, dict):
            raise TypeError(f"evaluate: expected a function to a dict of numbers, it returns {given!r}")
        found = {str(name): _number(name, value) for name, value in given.items()}
        if len(self.found) and set(found) != set(self.found) - {"step"}:
            raise ValueError(
                f"evaluate: expected the metrics {sorted(set(self.found) - {'step'})}, got {sorted(found)}"
            )
        for name, value in {"step": step, **found}.items():
            kind = np.int64 if name == "step" else np.float64
            self.found[name] = np.append(self.found.get(name, np.zeros(0, kind)), kind(value))
        return found, self._judged(step, found, params)

    def _judged(self, step, found, params) -> str | None:
        stopping = self._stopping
        if stopping is None:
            return None
        value = arguments.lookup("early_stopping", stopping.metric, found)
        sign = 1 if stopping.mode == "min" else -1
        best = math.inf if self.best is None else sign * self.best.value
        if sign * value < best - stopping.minimum_change or (self.best is None and not math.isnan(value)):
            self.best, self._without = Best(step, value, params), 0
            return None
        self._without += 1
        return self.ended()

    def ended(self) -> str | None:
        """Why the run ends with the last evaluation, or None."""
        stopping = self._stopping
        if stopping is None or stopping.patience is None or self._without < stopping.patience:
            return None
        best_at = "" if self.best is None else f" than {self.best.value:.6g} at step {self.best.step}"
        last = int(self.found["step"][-1])
        return f"{stopping.metric} was no better{best_at} in {self._without} evaluations, the last at step {last}"

    def notes(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the arrays, as JSON."""
        best = None if self.best is None else [self.best.step, self.best.value]
        return {"best": best, "without": self._without}

    def go_to(self, notes: dict[str, Any], found: dict[str, np.ndarray], params: Params) -> None:
        self.found, self._without = dict(found), notes["without"]
        self.best = None if notes["best"] is None else Best(int(notes["best"][0]), float(notes["best"][1]), params)

    @property
    def watches(self) -> bool:
        return self._stopping is not None


def _number(name: Any, value: Any) -> float:
    host = np.asarray(value)
    if host.shape != () or host.dtype.kind not in "biuf":
        try:
            return float(host)  # bfloat16, arrays of one number
        except (TypeError, ValueError):
            raise TypeError(f"evaluate: expected numbers, got {arguments.described(value)} for {name!r}") from None
    return float(host)
