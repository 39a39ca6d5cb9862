"""L1, L2 and dropout against over-fitting, on few training digits, some with a wrong label.

A wide multilayer perceptron is trained by mini-batch gradient descent with momentum on a small part of scikit-learn's
digits: bare; with an L1 penalty by proximal steps (soft thresholding after each update, which gives zeros that
are zeros); with an L2 penalty in the loss; with dropout of the hidden units. Biases are never penalised.

Each method's strength is chosen on a validation set, from a short list, by the mean loss over the
seeds; the test set is looked at once, for the strengths chosen. Every seed draws its own three sets, initial
weights and masks; seeds and strengths run at once (vmap). Methods are compared seed by seed: the interval is that
of the paired difference in test loss from the bare run.

The wrong labels make over-fitting plain: they can only be learnt by heart. The labels that judge are right. Without
wrong ones (--wrong-labels 0) the gains are about a tenth as large, and for some networks (--hidden 128 128) what
dropout gains is within the spread of the seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import losses, models, penalties, training, tree

CLAIM = (
    "On few training digits, some mislabelled, a wide network over-fits; L1, L2 and dropout each lower its test loss, "
    "and of the three only L1, by proximal steps, makes weights exactly zero."
)


@dataclass(frozen=True)
class Config:
    """Settings of the regularisation experiment."""

    seeds: int = 8
    """Draws of the sets, initial weights and masks, run at once."""
    train: int = 250
    """Digits to train on."""
    validation: int = 300
    """Digits that choose the strengths; the rest, of 1797, is the test set."""
    wrong_labels: float = 0.15
    """Share of the training digits that get a random other label."""
    hidden: tuple[int, ...] = (512,)
    """Widths of the hidden layers."""
    batch_size: int = 50
    """Digits a step."""
    steps: int = 800
    """Updates."""
    record_every: int = 50
    """Steps between two points of the curves."""
    learning_rate: float = 0.05
    """Of gradient descent with momentum 0.9."""
    l1: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Strengths of |w|₁ to choose from."""
    l2: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Strengths of |w|₂² (no half) to choose from."""
    dropout: tuple[float, ...] = (0.25, 0.5, 0.7)
    """Rates to choose from."""

    def __post_init__(self):
        settings.at_least(self, 1, "validation", "batch_size", "steps", "record_every")
        settings.at_least(self, self.batch_size, "train")
        settings.at_least(self, 2, "seeds")
        settings.positive(self, "learning_rate")
        if not 0 <= self.wrong_labels < 1:
            raise ValueError(f"wrong_labels: expected a share in [0, 1), got {self.wrong_labels}")
        if self.train + self.validation >= 1797:
            raise ValueError(f"train + validation: expected less than 1797, got {self.train + self.validation}")
        if self.steps % self.record_every:
            raise ValueError(f"steps: expected a multiple of record_every = {self.record_every}, got {self.steps}")
        for name in ("l1", "l2", "dropout"):
            values = getattr(self, name)
            if not values or min(values) < 0 or (name == "dropout" and max(values) >= 1):
                upper = "below 1" if name == "dropout" else "and finite"
                raise ValueError(f"{name}: expected numbers >= 0 {upper}, got {values}")

    def strengths(self) -> dict[str, tuple[float, ...]]:
        return {"none": (0.0,), "L1": self.l1, "L2": self.l2, "dropout": self.dropout}


QUICK = Config(seeds=5, l1=(1e-3,), l2=(3e-3,), dropout=(0.5,))
SMOKE = Config(
    seeds=2, train=20, hidden=(8,), batch_size=10, steps=4, record_every=2, l1=(0.0, 0.01), l2=(1e-3,), dropout=(0.5,)
)


def weights_only(name: str) -> bool:
    """The penalties' `select`: biases are left out."""
    return name.endswith("weight")


