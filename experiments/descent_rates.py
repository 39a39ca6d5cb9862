"""How fast gradient descent is on a quadratic, and how far stochastic gradients let it come: theory against runs.

f(x) = (1/2) sum_i l_i x_i^2 with m = l_1 < ... < l_d = L, and kappa = L / m.

Gradient descent, x' = x - h l x, shrinks the distance by max(|1 - h m|, |1 - h L|) a step, in the end; least at
h = 2 / (m + L), where it is (kappa - 1) / (kappa + 1), and not at all beyond h = 2 / L. Polyak's momentum with
h = 4 / (sqrt L + sqrt m)^2 and beta = ((sqrt kappa - 1) / (sqrt kappa + 1))^2 shrinks it by sqrt beta. The factor is
measured over the second half of a run, from random starts; for momentum, whose distance is t sqrt(beta)^t, a factor
of t is divided out.

With gradients l x + s e, e standard normal, E x_i^2 follows v' = (1 - h l_i)^2 v + h^2 s^2 exactly. With a constant
step it settles at h s^2 / (l_i (2 - h l_i)), so that E f -> (1/2) sum_i h s^2 / (2 - h l_i), the noise floor; with
steps that fall like 1/t it falls like 1/t. Measured is the mean of f along a run, after it has settled, or near two
times; the interval is Student's over seeds, at a level at which all of these together would be refused in 1 % of all
experiments, were the law true.

On real data, linear regression on scikit-learn's diabetes data by batches drawn with replacement, the floor of the
excess loss is proportional to the step and to 1 / batch size while the step is small: halving the one or doubling the
other halves it.

Sources: Polyak 1964; Nesterov 2004, Introductory Lectures on Convex Optimization, theorem 2.1.15; Bottou, Curtis and
Nocedal 2018, Optimization Methods for Large-Scale Machine Learning, section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import stats
from sklearn.datasets import load_diabetes

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus

CLAIM = (
    "On a quadratic the best step of gradient descent is 2/(μ+L), momentum shrinks the error by (√κ−1)/(√κ+1), and the "
    "floor that stochastic gradients leave is the one of theory, proportional to step / batch size on real data."
)
LOW = 1.0  # m
NOISE = 1.0  # s
REAL = (("step h, batch b", 1.0, 1), ("h / 2, b", 0.5, 1), ("h, 2b", 1.0, 2))


@dataclass(frozen=True)
class Config:
    """Settings of the descent rates."""

    seeds: int = 32
    """Starts, and sequences of noise and of batches, run at once."""
    dimension: int = 12
    """Variables, d."""
    condition: float = 30.0
    """kappa; the eigenvalues lie evenly on a logarithmic scale from 1 to kappa."""
    shares: tuple[float, ...] = (0.5, 0.7, 0.85, 0.95, 1.0, 1.02)
    """Steps, as multiples of 2 / (m + L); 1 is among them, and all are below 2 / L."""
    steps: int = 600
    """Steps of a run without noise."""
    noisy_shares: tuple[float, ...] = (0.02, 0.05, 0.1, 0.3, 0.8)
    """Steps of noisy runs, as multiples of 2 / (m + L)."""
    noisy_steps: int = 8000
    """Steps of a noisy run; the first quarter is not counted."""
    batch: int = 16
    """Examples in a batch of the diabetes data."""
    rate: float = 0.01
    """Step there."""
    real_steps: int = 20_000
    """Steps there; the first quarter is not counted."""

    def __post_init__(self):
        settings.at_least(self, 2, "seeds", "dimension", "batch")
        settings.at_least(self, 4, "steps", "noisy_steps", "real_steps")
        settings.positive(self, "rate")
        if self.condition <= 1:
            raise ValueError(f"condition: expected a number above 1, got {self.condition}")
        most = 1 + LOW / self.high  # 2 / L
        for name, shares in (("shares", self.shares), ("noisy_shares", self.noisy_shares)):
            if min(shares) <= 0 or max(shares) >= most:
                raise ValueError(f"{name}: expected numbers above 0 below (m + L) / L = {most:.4g}, got {shares}")
        if 1.0 not in self.shares:
            raise ValueError(f"shares: expected 1 among them, got {self.shares}")

    @property
    def high(self) -> float:
        return LOW * self.condition

    @property
    def eigenvalues(self) -> np.ndarray:
        return np.geomspace(LOW, self.high, self.dimension)

    @property
    def best(self) -> float:
        return 2 / (LOW + self.high)


SMOKE = Config(seeds=2, dimension=2, shares=(0.5, 1.0), steps=8, noisy_shares=(0.1,), noisy_steps=8, real_steps=8)
QUICK = Config(seeds=16)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        progress.part("without noise")
        factors, momentum = (np.asarray(values) for values in _shrinking(config))
        progress.part("with noise")
        floors, falling = (np.asarray(values) for values in _floors(config))
        progress.part("diabetes data")
        real = np.asarray(_real(config))
    shares = np.array(config.shares)
    rates = config.best * shares
    law = np.maximum(np.abs(1 - rates * LOW), np.abs(1 - rates * config.high))
    off = float(np.max(np.abs(factors / law - 1)))
    root = config.condition**0.5
    polyak = (root - 1) / (root + 1)
    best = [config.shares[i] for i in factors.argmin(1)]
    noisy = config.best * np.array(config.noisy_shares)
    floor_law = 0.5 * np.sum(noisy[:, None] * NOISE**2 / (2 - noisy[:, None] * config.eigenvalues), axis=1)
    level = stats.t.ppf(1 - 0.005 / (len(noisy) + 2), config.seeds - 1)
    errors = floors.std(0, ddof=1) / np.sqrt(config.seeds)
    chance = np.abs(floors.mean(0) - floor_law) / errors
    halves = [np.log2(real[:, 0] / real[:, k]) for k in (1, 2)]
    late_law = _falling_law(config)
    late = np.abs(falling.mean(0) - late_law) / (falling.std(0, ddof=1) / np.sqrt(config.seeds))
    checks = [
        Check(
            f"gradient descent, {len(shares)} steps: the error shrinks by max(|1 − hμ|, |1 − hL|), to 0.5 %",
            f"{100 * off:.2g} % off at most",
            off <= 0.005,
        ),
        Check(
            f"2/(μ+L) is the best of these steps, for each of {config.seeds} starts",
            f"{sum(share == 1 for share in best)} of {config.seeds}",
            all(share == 1 for share in best),
        ),
        Check(
            "momentum: the error shrinks by (√κ − 1)/(√κ + 1), to 0.5 %",
            f"{momentum.mean():.4f}, {polyak:.4f} by theory; gradient descent {law.min():.4f}",
            bool(np.max(np.abs(momentum / polyak - 1)) <= 0.005),
        ),
        Check(
            f"noise floor at {len(noisy)} steps: ½ Σ h s² / (2 − h λ), within chance",
            f"{chance.max():.1f} standard errors at most, of {level:.1f} allowed",
            bool(chance.max() <= level),
        ),
        Check(
            f"step that falls like 1/t: the floor too, {late_law[0] / late_law[1]:.2f} times less after four times the "
            "steps, within chance",
            f"{falling[:, 0].mean() / falling[:, 1].mean():.2f} times; {late.max():.1f} standard errors at most",
            bool(late.max() <= level),
        ),
    ]
    for (words, _, _), logs in zip(REAL[1:], halves):
        mean, half = mean_interval(logs)
        checks.append(
            Check(
                f"diabetes data, {words}: half of the floor, to a fifth of a power of two",
                f"2^−({mean:.3f} ± {half:.3f})",
                bool(abs(mean - 1) + half <= 0.2),
            )
        )
    rows = [
        ["shrinks a step by", f"{share:g} · 2/(μ+L)", plus_minus(factors[:, k], 1, 5), float(law[k])]
        for k, share in enumerate(shares)
    ]
    rows += [["shrinks a step by", "momentum", plus_minus(momentum, 1, 5), polyak]]
    rows += [
        ["noise floor", f"{share:g} · 2/(μ+L)", plus_minus(floors[:, k], 1, 4), float(floor_law[k])]
        for k, share in enumerate(config.noisy_shares)
    ]
    rows += [
        ["floor, diabetes data", words, plus_minus(real[:, k], 1, 5), None] for k, (words, _, _) in enumerate(REAL)
    ]
    metrics = [
        {"part": part, "setting": setting, "seed": seed, "value": values[seed, k]}
        for part, names, values in (
            ("factor", config.shares, factors),
            ("momentum", ("momentum",), momentum[:, None]),
            ("floor", config.noisy_shares, floors),
            ("falling", (1, 4), falling),
            ("diabetes", [words for words, _, _ in REAL], real),
        )
        for k, setting in enumerate(names)
        for seed in range(config.seeds)
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={"seeds": config.seeds, "κ": config.condition, "best factor of gradient descent": float(law.min()),
                 "factor of momentum": polyak},
        metrics=metrics,
        table=Table(["what", "setting", "measured", "theory"], rows),
        curves={"shares": shares, "factors": factors, "momentum": momentum, "config": config, "floors": floors,
                "floor_law": floor_law, "real": real},
    )  # fmt: skip


# ---- runs ------------------------------------------------------------------------------------------------


def _gradient(config: Config):
    values = jnp.asarray(config.eigenvalues)
    return jax.grad(lambda x: 0.5 * jnp.sum(values * x**2))


def _shrinking(config: Config):
    """Factors a step over the second half of runs: (seeds, shares) of gradient descent, (seeds,) of momentum."""
    gradient, half = _gradient(config), config.steps // 2
    root = config.condition**0.5
    beta, polyak = ((root - 1) / (root + 1)) ** 2, 4 / (config.high**0.5 + LOW**0.5) ** 2

    def run(x, rate, beta):
        def step(carry, _):
            x, before = carry
            after = x - rate * gradient(x) + beta * (x - before)
            return (after, x), jnp.linalg.norm(after)

        _, distances = lax.scan(step, (x, x), length=config.steps)
        return (distances[-1] / distances[half - 1]) ** (1 / (config.steps - half))

    def one(key):
        x = jax.random.normal(key, (config.dimension,), jnp.float64)
        plain = jax.vmap(lambda rate: run(x, rate, 0.0))(config.best * jnp.array(config.shares))
        return plain, run(x, polyak, beta) / (config.steps / half) ** (1 / (config.steps - half))

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), config.seeds))


def _floors(config: Config):
    """Mean f along noisy runs, (seeds, noisy shares); and near two times of runs whose step falls, (seeds, 2)."""
    gradient, values = _gradient(config), jnp.asarray(config.eigenvalues)
    counted = config.noisy_steps // 4

    def run(key, rate):
        def step(x, t):
            e = jax.random.normal(jax.random.fold_in(key, t), x.shape, jnp.float64)
            x = x - rate(t) * (gradient(x) + NOISE * e)
            return x, 0.5 * jnp.sum(values * x**2)

        return lax.scan(step, jnp.zeros(config.dimension), jnp.arange(config.noisy_steps))[1]

    def one(key):
        constant = jax.vmap(lambda rate: run(key, lambda t: rate)[counted:].mean())
        falling = run(jax.random.fold_in(key, 1), lambda t: _falling(config, t))
        near = jnp.stack([falling[some].mean() for some in _near(config)])
        return constant(config.best * jnp.array(config.noisy_shares)), near

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), config.seeds))


def _falling(config: Config, t):
    """The step that falls like 1/t; at first 1 / L."""
    return 2 / (LOW * (t + 2 * config.condition))


def _near(config: Config) -> list[slice]:
    """The last steps of a run of a fourth of the length, and of a whole run."""
    ends = (config.noisy_steps // 4, config.noisy_steps)
    return [slice(end - end // 8, end) for end in ends]


def _falling_law(config: Config) -> np.ndarray:
    """E f near both times, by the recursion of E x_i^2."""
    values, v, f = config.eigenvalues, np.zeros(config.dimension), np.zeros(config.noisy_steps)
    for t in range(config.noisy_steps):
        h = _falling(config, t)
        v = (1 - h * values) ** 2 * v + (h * NOISE) ** 2
        f[t] = 0.5 * values @ v
    return np.array([f[some].mean() for some in _near(config)])


def _real(config: Config):
    """Mean excess loss along runs by batches: (seeds, settings)."""
    data = load_diabetes()
    x = jnp.asarray((data.data - data.data.mean(0)) / data.data.std(0))
    y = jnp.asarray((data.target - data.target.mean()) / data.target.std())
    best = jnp.linalg.lstsq(x, y)[0]
    hessian = x.T @ x / len(y)
    counted = config.real_steps // 4

    def run(key, rate, batch):
        def step(w, t):
            chosen = jax.random.randint(jax.random.fold_in(key, t), (batch,), 0, len(y))
            w = w - rate * jax.grad(lambda w: 0.5 * jnp.mean((x[chosen] @ w - y[chosen]) ** 2))(w)
            return w, 0.5 * (w - best) @ hessian @ (w - best)

        return lax.scan(step, best, jnp.arange(config.real_steps))[1][counted:].mean()

    def one(key):
        keys = jax.random.split(key, len(REAL))
        return jnp.stack([run(k, config.rate * h, config.batch * b) for k, (_, h, b) in zip(keys, REAL)])

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), config.seeds))


# ---- plots -----------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    curves: Mapping = result.curves
    config = curves["config"]
    figure = style.figure(10.5, 3.9)
    left, right = figure.subplots(1, 2)
    share = np.linspace(0.3, 1 + LOW / config.high, 300)
    rates = config.best * share
    left.plot(share, np.abs(1 - rates * LOW), color=style.SKY, linewidth=1.2, label="|1 − hμ|")
    left.plot(share, np.abs(1 - rates * config.high), color=style.ORANGE, linewidth=1.2, label="|1 − hL|")
    mean, half = mean_interval(curves["factors"])
    left.errorbar(curves["shares"], mean, half, fmt="o", color=style.BLUE, capsize=3, label="gradient descent")
    mean, half = mean_interval(curves["momentum"])
    left.axhline(float(mean), color=style.GREEN, linestyle="--", label="momentum, measured")
    left.set(xlabel="step h, as a multiple of 2/(μ+L)", ylabel="factor of the error a step", ylim=(0.5, 1.01))
    left.set_title(f"The best step is 2/(μ+L), κ = {config.condition:g}")
    left.legend(loc="lower left")
    fine = config.best * np.geomspace(0.6 * min(config.noisy_shares), 1, 100)
    law = 0.5 * np.sum(fine[:, None] * NOISE**2 / (2 - fine[:, None] * config.eigenvalues), axis=1)
    right.loglog(fine / config.best, law, color=style.BLACK, linewidth=1.2, label="theory")
    mean, half = mean_interval(curves["floors"])
    right.errorbar(config.noisy_shares, mean, half, fmt="o", color=style.RED, capsize=3, label="measured")
    right.set(xlabel="step h, as a multiple of 2/(μ+L)", ylabel="mean of f after it has settled")
    right.set_title("The floor that noise leaves")
    right.legend(loc="upper left")
    caption = (
        "Left: the factor by which the distance from the minimum shrinks a step, measured (dots) and by theory (lines, "
        "of which the upper one counts). Right: the mean of f along runs with noisy gradients. Bars are 95 % intervals "
        "over seeds, most of them smaller than the dots."
    )
    return [Picture("rates", caption, figure)]
