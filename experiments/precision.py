"""What few digits do to a gradient, layer by layer: rounding, underflow, and scaling the loss.

The gradient of the cross-entropy of a deep tanh network (scikit-learn's digits) is taken wholly in float32, bfloat16 or
float16, and held against float64. A format with t bits behind the point rounds each operation by 2^-(t+1) of it: 2^-24,
2^-8 and 2^-11. bfloat16 has float32's range; float16 ends at 6e-8, and what is smaller is 0. Where weights shrink the
signal by a factor a layer, what flows back is least at the first layers: rounded to multiples of 6e-8, or to 0, it
leaves their gradients the fewest digits.
Scaled by S, L becomes S L and every cotangent S times as large, by a power of two without another rounding; the
gradient is divided by S in float64.

How much of this matters is told by the noise of the gradient itself: how far that of one batch is from that of all.

Sources: Micikevicius and others 2018, Mixed precision training; IEEE 754; Higham 2002, Accuracy and Stability of
Numerical Algorithms, section 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from sklearn.datasets import load_digits

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import losses, reverse

CLAIM = (
    "In float16 the gradients of a deep network lose their digits towards the input, for what flows back underflows, "
    "and scaling the loss by a power of two brings them back; bfloat16 keeps them, with about eight times the rounding "
    "error, far below the noise of a batch."
)
BITS = {"float32": 24, "bfloat16": 8, "float16": 11}


@dataclass(frozen=True)
class Config:
    """Settings of the precision experiment."""

    seeds: int = 40
    """Draws of weights and batches, run at once."""
    layers: int = 12
    """Weight matrices."""
    width: int = 64
    """Hidden units of a layer."""
    gain: float = 0.45
    """Standard deviation of a weight, times the root of its layer's inputs: what a layer shrinks the signal by."""
    batch: int = 128
    """Examples of a batch."""
    scale: float = 2.0**14
    """What the loss is multiplied by, a power of two."""

    def __post_init__(self):
        settings.at_least(self, 2, "seeds", "width", "batch")
        settings.at_least(self, 3, "layers")
        settings.positive(self, "gain", "scale")
        if np.log2(self.scale) % 1:
            raise ValueError(f"scale: expected a power of two, got {self.scale:g}")


SMOKE = Config(seeds=2, layers=3, width=8, batch=16)
QUICK = Config(seeds=12)


