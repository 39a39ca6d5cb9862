"""Dropout of a linear model's inputs is, in expectation, a penalty: over all masks, and where training with it ends.

An input x_j is kept with probability 1 - p and then divided by it: z = sum_j m_j x_j w_j with E m_j = 1 and
Var m_j = p / (1 - p), so that for the squared error, exactly,

    E (z - y)^2 = (x'w - y)^2 + p / (1 - p) sum_j x_j^2 w_j^2,

ridge regression whose penalty of w_j is the mean square of input j. The expectation is computed over all 2^d masks.
Its minimiser is known in closed form; gradient descent with `layers.dropout` and a constant step has it as the mean of
its iterates once the start is forgotten, since the gradient is linear in w and each mask is drawn anew. Measured is the
mean along runs; Student's interval over seeds is at a level at which all coordinates together would be refused in 1 %
of all experiments, were that so.

For logistic regression, log(1 + e^z) - y z, the penalty is s'(x'w) / 2 p / (1 - p) sum_j x_j^2 w_j^2 up to terms of
higher order, with the sigmoid's slope s'; what is left out falls like |w|^4.

Data: scikit-learn's diabetes data; ten of the variables of its breast cancer data; all standardised.

Sources: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, section 9.1; Wager, Wang and Liang 2013,
Dropout training as adaptive regularization.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_diabetes

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import layers, losses

CLAIM = (
    "Dropout of a linear model's inputs is an L2 penalty, exactly in expectation over all masks; training with it ends "
    "at that ridge regression; and for logistic regression the same penalty is right up to terms of fourth order."
)


@dataclass(frozen=True)
class Config:
    """Settings of the dropout experiment."""

    seeds: int = 24
    """Random weights at which expectations are compared, and runs with masks of their own, at once."""
    rates: tuple[float, ...] = (0.1, 0.3, 0.5, 0.8)
    """Probabilities p of dropping an input."""
    steps: int = 6000
    """Steps of a run; the first third is not counted."""
    learning_rate: float = 0.02
    """Of gradient descent on all examples."""
    scales: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    """Lengths of the weights of logistic regression; the order is measured between the first two."""

    def __post_init__(self):
        settings.at_least(self, 2, "seeds")
        settings.at_least(self, 3, "steps")
        settings.positive(self, "learning_rate")
        if not self.rates or min(self.rates) <= 0 or max(self.rates) >= 1:
            raise ValueError(f"rates: expected numbers above 0 below 1, got {self.rates}")
        if len(self.scales) < 2 or min(self.scales) <= 0:
            raise ValueError(f"scales: expected at least two numbers above 0, got {self.scales}")


SMOKE = Config(seeds=2, rates=(0.5,), steps=6, scales=(0.1, 0.2))
QUICK = Config(seeds=16, steps=3000)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        linear, logistic = _data(load_diabetes()), _data(load_breast_cancer())
        progress.part("all masks")
        off = np.asarray(_expectations(config, *linear))
        left, penalties = (np.asarray(values) for values in _logistic(config, *logistic))
        progress.part("training")
        ends = np.asarray(_trained(config, *linear))
        ridge = np.stack([_ridge(*linear, rate) for rate in config.rates])
    errors = ends.std(0, ddof=1) / np.sqrt(config.seeds)  # (rates, coordinates)
    chance = np.abs(ends.mean(0) - ridge) / errors
    level = stats.t.ppf(1 - 0.005 / ridge.size, config.seeds - 1)
    free = _ridge(*linear, 0.0)
    apart = np.linalg.norm(ends.mean(0) - ridge, axis=1) / np.linalg.norm(free - ridge, axis=1)
    order = np.log(left[:, 1] / left[:, 0]) / np.log(config.scales[1] / config.scales[0])
    mean, half = mean_interval(order)
    checks = [
        Check(
            f"squared error, {len(config.rates)} rates: expectation over all {2 ** linear[0].shape[1]} masks, and its "
            "gradient, are the penalised loss's, to 1e-12",
            f"{off.max():.1e} relative at most",
            bool(off.max() <= 1e-12),
        ),
        Check(
            f"training with dropout: the mean weights are those of the ridge, {ridge.size} coordinates, within chance",
            f"{chance.max():.1f} standard errors at most, of {level:.1f} allowed",
            bool(chance.max() <= level),
        ),
        Check(
            "and nearer to them than a tenth of their distance from least squares, at every rate",
            f"{apart.max():.3f} of it at most",
            bool(apart.max() <= 0.1),
        ),
        Check(
            "logistic regression: what the penalty leaves out falls like |w|⁴, to a tenth of the exponent",
            f"|w|^({mean:.2f} ± {half:.2f})",
            bool(abs(mean - 4) + half <= 0.4),
        ),
    ]
    rows = [
        [rate, float(off[:, k].max()), float(chance[k].max()), float(apart[k]), float(np.linalg.norm(ridge[k]))]
        for k, rate in enumerate(config.rates)
    ]
    columns = [
        "rate",
        "off in expectation",
        "off in training / standard errors",
        "/ distance from least squares",
        "|w|",
    ]
    metrics = [
        {
            "part": "training",
            "rate": rate,
            "seed": seed,
            "coordinate": j,
            "weight": ends[seed, k, j],
            "ridge": ridge[k, j],
        }
        for k, rate in enumerate(config.rates)
        for seed in range(config.seeds)
        for j in range(ridge.shape[1])
    ]
    metrics += [
        {"part": "logistic", "scale": scale, "seed": seed, "left out": left[seed, k], "penalty": penalties[seed, k]}
        for k, scale in enumerate(config.scales)
        for seed in range(config.seeds)
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"seeds": config.seeds, "order of what the logistic penalty leaves out": plus_minus(order)},
        metrics=metrics,
        table=Table(columns, rows),
        curves={"config": config, "ends": ends, "ridge": ridge, "free": free, "left": left, "penalties": penalties},
    )


# ---- expectations ----------------------------------------------------------------------------------------


def _data(bunch):
    """(inputs, targets): the first ten variables, standardised; targets too, unless they are classes."""
    x, y = bunch.data[:, :10], bunch.target.astype(float)
    x = (x - x.mean(0)) / x.std(0)
    return jnp.asarray(x), jnp.asarray(y if set(y) == {0.0, 1.0} else (y - y.mean()) / y.std())


def _over_masks(loss, x, w, rate):
    """E loss(z) over all masks, each by its probability: z = sum_j m_j x_j w_j."""
    d = x.shape[1]
    kept = (jnp.arange(2**d)[:, None] >> jnp.arange(d)) % 2
    chance = jnp.prod(jnp.where(kept == 1, 1 - rate, rate), axis=1)
    values = lax.map(lambda mask: jnp.mean(loss(x @ (mask * w / (1 - rate)))), kept)
    return jnp.sum(chance * values)


def _penalty(x, w, rate, slope: jax.Array | float = 1.0):
    return rate / (1 - rate) * jnp.mean(slope * (x**2 @ w**2))


def _weights(config: Config, d: int):
    return jax.random.normal(jax.random.key(0), (config.seeds, d), jnp.float64)


def _expectations(config: Config, x, y):
    """Largest relative difference of value and gradient: (seeds, rates)."""
    squared = lambda z: losses.squared_error(z, y)
    c = losses.squared_error(jnp.ones(()), jnp.zeros(()))  # c (z - y)^2, whichever c the loss has

    def off(w, rate):
        both = jax.value_and_grad(lambda w: _over_masks(squared, x, w, rate))(w)
        law = jax.value_and_grad(lambda w: jnp.mean(squared(x @ w)) + c * _penalty(x, w, rate))(w)
        return jnp.max(
            jnp.stack([jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)) for a, b in zip(both, law, strict=True)])
        )

    return jax.jit(jax.vmap(jax.vmap(off, (None, 0)), (0, None)))(_weights(config, x.shape[1]), jnp.array(config.rates))


def _logistic(config: Config, x, y):
    """What the penalty leaves out of the expectation, and the penalty, at half of the rates' range: (seeds, scales)."""
    rate = 0.5
    loss = lambda z: losses.sigmoid_cross_entropy(z, y)

    def one(w, scale):
        w = scale * w / jnp.linalg.norm(w)
        s = jax.nn.sigmoid(x @ w)
        penalty = 0.5 * _penalty(x, w, rate, s * (1 - s))
        return jnp.abs(_over_masks(loss, x, w, rate) - jnp.mean(loss(x @ w)) - penalty), penalty

    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(
        _weights(config, x.shape[1]), jnp.array(config.scales)
    )


