"""Double descent: least squares is worst where there are as many parameters as examples, and better again beyond.

Linear model: y = x'b + s e with standard normal x and e and |b| = r, fitted to n examples by least squares, of least
norm where p > n. The expected squared error of a new prediction, without the noise, is known exactly for every n and p:

    s^2 p / (n - p - 1)                              p < n - 1   (the mean of an inverse Wishart matrix),
    r^2 (1 - n/p) + s^2 n / (p - n - 1)              p > n + 1.

The best ridge, for b of random direction, is X'X + (s^2 p / r^2) I: it makes the fit the posterior mean. Measured are
means over seeds at every p, with Student's interval at a level at which all of them together would be refused in 1 % of
all experiments, were the law true.

Random features: relu(w'x + c) with random w and c of the ten standardised variables of scikit-learn's diabetes data,
the target standardised too. Half of the examples that are held out choose the ridge, the others are the test set.

Sources: Breiman and Freedman 1983 (the law for p < n); Belkin, Hsu and Xu 2020, Two models of double descent for weak
features; Hastie, Montanari, Rosset and Tibshirani 2022, Surprises in high-dimensional ridgeless least squares
interpolation; Nakkiran, Venkat, Kakade and Ma 2021, Optimal regularization can mitigate double descent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from sklearn.datasets import load_diabetes

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus

CLAIM = (
    "Least squares errs most where there are as many parameters as examples, by exactly the law of Gaussian data, and "
    "less again beyond; the right ridge takes the peak away, for random features on real data too."
)
RANK = 1e-10  # eigenvalues below this share of the greatest are 0


@dataclass(frozen=True)
class Config:
    """Settings of the double descent experiment."""

    seeds: int = 40
    """Draws of data, coefficients, noise and features, run at once."""
    examples: int = 60
    """Examples to fit, n."""
    ratios: tuple[float, ...] = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.25, 1.6, 2.5, 4.0, 7.0, 12.0)
    """Parameters p as multiples of n; 1 is among them."""
    noise: float = 0.5
    """Standard deviation s of the linear model's noise; r is 1."""
    ridges: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    """Ridges for the random features to choose from, as multiples of the kernel's mean eigenvalue."""

    def __post_init__(self):
        settings.at_least(self, 2, "seeds")
        settings.at_least(self, 10, "examples")
        settings.positive(self, "noise")
        if 1.0 not in self.ratios or min(self.ratios) <= 0 or sorted(self.ratios) != list(self.ratios):
            raise ValueError(f"ratios: expected rising numbers above 0, 1 among them, got {self.ratios}")
        if self.examples > 220:
            raise ValueError(f"examples: expected at most 220 of the 442 of the diabetes data, got {self.examples}")

    @property
    def sizes(self) -> list[int]:
        """Numbers of parameters."""
        return [max(1, round(ratio * self.examples)) for ratio in self.ratios]


SMOKE = Config(seeds=2, examples=10, ratios=(0.5, 1.0, 2.0), ridges=(0.1, 1.0))
QUICK = Config(seeds=24)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        progress.part("linear model")
        linear = {name: np.asarray(values) for name, values in _linear(config).items()}
        progress.part("random features")
        random = {name: np.asarray(values) for name, values in _random_features(config).items()}
    sizes, n = np.array(config.sizes), config.examples
    law = np.array([_law(config, p) for p in sizes])
    known = np.abs(sizes - n) > 3  # nearer the error has a mean, but hardly a variance
    level = stats.t.ppf(1 - 0.005 / max(1, known.sum()), config.seeds - 1)
    mean, error = linear["bare"].mean(0), linear["bare"].std(0, ddof=1) / np.sqrt(config.seeds)
    off = np.abs(mean - law)[known] / error[known]
    at = int(np.flatnonzero(sizes == n)[0])
    checks = [
        Check(
            f"linear model: mean errors at {known.sum()} numbers of parameters by the law, within chance",
            f"{off.max():.1f} standard errors at most, of {level:.1f} allowed",
            bool((off <= level).all()),
        )
    ]
    for name, found in (("linear model", linear), ("random features", random)):
        peak = np.log(found["bare"][:, at])
        fall, rise = peak - np.log(found["bare"][:, -1]), peak - np.log(found["bare"][:, :at].min(1))
        checks += [
            Check(
                f"{name}: at p = n over three times the least error with fewer parameters, the geometric mean",
                f"{_words(rise)} times",
                _above(rise, 3),
            ),
            Check(
                f"{name}: and over three times that with p = {sizes[-1] / n:g} n",
                f"{_words(fall)} times",
                _above(fall, 3),
            ),
            Check(
                f"{name}: with the ridge no more than 1.1 times the larger error of both ends, at any p",
                f"{_peak(found['ridge']):.3f} times",
                bool(_peak(found["ridge"]) <= 1.1),
            ),
        ]
    rows = [
        [
            int(p),
            float(p / n),
            plus_minus(linear["bare"][:, k], 1, 3),
            float(law[k]),
            plus_minus(linear["ridge"][:, k], 1, 3),
            plus_minus(random["bare"][:, k], 1, 3),
            plus_minus(random["ridge"][:, k], 1, 3),
        ]
        for k, p in enumerate(sizes)
    ]
    columns = ["p", "p / n", "linear model", "law", "linear model, ridge", "random features", "random features, ridge"]
    metrics = [
        {"part": part, "fit": fit, "seed": seed, "parameters": int(p), "error": found[fit][seed, k]}
        for part, found in (("linear", linear), ("random", random))
        for fit in ("bare", "ridge")
        for seed in range(config.seeds)
        for k, p in enumerate(sizes)
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={
            "seeds": config.seeds,
            "examples": n,
            "error at p = n, linear model": f"{np.median(linear['bare'][:, at]):.3g}",
        },
        metrics=metrics,
        table=Table(columns, rows),
        curves={"ratios": sizes / n, "linear": linear, "random": random, "law": law, "known": known},
    )


