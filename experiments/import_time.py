"""What `import functional_dl` costs beside `import jax, optax, chex`, which everybody who uses it needs.

Both sides are whole processes that take turns; processor time counts, so that other work on the machine disturbs
little. Bytecode is cached, as it is from the second import on.
"""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table

CLAIM = "Importing functional_dl costs at most 1.3 times the import of JAX, optax and chex"
SUITE = False

SIDES = {"jax, optax, chex": "import jax, optax, chex", "functional_dl": "import functional_dl"}
LIMIT = 1.3


@dataclass(frozen=True)
class Config:
    """Settings of the measurement."""

    measurements: int = 3
    """Independent measurements, each of which gives a ratio of medians."""
    rounds: int = 9
    """Turns of each side in a measurement."""

    def __post_init__(self):
        settings.at_least(self, 1, "measurements", "rounds")


SMOKE = Config(measurements=1, rounds=1)


def run(config: Config) -> Result:
    for code in SIDES.values():
        _seconds(code)  # writes the bytecode, and is not counted
    ratios, metrics, rows = [], [], []
    for measurement in range(config.measurements):
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(config.rounds):
            order = list(SIDES) if turn % 2 else list(SIDES)[::-1]
            for side in order:
                seconds[side].append(_seconds(SIDES[side]))
        base, ours = (float(np.median(seconds[side])) for side in SIDES)
        ratios.append(ours / base)
        metrics.append({"measurement": measurement, "seconds": seconds, "ratio": ours / base})
        rows.append([measurement, round(base, 3), round(ours, 3), round(ours / base, 3)])
    check = Check(
        f"processor time, ours / that of jax, optax and chex: at most {LIMIT} in each of {config.measurements}",
        ", ".join(f"{ratio:.3f}" for ratio in ratios),
        max(ratios) <= LIMIT,
    )
    table = Table(("measurement", "jax, optax, chex (s)", "functional_dl (s)", "ratio"), rows)
    return Result(CLAIM, [check], {"ratio, median": f"{np.median(ratios):.3f}"}, metrics, table, {"ratios": ratios})


def _seconds(code: str) -> float:
    """Processor time of a new process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def plot(result: Result) -> list[Picture]:
    ratios = result.curves["ratios"]
    figure = style.figure(5.0, 3.2)
    axes = figure.subplots()
    places = np.arange(len(ratios))
    axes.bar(places, ratios, 0.5, color=style.COLOURS[0], label="functional_dl")
    axes.axhline(1, color=style.BLACK, linewidth=1, label="jax, optax, chex")
    axes.axhline(LIMIT, color=style.BLACK, linewidth=1, linestyle=":", label=f"limit {LIMIT}")
    axes.set_xticks(places, [f"measurement {i + 1}" for i in places])
    axes.set(ylabel="processor time, ratio", title="Time to import", ylim=(0, 1.9))
    axes.legend(loc="upper center", ncols=3)
    return [Picture("ratios", "Medians of turns: what our import costs beside those it needs.", figure)]
