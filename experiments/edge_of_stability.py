"""The edge of stability: gradient descent drives the loss to where its own step is the longest that it can take.

Gradient descent on a quadratic whose largest curvature is l converges for steps h < 2 / l alone. On a network's loss
the largest eigenvalue of the Hessian, the sharpness, is no constant. Trained with the whole training set it rises while
the loss falls (progressive sharpening), as long as it is below 2 / h. There it stops and stays, just at the edge, while
the loss goes on falling over many steps, though it rises in single ones.

The network has one hidden layer of tanh units and one output, and is fitted to examples of scikit-learn's diabetes data
(standardised) by its mean squared error / 2, in float64. The sharpness is found by power steps u <- H u / |H u|, begun
with the last u, with H u = d/dt grad f(w + t u), forward over reverse. A step so short that its edge is out of reach
shows how far the sharpness rises by itself.

Sources: Cohen, Kaur, Li, Kolter and Talwalkar 2021, Gradient descent on neural networks typically occurs at the edge of
stability; for quadratics Nesterov 2004, Introductory Lectures on Convex Optimization, theorem 2.1.15.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_diabetes

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import reverse

CLAIM = (
    "Trained by gradient descent on all examples, a network's largest curvature rises until it is 2 / step, and stays "
    "there while the loss goes on falling."
)
EVERY = 10  # steps between two looks at the sharpness
POWER = 8  # power steps of a look; u is nearly right from the last one


@dataclass(frozen=True)
class Config:
    """Settings of the edge of stability experiment."""

    seeds: int = 20
    """Draws of examples and of first parameters, run at once."""
    examples: int = 40
    """Examples to fit."""
    width: int = 12
    """Hidden units."""
    steps: int = 3000
    """Steps of gradient descent."""
    rates: tuple[float, ...] = (0.35, 0.42, 0.5)
    """Lengths h of a step whose edge is reached."""
    short: float = 0.05
    """The length of a step whose edge is out of reach."""

    def __post_init__(self):
        settings.at_least(self, 2, "seeds", "examples", "width")
        settings.at_least(self, 6 * EVERY, "steps")
        settings.positive(self, "short")
        if not self.rates or min(self.rates) <= self.short:
            raise ValueError(f"rates: expected numbers above short = {self.short:g}, got {self.rates}")
        if self.examples > 442:
            raise ValueError(f"examples: expected at most 442, as many as the data has, got {self.examples}")


SMOKE = Config(seeds=2, examples=8, width=3, steps=80, rates=(0.5,))
QUICK = Config(seeds=12, steps=1500)


def run(config: Config) -> Result:
    rates = (config.short, *config.rates)
    with jax.enable_x64(True):
        train = jax.jit(jax.vmap(lambda key, rate: _train(config, key, rate), (0, None)))
        keys = jax.random.split(jax.random.key(0), config.seeds)
        found = [jax.device_get(train(keys, jnp.asarray(rate))) for rate in progress.over(rates, "steps")]
    sharpness, losses = (np.stack([f[name] for f in found]) for name in ("sharpness", "losses"))
    relative = sharpness * np.array(rates)[:, None, None] / 2  # of the edge: (rates, seeds, looks)
    late = relative.shape[-1] * 2 // 3
    level = relative[1:, :, late:].mean(-1)
    alone = sharpness[0, :, late:].mean(-1)
    # of a seed all h begin with the same data and weights: their mean is one value
    rising = np.mean(np.diff(losses[1:], axis=-1)[..., late * EVERY :] > 0, axis=(0, -1))
    ends = losses[1:, :, -EVERY:].mean(-1), losses[1:, :, late * EVERY : (late + 1) * EVERY].mean(-1)
    fall = np.log(ends[0] / ends[1]).mean(0)
    sharper = alone / sharpness[0, :, 0]
    checks = [
        Check(
            f"at the start the sharpness is below 2 / h, for each h up to {max(config.rates):g}, in the mean",
            f"{relative[1:, :, 0].mean(1).max():.2f} of it at most",
            bool(relative[1:, :, 0].mean(1).max() < 1),
        ),
        Check(
            f"with h = {config.short:g}, whose edge is far, it rises by itself over 1.5-fold, in the mean",
            f"{plus_minus(sharper, 1, 3)} times",
            bool(np.subtract(*mean_interval(sharper)) > 1.5),
        ),
        *(
            Check(
                f"with h = {rate:g} it stays within 5 % of 2 / h = {2 / rate:.3g} in the last third, in every run",
                f"{level[k].min():.3f} to {level[k].max():.3f} of it",
                bool((np.abs(level[k] - 1) < 0.05).all()),
            )
            for k, rate in enumerate(config.rates)
        ),
        Check(
            "there the loss rises in over 5 % of single steps, in the mean",
            f"{plus_minus(100 * rising, 1, 2)} %",
            bool(np.subtract(*mean_interval(rising)) > 0.05),
        ),
        Check(
            "and goes on falling over many, in the geometric mean",
            _words(fall, "times from the beginning to the end of the last third"),
            bool(np.add(*mean_interval(fall)) < 0),
        ),
    ]
    rows = [
        [
            rate,
            2 / rate,
            plus_minus(sharpness[k, :, 0], 1, 3),
            plus_minus(sharpness[k, :, late:].mean(-1), 1, 3),
            plus_minus(relative[k, :, late:].mean(-1), 1, 3),
            f"{np.exp(np.log(losses[k, :, -1]).mean()):.2e}",
        ]
        for k, rate in enumerate(rates)
    ]
    columns = ["step h", "2 / h", "first sharpness", "sharpness, last third", "of 2 / h", "last loss"]
    metrics = [
        {"rate": rate, "seed": seed, "step": look * EVERY, "sharpness": sharpness[k, seed, look]}
        for k, rate in enumerate(rates)
        for seed in range(config.seeds)
        for look in range(0, sharpness.shape[-1], 5)
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={
            "seeds": config.seeds,
            "steps": config.steps,
            "sharpness / (2 / h), last third": f"{level.mean():.3f}",
        },
        metrics=metrics,
        table=Table(columns, rows),
        curves={"rates": rates, "sharpness": sharpness, "losses": losses},
    )


# ---- training --------------------------------------------------------------------------------------------


def _train(config: Config, key, rate) -> dict:
    """Sharpness at every look, the first at the start, and losses at every step of one run."""
    data = load_diabetes()
    x = jnp.asarray((data.data - data.data.mean(0)) / data.data.std(0))
    y = jnp.asarray((data.target - data.target.mean()) / data.target.std())
    chosen = jax.random.permutation(jax.random.fold_in(key, 0), len(y))[: config.examples]
    x, y = x[chosen], y[chosen]
    first, unravel = ravel_pytree(_parameters(config, jax.random.fold_in(key, 1), x.shape[1]))

    def loss(flat):
        p = unravel(flat)
        return jnp.mean((jnp.tanh(x @ p["w"] + p["b"]) @ p["v"] + p["c"] - y) ** 2) / 2

    gradient, both = reverse.grad(loss), reverse.value_and_grad(loss)

    def sharpness(flat, u):
        product = lambda u: jax.jvp(gradient, (flat,), (u,))[1]
        step = lambda u, _: ((v := product(u)) / jnp.linalg.norm(v), None)
        u, _ = lax.scan(step, u, None, length=POWER)
        return u @ product(u), u

    def look(carry, _):
        flat, u = carry

        def descend(flat, _):
            value, slope = both(flat)
            return flat - rate * slope, value

        value, u = sharpness(flat, u)
        flat, values = lax.scan(descend, flat, None, length=EVERY)
        return (flat, u), (value, values)

    u = jnp.ones_like(first) / first.size**0.5
    for _ in range(4):  # the first one is found from nowhere
        _, u = sharpness(first, u)
    _, (found, losses) = lax.scan(look, (first, u), None, length=config.steps // EVERY)
    return {"sharpness": found, "losses": losses.ravel()}


def _parameters(config: Config, key, inputs: int) -> dict:
    of_w, of_v = jax.random.split(key)
    return {
        "w": jax.random.normal(of_w, (inputs, config.width), jnp.float64) / inputs**0.5,
        "b": jnp.zeros(config.width, jnp.float64),
        "v": jax.random.normal(of_v, (config.width,), jnp.float64) / config.width**0.5,
        "c": jnp.zeros((), jnp.float64),
    }


# ---- judging and plots -----------------------------------------------------------------------------------


def _words(logs, what: str) -> str:
    mean, half = mean_interval(logs)
    return f"{np.exp(mean):.3g} ({np.exp(mean - half):.3g} to {np.exp(mean + half):.3g}) {what}"


def plot(result: Result) -> list[Picture]:
    curves: Mapping = result.curves
    figure = style.figure(10.5, 4.2)
    left, right = figure.subplots(1, 2)
    colours = [style.GREY, style.BLUE, style.GREEN, style.RED, style.PURPLE]
    for k, rate in enumerate(curves["rates"]):
        colour, sharpness = colours[k % len(colours)], curves["sharpness"][k]
        steps = np.arange(sharpness.shape[-1]) * EVERY
        mean, half = mean_interval(sharpness)
        left.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
        left.plot(steps, mean, color=colour, linewidth=1.2, label=f"h = {rate:g}")
        if k:
            left.axhline(2 / rate, color=colour, linewidth=0.8, linestyle="--")
        run = curves["losses"][k][0]
        right.plot(np.arange(len(run)), run, color=colour, linewidth=0.8)
    left.set(xlabel="step", ylabel="largest eigenvalue of the Hessian", title="Sharpness")
    right.set(xlabel="step", ylabel="mean squared error / 2", yscale="log", title="Loss of one run")
    left.legend(loc="upper left")
    caption = (
        "Left: means over seeds and their 95 % intervals. Dashed: 2 / h, above which gradient descent on a quadratic "
        "would diverge. The means come up to it, overshoot, and stay. Right: the loss jumps where the edge is passed."
    )
    return [Picture("sharpness", caption, figure)]
