"""Samples a second: `training.fit` against the usual Python loop, with Flax and with the library's own models.

A perceptron, a convolutional network, an LSTM (rows as time) and a causal transformer (the next pixel, of 17 values)
are trained on scikit-learn's digits with Adam: by `training.fit`, which compiles chunks of steps with the order of the
examples inside; by a Python loop that draws each batch in NumPy and calls a jitted step, with the same layers from
Flax, where Flax is installed; and by that loop on the library's own models, which tells what the loop costs from what
the layers do.

A run is timed whole, with what `fit` checks and prepares before its first step: some 40 ms, which a run of a second
hardly feels and one of a tenth of a second does. On a CPU, XLA runs convolutions inside a compiled loop slower than
outside of one, which this experiment shows.

Every contender runs once to compile, then all in turns, so that other load on the machine meets each. Ratios are of
process times within a turn, geometric means with 95 % intervals over the turns; ratios of wall times stand beside them.
The progress bar's cost is measured likewise, drawn to a terminal that is none, against runs without.
"""

import contextlib
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval
from functional_dl import losses, models, training

CLAIM = (
    "`training.fit` trains at least as many samples a second as Flax and optax in the usual Python loop, on a small "
    "perceptron twice as many, and its progress bar costs less than 2 % of them."
)
SUITE = False  # about the machine, and minutes long
LEAST = {"perceptron": 2.0, "convolutional": 1.0, "LSTM": 1.0, "transformer": 1.0}
SHARE = {"perceptron": 1.0, "convolutional": 0.1, "LSTM": 0.2, "transformer": 0.01}  # for runs of some seconds
COLOURS = {"fit": style.BLUE, "loop, own layers": style.GREEN, "loop, Flax": style.RED}


@dataclass(frozen=True)
class Config:
    """Settings of the throughput experiment."""

    batch_size: int = 32
    """Digits a step."""
    steps: int = 30000
    """Steps of a run of the perceptron; the others take the share of `SHARE`."""
    turns: int = 7
    """Runs of each contender, in turns."""

    def __post_init__(self):
        settings.at_least(self, 1, "batch_size")
        settings.at_least(self, 1, "steps")
        settings.at_least(self, 2, "turns")
        if self.batch_size > 1797:
            raise ValueError(f"batch_size: expected at most the 1797 digits, got {self.batch_size}")


SMOKE = Config(batch_size=4, steps=4, turns=2)


