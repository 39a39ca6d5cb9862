"""Eight optimisers on a ravine, a saddle, a logistic regression and a small network: what their learning rates do.

SGD, momentum, Nesterov, Adagrad, RMSProp, Adam, AdamW (decay 0.01) and Lion, as optax has them, with its default
coefficients, a momentum of 0.9, Adagrad's sums from 0 and RMSProp's ε outside the root as they were published. Learning
rates span four decades. All optimisers, rates and seeds of a problem are one compiled program (`training.sweep`); a
seed draws the start and the order of the examples.

Ravine: f(x) = ½ (x - 1)ᵀ H (x - 1), H with eigenvalues 1 and 1/κ along turned axes. How the steps to a thousandth of
the distance grow with κ is measured where each method is tuned for κ (Polyak 1964, Nesterov 1983): gradient descent
with rate 2/(1 + 1/κ) shrinks the distance by (κ - 1)/(κ + 1) a step, momentum by (√κ - 1)/(√κ + 1); so the steps grow
like κ and like √κ.

Saddle: f(x, y) = ½ x² - ½ y² + ¼ y⁴ from y₀ = δ. Gradient descent multiplies y by 1 + η, momentum by the larger root of
r² - (1 + β + η) r + β = 0, so that each decade of δ costs 1/log₁₀ of that more steps. The others divide each
coordinate's gradient by its own size: they move y at once, whatever δ is. The same saddle turned by 30° is shown beside
it, without a claim: there steps that are not along the gradient leave the steep direction before y has grown.

Logistic regression (breast cancer, 30 standardised features) and perceptron (digits, averaged to 4 x 4 pixels) are
measured by the training loss of the run's last fifth; the range of good rates is where it is within 10 % of the
optimiser's best, found for each seed by interpolation in the rate's logarithm. The regression's gradients are taken
times 100 besides, which is what a loss in other units has: SGD, momentum and Nesterov must do at rate η/100 what they
did at η, the others at η itself.

Adam's first ten steps are computed by hand, in NumPy and float64. The last part is about the machine: 64 rates times 4
seeds of Adam on the regression, in full batches, as one program; against a Python loop over `training.fit`, which
compiles for each rate and of which the first rates are run only; and against a loop over one compiled run.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import losses, models, training

CLAIM = (
    "Momentum needs the square root of gradient descent's steps in a ravine; an optimiser that divides gradients by "
    "their size leaves a saddle along the coordinates in a time that the distance does not change, and keeps its "
    "learning rate when the loss is scaled, where SGD's moves by as much."
)
MOMENTUM = 0.9
OPTIMISERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "SGD": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, MOMENTUM),
    "Nesterov": lambda rate: optax.sgd(rate, MOMENTUM, nesterov=True),
    "Adagrad": lambda rate: optax.adagrad(rate, initial_accumulator_value=0.0),
    "RMSProp": lambda rate: optax.rmsprop(rate, eps_in_sqrt=False),
    "Adam": optax.adam,
    "AdamW": lambda rate: optax.adamw(rate, weight_decay=0.01),
    "Lion": lambda rate: optax.lion(rate),
}
LINEAR = ("SGD", "momentum", "Nesterov")  # their steps are linear in the gradients
TUNED = {"gradient descent": 1.0, "momentum": 0.5, "Nesterov": 0.5}  # the power of κ in the number of steps
COLOURS = dict(
    zip(
        OPTIMISERS, [style.BLACK, style.SKY, style.BLUE, style.GREY, style.GREEN, style.RED, style.ORANGE, style.PURPLE]
    )
)
LINES = {
    "SGD": "-",
    "momentum": "--",
    "Nesterov": "-",
    "Adagrad": "-",
    "RMSProp": "--",
    "Adam": "-",
    "AdamW": ":",
    "Lion": "-.",
}
MARKERS = dict(zip(OPTIMISERS, "ox+sv^.D"))
SCALE = 100.0
ESCAPED = 0.5  # |y| beyond which the saddle is left


@dataclass(frozen=True)
class Config:
    """Settings of the optimisers experiment."""

    seeds: int = 10
    """Starts and orders of the examples, run at once."""
    rates_per_decade: int = 3
    """Learning rates a decade, of four from 10^-3 to 10."""
    conditions: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0, 1000.0)
    """Condition numbers κ of the tuned ravines; the sweep of rates takes the middle one."""
    ravine_steps: int = 5000
    """Steps of the tuned methods at most."""
    steps: int = 150
    """Steps of each other run."""
    saddle_rate: float = 0.03
    """Learning rate at the saddle."""
    batch_size: int = 16
    """Examples a step."""
    hidden: int = 10
    """Hidden units of the perceptron."""
    sweep_settings: int = 64
    """Learning rates of the sweep that is timed, with 4 seeds each."""
    loop_settings: int = 2
    """How many of them the loop over fits runs; its time is scaled up to all."""

    def __post_init__(self):
        settings.at_least(self, 2, "seeds")
        settings.at_least(self, 1, "rates_per_decade", "ravine_steps", "steps", "batch_size", "hidden", "loop_settings")
        settings.positive(self, "saddle_rate")
        if len(self.conditions) < 2 or min(self.conditions) <= 1:
            raise ValueError(f"conditions: expected at least two numbers above 1, got {self.conditions}")
        if self.sweep_settings < self.loop_settings:
            raise ValueError(
                f"sweep_settings: expected at least loop_settings = {self.loop_settings}, got {self.sweep_settings}"
            )
        if self.batch_size > 569:
            raise ValueError(f"batch_size: expected at most the 569 examples of breast_cancer, got {self.batch_size}")

    @property
    def rates(self) -> np.ndarray:
        return np.logspace(-3, 1, 4 * self.rates_per_decade + 1).astype(np.float32)


QUICK = Config(
    rates_per_decade=2, conditions=(10.0, 30.0, 100.0), ravine_steps=2000, sweep_settings=32, loop_settings=1
)
SMOKE = Config(
    seeds=2, rates_per_decade=1, conditions=(2.0, 4.0), ravine_steps=20, steps=5, batch_size=4, hidden=2,
    sweep_settings=2, loop_settings=1,
)  # fmt: skip


def run(config: Config) -> Result:
    by_hand = _adam_by_hand(config)
    progress.part("ravines")
    powers, tuned = _tuned_ravines(config)
    progress.part("saddle")
    cost, escapes = _saddle(config)
    progress.part("learning rates")
    curves = _by_rate(config)
    scaled = curves.pop("scaled")
    measured = {problem: _range(config, curves[problem]) for problem in ("logistic", "perceptron")}
    moved = _moved(config, curves["logistic"], scaled)
    progress.part("times")
    machine = _machine(config)

    laws = _saddle_laws(config)
    checks = [
        Check("Adam's first ten steps by hand in float64: optax's to 1e-14", f"{by_hand:.1e}", by_hand <= 1e-14),
    ]
    for name, power in TUNED.items():
        mean, half = mean_interval(powers[name])
        checks.append(Check(f"ravine, {name} tuned: the steps grow like κ^{power:g}, the interval within 0.1 of it",
                            f"κ^({mean:.3f} ± {half:.3f})", bool(abs(mean - power) + half <= 0.1)))  # fmt: skip
    for name in OPTIMISERS:
        law = laws.get(name, 0.0)
        mean, half = cost["along the coordinates", name]
        off = abs(mean - law) + half
        text = f"{law:.1f} by the law, to 5 %" if law else "none, to a tenth of SGD's"
        checks.append(Check(f"saddle, {name}: steps more a decade nearer: {text}", f"{mean:.2f} ± {half:.2f}",
                            off <= (0.05 * law if law else 0.1 * laws["SGD"])))  # fmt: skip
    for name, (distance, half) in moved.items():
        where = f"rate / {SCALE:g}" if name in LINEAR else "same rate"
        checks.append(Check(f"loss times {SCALE:g}, {name}: the {where} does the same, to 1 %",
                            f"{100 * distance:.2g} ± {100 * half:.1g} % off", distance + half <= 0.01))  # fmt: skip
    numbers = {"Adam by hand against optax, largest difference": f"{by_hand:.1e}"}
    numbers |= {f"power of κ, {name}": plus_minus(values, 1, 3) for name, values in powers.items()}
    for problem, by_name in measured.items():
        for name in ("SGD", "Adam", "Lion"):
            numbers[f"decades of rates within 10 % of the best loss, {problem}, {name}"] = plus_minus(
                by_name[name]["width"]
            )
    numbers |= machine
    rows = []
    for name in OPTIMISERS:
        row = [name]
        for by_name in measured.values():
            row += [
                plus_minus(by_name[name]["loss"], 1, 4),
                f"{by_name[name]['rate']:.2g}",
                plus_minus(by_name[name]["width"]),
            ]
        row += ["{:.1f} ± {:.1f}".format(*cost[kind, name]) for kind in SADDLES]
        rows.append(row)
    columns = ["optimiser"]
    for problem in measured:
        columns += [f"best loss, {problem}", "at rate", "decades within 10 %"]
    columns += [f"steps a decade nearer to the saddle, {kind}" for kind in SADDLES]
    metrics = [
        {"part": problem, "optimiser": name, "rate": float(rate), "seed": seed, "value": float(values[i, j, seed])}
        for problem, values in (curves | {"logistic, scaled": scaled}).items()
        for i, name in enumerate(OPTIMISERS)
        for j, rate in enumerate(config.rates)
        for seed in range(config.seeds)
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers | {"seeds": config.seeds},
        metrics=metrics,
        timed=tuple(machine),
        table=Table(columns, rows),
        curves={"config": config, "by_rate": curves, "scaled": scaled, "tuned": tuned, "escapes": escapes},
    )


# ---- all optimisers in one program ---------------------------------------------------------------------


def _one_of(makers, prepare=lambda updates, setting: updates):
    """setting -> the optimiser of the number setting["which"]: so that one program holds them all."""

    def make(setting):
        all_of_them = [maker(setting) for maker in makers]

        def step_with(number, optimizer):
            def step(updates, states, params):
                updates, state = optimizer.update(updates, states[number], params)
                return updates, (*states[:number], state, *states[number + 1 :])

            return step

        steps = [step_with(number, optimizer) for number, optimizer in enumerate(all_of_them)]

        def update(updates, state, params=None) -> tuple[Any, Any]:
            return jax.lax.switch(setting["which"], steps, prepare(updates, setting), state, params)

        return optax.GradientTransformation(lambda params: tuple(o.init(params) for o in all_of_them), update)

    return make


_BY_RATE = _one_of([lambda setting, make=make: make(setting["rate"]) for make in OPTIMISERS.values()])
_BY_RATE_SCALED = _one_of(
    [lambda setting, make=make: make(setting["rate"]) for make in OPTIMISERS.values()],
    lambda updates, setting: jax.tree.map(lambda leaf: setting["scale"] * leaf, updates),
)


def _grid(*axes):
    """All combinations of the values on the axes, the last one fastest, as flat arrays."""
    return [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]


def _keys(config: Config):
    return jax.random.split(jax.random.key(0), config.seeds)


# ---- the problems --------------------------------------------------------------------------------------


def _turn(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _hessian(config: Config, dtype: Any) -> np.ndarray:
    kappa = sorted(config.conditions)[len(config.conditions) // 2]
    return (_turn(30) @ np.diag([1.0, 1 / kappa]) @ _turn(-30)).astype(dtype)


def _ravine(config: Config, dtype: Any = np.float32):
    hessian = _hessian(config, dtype)
    return lambda x, _: 0.5 * (x - 1) @ hessian @ (x - 1)


def _logistic():
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    x = (raw.data - raw.data.mean(0)) / raw.data.std(0)
    x = np.column_stack([x, np.ones(len(x))])  # the last weight is the bias
    loss = lambda weight, batch: jnp.mean(losses.sigmoid_cross_entropy(batch[0] @ weight, batch[1]))
    init = lambda key: 0.1 * jax.random.normal(key, (x.shape[1],))
    return loss, init, (x.astype(np.float32), raw.target.astype(np.float32))


def _perceptron(config: Config):
    from sklearn.datasets import load_digits

    raw = load_digits()
    network = models.mlp((16, config.hidden, 10), "relu", dtype=jnp.float32)
    # the parameters as one vector, from one draw: each leaf of each of the eight optimisers takes time to compile
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(network.init, jax.random.key(0)))
    deviation = jax.tree.map(
        lambda leaf: np.full_like(leaf, (leaf.ndim > 1) * np.sqrt(2 / leaf.shape[0])), like
    )  # He's
    deviation, unravel = jax.flatten_util.ravel_pytree(deviation)
    init = lambda key: deviation * jax.random.normal(key, deviation.shape)

    def loss(vector, batch):
        return jnp.mean(losses.softmax_cross_entropy(network.apply(unravel(vector), batch[0]), batch[1]))

    pixels = raw.images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
    return loss, init, (pixels.astype(np.float32), np.eye(10, dtype=np.float32)[raw.target])


NOTHING = np.zeros(1, np.float32)  # what a function without data is trained on


def _by_rate(config: Config) -> dict[str, np.ndarray]:
    """What is left of each problem's loss, (optimisers, rates, seeds); of the regression with scaled gradients too."""
    number, rates = np.arange(len(OPTIMISERS), dtype=np.int32), config.rates
    which, rate = _grid(number, rates)
    setting = {"which": which, "rate": rate}
    shape = (len(OPTIMISERS), len(rates), config.seeds)
    last = max(1, config.steps // 5)
    start = lambda key: jax.random.normal(key, (2,))
    tasks = {"ravine": (_ravine(config), start, NOTHING), "perceptron": _perceptron(config)}
    found = {}
    for problem, (loss, init, data) in tasks.items():
        size, tail = (None, 1) if problem == "ravine" else (config.batch_size, last)
        runs = training.sweep(loss, init, data, _BY_RATE, setting, _keys(config), steps=config.steps, batch_size=size)
        found[problem] = np.asarray(runs.history["loss"])[..., -tail:].mean(-1).reshape(shape)
    scale, which, rate = _grid(np.array([1.0, SCALE], np.float32), number, rates)
    setting = {"which": which.astype(np.int32), "rate": rate.astype(np.float32), "scale": scale.astype(np.float32)}
    loss, init, data = _logistic()
    runs = training.sweep(
        loss, init, data, _BY_RATE_SCALED, setting, _keys(config), steps=config.steps, batch_size=config.batch_size
    )
    left = np.asarray(runs.history["loss"])[..., -last:].mean(-1).reshape(2, *shape)
    return found | {"logistic": left[0], "scaled": left[1]}


def _range(config: Config, left: np.ndarray) -> dict[str, dict[str, Any]]:
    """Of each optimiser: the best mean loss by seed, its rate, and the decades within 10 % of the best, by seed."""
    found = {}
    for name, values in zip(OPTIMISERS, left):
        best = int(np.argmin(np.where(np.isfinite(values).all(1), values.mean(1), np.inf)))
        widths = [_width(np.log10(config.rates), values[:, seed]) for seed in range(config.seeds)]
        found[name] = {"loss": values[best], "rate": config.rates[best], "width": widths}
    return found


def _width(places, values) -> float:
    """Length of the interval around the smallest value in which the values, interpolated, are at most 1.1 of it."""
    values = np.where(np.isfinite(values), np.maximum(values, 1e-30), 1e30)
    best = int(np.argmin(values))
    bound = 1.1 * values[best]
    ends = []
    for towards in (-1, 1):
        at = best
        while 0 <= at + towards < len(values) and values[at + towards] <= bound:
            at += towards
        end = places[at]
        if 0 <= at + towards < len(values):
            # in the logarithm of the values, or one that is far off would hide all before it
            inside, outside = np.log(values[at]), np.log(values[at + towards])
            end += (places[at + towards] - places[at]) * (np.log(bound) - inside) / (outside - inside)
        ends.append(end)
    return float(ends[1] - ends[0])


def _moved(config: Config, left, scaled) -> dict[str, tuple[float, float]]:
    """|loss of the scaled run / loss of the run that it should equal - 1|, the mean over seeds at the worst rate.

    Rates go up to the best one: beyond it runs get chaotic, and what ε and rounding change grows from step to step.
    """
    shift, found = 2 * config.rates_per_decade, {}
    for name, values, others in zip(OPTIMISERS, left, scaled):
        stop = 1 + int(np.argmin(np.where(np.isfinite(values).all(1), values.mean(1), np.inf)))
        first = shift if name in LINEAR else 0
        values, others = values[first:stop], others[: stop - first] if stop > first else others[:0]
        by_rate = zip(*mean_interval(np.abs(others / values - 1), 1))
        pairs = [(float(mean), float(half)) for mean, half in by_rate]
        found[name] = max(pairs, key=sum, default=(np.inf, 0.0))  # no rate to compare at proves nothing
    return found


# ---- ravine and saddle, counted ------------------------------------------------------------------------


def _tuned_ravines(config: Config):
    """The power of κ in the steps, by seed, and the steps themselves, (conditions, seeds), of each method."""
    kappa = np.array(config.conditions, np.float32)
    root = np.sqrt(kappa)
    rates = [2 / (1 + 1 / kappa), (2 / (1 + 1 / root)) ** 2, np.ones_like(kappa)]
    momenta = [np.zeros_like(kappa), ((root - 1) / (root + 1)) ** 2, (root - 1) / (root + 1)]
    plain = lambda setting: optax.sgd(setting["rate"], setting["momentum"])
    nesterov = lambda setting: optax.sgd(setting["rate"], setting["momentum"], nesterov=True)
    setting = {
        "which": np.repeat(np.array([0, 0, 1], np.int32), len(kappa)),
        "rate": np.concatenate(rates),
        "momentum": np.concatenate(momenta),
    }

    def init(key):  # all ravines from the same unit vector
        start = jax.random.normal(key, (2,))
        return jnp.broadcast_to(start / jnp.linalg.norm(start), (len(kappa), 2))

    def loss(x, steps, _):
        """The sum over the ravines, none of which sees another; steps counts those before a thousandth's distance."""
        far = jnp.sum(jnp.square(x), 1) > 1e-6
        return 0.5 * jnp.sum(jnp.square(x[:, 0]) + jnp.square(x[:, 1]) / kappa), steps + far

    runs = training.sweep(
        loss, init, NOTHING, _one_of([plain, nesterov]), setting, _keys(config), steps=config.ravine_steps,
        batch_size=None, carry=np.zeros(len(kappa), np.int32),
    )  # fmt: skip
    counted = np.asarray(runs.carry).reshape(len(TUNED), len(kappa), config.seeds, len(kappa))
    counted = np.moveaxis(np.diagonal(counted, axis1=1, axis2=3), 2, 1)  # each ravine by what is tuned for it
    steps = dict(zip(TUNED, counted))
    powers = {name: np.polyfit(np.log(kappa), np.log(values), 1)[0] for name, values in steps.items()}
    return powers, steps


SADDLES = ("along the coordinates", "turned by 30°")


def _saddle(config: Config):
    """What a decade of δ costs, (mean, half width of the 95 % interval), and (δ, steps) of each seed."""
    turn = _turn(30).astype(np.float32)

    def coordinates(params):
        return jnp.stack([params["straight"], params["turned"] @ turn])

    def init(key):
        distance, places = jax.random.split(key)
        x = jax.random.uniform(places, (), minval=0.5, maxval=1.5)
        start = jnp.stack([x, 10 ** jax.random.uniform(distance, (), minval=-6.0, maxval=-2.0)])
        return {"straight": start, "turned": turn @ start}

    def loss(params, steps, _):
        x, y = coordinates(params).T
        value = jnp.sum(0.5 * jnp.square(x) - 0.5 * jnp.square(y) + 0.25 * y**4)
        return value, steps + (jnp.abs(y) < ESCAPED)

    number = np.arange(len(OPTIMISERS), dtype=np.int32)
    setting = {"which": number, "rate": np.full(len(number), config.saddle_rate, np.float32)}
    keys = jax.random.split(jax.random.key(1), 3 * config.seeds)
    runs = training.sweep(
        loss, init, NOTHING, _BY_RATE, setting, keys, steps=5 * config.steps, batch_size=None,
        carry=np.zeros(2, np.int32),
    )  # fmt: skip
    distance = np.asarray(jax.jit(jax.vmap(lambda key: init(key)["straight"][1]))(keys))
    cost, escapes = {}, {}
    for name, by_seed in zip(OPTIMISERS, np.asarray(runs.carry)):
        for kind, counted in zip(SADDLES, by_seed.T):
            cost[kind, name] = _slope(-np.log10(distance), counted)
            escapes[kind, name] = distance, counted
    return cost, escapes


def _slope(x, y) -> tuple[float, float]:
    """Least squares' slope and the half width of its 95 % interval."""
    from scipy import stats

    if np.ptp(y) == 0:
        return 0.0, 0.0
    fitted = stats.linregress(x, y)
    return float(fitted.slope), float(stats.t.ppf(0.975, len(x) - 2) * fitted.stderr)


def _saddle_laws(config: Config) -> dict[str, float]:
    """Steps a decade of δ: 1 / log10 of the factor by which y grows a step."""
    beta, rate = MOMENTUM, config.saddle_rate
    larger = lambda total, product: (total + np.sqrt(total**2 - 4 * product)) / 2
    factors = {
        "SGD": 1 + rate,
        "momentum": larger(1 + beta + rate, beta),
        "Nesterov": larger((1 + beta) * (1 + rate), beta * (1 + rate)),
    }
    return {name: float(1 / np.log10(factor)) for name, factor in factors.items()}


# ---- Adam by hand --------------------------------------------------------------------------------------


def _adam_by_hand(config: Config, rate: float = 0.1, steps: int = 10) -> float:
    """The largest difference of the parameters after each of Adam's first steps in the ravine, float64.

    m ← β₁ m + (1 - β₁) g,  v ← β₂ v + (1 - β₂) g²,  x ← x - η (m / (1 - β₁ᵗ)) / (√(v / (1 - β₂ᵗ)) + ε).
    """
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    hessian, start = _hessian(config, np.float64), np.array([-0.7, 1.9])
    x, m, v, path = start, np.zeros(2), np.zeros(2), []
    for t in range(1, steps + 1):
        gradient = hessian @ (x - 1)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        x = x - rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        path.append(x)
    with jax.enable_x64(True):
        optimizer, loss = optax.adam(rate), _ravine(config, np.float64)

        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(jax.grad(loss)(x, None), state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        follow = jax.jit(lambda x: jax.lax.scan(step, (x, optimizer.init(x)), length=steps)[1])
        found = np.asarray(follow(start))
    return float(np.max(np.abs(found - np.array(path))))


# ---- one program against a loop ------------------------------------------------------------------------


def _machine(config: Config) -> dict[str, Any]:
    """Process times of the sweep, of a loop over fits and of a loop over one compiled run."""
    loss, init, data = _logistic()
    rates = np.logspace(-4, -1, config.sweep_settings).astype(np.float32)
    keys, start = jax.random.split(jax.random.key(2), 4), jax.jit(init)
    how: dict[str, Any] = dict(steps=config.steps, batch_size=None)

    def timed(fun, *arguments) -> float:
        began = time.process_time()
        fun(*arguments)
        return time.process_time() - began

    def swept(rates, keys):
        jax.block_until_ready(training.sweep(loss, init, data, optax.adam, rates, keys, **how))

    def fits(rates):
        for rate in rates:
            optimizer = optax.adam(float(rate))
            for key in keys:
                training.fit(loss, start(key), data, optimizer, key=key, progress=False, **how)

    def one_by_one(rates):
        for rate in rates:
            for i in range(len(keys)):
                swept(rate[None], keys[i : i + 1])

    some, part = rates[: config.loop_settings], config.sweep_settings / config.loop_settings
    first, again = timed(swept, rates, keys), timed(swept, rates, keys)
    loop = timed(fits, some) * part
    swept(rates[:1], keys[:1])  # compiles
    compiled = timed(one_by_one, some) * part
    runs = f"{config.sweep_settings} rates x 4 seeds"
    scaled = f" (from {config.loop_settings} of the rates)" if part > 1 else ""
    return {
        f"{runs} as one program, process time": f"{first:.2f} s, of it {again:.2f} s without compilation",
        "a Python loop over fits takes": f"{loop / first:.1f} times that{scaled}",
        "a loop over one compiled run takes, without compilation": f"{compiled / again:.1f} times that{scaled}",
    }


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    return [_plot_rates(result.curves), _plot_laws(result.curves)]


def _plot_rates(curves: Mapping) -> Picture:
    config = curves["config"]
    figure = style.figure(11, 7.2)
    panels = {
        "ravine": ("Ravine", "loss after the last step"),
        "logistic": ("Logistic regression, breast cancer", "training loss, nats"),
        "perceptron": ("Perceptron, digits", "training loss, nats"),
        "scaled": (f"Logistic regression, loss times {SCALE:g}", "training loss before scaling, nats"),
    }
    grid = figure.subplots(2, 2)
    for axes, (problem, (title, label)) in zip(grid.ravel(), panels.items()):
        by_rate = curves["scaled"] if problem == "scaled" else curves["by_rate"][problem]
        for name, values in zip(OPTIMISERS, by_rate):
            shown = np.clip(values, 1e-16, 1e16)
            good = np.isfinite(shown).all(1)
            mean, half = mean_interval(np.log10(shown[good]), 1)
            places = config.rates[good]
            axes.fill_between(
                places, 10 ** (mean - half), 10 ** (mean + half), color=COLOURS[name], alpha=0.15, linewidth=0
            )
            axes.plot(places, 10**mean, color=COLOURS[name], linestyle=LINES[name], linewidth=1.5, label=name)
        axes.set(title=title, xlabel="learning rate", ylabel=label, xscale="log", yscale="log")
        if problem != "ravine":
            axes.set_ylim(0.7 * np.nanmin(by_rate.mean(2)), 6)
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
    grid[0, 0].set_ylim(1e-16, 10)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8)
    return Picture(
        "rates",
        f"What is left of the loss by the learning rate, geometric mean and 95 % interval of {config.seeds} seeds "
        f"after {config.steps} steps; a line ends where a run is no longer finite. The loss times {SCALE:g} (below) "
        "shifts SGD, momentum and Nesterov two decades to the left from the upper right, and leaves the others there.",
        figure,
    )


def _plot_laws(curves: Mapping) -> Picture:
    config = curves["config"]
    figure = style.figure(12, 4.4)
    ravine, straight, turned = figure.subplots(1, 3)
    kappa = np.array(config.conditions)
    colours = (style.BLACK, style.SKY, style.BLUE)
    for (name, steps), colour in zip(curves["tuned"].items(), colours):
        mean, half = mean_interval(steps, 1)
        ravine.errorbar(kappa, mean, half, fmt="o", color=colour, markersize=4, capsize=2, label=name)
        law = mean[-1] * (kappa / kappa[-1]) ** TUNED[name]
        ravine.plot(kappa, law, color=colour, linewidth=1, linestyle=":")
    ravine.set(
        title="Ravine, each method tuned", xlabel="condition number κ", ylabel="steps to a thousandth", xscale="log"
    )
    ravine.set_yscale("log")
    ravine.legend(title="dotted: κ, √κ")
    for axes, kind in ((straight, SADDLES[0]), (turned, SADDLES[1])):
        for name in OPTIMISERS:
            distance, steps = curves["escapes"][kind, name]
            axes.plot(
                distance, steps, color=COLOURS[name], linestyle="", marker=MARKERS[name], markersize=4, label=name
            )
        axes.set(title=f"Saddle, {kind}", xlabel="distance at the start, δ", ylabel="steps to leave it", xscale="log")
        axes.set_yscale("log")
    limits = [min(straight.get_ylim()[0], turned.get_ylim()[0]), max(straight.get_ylim()[1], turned.get_ylim()[1])]
    for axes in (straight, turned):
        axes.set_ylim(*limits)
    handles, labels = straight.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8)
    return Picture(
        "laws",
        "Left: steps by the condition number; gradient descent's grow like κ, momentum's and Nesterov's like √κ (mean "
        f"and 95 % interval over starts). Middle, right: steps to leave a saddle at the rate {config.saddle_rate:g}, "
        "by the distance at the start, one point a seed. Along the coordinates only SGD, momentum and Nesterov see it; "
        "where the saddle is turned, the others leave the steep direction at once, and do not see δ either.",
        figure,
    )
