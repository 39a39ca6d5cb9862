"""What is left of a gradient after many layers, and after many steps of time, at the initial weights.

Nothing is trained. A random cotangent is put behind the last layer (the last step) and pulled back by the hand-written
reverse mode, one layer at a time; its norm is noted on the way. Seeds draw weights, inputs and cotangent, and run at
once (vmap).

Depth: equal blocks F(x) = relu(x V) W with Glorot's weights, of variance 1/n. A rectifier passes half of the squares,
so k plain blocks x <- F(x) must leave E|x̄|² = 2^-k. The same weights with a shortcut, x <- x + F(x), must give (3/2)^k:
W has mean 0, so that the two ways back add in square. With a layer norm on the branch, x <- x + F(norm x), as
transformers have it, the mean square of x after l blocks is 1 + l/2, the square of the branch's derivative that much
smaller, and the product of 1 + (1/2) / (1 + l/2) over k blocks is 1 + k/2: the gradient does not fade, and grows like
√k only.

Time: h_t = tanh(x_t W + h_{t-1} U) with orthogonal U, so that |U| = 1. Its cotangent is bounded by the product of
|U| max_i tanh'(z_i) over the steps (Pascanu, Mikolov, Bengio 2013), which is drawn beside it. LSTM and GRU come twice:
with the biases 0, where a gate is half open and forgets half at each step, and with biases drawn for the horizon T
(Tallec and Ollivier 2018: forget and update biases log U(1, T - 1), the LSTM's input bias minus that).

Initialisers: the mean square of a network whose layers shrink from layer to layer, forward and backward, against the
product over the layers of κ n_in Var W and κ n_out Var W; κ = 1/2 for He's weights with rectifiers, 1 for Glorot's
without.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval
from functional_dl import activations, initializers, layers, reverse

CLAIM = (
    "At initial weights k plain blocks with rectifiers shrink a gradient by 2^(-k/2), where residual blocks with a "
    "norm pass it on, growing like √(k/2); a plain recurrent network loses it within its spectral bound, LSTM and GRU "
    "with biases for the horizon do not; and mean squares follow Glorot's and He's laws."
)
LAW = {  # E|cotangent|² behind the last k of n blocks
    "plain": lambda k, n: 0.5**k,
    "residual": lambda k, n: 1.5**k,
    "residual, normalised": lambda k, n: (n + 2) / (n + 2 - k),
}
STACKS = {"plain": style.RED, "residual": style.ORANGE, "residual, normalised": style.BLUE}
CELLS = {
    "RNN": style.RED,
    "LSTM, biases 0": style.SKY,
    "GRU, biases 0": style.PURPLE,
    "LSTM, biases for the horizon": style.BLUE,
    "GRU, biases for the horizon": style.GREEN,
}
LAWS: dict[str, tuple[initializers.Name, float]] = {
    "Glorot, no activation": ("glorot_normal", 1.0),
    "He, rectifiers": ("he_normal", 0.5),
}


@dataclass(frozen=True)
class Config:
    """Settings of the depth experiment."""

    depth: int = 40
    """Blocks of the stacks."""
    width: int = 192
    """Units a block."""
    examples: int = 8
    """Random examples in a batch."""
    time: int = 100
    """Steps of the recurrent networks."""
    features: int = 64
    """Units of the recurrent networks; half as many inputs."""
    sizes: tuple[int, ...] = (512, 400, 320, 256, 200, 160, 128, 100, 80, 64)
    """Widths of the networks that show the initialisers' laws."""
    seeds: int = 16
    """Weights, inputs and cotangents, run at once."""

    def __post_init__(self):
        settings.at_least(self, 2, "depth", "width", "features", "seeds")
        settings.at_least(self, 4, "time")
        settings.at_least(self, 1, "examples")
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"sizes: expected at least two positive numbers, got {self.sizes}")


SMOKE = Config(depth=3, width=8, examples=2, time=5, features=4, sizes=(6, 4, 3), seeds=2)


