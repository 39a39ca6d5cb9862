"""Linear regression by gradient descent, theta <- theta - alpha grad J(theta), J = 1/(2m) sum (x theta - y)^2.

Textbook example: x = 1, 2, 3, 4, y = 2x, from (0, 0) with alpha = 0.01 for 1000 steps in float64, against the
two numbers that the iteration is known to reach.  The same loop is then timed in NumPy and compiled, turn by
turn in one process; medians; compilation is not counted.

Real data: scikit-learn's diabetes set (442 patients, 10 features, standardised), against the least-squares
solution; with rates on both sides of 2 / L, L being the largest curvature; and with batches of all patients,
of a few, and of one, each over several seeds at once (vmap).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import training

ALONE = True  # it measures times
TIMED = ("NumPy loop, 1000 steps", "compiled, 1000 steps", "speed-up", "speed-up, uncompiled call included",
         "compiled run at least 100 times faster than the NumPy loop")  # fmt: skip
CLAIM = (
    "Gradient descent reaches the textbook's numbers to 1e-12, runs at least 100 times faster compiled than as a "
    "NumPy loop, and on the diabetes data ends at the closed-form least-squares solution."
)
THETA = (0.13630728673236478, 1.9536389002891459)  # of the textbook example after 1000 steps of 0.01, in float64
EXAMPLE_X = np.array([1.0, 2.0, 3.0, 4.0])
EXAMPLE_Y = 2 * EXAMPLE_X


@dataclass(frozen=True)
class Config:
    """Settings of the diabetes part; the textbook example's are fixed by its numbers."""

    rounds: int = 15
    """Timing: turns of each contestant, of which the median counts."""
    steps: int = 12_000
    """Steps of full-batch gradient descent on the diabetes data."""
    epochs: int = 30
    """Epochs of the comparison of batch sizes."""
    batch_learning_rate: float = 0.01
    """The one rate that the comparison of batch sizes uses."""
    batch_sizes: tuple[int, ...] = (442, 32, 1)
    """Examples a step."""
    seeds: int = 10
    """Random orders of the examples, run at once."""

    def __post_init__(self):
        settings.at_least(self, 1, "rounds", "steps", "epochs")
        settings.at_least(self, 2, "seeds")
        settings.positive(self, "batch_learning_rate")
        if not self.batch_sizes or not all(1 <= size <= 442 for size in self.batch_sizes):
            raise ValueError(f"batch_sizes: expected numbers from 1 to 442, got {self.batch_sizes}")


SMOKE = Config(rounds=3, steps=200, epochs=2, batch_sizes=(442, 64), seeds=2)


def run(config: Config) -> Result:
    with jax.enable_x64(True):  # the numbers to reproduce, and a comparison with a direct solver, are float64's
        example = _example(config.rounds)
        progress.part("diabetes data")
        diabetes = _diabetes(config)
    checks = [
        Check("textbook example: theta within 1e-12 of its known numbers", f"{example['error']:.1e}", example["exact"]),
        Check(
            "compiled run at least 100 times faster than the NumPy loop",
            f"{example['ratio']:.0f} times ({example['compiled'] * 1e6:.0f} µs against "
            f"{example['numpy'] * 1e3:.2f} ms for 1000 steps)",
            example["ratio"] >= 100,
        ),
        Check(
            "diabetes: coefficients equal the closed form to 1e-8 relative",
            f"{diabetes['error']:.1e}",
            diabetes["error"] <= 1e-8,
        ),
        Check(
            "diabetes: rates below 2 / L converge, the one above diverges",
            ", ".join(f"{f:g}·2/L: cost {j:.4g}" for f, j in zip(FRACTIONS, diabetes["rate_costs"][:, -1])),
            diabetes["rates_behave"],
        ),
    ]
    numbers = {
        "θ₀": repr(example["theta"][0]),
        "θ₁": repr(example["theta"][1]),
        "NumPy loop, 1000 steps": f"{example['numpy'] * 1e3:.2f} ms",
        "compiled, 1000 steps": f"{example['compiled'] * 1e6:.1f} µs",
        "speed-up": f"{example['ratio']:.0f} ×",
        "speed-up, uncompiled call included": f"{example['called_ratio']:.0f} ×",
        "diabetes: worst coefficient error": diabetes["error"],
        "diabetes: R² on the data": diabetes["r2"],
    }
    metrics = [
        {"part": "example", "step": t, "loss": float(example["losses"][t])}
        for t in range(0, len(example["losses"]), 10)
    ]
    metrics += [{"part": "timing", **turn} for turn in example["turns"]]
    for size, excess in diabetes["excess"].items():
        metrics += [
            {"part": "batches", "batch_size": size, "seed": s, "epoch": e, "excess_cost": float(value)}
            for s, row in enumerate(excess)
            for e, value in enumerate(row)
        ]
    rows = [[n, g, c, abs(g - c)] for n, g, c in zip(diabetes["names"], diabetes["theta"], diabetes["closed"])]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers
        | {
            f"excess cost after {config.epochs} epochs, batch of {size}": plus_minus(excess[:, -1])
            for size, excess in diabetes["excess"].items()
        },
        metrics=metrics,
        timed=(*TIMED, *example["turns"][0]),
        table=Table(["coefficient", "gradient descent", "closed form", "difference"], rows),
        curves={"example": example, "diabetes": diabetes, "config": config},
    )


