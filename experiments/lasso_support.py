"""Which features the lasso finds: with how many examples it recovers the support, against the threshold of theory.

y = X b + s e with standard normal X (n x p) and e, and k of the p coefficients are 1 or -1, the others 0. The lasso
with a penalty of order s sqrt(log(p - k) / n) recovers all signs of b, zeros included, with a probability that goes to
1 where n > (1 + d) n*, and to 0 where n < (1 - d) n*, as p grows, with

    n* = 2 k log(p - k) + k + 1.

Plotted against n / n* the chances for different p come close together, though n* differs. k = sqrt p rounded, and the
penalty is c s sqrt(log(p - k) / n). All draws and all n of a p are solved in one call (`vmap` of
optimality.regression.lasso): rows beyond n are 0.

Sources: Wainwright 2009, Sharp thresholds for high-dimensional and noisy sparsity recovery using l1-constrained
quadratic programming, theorems 3 and 4; Clopper and Pearson 1934 for the intervals.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import regression

CLAIM = (
    "Well below n* = 2 k log(p - k) + k + 1 examples the lasso misses the support, well above it finds it, whatever "
    "the number of features p, of those tried."
)
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Config:
    """Settings of the support recovery."""

    seeds: int = 200
    """Draws of data, signs and noise for each p and n, run at once."""
    features: tuple[int, ...] = (64, 128, 256)
    """Numbers of features p."""
    shares: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0)
    """Numbers of examples, as multiples of n*; some are at most 0.4, some at least 1.6."""
    noise: float = 0.5
    """Standard deviation s of the noise."""
    strength: float = 4.0
    """The penalty over s sqrt(log(p - k) / n), c."""

    def __post_init__(self):
        settings.at_least(self, 2, "seeds")
        settings.positive(self, "noise", "strength")
        if not self.features or min(self.features) < 8:
            raise ValueError(f"features: expected numbers of at least 8, got {self.features}")
        if list(self.shares) != sorted(self.shares) or self.shares[0] > 0.4 or self.shares[-1] < 1.6:
            raise ValueError(f"shares: expected rising numbers from at most 0.4 to at least 1.6, got {self.shares}")


SMOKE = Config(seeds=2, features=(8,), shares=(0.4, 1.0, 1.6))
QUICK = Config(seeds=50, features=(64, 128))


def run(config: Config) -> Result:
    shares = np.array(config.shares)
    with jax.enable_x64(True):
        found = np.stack([_recovered(config, p) for p in progress.over(config.features, "features")])
    chance, counts = found.mean(-1), found.sum(-1)
    few, many = shares <= 0.4, shares >= 1.6
    half = [_crossing(shares, row) for row in chance]
    thresholds = [_threshold(p) for p in config.features]
    checks = [
        *(
            Check(
                f"p = {p}: the chance of finding the support is under 10 % up to {shares[few][-1]:g} n* and over 80 % "
                f"from {shares[many][0]:g} n* on, by the ends of 95 % intervals",
                f"{100 * chance[i, few].max():.0f} % of draws at most, {100 * chance[i, many].min():.0f} % at least",
                bool(
                    _interval(counts[i, few].max(), config.seeds)[1] < 0.1
                    and _interval(counts[i, many].min(), config.seeds)[0] > 0.8
                ),
            )
            for i, p in enumerate(config.features)
        ),
        Check(
            "half of the draws find it between 0.6 n* and 1.2 n*, for each p",
            ", ".join(f"{at:.2f} n*" for at in half),
            bool(all(0.6 <= at <= 1.2 for at in half)),
        ),
    ]
    rows = [
        [p, _sparse(p), round(n_star, 1), f"{share:g}", round(share * n_star), *_words(counts[i, j], config.seeds)]
        for i, (p, n_star) in enumerate(zip(config.features, thresholds))
        for j, share in enumerate(shares)
    ]
    columns = ["p", "k", "n*", "n / n*", "n", "found, %", "95 % interval"]
    metrics = [
        {"features": p, "share": float(share), "seed": seed, "found": bool(found[i, j, seed])}
        for i, p in enumerate(config.features)
        for j, share in enumerate(shares)
        for seed in range(config.seeds)
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"draws": found.size, "n / n* where half find it": ", ".join(f"{at:.2f}" for at in half)},
        metrics=metrics,
        table=Table(columns, rows),
        curves={"shares": shares, "features": config.features, "thresholds": thresholds, "counts": counts},
    )


def _sparse(p: int) -> int:
    return round(p**0.5)


def _threshold(p: int) -> float:
    k = _sparse(p)
    return 2 * k * np.log(p - k) + k + 1


def _recovered(config: Config, p: int) -> np.ndarray:
    """Whether all signs are right: (shares, seeds)."""
    k, sizes = _sparse(p), np.round(np.array(config.shares) * _threshold(p)).astype(int)
    most = int(sizes.max())

    def one(key, n):
        of_x, of_b, of_e = jax.random.split(key, 3)
        there = (jnp.arange(most) < n)[:, None]
        signs = jnp.zeros(p, jnp.float64).at[:k].set(jnp.sign(jax.random.normal(of_b, (k,), jnp.float64)))
        x = jax.random.normal(of_x, (most, p), jnp.float64) * there
        y = (x @ signs)[:, None] + config.noise * jax.random.normal(of_e, (most, 1), jnp.float64) * there
        x, y = ((data - data.sum(0) / n) * there for data in (x, y))  # centred, so that rows of 0 change no mean
        penalty = config.strength * config.noise * jnp.sqrt(jnp.log(p - k) / n)
        fit = regression.lasso(x, y[:, 0], penalty * n / most, tolerance=TOLERANCE)
        return jnp.all(jnp.sign(fit.weights) == signs)

    keys = jax.random.split(jax.random.key(p), config.seeds)
    return np.asarray(jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, jnp.asarray(sizes)))


def _crossing(shares, chance) -> float:
    """The first n / n* at which half of the draws find the support, between the measured ones linearly."""
    above = np.flatnonzero(chance >= 0.5)
    if not len(above):
        return np.inf
    i = int(above[0])
    if i == 0:
        return float(shares[0])
    return float(np.interp(0.5, chance[i - 1 : i + 1], shares[i - 1 : i + 1]))


def _interval(count: int, of: int) -> tuple[float, float]:
    found = stats.binomtest(int(count), of).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def _words(count: int, of: int) -> tuple[str, str]:
    low, high = _interval(count, of)
    return f"{100 * count / of:.0f}", f"{100 * low:.0f} to {100 * high:.0f}"


def plot(result: Result) -> list[Picture]:
    curves: Mapping = result.curves
    draws = len(result.metrics) // curves["counts"].size
    figure = style.figure(10.5, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    for i, (p, n_star) in enumerate(zip(curves["features"], curves["thresholds"])):
        colour = style.COLOURS[i % len(style.COLOURS)]
        chance = curves["counts"][i] / draws
        ends = np.array([_interval(count, draws) for count in curves["counts"][i]]).T
        bars = np.abs(ends - chance)
        for axes, at in ((left, curves["shares"] * n_star), (right, curves["shares"])):
            axes.errorbar(
                at, chance, bars, fmt="o-", color=colour, markersize=3.5, linewidth=1.2, capsize=2, label=f"p = {p}"
            )
    right.axvline(1, color=style.GREY, linewidth=0.8)
    left.set(xlabel="examples n", ylabel="share of draws with all signs right", title="Against the number of examples")
    right.set(xlabel="n / n*", title="Against the threshold of theory")
    left.legend(loc="lower right")
    caption = (
        "How often the lasso finds the support, with 95 % intervals. More features take more examples; divided by "
        "n* = 2 k log(p - k) + k + 1 (grey line at 1) the curves come close together."
    )
    return [Picture("recovery", caption, figure)]