def run(config: Config) -> Result:
    data = load_digits()
    pixels, labels = data.data / 16, data.target
    keys = jax.random.split(jax.random.key(0), config.seeds)
    ways = {
        "float32": ("float32", 1.0),
        "bfloat16": ("bfloat16", 1.0),
        "float16": ("float16", 1.0),
        "float16, scaled": ("float16", config.scale),
    }

    drawn = np.random.default_rng(0)
    chosen = np.stack([drawn.permutation(len(labels))[: config.batch] for _ in range(config.seeds)])

    def of_batches(dtype, scale):
        one = jax.vmap(lambda weights, x, t: _gradient(weights, x, t, dtype, scale))
        return jax.device_get(jax.jit(one)(weights, pixels[chosen], labels[chosen]))

    with jax.enable_x64(True):
        weights = jax.jit(jax.vmap(lambda key: _weights(config, key, pixels.shape[1])))(keys)
        right = of_batches("float64", 1.0)
        everything = jax.jit(jax.vmap(lambda weights, x, t: _gradient(weights, x, t, "float64", 1.0), (0, None, None)))
        noise = _distance(right, jax.device_get(everything(weights, pixels, labels)))
        found = {name: of_batches(*way) for name, way in progress.over(ways.items(), "formats")}
    errors = {name: _distance(gradient, right) for name, gradient in found.items()}  # (layers, seeds)
    zeros = {name: _vanished(gradient, right) for name, gradient in found.items()}
    unit = {name: 2.0 ** -BITS[dtype] for name, (dtype, _) in ways.items()}
    scaled, middle = errors["float16, scaled"], config.layers // 2
    checks = [
        Check(
            f"float16: the relative error grows layer by layer towards the input, over the first {middle // 2 + 2}",
            " < ".join(f"{errors['float16'][k].mean():.1e}" for k in range(middle // 2 + 1, -1, -1)),
            bool(all(_low(errors["float16"][k] - errors["float16"][k + 1]) > 0 for k in range(middle // 2 + 1))),
        ),
        Check(
            "float16: entries become 0 that should not, in every layer",
            f"{100 * zeros['float16'].mean(1).min():.2f} to {100 * zeros['float16'].mean(1).max():.1f} % of them",
            bool(all(_low(share) > 0 for share in zeros["float16"])),
        ),
        Check(
            "float16: the first layer's relative error is over ten times the last one's",
            f"{plus_minus(errors['float16'][0] / errors['float16'][-1], 1, 3)} times",
            _low(errors["float16"][0] / errors["float16"][-1]) > 10,
        ),
        Check(
            f"with the loss times 2^{np.log2(config.scale):.0f} under 0.1 % is lost, and no layer's error is over 8 "
            "units of rounding, in any draw",
            f"{100 * zeros['float16, scaled'].max():.3f} %, {scaled.max() / unit['float16']:.1f} units",
            bool(zeros["float16, scaled"].max() < 1e-3 and scaled.max() <= 8 * unit["float16"]),
        ),
        Check(
            "bfloat16: under 0.1 % is lost; its error is that of scaled float16 times 8, the ratio of their units, "
            "within a factor of two, in each layer",
            f"{100 * zeros['bfloat16'].max():.2f} %, {_ratio(errors['bfloat16'], scaled).min():.2f} to "
            f"{_ratio(errors['bfloat16'], scaled).max():.2f} times",
            bool(
                zeros["bfloat16"].max() < 1e-3
                and _ratio(errors["bfloat16"], scaled).min() >= 4
                and _ratio(errors["bfloat16"], scaled).max() <= 16
            ),
        ),
        Check(
            f"the noise of a batch of {config.batch} is over ten times bfloat16's error, in each layer",
            f"{_ratio(noise, errors['bfloat16']).min():.0f} times at least",
            bool(_ratio(noise, errors["bfloat16"]).min() > 10),
        ),
    ]
    rows = [
        [
            layer + 1,
            f"{noise[layer].mean():.1e}",
            *(f"{errors[name][layer].mean():.1e}" for name in ways),
            f"{100 * zeros['float16'][layer].mean():.1f} %",
        ]
        for layer in range(config.layers)
    ]
    columns = ["layer", "noise of a batch", *ways, "lost in float16"]
    metrics = [
        {
            "format": name,
            "layer": layer + 1,
            "seed": seed,
            "error": errors[name][layer, seed],
            "lost": zeros[name][layer, seed],
        }
        for name in ways
        for layer in range(config.layers)
        for seed in range(config.seeds)
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={
            "seeds": config.seeds,
            "layers": config.layers,
            "lost of the first layer's gradient in float16": f"{100 * zeros['float16'][0].mean():.1f} %",
        },
        metrics=metrics,
        table=Table(columns, rows),
        curves={"errors": errors, "zeros": zeros, "noise": noise, "unit": unit},
    )


def _weights(config: Config, key, inputs: int) -> tuple:
    """Of the first layer, of the middle ones and of the last, in float64."""
    keys, width = jax.random.split(key, 3), config.width
    shapes = (inputs, width), (config.layers - 2, width, width), (width, 10)
    draw = lambda key, shape: config.gain * jax.random.normal(key, shape, jnp.float64) / shape[-2] ** 0.5
    return tuple(map(draw, keys, shapes))


def _gradient(weights, pixels, labels, dtype: str, scale: float) -> list:
    """Of each layer's weights, in float64."""
    x = pixels.astype(dtype)

    def loss(weights):
        first, middle, last = weights
        h, _ = lax.scan(lambda h, w: (jnp.tanh(h @ w), None), jnp.tanh(x @ first), middle)
        return losses.softmax_cross_entropy(h @ last, labels).mean() * jnp.asarray(scale, dtype)

    found = reverse.grad(loss)(jax.tree.map(lambda w: w.astype(dtype), weights))
    first, middle, last = (g.astype(jnp.float64) / scale for g in found)
    return [first, *middle, last]


def _distance(gradient, right) -> np.ndarray:
    """|g - g*| / |g*| of each layer's matrix: (layers, seeds)."""
    size = lambda g: np.linalg.norm(np.reshape(g, (len(g), -1)), axis=1)
    return np.array([size(g - r) / size(r) for g, r in zip(gradient, right)])


def _vanished(gradient, right) -> np.ndarray:
    return np.array([np.mean((g == 0) & (r != 0), axis=(1, 2)) for g, r in zip(gradient, right)])


def _ratio(above, below) -> np.ndarray:
    """Of means over seeds, layer by layer."""
    return above.mean(1) / below.mean(1)


def _low(values) -> float:
    mean, half = mean_interval(values)
    return float(mean - half)


def plot(result: Result) -> list[Picture]:
    curves: Mapping = result.curves
    figure = style.figure(10.5, 4.2)
    left, right = figure.subplots(1, 2)
    colours = dict(zip(curves["errors"], (style.BLUE, style.GREEN, style.RED, style.PURPLE)))
    layers = np.arange(1, len(curves["noise"]) + 1)
    for name, found in [("noise of a batch", curves["noise"]), *curves["errors"].items()]:
        mean, half = mean_interval(np.log(found.T))
        colour = colours.get(name, style.GREY)
        left.fill_between(layers, np.exp(mean - half), np.exp(mean + half), color=colour, alpha=0.2, linewidth=0)
        left.plot(layers, np.exp(mean), "o-", color=colour, markersize=3.5, label=name)
    for name in ("bfloat16", "float16", "float16, scaled"):
        mean, half = mean_interval(100 * curves["zeros"][name].T)
        right.errorbar(layers, mean, half, fmt="o-", color=colours[name], markersize=3.5, capsize=2, label=name)
    left.set(xlabel="layer, from the input", ylabel="relative error of its gradient", yscale="log", title="Rounding")
    right.set(xlabel="layer, from the input", ylabel="entries that became 0 (%)", title="Underflow")
    left.legend(loc="center right", bbox_to_anchor=(1.0, 0.3), fontsize=8)
    right.legend(loc="upper right")
    caption = (
        "Means over seeds and their 95 % intervals. Without scaling float16 loses digits towards the input and small "
        "entries everywhere; with it each layer's error is a few units of rounding. bfloat16 loses hardly any entry "
        "(its curve lies at 0, under the scaled one's), and rounds coarsely."
    )
    return [Picture("layers", caption, figure)]