# ---- the textbook example ------------------------------------------------------------------------------


def example_cost(theta):
    """J(theta) = 1/(2m) sum (theta_0 + theta_1 x - y)^2."""
    return jnp.sum((theta[0] + theta[1] * EXAMPLE_X - EXAMPLE_Y) ** 2) / (2 * len(EXAMPLE_X))


def numpy_loop(theta, learning_rate: float, steps: int):
    """The same iteration as one would write it in NumPy, losses included."""
    losses = np.empty(steps)
    m = len(EXAMPLE_X)
    for t in range(steps):
        residual = theta[0] + theta[1] * EXAMPLE_X - EXAMPLE_Y
        losses[t] = np.sum(residual**2) / (2 * m)
        theta = theta - learning_rate * np.array([np.sum(residual), residual @ EXAMPLE_X]) / m
    return theta, losses


def _example(rounds: int) -> dict:
    start = np.zeros(2)
    called = lambda: training.gradient_descent(example_cost, start, 0.01, 1000)
    program = jax.jit(lambda p: training.gradient_descent(example_cost, p, 0.01, 1000))
    # a turn repeats the fast contestants: alone, right after NumPy's, they would be timed with cold caches
    contestants = {
        "numpy": (lambda: numpy_loop(start, 0.01, 1000), 1),
        "compiled": (lambda: program(start), 50),
        "called": (called, 50),
    }
    theta, losses = (np.asarray(part) for part in contestants["compiled"][0]())
    theta_numpy, losses_numpy = contestants["numpy"][0]()
    np.testing.assert_allclose(losses, losses_numpy, rtol=1e-9)  # they do run the same loop
    jax.block_until_ready(called())
    turns = [{name: _seconds(*contestant) for name, contestant in contestants.items()} for _ in range(rounds)]
    median = {name: float(np.median([turn[name] for turn in turns])) for name in contestants}
    error = max(abs(float(a) - b) for a, b in zip(theta, THETA))
    return median | {
        "theta": theta.tolist(),
        "losses": losses,
        "error": error,
        "numpy_error": max(abs(float(a) - b) for a, b in zip(theta_numpy, THETA)),
        "exact": error <= 1e-12,
        "turns": turns,
        "ratio": median["numpy"] / median["compiled"],
        "called_ratio": median["numpy"] / median["called"],
    }