def run(config: Config) -> Result:
    keys = jax.random.split(jax.random.key(0), config.seeds)
    over_seeds = lambda fun: jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: fun(config, key)))(keys))
    progress.part("stacks of blocks")
    stacks, laws = over_seeds(_stacks), over_seeds(_laws)
    progress.part("recurrent networks")
    cells, bound = _cells(config)

    left = {name: _interval(norms[:, 0]) for name, norms in (stacks | cells).items()}
    k = config.depth
    measured = {name: np.sqrt(np.mean(stacks[name][:, 0] ** 2)) for name in LAW}
    excess = float(np.max(cells["RNN"] / bound))
    errors = {name: _errors(config, name, laws[name]) for name in LAWS}
    # Student's quantile at which all means together, were the laws true, would be refused in 1 % of all experiments
    most = stats.t.ppf(1 - 0.005 / (2 * (len(config.sizes) - 1)), config.seeds - 1)
    checks = [
        Check(
            f"{name} blocks, {k} of them: by the law {np.sqrt(law(k, k)):.2g}, to a factor of 1.5",
            f"{measured[name]:.2g} of the gradient is left (root mean square)",
            bool(2 / 3 < measured[name] / np.sqrt(law(k, k)) < 1.5),
        )
        for name, law in LAW.items()
    ]
    checks += [
        Check(
            "the recurrent network's gradient lies below its spectral bound at every step, for every seed",
            f"at most {excess:.3f} of the bound",
            excess <= 1 + 1e-4,  # both are products of numbers rounded in float32
        ),
        Check(
            f"RNN: less than a ten-thousandth of the gradient is left after {config.time} steps",
            left["RNN"],
            _geometric(cells["RNN"][:, 0]) < 1e-4,
        ),
    ]
    checks += [
        Check(
            f"{kind} with biases for the horizon: more than a hundredth is left, a thousand times that of biases 0",
            f"{left[wide]}, against {left[zero]}",
            _geometric(cells[wide][:, 0]) > max(1e-2, 1e3 * _geometric(cells[zero][:, 0])),
        )
        for kind in ("LSTM", "GRU")
        for wide, zero in [(f"{kind}, biases for the horizon", f"{kind}, biases 0")]
    ]
    checks += [
        Check(
            f"{name}: mean squares of {len(config.sizes) - 1} layers, forward and backward, by the law within chance",
            f"{deviations:.1f} standard errors at most, of {most:.1f} allowed; {100 * relative:.0f} % off at most",
            bool(deviations <= most),
        )
        for name, (deviations, relative) in errors.items()
    ]
    metrics = [
        {"part": part, "name": name, "seed": seed, "place": place, "norm": value}
        for part, table in (("depth", stacks), ("time", cells))
        for name, norms in table.items()
        for seed, row in enumerate(norms)
        for place, value in enumerate(row)
    ]
    metrics += [
        {"part": "variance", "name": name, "direction": direction, "seed": seed, "layer": layer, "mean_square": value}
        for name, both in laws.items()
        for direction, by_seed in zip(("forward", "backward"), both)
        for seed, row in enumerate(by_seed)
        for layer, value in enumerate(row)
    ]
    rows = [[name, f"{k} blocks", left[name]] for name in STACKS]
    rows += [[name, f"{config.time} steps", left[name]] for name in CELLS]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={f"gradient left, {name}": text for name, text in left.items()} | {"seeds": config.seeds},
        metrics=metrics,
        table=Table(["network", "pulled back through", "share of the gradient's norm left"], rows),
        curves={"config": config, "stacks": stacks, "cells": cells, "bound": bound, "laws": laws},
    )


def _geometric(values) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _errors(config: Config, name: str, measured) -> tuple[float, float]:
    """The means over the seeds against the laws: the largest distance in standard errors, and the largest relative."""
    deviations, relative = [], []
    for by_seed, law in zip(measured, _theory(config, name)):
        ratio = by_seed / law
        error = ratio.std(0, ddof=1) / np.sqrt(len(ratio))
        deviations.append(np.abs(ratio.mean(0) - 1) / error)
        relative.append(np.abs(ratio.mean(0) - 1))
    return float(np.max(deviations)), float(np.max(relative))


def _interval(values) -> str:
    """Geometric mean with its 95 % interval."""
    mean, half = mean_interval(np.log10(values))
    return f"{10**mean:.2g} [{10 ** (mean - half):.2g}, {10 ** (mean + half):.2g}]"


# ---- through layers, through time ----------------------------------------------------------------------


def _pulled_back(step, states, weights, ct):
    """Norms of the cotangents of each state before its step, relative to the last one's, by reverse.vjp of the steps.

    step(state, weights of the step) -> state; states and weights are stacked, one a step.  Shape (steps + 1,).
    """
    norm = lambda tree: jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))

    def back(ct, at):
        state, weight = at
        _, pullback = reverse.vjp(lambda state: step(state, weight), state)
        (ct,) = pullback(ct)
        return ct, norm(ct)

    _, norms = jax.lax.scan(back, ct, (states, weights), reverse=True)
    return jnp.append(norms, norm(ct)) / norm(ct)


