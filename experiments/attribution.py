"""Which pixels made the network say so?  Three answers, measured.

Networks are trained on the digits, one for each seed; f is the log-odds of the class that a network predicts,
log p - log(1 - p).  For test images, attributions to the 64 pixels by

  saliency              |df/dx_i|                                                       (integrals.saliency)
  SmoothGrad            the modulus of the mean of df/dx_i over noise                   (integrals.smooth_grad)
  integrated gradients  x_i times the mean of df/dx_i on the way from blank paper to x  (integrals.integrated_gradients)

Completeness: integrated gradients must add up to f(x) - f(blank), image by image.  Beside the adaptive integral stands
the common sum over m points of the way, and for ReLU networks, whose gradient jumps on it, the price of the jumps.

Deletion: pixels are blanked one by one, the most important first; the lower the mean of f over the whole way (the area
under the curve), the better the order.  Controls: random orders; the darkest ink first, which needs no network; and
gradient times input, which is integrated gradients without the integral.  Standard errors are over images; a
difference between two orders is taken image by image, averaged over a network's images, and its interval is over
networks.  Which method deletes fastest is measured, and claimed by nobody.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.drawing import attribution as drawing
from experiments.framework import progress, settings
from experiments.framework.result import Check, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import activations, integrals, losses, models, training

SUITE = "standard"
CLAIM = (
    "Integrated gradients share out a network's log-odds among the pixels without remainder, and blanking pixels in "
    "their order takes the log-odds away faster than a random order does."
)
COMPLETE = 1e-6  # gap of an image, relative to |f(x)| + |f(blank)|
METHODS = ("integrated gradients", "saliency", "SmoothGrad", "gradient × input", "darkest first", "random")
plot = drawing.plot


@dataclass(frozen=True)
class Config:
    """Settings of the attributions."""

    seeds: int = 6
    """Networks, each with its own split of the digits."""
    images: int = 40
    """Test images a network."""
    hidden: tuple[int, ...] = (64, 32)
    """Widths of the hidden layers."""
    activation: activations.Name = "gelu"
    """Of the hidden layers; a smooth one, so that one call integrates over all images."""
    relu_images: int = 4
    """Images on which a ReLU network is asked, one by one."""
    epochs: int = 15
    """Passes over the training digits."""
    batch_size: int = 64
    """Digits a step of training."""
    train: int = 1437
    """Digits to train on, of 1797; the others are the test set."""
    noise: float = 0.15
    """SmoothGrad: standard deviation of the noise, where ink is from 0 to 1."""
    samples: int = 64
    """SmoothGrad: noisy copies of an image."""
    orders: int = 16
    """Random orders of deletion an image."""
    riemann: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    """Points of the common sums that integrated gradients are compared with."""

    def __post_init__(self):
        settings.at_least(self, 1, "epochs", "batch_size", "orders", "relu_images")
        settings.at_least(self, 2, "seeds", "samples")
        settings.positive(self, "noise")
        if not self.batch_size <= self.train < 1797:
            raise ValueError(f"train: expected from batch_size = {self.batch_size} to 1796, got {self.train}")
        if not 10 <= self.images <= 1797 - self.train:
            raise ValueError(f"images: expected from 10 to {1797 - self.train}, the test set, got {self.images}")
        if not self.riemann or min(self.riemann) < 1 or any(max(self.riemann) % m for m in self.riemann):
            raise ValueError(f"riemann: expected numbers that divide the largest of them, got {self.riemann}")


QUICK = Config(seeds=5, images=20, samples=32, orders=8)
SMOKE = Config(seeds=2, images=10, hidden=(8,), relu_images=1, epochs=2, samples=4, orders=2, riemann=(2, 8))


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        progress.part("networks")
        params, (x, y), accuracy = _networks(config)
        f, chosen = _log_odds(config, params, x)
        progress.part("attributions")
        maps, found = _attributions(config, f, x)
        gaps = _gaps(f, x, maps["integrated gradients"])
        sums = {m: float(np.median(_gaps(f, x, total))) for m, total in _riemann(f, x, config.riemann).items()}
        progress.part("the ReLU network")
        relu = _relu(config)
        progress.part("deletions")
        curves = _deletions(config, f, x, maps)
        change = np.asarray(f(x) - f(jnp.zeros_like(x)))
    areas = {name: _area(curve) for name, curve in curves.items()}  # (seeds, images)
    return Result(
        claim=CLAIM,
        checks=_checks(found, gaps, relu, accuracy, areas),
        numbers=_numbers(areas, accuracy, gaps),
        metrics=[
            {"seed": seed, "image": image, "digit": int(y[seed, image]), "predicted": int(chosen[seed, image]),
             "gap": gaps[seed, image]} | {name: area[seed, image] for name, area in areas.items()}
            for seed in range(config.seeds) for image in range(config.images)
        ],
        table=_table(areas, curves),
        curves={
            "x": np.asarray(x[0]), "y": np.asarray(y[0]), "chosen": np.asarray(chosen[0]),
            "maps": {name: values[0] for name, values in maps.items()}, "deletions": curves, "areas": areas,
            "gaps": gaps, "sums": sums, "steps": found.steps, "relu": relu, "change": change,
            "totals": maps["integrated gradients"].sum(-1),
        },
    )  # fmt: skip


# ---- networks ------------------------------------------------------------------------------------------


def _network(config: Config) -> models.Model:
    return models.mlp((64, *config.hidden, 10), config.activation, dtype=jnp.float64)


def _networks(config: Config):
    """(parameters with a leading axis of seeds, (test images, labels) (seeds, images, ...), accuracies (seeds,))."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.stack([np.random.default_rng(seed).permutation(len(raw.target)) for seed in range(config.seeds)])
    x, y = jnp.asarray((raw.data / 16)[order]), jnp.asarray(raw.target[order])
    network = _network(config)
    steps = config.epochs * (config.train // config.batch_size)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def loss(params, batch):
        inputs, labels = batch
        return jnp.mean(losses.softmax_cross_entropy(network.apply(params, inputs), jax.nn.one_hot(labels, 10)))

    def one_seed(key, x, y):
        params = network.init(jax.random.fold_in(key, 0))
        state = training.start(params, optimizer, jax.random.fold_in(key, 1), config.train, config.batch_size)
        step = training.make_step(loss, optimizer, config.batch_size)
        state, _ = training.run_steps(step, state, (x[: config.train], y[: config.train]), steps)
        guess = jnp.argmax(network.apply(state.params, x[config.train :]), -1)
        return state.params, jnp.mean(guess == y[config.train :])

    params, accuracy = jax.jit(jax.vmap(one_seed))(jax.random.split(jax.random.key(0), config.seeds), x, y)
    shown = slice(config.train, config.train + config.images)
    return params, (x[:, shown], y[:, shown]), np.asarray(accuracy)


def _log_odds(config: Config, params, x):
    """(f, predicted classes): f(x) is the log-odds of the class predicted for the images given here."""
    logits = jax.vmap(_network(config).apply)
    chosen = jnp.argmax(logits(params, x), -1)
    mine = jax.nn.one_hot(chosen, 10, dtype=bool)

    def f(x):  # (seeds, images, 64) -> (seeds, images)
        z = logits(params, x)
        others = jax.nn.logsumexp(jnp.where(mine, -jnp.inf, z), -1)
        return jnp.sum(jnp.where(mine, z, 0.0), -1) - others

    return jax.jit(f), chosen


# ---- attributions --------------------------------------------------------------------------------------


def _attributions(config: Config, f, x):
    """(method -> (seeds, images, 64), the integral's own report).

    All images at once: the sum of f over images has each image's gradient, and along the straight way from all blank
    to all images each image goes its own straight way.
    """
    total = jax.jit(lambda x: jnp.sum(f(x)))
    found = integrals.integrated_gradients(total, x, tolerance=1e-9, most_steps=2**17)
    smooth = integrals.smooth_grad(total, x, jax.random.key(1), noise=config.noise, samples=config.samples)
    maps = {
        "integrated gradients": found.attributions,
        "saliency": integrals.saliency(total, x),
        "SmoothGrad": jnp.abs(smooth.gradient),
        "gradient × input": x * jax.grad(total)(x),
    }
    return {name: np.asarray(values) for name, values in maps.items()}, found


def _riemann(f, x, counts: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Integrated gradients as they are commonly computed: for each m a mean over the points k/m of the way."""
    most, gradient = max(counts), jax.grad(lambda x: jnp.sum(f(x)))
    along = jax.jit(lambda x: jax.lax.map(lambda t: gradient(t * x), jnp.arange(1, most + 1) / most))(x)
    return {m: np.asarray(x * jnp.mean(along[most // m - 1 :: most // m], 0)) for m in counts}


def _relu(config: Config) -> dict:
    """Integrated gradients of a ReLU network, image by image: gaps, and gradients that they took."""
    config = replace(config, seeds=2, activation="relu")
    params, (x, _), _ = _networks(config)
    first = jax.tree_util.tree_map(lambda leaf: leaf[:1], params)
    gaps, steps, converged = [], [], []
    for image in x[0, : config.relu_images]:
        f, _ = _log_odds(config, first, image[None, None])
        found = integrals.integrated_gradients(jax.jit(lambda v, f=f: f(v[None, None])[0, 0]), image)
        gaps.append(float(_gaps(f, image[None, None], np.asarray(found.attributions)[None, None])[0, 0]))
        steps.append(found.steps)
        converged.append(found.converged)
    return {"gaps": gaps, "steps": steps, "converged": all(converged)}


def _gaps(f, x, attributions) -> np.ndarray:
    """|sum of attributions - (f(x) - f(blank))| of each image, relative to |f(x)| + |f(blank)|."""
    here, blank = np.asarray(f(x)), np.asarray(f(jnp.zeros_like(x)))
    return np.abs(attributions.sum(-1) - (here - blank)) / (np.abs(here) + np.abs(blank))


# ---- deletion ------------------------------------------------------------------------------------------


def _deletions(config: Config, f, x, maps) -> dict[str, np.ndarray]:
    """f while pixels are blanked in a method's order, (seeds, images, 65)."""

    @jax.jit
    def curve(scores):
        rank = jnp.argsort(jnp.argsort(-scores, -1), -1)  # 0: the first to go
        return jnp.moveaxis(jax.lax.map(lambda k: f(jnp.where(rank < k, 0.0, x)), jnp.arange(65)), 0, -1)

    draws = jax.random.uniform(jax.random.key(2), (config.orders, *x.shape))
    found = {name: np.asarray(curve(jnp.asarray(values))) for name, values in maps.items()}
    found["darkest first"] = np.asarray(curve(x))
    found["random"] = np.mean([np.asarray(curve(scores)) for scores in draws], 0)
    return found


def _area(curve: np.ndarray) -> np.ndarray:
    """The mean of f over the whole way, by trapezoids: the area under the curve against the share of pixels."""
    return np.trapezoid(curve, dx=1 / 64, axis=-1)


# ---- verdict -------------------------------------------------------------------------------------------


def _against(areas: dict, name: str, other: str = "random") -> np.ndarray:
    """Difference of the areas, image by image, averaged over each network's images: (seeds,)."""
    return (areas[name] - areas[other]).mean(1)


def _checks(found, gaps, relu, accuracy, areas) -> list[Check]:
    mean, half = mean_interval(_against(areas, "integrated gradients"))
    return [
        Check(
            f"integrated gradients add up to f(x) − f(blank) on every image, to {COMPLETE:g}",
            f"{gaps.max():.1e} off at most, of {gaps.size} images",
            gaps.max() <= COMPLETE,
        ),
        Check(
            "the integral says of itself that it has converged",
            f"{'yes' if found.converged else 'no'}, after {found.steps} gradients on the way",
            found.converged,
        ),
        Check(
            f"on ReLU networks too, whose gradients jump on the way: they add up to {COMPLETE:g}",
            f"{max(relu['gaps']):.1e} off at most, after {max(relu['steps'])} gradients",
            relu["converged"] and max(relu["gaps"]) <= COMPLETE,
        ),
        Check(
            "deletion: area under integrated gradients' curve below random's, 95 % interval over networks",
            f"{mean:.2f} ± {half:.2f}",
            bool(mean + half < 0),
        ),
        Check(
            "the networks know the digits: mean test accuracy at least 95 %",
            f"{plus_minus(accuracy, 100)} %",
            accuracy.mean() >= 0.95,
        ),
    ]


def _numbers(areas, accuracy, gaps) -> dict:
    fastest = min(METHODS, key=lambda name: areas[name].mean())
    return {
        "deletes fastest": fastest,
        **{f"area, {name}": f"{areas[name].mean():.2f} ± {_standard_error(areas[name]):.2f}" for name in METHODS},
        "test accuracy": f"{plus_minus(accuracy, 100)} %",
        "completeness gap, median": float(np.median(gaps)),
    }


def _standard_error(values: np.ndarray) -> float:
    """Over images."""
    return float(values.std(ddof=1) / np.sqrt(values.size))


def _table(areas, curves) -> Table:
    rows = []
    for name in METHODS:
        below = np.argmax(curves[name] < 0, -1)  # the first number of pixels at which the class is no longer likely
        rows.append([
            name, float(areas[name].mean()), _standard_error(areas[name]),
            None if name == "random" else plus_minus(_against(areas, name)),
            float(np.mean(np.where((curves[name] < 0).any(-1), below, 64))),
        ])  # fmt: skip
    columns = ["blanked first", "area under f", "standard error", "minus random's (95 % over networks)",
               "pixels until p < 1/2"]  # fmt: skip
    return Table(columns, rows)
