"""The activations with their derivatives, and what saturation does to a gradient.

Derivatives: every hand-written f' of the table is compared on a grid, in float64, with the limit of the central
difference quotient (steps h and h/2, extrapolated) and with jax.grad. Kinks are drawn and left out: there is no
derivative to compare with. softmax, which mixes its entries, has its Jacobian compared instead.

Saturation of one unit: the mean of f'(z) for normally distributed z of growing spread s. For a bounded f it must
fall like (f(∞) - f(-∞)) / (s √(2π)), for the normal density is flat where f' lives; for ReLU it stays 1/2.

Saturation through depth: a network of equal layers at its initial weights, whose spread keeps signals alive for the
activation at hand (He's for ReLU and GELU, Glorot's and LeCun's, here the same, for the others), and the δ's of
textbook backpropagation. How much of the gradient at the last hidden layer is left at the first, over seeds run at
once (vmap).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import MaxNLocator

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval
from functional_dl import backprop, layers, losses
from functional_dl.activations import ACTIVATIONS, softmax, softmax_prime

CLAIM = (
    "Every hand-written activation derivative is the limit of its difference quotient; and where derivatives saturate "
    "gradients fade: over a million-fold through 20 sigmoid layers, less than ten-fold through 20 ReLU layers."
)
DEEP = {  # activation -> gain: initial weights have standard deviation gain / √width
    "sigmoid": 1.0,
    "tanh": 1.0,
    "softsign": 1.0,
    "relu": 2**0.5,
    "gelu": 2**0.5,
    "selu": 1.0,
}
SPREAD = ("sigmoid", "tanh", "hard_tanh", "relu", "gelu")
RISE = {"sigmoid": 1.0, "tanh": 2.0, "hard_tanh": 2.0}  # f(∞) - f(-∞)


@dataclass(frozen=True)
class Config:
    """Settings of the activations experiment."""

    points: int = 600
    """Points of the grid on which derivatives are compared."""
    reach: float = 6.5
    """The grid covers [-reach, reach]."""
    depth: int = 20
    """Hidden layers of the deep networks."""
    width: int = 64
    """Units a layer."""
    examples: int = 64
    """Random examples in the batch."""
    seeds: int = 16
    """Initial weights and batches, run at once."""

    def __post_init__(self):
        settings.at_least(self, 2, "points", "depth", "width", "seeds")
        settings.at_least(self, 1, "examples")
        settings.positive(self, "reach")


SMOKE = Config(points=20, depth=2, width=4, examples=4, seeds=2)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        curves = {
            name: _curve(name, config)
            for name, entry in progress.over(ACTIVATIONS.items(), "activations")
            if entry.elementwise
        }
        jacobian = _softmax_error()
        spreads = np.geomspace(0.1, 100, 31)
        slopes = {name: _mean_slope(name, spreads) for name in SPREAD}
    networks = _networks(config)
    deltas = {name: _deltas(name, gain, networks) for name, gain in progress.over(DEEP.items(), "networks")}
    kept = {name: norms[:, 0] / norms[:, -1] for name, norms in deltas.items()}

    limit_error = max(curve["limit_error"] for curve in curves.values())
    grad_error = max(curve["grad_error"] for curve in curves.values())
    predicted = {name: rise / (spreads[-1] * np.sqrt(2 * np.pi)) for name, rise in RISE.items()}
    slope_error = max(abs(slopes[name][-1] / value - 1) for name, value in predicted.items())
    sigmoid_kept, relu_kept = (10 ** np.mean(np.log10(kept[name])) for name in ("sigmoid", "relu"))
    checks = [
        Check(f"{len(curves)} hand derivatives: the limit to 1e-9", f"{limit_error:.1e} at most", limit_error <= 1e-9),
        Check(f"{len(curves)} hand derivatives: jax.grad to 1e-14", f"{grad_error:.1e} at most", grad_error <= 1e-14),
        Check("softmax Jacobian p_i(1(i=j) − p_j): jax's to 1e-14", f"{jacobian:.1e} at most", jacobian <= 1e-14),
        Check(
            f"mean slope at spread {spreads[-1]:g} is the rise over s√(2π), to 1 %",
            f"{100 * slope_error:.2g} % off at most",
            bool(slope_error <= 0.01),
        ),
        Check(
            f"sigmoid: less than a millionth of the gradient is left after {config.depth} layers",
            f"{sigmoid_kept:.1e} (geometric mean of {config.seeds} seeds)",
            bool(sigmoid_kept < 1e-6),
        ),
        Check(
            "ReLU: between a tenth and ten times of it",
            f"{relu_kept:.2g} (geometric mean of {config.seeds} seeds)",
            bool(0.1 < relu_kept < 10),
        ),
    ]
    numbers = {f"gradient left, {name}": _interval_text(values) for name, values in kept.items()}
    metrics = [
        {"part": "derivative", "activation": name, "limit_error": c["limit_error"], "grad_error": c["grad_error"]}
        for name, c in curves.items()
    ]
    metrics += [
        {"part": "spread", "activation": name, "s": s, "mean_slope": v}
        for name, values in slopes.items()
        for s, v in zip(spreads, values)
    ]
    metrics += [
        {"part": "depth", "activation": name, "seed": seed, "layer": layer + 1, "delta_norm": value}
        for name, norms in deltas.items()
        for seed, row in enumerate(norms)
        for layer, value in enumerate(row)
    ]
    rows = [
        [name, float(c["prime"].max()), _kinks(name), c["limit_error"], c["grad_error"], ACTIVATIONS[name].source]
        for name, c in curves.items()
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers,
        metrics=metrics,
        table=Table(
            ["activation", "largest f' on the grid", "kinks (value taken)", "off the limit", "off jax.grad", "source"],
            rows,
        ),
        curves={"curves": curves, "spreads": spreads, "slopes": slopes, "deltas": deltas, "predicted": predicted},
    )


def _curve(name: str, config: Config) -> dict:
    entry = ACTIVATIONS[name]
    z = np.linspace(-config.reach, config.reach, config.points)
    h = 2e-3
    # at 0 the second derivative of elu and celu jumps, and the extrapolation below does not hold
    corners = [0.0, *(kink.location for kink in entry.kinks)]
    away = np.all([np.abs(z - corner) > 2 * h for corner in corners], axis=0)
    f = lambda points: np.asarray(entry.fun(jnp.asarray(points)))
    quotient = lambda step: (f(z + step) - f(z - step)) / (2 * step)
    # three steps extrapolated twice: the error falls from h² to h⁶
    first = [(4 * quotient(step / 2) - quotient(step)) / 3 for step in (h, h / 2)]
    limit = (16 * first[1] - first[0]) / 15
    prime = np.asarray(entry.prime(jnp.asarray(z)))
    by_jax = np.asarray(jax.vmap(jax.grad(entry.fun))(jnp.asarray(z)))
    return {
        "z": z,
        "fun": f(z),
        "prime": prime,
        "limit_error": float(np.abs(prime - limit)[away].max()),
        "grad_error": float(np.abs(prime - by_jax)[away].max()),
    }


def _softmax_error() -> float:
    z = jnp.asarray(np.random.default_rng(0).normal(size=(20, 5)) * 3)
    return float(jnp.max(jnp.abs(softmax_prime(z) - jax.vmap(jax.jacrev(softmax))(z))))


def _mean_slope(name: str, spreads: np.ndarray) -> np.ndarray:
    """E f'(s u), u standard normal, by the trapezoidal rule on ±9, with points dense at 0, where f' lives."""
    u = 9 * np.sinh(np.linspace(-6, 6, 20_001)) / np.sinh(6)
    weight = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi) * np.gradient(u)
    slopes = [np.sum(weight * np.asarray(ACTIVATIONS[name].prime(jnp.asarray(s * u)))) for s in spreads]
    return np.array(slopes)


def _deltas(name: str, gain: float, networks) -> np.ndarray:
    """|δ^l| of every hidden layer, shape (seeds, depth)."""

    def one_seed(hidden, *rest):
        hidden = hidden | {"weight": gain * hidden["weight"]}
        return jnp.stack(_delta_norms(ACTIVATIONS[name], hidden, *rest))

    return np.asarray(jax.jit(jax.vmap(one_seed))(*networks))


@partial(jax.jit, static_argnames="config")
def _networks(config: Config):
    """A network and a batch a seed: (stacked hidden layers, the layer of logits, examples, one-hot labels)."""
    hidden = layers.dense(config.width, config.width, initializer="lecun_normal")
    readout = layers.dense(config.width, 10, initializer="lecun_normal")

    def one_seed(key):
        hidden_key, readout_key, inputs, labels = jax.random.split(key, 4)
        stacked = jax.vmap(hidden.init)(jax.random.split(hidden_key, config.depth))
        x = jax.random.normal(inputs, (config.examples, config.width))
        y = jax.nn.one_hot(jax.random.randint(labels, (config.examples,), 0, 10), 10, dtype=x.dtype)
        return stacked, readout.init(readout_key), x, y

    return jax.vmap(one_seed)(jax.random.split(jax.random.key(0), config.seeds))


def _delta_norms(f, stacked, readout, x, y):
    """backprop.gradients' |δ^l| for equal layers, by its formulas (1) and (2), as loops that compile fast."""

    def forward(a, layer):
        z = layers.affine(layer, a)
        return f.fun(z), z

    a, zs = jax.lax.scan(forward, x, stacked)
    delta = losses.softmax_cross_entropy_prime(layers.affine(readout, a), y) / len(x)  # (1)
    last = backprop.through(f, zs[-1], delta @ readout["weight"].T)  # (2)

    def backward(delta, layer):
        weight, z = layer
        delta = backprop.through(f, z, delta @ weight.T)  # (2)
        return delta, jnp.linalg.norm(delta)

    _, norms = jax.lax.scan(backward, last, (stacked["weight"][1:], zs[:-1]), reverse=True)
    return [*norms, jnp.linalg.norm(last)]