# ---- fits ------------------------------------------------------------------------------------------------


def _coefficients(kernel, y, ridge):
    """a with kernel a = y in the sense of least squares, or (kernel + ridge) a = y: f(x) = sum_i a_i k(x, x_i).

    For features X and kernel XX' the weights X'a are those of least squares of least norm, or of ridge regression.
    """
    values, vectors = jnp.linalg.eigh(kernel)
    shown = values > RANK * values[-1]
    inverse = jnp.where(shown, 1 / (jnp.where(shown, values, 1.0) + ridge), 0.0)
    return vectors @ (inverse * (vectors.T @ y))


def _linear(config: Config) -> dict:
    """Squared errors of the coefficients, which are those of a new prediction: (seeds, sizes)."""
    n, sizes = config.examples, jnp.array(config.sizes)

    def one(key, p):
        keys = jax.random.split(key, 3)
        shown = jnp.arange(max(config.sizes)) < p  # one shape for all sizes
        x = jax.random.normal(keys[0], (n, max(config.sizes)), jnp.float64) * shown
        b = jax.random.normal(keys[1], (max(config.sizes),), jnp.float64) * shown
        b = b / jnp.linalg.norm(b)
        y = x @ b + config.noise * jax.random.normal(keys[2], (n,), jnp.float64)
        error = lambda ridge: jnp.sum((x.T @ _coefficients(x @ x.T, y, ridge) - b) ** 2)
        return {"bare": error(0.0), "ridge": error(config.noise**2 * p)}

    keys = jax.random.split(jax.random.key(0), config.seeds * len(config.sizes)).reshape(config.seeds, -1)
    return jax.jit(jax.vmap(jax.vmap(one), (0, None)))(keys, sizes)


def _random_features(config: Config) -> dict:
    """Mean squared errors on test examples, without a ridge and with that of least validation error: (seeds, sizes)."""
    data = load_diabetes()
    x = jnp.asarray((data.data - data.data.mean(0)) / data.data.std(0))
    y = jnp.asarray((data.target - data.target.mean()) / data.target.std())
    n, most = config.examples, max(config.sizes)
    held = n + (len(y) - n) // 2

    def one(key, p):
        keys = jax.random.split(key, 3)
        order = jax.random.permutation(keys[0], len(y))
        w = jax.random.normal(keys[1], (x.shape[1], most), jnp.float64) / x.shape[1] ** 0.5
        c = jax.random.normal(keys[2], (most,), jnp.float64)
        features = jnp.maximum(x[order] @ w + c, 0.0) * (jnp.arange(most) < p)
        train, targets = features[:n], y[order]
        kernel = features @ train.T
        scale = jnp.trace(kernel[:n]) / n

        def errors(ridge):
            off = (kernel @ _coefficients(kernel[:n], targets[:n], ridge) - targets) ** 2
            return off[n:held].mean(), off[held:].mean()

        validation, test = jax.vmap(errors)(jnp.array(config.ridges) * scale)
        return {"bare": errors(0.0)[1], "ridge": test[jnp.argmin(validation)]}

    keys = jax.random.split(jax.random.key(1), config.seeds)  # a seed's data and first features are the same for all p
    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(keys, jnp.array(config.sizes))


def _law(config: Config, p: int) -> float:
    n, s = config.examples, config.noise
    if p < n - 1:
        return s**2 * p / (n - p - 1)
    return 1 - n / p + s**2 * n / (p - n - 1) if p > n + 1 else np.inf


# ---- judging ---------------------------------------------------------------------------------------------


def _above(logs, least: float) -> bool:
    mean, half = mean_interval(logs)
    return bool(mean - half > np.log(least))


def _words(logs) -> str:
    mean, half = mean_interval(logs)
    return f"{np.exp(mean):.3g} ({np.exp(mean - half):.3g} to {np.exp(mean + half):.3g})"


def _peak(errors) -> float:
    """The largest mean error along p over the larger one of both ends."""
    mean = errors.mean(0)
    return float(mean.max() / max(mean[0], mean[-1]))


# ---- plots -----------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    curves: Mapping = result.curves
    figure = style.figure(10.5, 4.2)
    left, right = figure.subplots(1, 2)
    for axes, name, title in (
        (left, "linear", "Gaussian data, linear model"),
        (right, "random", "Diabetes data, random features"),
    ):
        for fit, colour, label in (("bare", style.RED, "least squares"), ("ridge", style.BLUE, "ridge")):
            mean, half = mean_interval(np.log(curves[name][fit]))
            axes.fill_between(
                curves["ratios"], np.exp(mean - half), np.exp(mean + half), color=colour, alpha=0.2, linewidth=0
            )
            axes.plot(curves["ratios"], np.exp(mean), "o-", color=colour, markersize=3.5, label=label)
        axes.axvline(1, color=style.GREY, linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="parameters / examples", title=title)
    known = curves["known"]
    left.plot(
        curves["ratios"][known], curves["law"][known], "x", color=style.BLACK, markersize=6, label="law of its mean"
    )
    left.set_ylabel("squared error (of the signal's variance)")
    right.set_ylabel("squared error (of the target's variance)")
    left.legend(loc="upper left")
    caption = (
        "Geometric means over seeds and their 95 % intervals. Least squares peaks where there are as many parameters "
        "as examples (grey line) and errs less again beyond; the ridge has no peak. The law gives the arithmetic mean, "
        "which lies above the geometric one next to the peak."
    )
    return [Picture("errors", caption, figure)]