# ---- training --------------------------------------------------------------------------------------------


def _ridge(x, y, rate) -> np.ndarray:
    """The minimiser of mean (x'w - y)^2 + p / (1 - p) sum_j mean(x_j^2) w_j^2."""
    x, y = np.asarray(x), np.asarray(y)
    return np.linalg.solve(x.T @ x + rate / (1 - rate) * np.diag((x**2).sum(0)), x.T @ y)


def _trained(config: Config, x, y):
    """Mean weights along runs with a mask for every example and step: (seeds, rates, coordinates)."""
    counted, begin = config.steps // 3, jnp.zeros(x.shape[1])

    def one(key, rate):
        def loss(w, key):
            return jnp.mean((layers.dropout(key, x, rate) @ w - y) ** 2)

        def step(carry, t):
            w, total = carry
            w = w - config.learning_rate * jax.grad(loss)(w, jax.random.fold_in(key, t))
            return (w, total + jnp.where(t >= counted, w, 0.0)), None

        (_, total), _ = lax.scan(step, (begin, jnp.zeros_like(begin)), jnp.arange(config.steps))
        return total / (config.steps - counted)

    keys = jax.random.split(jax.random.key(1), config.seeds)
    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(keys, jnp.array(config.rates))


# ---- plots -----------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    curves: Mapping = result.curves
    config = curves["config"]
    figure = style.figure(10.5, 4.0)
    left, right = figure.subplots(1, 2)
    left.axline((0, 0), slope=1, color=style.GREY, linewidth=0.8)
    for k, (rate, colour, marker) in enumerate(zip(config.rates, style.COLOURS, "os^Dv*X")):
        mean, half = mean_interval(curves["ends"][:, k])
        left.errorbar(
            curves["ridge"][k], mean, half, fmt=marker, color=colour, capsize=2, markersize=5, label=f"p = {rate:g}"
        )
    left.set(xlabel="weight of the ridge regression", ylabel="mean weight of training with dropout")
    left.set_title("Diabetes data, ten weights")
    left.legend(loc="upper left")
    for name, label, colour in (("penalties", "the penalty", style.BLUE), ("left", "what it leaves out", style.RED)):
        mean, half = mean_interval(np.log(curves[name]))
        right.fill_between(
            config.scales, np.exp(mean - half), np.exp(mean + half), color=colour, alpha=0.2, linewidth=0
        )
        right.loglog(config.scales, np.exp(mean), "o-", color=colour, markersize=4, label=label)
    right.set(xlabel="length of the weights |w|", ylabel="loss (nats)", title="Logistic regression, p = 0.5")
    right.legend(loc="upper left")
    caption = (
        "Left: where training with dropout ends, against the ridge regression that it is in expectation; bars are 95 % "
        "intervals over seeds. Right: the penalty that dropout is to second order, and the rest of the expectation "
        "over all masks, which falls like the fourth power: geometric means over seeds and 95 % bands."
    )
    return [Picture("dropout", caption, figure)]