def run(config: Config) -> Result:
    draws = _draws(config)
    strengths = progress.over(config.strengths().items(), "methods")
    grids = {method: _train(method, values, config, draws) for method, values in strengths}
    chosen = {method: int(np.argmin(grid["validation loss"][..., -1].mean(1))) for method, grid in grids.items()}
    found = {method: {name: v[chosen[method]] for name, v in grid.items()} for method, grid in grids.items()}
    strength = {method: values[chosen[method]] for method, values in config.strengths().items()}

    bare = found["none"]
    gains = {m: bare["test loss"][:, -1] - entry["test loss"][:, -1] for m, entry in found.items() if m != "none"}
    rise = bare["test loss"][:, -1] - bare["test loss"].min(1)
    gap = bare["test loss"][:, -1] - bare["train loss"][:, -1]
    zeros = {method: entry["zeros"] for method, entry in found.items()}
    checks = [
        Check(
            "the bare network over-fits: all training digits right, test loss far above training loss",
            f"{100 * bare['train accuracy'][:, -1].mean():.1f} % right, gap {plus_minus(gap)} nats",
            bool(bare["train accuracy"][:, -1].min() == 1 and _surely_positive(gap)),
        )
    ]
    checks += [
        Check(
            f"{method} ({strength[method]:g}) lowers the test loss, paired over {config.seeds} seeds",
            f"by {plus_minus(gain, digits=3)} nats",
            _surely_positive(gain),
        )
        for method, gain in gains.items()
    ]
    others = {method: values.max() for method, values in zeros.items() if method != "L1"}
    checks.append(
        Check(
            "weights that are exactly zero: more than half with L1, none with the others",
            f"L1 {plus_minus(zeros['L1'], 100, 1)} %; " + ", ".join(f"{m} {v:.2%}" for m, v in others.items()),
            bool(zeros["L1"].min() > 0.5 and max(others.values()) == 0),
        )
    )
    numbers = {f"test accuracy, {m}": f"{plus_minus(e['test accuracy'][:, -1], 100, 1)} %" for m, e in found.items()}
    numbers |= {f"test loss, {m}": f"{plus_minus(e['test loss'][:, -1], digits=3)} nats" for m, e in found.items()}
    numbers["rise of the bare test loss from its lowest"] = f"{plus_minus(rise, digits=3)} nats"
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers,
        metrics=_metrics(config, grids),
        table=_table(config, grids, chosen),
        curves={"config": config, "found": found, "strength": strength},
    )


def _surely_positive(values) -> bool:
    """Whether the 95 % interval of the mean lies above 0."""
    mean, half = mean_interval(values)
    return bool(mean - half > 0)


def _network(config: Config, dropout_rate=0.0) -> models.Model:
    return models.mlp((64, *config.hidden, 10), "relu", dropout_rate=dropout_rate, dtype=jnp.float32)