def _stacks(config: Config, key):
    """Norm of the cotangent before each block, of each kind of stack, the same weights in all; (depth + 1,)."""
    dense = layers.dense(config.width, config.width, use_bias=False, initializer="glorot_normal")
    norm = layers.layer_norm(config.width)
    weights_key, x_key, ct_key = jax.random.split(key, 3)
    weights = jax.vmap(jax.vmap(dense.init))(jax.random.split(weights_key, (config.depth, 2)))
    scale = norm.init(key)
    x = jax.random.normal(x_key, (config.examples, config.width))
    ct = jax.random.normal(ct_key, x.shape)

    def branch(x, weights):
        first, second = ({"weight": weights["weight"][i]} for i in range(2))
        return dense.apply(second, activations.relu(dense.apply(first, x)))

    steps = {
        "plain": branch,
        "residual": lambda x, weight: x + branch(x, weight),
        "residual, normalised": lambda x, weight: x + branch(norm.apply(scale, x), weight),
    }
    found = {}
    for name, step in steps.items():
        _, states = jax.lax.scan(lambda x, weight, step=step: (step(x, weight), x), x, weights)
        found[name] = _pulled_back(step, states, weights, ct)
    return found


def _cells(config: Config):
    """Norm of the carry's cotangent at each time, (seeds, time + 1), of each cell; and the RNN's bound."""
    inputs, features = max(1, config.features // 2), config.features
    makers = {"RNN": layers.rnn_cell, "LSTM": layers.lstm_cell, "GRU": layers.gru_cell}
    keys = jax.random.split(jax.random.key(1), config.seeds)
    found, bound = {}, np.empty(0)
    for name in CELLS:
        kind = name.split(",")[0]
        cell = makers[kind](inputs, features)
        # one seed after the other: batched LAPACK calls of one program can wait for each other for ever
        params = jax.jit(lambda keys, cell=cell: jax.lax.map(cell.init, keys))(keys)
        run_cell = lambda key, params, spectral, cell=cell, name=name: _one_cell(
            config, cell, name, key, params, spectral
        )
        spectral = np.zeros(config.seeds, np.float32)
        if kind == "RNN":
            spectral = np.linalg.norm(np.asarray(params["hidden"]["weight"]), 2, axis=(-2, -1))
        norms, most = jax.jit(jax.vmap(run_cell))(keys, params, spectral)
        found[name] = np.asarray(norms)
        if kind == "RNN":
            bound = np.asarray(most)
    return found, bound


def _one_cell(config: Config, cell, name: str, key, params, spectral):
    kind, features = name.split(",")[0], config.features
    x_key, ct_key, bias_key = jax.random.split(key, 3)
    xs = jax.random.normal(x_key, (config.time, config.examples, max(1, features // 2)))
    h_bar = jax.random.normal(ct_key, (config.examples, features))
    if name.endswith("horizon"):
        horizon = jnp.log(jax.random.uniform(bias_key, (features,), minval=1.0, maxval=config.time - 1.0))
        zero = jnp.zeros(features)
        biases = {"LSTM": [-horizon, horizon, zero, zero], "GRU": [zero, horizon, zero]}[kind]
        params = params | {"input": params["input"] | {"bias": jnp.concatenate(biases)}}

    def step(carry, x):
        return cell.apply(params, carry, x)[0]

    start = cell.initial((config.examples,))
    _, carries = jax.lax.scan(lambda carry, x: (step(carry, x), carry), start, xs)
    norms = _pulled_back(step, carries, xs, (h_bar, jnp.zeros_like(h_bar)) if kind == "LSTM" else h_bar)
    if kind != "RNN":
        return norms, norms
    most = jnp.max(1 - jnp.square(jax.vmap(step)(carries, xs)), (1, 2))  # tanh'(z) = 1 - h^2
    return norms, jnp.append(jnp.cumprod((spectral * most)[::-1])[::-1], 1.0)


def _laws(config: Config, key):
    """Mean squares of each layer's output and of each layer's input cotangent, relative to what went in."""
    found = {}
    for name, (initializer, kappa) in LAWS.items():
        weights_key, x_key, ct_key = jax.random.split(key, 3)
        pairs = list(pairwise(config.sizes))
        dense = [layers.dense(*pair, use_bias=False, initializer=initializer) for pair in pairs]
        weights = [layer.init(k) for layer, k in zip(dense, jax.random.split(weights_key, len(dense)))]
        x, pullbacks, forward = jax.random.normal(x_key, (config.examples, config.sizes[0])), [], []
        square = lambda x: jnp.mean(jnp.square(x))
        # inputs of a rectifier's layer are halved in square by the rectifier before it, those of the first one too
        rectify = activations.relu if kappa == 0.5 else lambda x: x
        size = square(x)
        for layer, weight in zip(dense, weights):
            x, pullback = reverse.vjp(lambda x, layer=layer, w=weight: layer.apply(w, rectify(x)), x)
            pullbacks.append(pullback)
            forward.append(square(x) / size)
        ct = jax.random.normal(ct_key, x.shape)
        size, backward = square(ct), []
        for pullback in reversed(pullbacks):
            (ct,) = pullback(ct)
            backward.append(square(ct) / size)
        found[name] = jnp.stack(forward), jnp.stack(backward[::-1])
    return found


def _theory(config: Config, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The laws: products of κ n_in Var W from the first layer on, of κ n_out Var W from the last one on."""
    initializer, kappa = LAWS[name]
    ins, outs = np.array(config.sizes[:-1]), np.array(config.sizes[1:])
    variance = 2 / (ins + outs) if initializer == "glorot_normal" else 2 / ins
    forward, backward = kappa * ins * variance, kappa * outs * variance
    return np.cumprod(forward), np.cumprod(backward[::-1])[::-1]


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    return [_plot_depth(result.curves), _plot_laws(result.curves)]


def _log_band(axes, places, values, colour, label, **line) -> None:
    mean, half = mean_interval(np.log10(values))
    axes.fill_between(places, 10 ** (mean - half), 10 ** (mean + half), color=colour, alpha=0.2, linewidth=0)
    axes.plot(places, 10**mean, color=colour, label=label, **line)


def _plot_depth(curves: Mapping) -> Picture:
    config = curves["config"]
    figure = style.figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    places = np.arange(config.depth + 1)[::-1]
    for name, colour in STACKS.items():
        _log_band(left, places, curves["stacks"][name], colour, name)
    for law in LAW.values():
        label = "laws" if law is LAW["plain"] else None
        left.plot(
            places, [np.sqrt(law(k, config.depth)) for k in places], ":", color=style.BLACK, label=label, linewidth=1.3
        )
    left.set(title="Through layers", xlabel="blocks pulled back through, k", yscale="log")
    left.set_ylabel("norm of the cotangent, relative")
    left.legend(loc="lower left")
    back = np.arange(config.time + 1)[::-1]
    _log_band(right, back, curves["bound"], style.BLACK, r"RNN's bound $\prod |U|\,\max f\,'$", linestyle="--")
    for name, colour in CELLS.items():
        _log_band(right, back, curves["cells"][name], colour, name)
    right.set(title="Through time", xlabel="steps pulled back through", yscale="log")
    right.legend(loc="lower left", fontsize=8)
    return Picture(
        "vanishing",
        "The norm of a random cotangent on its way back from the last layer, or step, relative to its start (geometric "
        f"mean and 95 % interval of {config.seeds} seeds). Left: the same weights plain, with a shortcut, and with a "
        "shortcut and a norm on the branch. Right: orthogonal recurrent weights alone do not keep the gradient; gates "
        "do, where their biases open them for long enough.",
        figure,
    )


def _plot_laws(curves: Mapping) -> Picture:
    config = curves["config"]
    figure = style.figure(10, 3.6)
    for axes, name in zip(figure.subplots(1, 2), LAWS):
        places = np.arange(1, len(config.sizes))
        sides = zip(curves["laws"][name], _theory(config, name), ("forward", "backward"), (style.BLUE, style.RED))
        for values, theory, label, colour in sides:
            mean, half = mean_interval(values)
            axes.errorbar(places, mean, half, fmt="o", color=colour, markersize=4, capsize=2, label=label)
            axes.plot(places, theory, color=colour, linewidth=1.2, label=f"{label}, law")
        axes.set(title=name, xlabel="layer", ylabel="mean square, relative", yscale="log")
        axes.set_ylim(10 ** np.floor(np.log10(axes.get_ylim()[0])), None)
        axes.legend()
    return Picture(
        "laws",
        f"Mean squares of layers of {config.sizes[0]} to {config.sizes[-1]} units: of the outputs from the first layer "
        "on, of the cotangents from the last one on, with the laws as lines (mean and 95 % interval over the seeds). "
        "Glorot's variance 2/(in + out) stands between what forward and backward ask for; He's keeps the forward one.",
        figure,
    )
