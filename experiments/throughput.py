"""Samples a second: `training.fit` against the usual Python loop, with Flax and with the library's own models.

A perceptron, a convolutional network, an LSTM (rows as time) and a causal transformer (the next pixel, of 17 values)
are trained on scikit-learn's digits with Adam: by `training.fit`, which compiles chunks of steps with the order of the
examples inside; by a Python loop that draws each batch in NumPy and calls a jitted step, with the same layers from
Flax, where Flax is installed; by that loop on the library's own models, which tells what the loop costs from what the
layers do; and by PyTorch's usual loop, where PyTorch is installed.

A run lasts some seconds and is timed whole, with what `fit` checks and prepares before its first step: 10 to 100 ms. On
a CPU, XLA runs convolutions inside a compiled loop slower than outside of one: there `fit` calls step by step.

Every contender runs once to compile, then all in turns, so that other load on the machine meets each. Ratios are of
process times within a turn, geometric means with 95 % intervals over the turns; ratios of wall times stand beside them.
The progress bar takes less of a processor than turns differ by, so its cost is measured where nothing else computes:
the process time of a bar, drawn to a terminal that is none and told of a step four times a second, over the seconds it
stands. Chunks of steps are as long with a bar as without. Runs with and without are compared in turns too. Peak memory
is that of a process that does nothing else, its framework and compiler among it.
"""

import contextlib
import io
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import contenders
from experiments.contenders import FIT, FLAX, OWN, TORCH, jax_loops, tasks
from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval
from functional_dl.training.reports import progress_bar

ALONE = True  # it measures times
CLAIM = (
    "`training.fit` trains at least as many samples a second as Flax and optax in the usual Python loop, on a small "
    "perceptron twice as many, and its progress bar takes less than 2 % of a processor."
)
SUITE = "full"
LEAST = {"perceptron": 2.0, "convolutional": 1.0, "LSTM": 1.0, "transformer": 1.0}
SHARE = {"perceptron": 1.0, "convolutional": 0.1, "LSTM": 0.2, "transformer": 0.01}  # for runs of some seconds
COLOURS = {FIT: style.BLUE, OWN: style.GREEN, FLAX: style.RED, TORCH: style.ORANGE}


@dataclass(frozen=True)
class Config:
    """Settings of the throughput experiment."""

    batch_size: int = 32
    """Digits a step."""
    steps: int = 30000
    """Steps of a run of the perceptron; the others take the share of `SHARE`."""
    turns: int = 7
    """Runs of each contender, in turns."""
    bar_reports: int = 8
    """Times that the progress bar is told of a step, four a second, when its own cost is measured."""
    memory: bool = True
    """Whether a process of its own is run for each contender and model, for its peak memory."""

    def __post_init__(self):
        settings.at_least(self, 1, "batch_size")
        settings.at_least(self, 1, "steps")
        settings.at_least(self, 1, "bar_reports")
        settings.at_least(self, 2, "turns")
        if self.batch_size > 1797:
            raise ValueError(f"batch_size: expected at most the 1797 digits, got {self.batch_size}")


SMOKE = Config(batch_size=4, steps=4, turns=2, bar_reports=1, memory=False)


def run(config: Config) -> Result:
    rivals = contenders.installed()
    seconds, samples = {}, {}
    for task in progress.over(tasks.TASKS, "networks"):
        steps = max(1, int(config.steps * SHARE[task]))
        trained = {name: contenders.build(name, task, config.batch_size, steps) for name in rivals}
        seconds[task], samples[task] = _in_turns(trained, config.turns), steps * config.batch_size
    against = FLAX if FLAX in rivals else OWN
    ratios = {task: _ratio(by[against], by[FIT]) for task, by in seconds.items()}
    peak = lambda name, task: f"{_peak(name, task, config.batch_size):.0f}" if config.memory else "not measured"
    bar = _bar_alone(config)
    checks = [
        Check(f"{task}: at least {least:g} times the samples of the {against}", _said(*ratios[task][0]),
              ratios[task][0][0] >= least)
        for task, least in LEAST.items()
    ]  # fmt: skip
    checks.append(Check("the progress bar costs less than 2 % of a processor", _said(*bar), bar[2] < 0.02))
    rows = [
        [task, name, *(f"{rate:.3g}" for rate in samples[task] / np.median(times, 0)),
         *(_said(*found) for found in _ratio(times, by[FIT])), peak(name, task)]
        for task, by in seconds.items()
        for name, times in by.items()
    ]  # fmt: skip
    columns = ["model", "by", "samples a second of process time", "samples a second", "time, of fit's",
               "wall, of fit's", "peak memory of the process, MiB"]  # fmt: skip
    numbers: dict[str, Any] = {f"{task}, {against} / fit": _said(*found[0]) for task, found in ratios.items()}
    numbers["run with a bar / without"] = _said(*_bar(config))
    for name in (FLAX, TORCH):
        numbers[name] = "compared" if name in rivals else "not installed"
    metrics = [
        {"model": task, "by": name, "turn": turn, "process_seconds": process, "seconds": wall}
        for task, by in seconds.items()
        for name, times in by.items()
        for turn, (process, wall) in enumerate(times)
    ]
    curves = {"seconds": seconds, "samples": samples}
    return Result(CLAIM, checks, numbers, metrics, Table(columns, rows), curves)