def _draws(config: Config) -> dict:
    """What each seed starts from, as arrays with a leading axis of seeds."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.stack([np.random.default_rng(seed).permutation(len(raw.target)) for seed in range(config.seeds)])
    labels = raw.target[order]
    wrong = round(config.wrong_labels * config.train)  # the order is random, so the first ones may be the wrong ones
    labels[:, :wrong] += np.random.default_rng(0).integers(1, 10, (config.seeds, wrong))
    x = jnp.asarray((raw.data / 16).astype(np.float32)[order])
    y = jnp.asarray(np.eye(10, dtype=np.float32)[labels % 10])
    ends = np.cumsum([0, config.train, config.validation])
    places = {"train": slice(ends[0], ends[1]), "validation": slice(ends[1], ends[2]), "test": slice(ends[2], None)}
    keys = jax.random.split(jax.random.key(1), config.seeds)
    init = jax.jit(jax.vmap(lambda key: _network(config).init(jax.random.fold_in(key, 0))))
    return {
        "sets": {name: (x[:, place], y[:, place]) for name, place in places.items()},
        "params": init(keys),
        "keys": keys,
    }


def _train(method: str, strengths: tuple[float, ...], config: Config, draws: dict) -> dict[str, np.ndarray]:
    """Curves of shape (strengths, seeds, records) and the share of zero weights, (strengths, seeds)."""

    def one_run(strength, params, key, sets):
        def loss(params, batch, key):
            x, y = batch
            network = _network(config, strength if method == "dropout" else 0.0)
            value = jnp.mean(losses.softmax_cross_entropy(network.apply(params, x, key=key), y))
            return value + strength * penalties.l2(params, select=weights_only) if method == "L2" else value

        optimizer = optax.sgd(config.learning_rate, momentum=0.9)
        if method == "L1":
            # momentum 0.9 makes steps ten times as long, so the threshold is ten times the rate
            threshold = 10 * config.learning_rate * strength
            prox = lambda p: penalties.prox_l1(p, threshold, select=weights_only)
            optimizer = optax.chain(optimizer, training.proximal(prox))
        step = training.make_step(loss, optimizer, config.batch_size)

        def record(state, _):
            state, _ = training.run_steps(step, state, sets["train"], config.record_every)
            return state, _measures(config, state.params, sets)

        state = training.start(params, optimizer, key, config.train, config.batch_size)
        first = _measures(config, params, sets)
        state, curves = jax.lax.scan(record, state, length=config.steps // config.record_every)
        curves = jax.tree_util.tree_map(lambda a, b: jnp.concatenate([a[None], b]), first, curves)
        return curves | {"zeros": _share_of_zeros(state.params)}

    over_seeds = jax.vmap(one_run, in_axes=(None, 0, 0, 0))
    over_strengths = jax.vmap(over_seeds, in_axes=(0, None, None, None))
    values = jnp.asarray(strengths, jnp.float32)
    result = jax.jit(over_strengths)(values, draws["params"], draws["keys"], draws["sets"])
    return {name: np.asarray(value) for name, value in result.items()}


def _measures(config: Config, params, sets) -> dict:
    """Cross-entropy in nats, penalty and dropout left out, and accuracy, on each set."""
    measures = {}
    for name, (x, y) in sets.items():
        logits = _network(config).apply(params, x, deterministic=True)
        measures[f"{name} loss"] = jnp.mean(losses.softmax_cross_entropy(logits, y))
        measures[f"{name} accuracy"] = jnp.mean(jnp.argmax(logits, -1) == jnp.argmax(y, -1))
    return measures


def _share_of_zeros(params):
    pairs = zip(tree.path_names(params), jax.tree_util.tree_leaves(params))
    weights = jnp.concatenate([leaf.ravel() for name, leaf in pairs if weights_only(name)])
    return jnp.mean(weights == 0)


# ---- records, table, plots -----------------------------------------------------------------------------


def _metrics(config: Config, grids) -> list[dict]:
    curves = [f"{part} {kind}" for part in ("train", "validation", "test") for kind in ("loss", "accuracy")]
    return [
        {"method": method, "strength": value, "seed": seed, "zeros": grids[method]["zeros"][i, seed]}
        | {"step": k * config.record_every}
        | {name: grids[method][name][i, seed, k] for name in curves}
        for method, values in config.strengths().items()
        for i, value in enumerate(values)
        for seed in range(config.seeds)
        for k in range(config.steps // config.record_every + 1)
    ]


def _table(config: Config, grids, chosen) -> Table:
    rows = []
    for method, values in config.strengths().items():
        grid = grids[method]
        for i, value in enumerate(values):
            rows.append(
                [
                    method,
                    value,
                    plus_minus(grid["train loss"][i, :, -1], digits=4),
                    plus_minus(grid["validation loss"][i, :, -1], digits=3),
                    plus_minus(grid["test loss"][i, :, -1], digits=3) if i == chosen[method] else "not looked at",
                    f"{grid['zeros'][i].mean():.1%}",
                    "chosen" if i == chosen[method] else "",
                ]
            )
    return Table(["method", "strength", "train loss", "validation loss", "test loss", "zero weights", ""], rows)


def plot(result: Result) -> list[Picture]:
    return [_plot_losses(result.curves), _plot_summary(result.curves)]


COLOURS = dict(zip(("none", "L1", "L2", "dropout"), (style.BLACK, style.RED, style.BLUE, style.GREEN)))


def _label(curves: Mapping, method: str) -> str:
    return "none" if method == "none" else f"{method} ({curves['strength'][method]:g})"


def _plot_losses(curves: Mapping) -> Picture:
    config, figure = curves["config"], style.figure(10, 3.8)
    panels = dict(zip(("train", "test"), figure.subplots(1, 2)))
    steps = np.arange(0, config.steps + 1, config.record_every)
    for part, axes in panels.items():
        for method, entry in curves["found"].items():
            mean, half = mean_interval(entry[f"{part} loss"])
            style.band(axes, steps, mean, half, colour=COLOURS[method], label=_label(curves, method))
        axes.set(xlabel="step", ylabel="cross-entropy (nats)")
    panels["train"].set(title=f"Loss on the {config.train} training digits", yscale="log")
    panels["test"].set(title="Loss on the test digits")
    lowest = min(mean_interval(entry["test loss"])[0].min() for entry in curves["found"].values())
    highest = max(mean_interval(entry["test loss"])[0][-1] for entry in curves["found"].values())
    panels["test"].set_ylim(lowest - 0.1 * (highest - lowest) - 0.02, highest + 0.6 * (highest - lowest) + 0.02)
    panels["test"].legend(loc="upper right", ncols=2)
    return Picture(
        "losses",
        f"Mean and 95 % interval over {config.seeds} seeds. The bare network's training loss keeps falling while its "
        "test loss rises: over-fitting. The penalised ones stop earlier, and do better on the test digits.",
        figure,
    )


def _plot_summary(curves: Mapping) -> Picture:
    figure = style.figure(10, 3.2)
    panels = figure.subplots(1, 3)
    methods = list(curves["found"])
    quantities = (
        ("Test loss (nats)", lambda entry: entry["test loss"][:, -1]),
        ("Test accuracy (%)", lambda entry: 100 * entry["test accuracy"][:, -1]),
        ("Weights exactly zero (%)", lambda entry: 100 * entry["zeros"]),
    )
    for axes, (title, quantity) in zip(panels, quantities):
        values = [quantity(curves["found"][method]) for method in methods]
        for place, (method, value) in enumerate(zip(methods, values)):
            mean, half = mean_interval(value)
            axes.plot(np.full(len(value), place + 0.18), value, ".", color=style.GREY, markersize=4)
            axes.errorbar(place, mean, half, fmt="o", color=COLOURS[method], capsize=4)
        axes.set_xticks(range(len(methods)), [_label(curves, m).replace(" (", "\n(") for m in methods])
        axes.set_title(title)
        axes.set_xlim(-0.5, len(methods) - 0.5)
        axes.grid(axis="x", visible=False)
    panels[2].set_ylim(-5, 105)
    return Picture("summary", "At the end of training: mean with 95 % interval, and every seed (grey).", figure)