def _interval_text(values) -> str:
    """Geometric mean with its 95 % interval."""
    mean, half = mean_interval(np.log10(values))
    low, middle, high = 10 ** (mean - half), 10**mean, 10 ** (mean + half)
    return f"{middle:.2g} [{low:.2g}, {high:.2g}]"


def _kinks(name: str) -> str:
    return ", ".join(f"{kink.location:g} ({kink.value:.4g})" for kink in ACTIVATIONS[name].kinks) or "none"


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    return [_plot_curves(result.curves["curves"]), _plot_saturation(result.curves)]


def _plot_curves(curves: Mapping) -> Picture:
    columns = 5
    rows = -(-len(curves) // columns)
    figure = style.figure(11, 2.0 * rows)
    grid = figure.subplots(rows, columns, sharex=True).ravel()
    for axes, (name, curve) in zip(grid, curves.items()):
        axes.plot(curve["z"], curve["fun"], color=style.BLUE, label="f(z)")
        _broken_line(axes, name, curve)
        for number, kink in enumerate(ACTIVATIONS[name].kinks):
            label = "f' taken at a kink" if number == 0 else None
            axes.plot(kink.location, kink.value, "o", color=style.BLACK, markersize=4, label=label)
        axes.set_title(name)
        axes.set_ylim(-1.6, 2.6)
        axes.tick_params(labelsize=8)
    for axes in grid[len(curves) :]:
        axes.axis("off")
    for axes in grid[max(0, len(curves) - columns) : len(curves)]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
    kinked = next((axes for axes, name in zip(grid, curves) if ACTIVATIONS[name].kinks), grid[0])
    figure.legend(*kinked.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.supxlabel("z", fontsize=10)
    return Picture(
        "curves", "The elementwise activations and their hand-written derivatives, all on one scale.", figure
    )


def _broken_line(axes, name: str, curve: dict) -> None:
    """f' as a line that is not drawn across its jumps."""
    z, prime = curve["z"].copy(), curve["prime"].copy()
    for kink in ACTIVATIONS[name].kinks:
        place = int(np.searchsorted(z, kink.location))
        z, prime = np.insert(z, place, kink.location), np.insert(prime, place, np.nan)
    axes.plot(z, prime, color=style.RED, label="f'(z)", linewidth=1.5)


def _plot_saturation(curves: Mapping) -> Picture:
    figure = style.figure(10, 3.8)
    left, right = figure.subplots(1, 2)
    spreads = curves["spreads"]
    for (name, values), colour in zip(curves["slopes"].items(), style.COLOURS):
        left.loglog(spreads, values, color=colour, label=name, linestyle="--" if name == "gelu" else "-")
    left.loglog(spreads[15:], 1 / (spreads[15:] * np.sqrt(2 * np.pi)), ":", color=style.BLACK, label="1/(s√(2π))")
    left.set(title="Saturation of one unit", xlabel="spread s of z", ylabel="mean of f'(z)")
    left.legend()
    for (name, norms), colour in zip(curves["deltas"].items(), style.COLOURS):
        mean, half = mean_interval(np.log10(norms / norms[:, -1:]))
        places = np.arange(1, norms.shape[1] + 1)
        right.fill_between(places, 10 ** (mean - half), 10 ** (mean + half), color=colour, alpha=0.2, linewidth=0)
        right.plot(places, 10**mean, color=colour, label=name, marker=".", markersize=4)
    right.set(title="Gradient through depth", xlabel="hidden layer", ylabel="|δ| relative to the last", yscale="log")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend(loc="lower right")
    return Picture(
        "saturation",
        "Left: bounded activations pass less and less gradient as their inputs spread. Right: textbook "
        "backpropagation's δ on its way from the last hidden layer to the first (geometric mean, 95 % interval).",
        figure,
    )