def _seconds(contestant, repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(contestant())
    return (time.perf_counter() - began) / repeats


# ---- the diabetes data ---------------------------------------------------------------------------------

FRACTIONS = (0.1, 0.9, 1.02)  # of the rate 2 / L at which gradient descent on a quadratic stops converging


def _diabetes(config: Config) -> dict:
    from sklearn.datasets import load_diabetes

    raw = load_diabetes()
    x = (raw.data - raw.data.mean(0)) / raw.data.std(0)
    x = jnp.asarray(np.column_stack([np.ones(len(x)), x]))
    y = jnp.asarray(raw.target)
    closed = np.linalg.lstsq(np.asarray(x), np.asarray(y), rcond=None)[0]
    curvature = np.linalg.eigvalsh(np.asarray(x.T @ x) / len(y))

    def cost(theta, batch=(x, y)):
        inputs, targets = batch
        return jnp.mean((inputs @ theta - targets) ** 2) / 2

    start, least = jnp.zeros(x.shape[1]), float(cost(jnp.asarray(closed)))
    best_rate = 2 / (curvature[-1] + curvature[0])
    theta, losses = training.gradient_descent(cost, start, best_rate, config.steps)
    theta = np.asarray(theta)
    rates = jnp.asarray(FRACTIONS) * 2 / curvature[-1]
    _, rate_costs = jax.vmap(lambda rate: training.gradient_descent(cost, start, rate, 300))(rates)
    rate_costs = np.asarray(rate_costs)
    falls = [bool(row[-1] < row[0]) for row in rate_costs]
    return {
        "names": ["intercept", *raw.feature_names],
        "theta": theta.tolist(),
        "closed": closed.tolist(),
        "error": float(np.max(np.abs(theta - closed)) / np.max(np.abs(closed))),
        "losses": np.asarray(losses) - least,
        "r2": 1 - 2 * least / float(np.var(np.asarray(y))),
        "rate_costs": rate_costs,
        "rates_behave": falls == [fraction < 1 for fraction in FRACTIONS],
        "excess": {size: _excess_by_epoch(config, cost, (x, y), start, size) - least for size in config.batch_sizes},
    }


def _excess_by_epoch(config: Config, cost, data, start, batch_size: int) -> np.ndarray:
    """Full-data cost after each epoch, shape (seeds, epochs + 1), for steps on batches of one size."""
    examples = len(data[1])
    optimizer = optax.sgd(config.batch_learning_rate)
    step = training.make_step(cost, optimizer, batch_size)

    def one_seed(key):
        def epoch(state, _):
            state, _ = training.run_steps(step, state, data, examples // batch_size)
            return state, cost(state.params)

        state = training.start(start, optimizer, key, examples, batch_size)
        return jax.lax.scan(epoch, state, length=config.epochs)[1]

    costs = jax.jit(jax.vmap(one_seed))(jax.random.split(jax.random.key(0), config.seeds))
    return np.column_stack([np.full(config.seeds, float(cost(start))), costs])


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    return [_plot_example(result.curves["example"]), _plot_diabetes(result.curves)]


def _plot_example(example: dict) -> Picture:
    figure = style.figure(8, 3.2)
    left, right = figure.subplots(1, 2)
    left.loglog(np.arange(1, 1001), example["losses"], color=style.BLUE)
    left.set(title="Cost of the textbook example", xlabel="step", ylabel="J(θ)")
    names = {"NumPy loop": "numpy", "gradient_descent,\ncalled": "called", "gradient_descent,\ncompiled": "compiled"}
    for row, (name, colour) in enumerate(zip(names.values(), (style.GREY, style.SKY, style.BLUE))):
        right.plot(example[name] * 1e6, row, "o", color=colour, markersize=9)
        right.annotate(
            f"{example[name] * 1e6:,.0f} µs",
            (example[name] * 1e6, row),
            (0, 9),
            textcoords="offset points",
            ha="center",
        )
    right.set_yticks(range(len(names)), list(names))
    right.set(title="Time of 1000 steps (median)", xlabel="microseconds, logarithmic", xscale="log", ylim=(2.5, -0.6))
    right.set_xlim(example["compiled"] * 1e6 / 3, example["numpy"] * 1e6 * 3)
    right.grid(axis="y", visible=False)
    return Picture(
        "example",
        "Left: the cost falls fast along the steep direction of J, then slowly along the flat one. Right: the same "
        f"1000 steps compiled take {example['ratio']:.0f} times less time than in NumPy.",
        figure,
    )


def _plot_diabetes(curves: Mapping) -> Picture:
    diabetes, config = curves["diabetes"], curves["config"]
    figure = style.figure(10.5, 3.4)
    full, rates, batches = figure.subplots(1, 3)
    excess = np.where(diabetes["losses"] > 1e-11, diabetes["losses"], np.nan)  # below, J's own rounding
    full.loglog(np.arange(1, len(excess) + 1), excess, color=style.BLUE)
    full.set(title="All data, best fixed rate", xlabel="step", ylabel="J − least J")
    for fraction, row, colour in zip(FRACTIONS, diabetes["rate_costs"], style.COLOURS):
        rates.semilogy(np.arange(len(row)), row, color=colour, label=f"{fraction:g} · 2/L")
    rates.set(title="Learning rates", xlabel="step", ylabel="J")
    rates.legend(title="α")
    epochs = np.arange(config.epochs + 1)
    for (size, excess), colour in zip(diabetes["excess"].items(), style.COLOURS):
        mean, half = mean_interval(excess)
        style.band(batches, epochs, mean, half, colour=colour, label=f"batch of {size}")
    batches.set(title=f"Batch sizes, α = {config.batch_learning_rate:g}", xlabel="epoch", ylabel="J − least J")
    batches.set_yscale("log")
    batches.legend()
    return Picture(
        "diabetes",
        "Diabetes data. Left: full-batch descent reaches the closed form's cost to rounding. Middle: a rate just above "
        f"2/L diverges. Right: at one rate, smaller batches get further in an epoch, and end in noise "
        f"(mean and 95 % interval over {config.seeds} orders).",
        figure,
    )