def run(config: Config) -> Result:
    flax, seconds, samples = _flax(), {}, {}
    for name, (network, data, loss) in _tasks().items():
        steps = max(1, int(config.steps * SHARE[name]))
        contenders = {"fit": _by_fit(config, network, data, loss, steps)}
        contenders["loop, own layers"] = _by_loop(config, network.init, network.apply, data, loss, steps)
        if flax:
            contenders["loop, Flax"] = _by_loop(config, *flax[name], data, loss, steps)
        seconds[name], samples[name] = _in_turns(contenders, config.turns), steps * config.batch_size
    against = "loop, Flax" if flax else "loop, own layers"
    ratios = {name: _ratio(by[against], by["fit"]) for name, by in seconds.items()}
    bar = _bar(config)
    checks = [
        Check(f"{name}: at least {least:g} times the samples of the {against}", _said(*ratios[name][0]),
              ratios[name][0][0] >= least)
        for name, least in LEAST.items()
    ]  # fmt: skip
    checks.append(Check("the progress bar costs less than 2 %", _said(*bar), bar[0] < 1.02))
    rows = [
        [name, contender, *(f"{rate:.3g}" for rate in samples[name] / np.median(times, 0)),
         *(_said(*found) for found in _ratio(times, by["fit"]))]
        for name, by in seconds.items()
        for contender, times in by.items()
    ]  # fmt: skip
    columns = [
        "model",
        "by",
        "samples a second of process time",
        "samples a second",
        "time, of fit's",
        "wall, of fit's",
    ]
    numbers: dict[str, Any] = {f"{name}, {against} / fit": _said(*found[0]) for name, found in ratios.items()}
    numbers["Flax"] = "installed" if flax else "not installed: compared with the loop on the library's own models"
    metrics = [
        {"model": name, "by": contender, "turn": turn, "process_seconds": process, "seconds": wall}
        for name, by in seconds.items()
        for contender, times in by.items()
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


# ---- what is trained -----------------------------------------------------------------------------------


def _tasks() -> dict[str, tuple[Any, Any, Callable]]:
    """name -> (model, data, loss of (apply, params, batch))."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    x, y = (raw.data / 16).astype(np.float32), np.eye(10, dtype=np.float32)[raw.target]
    images = x.reshape(-1, 8, 8)
    tokens = raw.data.astype(np.int32)

    def classify(apply, params, batch):
        return jnp.mean(losses.softmax_cross_entropy(apply(params, batch[0]), batch[1]))

    def predict(apply, params, batch):
        logits = apply(params, batch[:, :-1])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]))

    return {
        "perceptron": (models.mlp((64, 64, 10), "relu"), (x, y), classify),
        "convolutional": (
            models.cnn((8, 8), 1, 10, stages=((16,), (32,)), hidden=(64,), window=3, pool="max", activation="relu"),
            (images[..., None], y), classify,
        ),
        "LSTM": (models.recurrent(8, 64, 10), (images, y), classify),
        "transformer": (models.transformer(17, 32, 4, 2, 64), tokens, predict),
    }  # fmt: skip


def _flax() -> dict[str, tuple[Callable, Callable]] | None:
    """name -> (init, apply) of the same networks in Flax; None where it is not installed."""
    try:
        from flax import linen as nn  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None

    class Convolutional(nn.Module):
        @nn.compact
        def __call__(self, x):
            for width in (16, 32):
                x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
            return nn.Dense(10)(nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1))))

    class LSTM(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(10)(nn.RNN(nn.OptimizedLSTMCell(64))(x)[:, -1])

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            place = self.param("positions", nn.initializers.normal(0.2), (64, 32))
            x = 32**0.5 * nn.Embed(17, 32)(tokens) + place[: tokens.shape[1]]
            mask = nn.make_causal_mask(tokens)
            for _ in range(2):
                x = x + nn.SelfAttention(4)(nn.LayerNorm()(x), mask)
                x = x + nn.Dense(32)(nn.gelu(nn.Dense(128)(nn.LayerNorm()(x))))
            return nn.Dense(17)(nn.LayerNorm()(x))

    networks = {
        "perceptron": (nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)]), np.zeros((1, 64), np.float32)),
        "convolutional": (Convolutional(), np.zeros((1, 8, 8, 1), np.float32)),
        "LSTM": (LSTM(), np.zeros((1, 8, 8), np.float32)),
        "transformer": (Transformer(), np.zeros((1, 63), np.int32)),
    }
    return {
        name: (lambda key, network=network, x=x: network.init(key, x), network.apply)
        for name, (network, x) in networks.items()
    }


# ---- how it is trained ---------------------------------------------------------------------------------


def _by_fit(config: Config, network, data, loss, steps: int, progress: bool = False) -> Callable[[], Any]:
    params, optimizer = jax.jit(network.init)(jax.random.key(0)), optax.adam(1e-3)
    of = lambda params, batch: loss(network.apply, params, batch)

    def train():
        fit = training.fit(of, params, data, optimizer, steps=steps, batch_size=config.batch_size,
                           key=jax.random.key(1), progress=progress)  # fmt: skip
        jax.block_until_ready(fit.params)
        return fit.history["loss"]

    return train


def _by_loop(config: Config, init, apply, data, loss, steps: int) -> Callable[[], Any]:
    optimizer, start = optax.adam(1e-3), jax.jit(init)(jax.random.key(0))

    @jax.jit
    def step(params, state, batch):
        value, gradient = jax.value_and_grad(lambda params: loss(apply, params, batch))(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    def train():
        rng, params, state = np.random.default_rng(0), start, optimizer.init(start)
        examples, history, order = len(jax.tree.leaves(data)[0]), [], np.zeros(0, int)
        for _ in range(steps):
            if len(order) < config.batch_size:
                order = rng.permutation(examples)
            chosen, order = order[: config.batch_size], order[config.batch_size :]
            params, state, value = step(params, state, jax.tree.map(lambda leaf: leaf[chosen], data))
            history.append(value)
        jax.block_until_ready(params)
        return np.array(jax.device_get(history))

    return train


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


def _bar(config: Config) -> tuple[float, float, float]:
    """Process time with the bar, of that without, on the perceptron: (geometric mean, low, high)."""
    network, data, loss = _tasks()["perceptron"]
    steps = 4 * config.steps  # long enough for the bar to be drawn several times
    drawn = _by_fit(config, network, data, loss, steps, progress=True)

    def with_bar():
        with contextlib.redirect_stderr(_Terminal()):
            return drawn()

    both = {"without": _by_fit(config, network, data, loss, steps), "with": with_bar}
    times = _in_turns(both, config.turns)
    return _ratio(times["with"], times["without"])[0]


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