def _ratio(times, of) -> list[tuple[float, float, float]]:
    """(geometric mean, low, high) of the ratio in process time, and in wall time."""
    mean, half = mean_interval(np.log(times / of))
    return [(float(np.exp(m)), float(np.exp(m - h)), float(np.exp(m + h))) for m, h in zip(mean, half)]


def _said(mean: float, low: float, high: float) -> str:
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]"


# ---- how it is measured --------------------------------------------------------------------------------


def _in_turns(contenders: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, np.ndarray]:
    """(process time, wall time) of each contender in each turn, after a run of each that compiles and must learn."""
    for name, train in contenders.items():
        history = train()
        if not np.all(np.isfinite(history)):
            raise RuntimeError(f"{name}: expected finite losses, got {history[-1]}")
    found = {name: np.empty((turns, 2)) for name in contenders}
    names = list(contenders)
    for turn in range(turns):
        for name in np.roll(names, turn):  # none is always the first
            began = time.process_time(), time.perf_counter()
            contenders[name]()
            found[name][turn] = time.process_time() - began[0], time.perf_counter() - began[1]
    return found


class _Terminal(io.StringIO):
    """Takes what the bar draws."""

    def isatty(self) -> bool:
        return True


def _bar_alone(config: Config) -> tuple[float, float, float]:
    """Process seconds for each second that a bar stands while nothing is computed: (mean, low, high)."""
    shares = np.empty(config.turns)
    for turn in range(-1, config.turns):  # the first loads what draws
        began = time.process_time(), time.perf_counter()
        with contextlib.redirect_stderr(_Terminal()), progress_bar(True, 0, config.bar_reports) as report:
            for done in range(1, config.bar_reports + 1):
                time.sleep(1 / 4)
                report(done, 1 / done)
        if turn >= 0:
            shares[turn] = (time.process_time() - began[0]) / (time.perf_counter() - began[1])
    mean, half = mean_interval(shares)
    return float(mean), float(mean - half), float(mean + half)


def _bar(config: Config) -> tuple[float, float, float]:
    """Process time with the bar, of that without, on the perceptron: (geometric mean, low, high)."""
    of = lambda progress: jax_loops.build(FIT, "perceptron", config.batch_size, config.steps, progress)
    drawn = of(True)

    def with_bar():
        with contextlib.redirect_stderr(_Terminal()):
            return drawn()

    times = _in_turns({"without": of(False), "with": with_bar}, config.turns)
    return _ratio(times["with"], times["without"])[0]


def _peak(contender: str, task: str, batch_size: int) -> float:
    """MiB that a process of its own has held at most, its framework and compiler among them."""
    program = (
        "from experiments import contenders, throughput; "
        f"contenders.build({contender!r}, {task!r}, {batch_size}, 8)(); print(throughput.peak_memory())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_memory() -> float:
    """MiB that this process has held at most.  Linux's getrusage counts what its parent held when it was forked."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 ** (2 if sys.platform == "darwin" else 1)


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    seconds, samples = result.curves["seconds"], result.curves["samples"]
    figure = style.figure(8, 3.8)
    axes = figure.subplots()
    names = list(seconds)
    by = list(seconds[names[0]])
    for number, contender in enumerate(by):
        logs = [np.log(samples[name] / seconds[name][contender][:, 0]) for name in names]
        mean, half = mean_interval(np.array(logs), 1)
        places = np.arange(len(names)) + 0.25 * (number - (len(by) - 1) / 2)
        error = np.exp(mean) - np.exp(mean - half), np.exp(mean + half) - np.exp(mean)
        axes.bar(places, np.exp(mean), 0.23, yerr=error, color=COLOURS[contender], capsize=3, label=contender)
    axes.set(xticks=range(len(names)), xticklabels=names, yscale="log")
    axes.set_ylabel("samples a second of process time")
    axes.legend(ncols=3, loc="upper right")
    axes.set_ylim(top=6 * axes.get_ylim()[1])
    return [
        Picture(
            "samples",
            "Samples a second of process time, geometric mean and 95 % interval over the turns: `training.fit`, the "
            "usual Python loop on the library's own layers, and on Flax's where it is installed.",
            figure,
        )
    ]
