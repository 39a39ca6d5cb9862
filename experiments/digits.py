"""A network on scikit-learn's handwritten digits, differentiated in three ways.

One multilayer perceptron (ReLU, softmax cross-entropy, Adam) is trained from one key with gradients by textbook
backpropagation (functional_dl.backprop), by the hand-written reverse mode (functional_dl.reverse) and by jax.grad.
Every seed draws its own split into training and test digits, its own initial weights and its own order; the seeds
run at once (vmap).

Agreement is measured where it means something: at every step of one trajectory the three gradients are taken at the
same parameters on the same batch, and compared leaf by leaf, |a - b| / |b| in Euclidean norm, the worst leaf
counting; in float32 and in float64.

Three runs left to themselves are a different question. Where two of them round differently, the differences add up
step by step: their parameters drift apart, though at any one point their gradients agree to the last digits. The
drift is measured too, and float64 shows that it comes from rounding: it shrinks with the rounding unit.

The textbook's δ = p - y subtracts two numbers near 1 once the network is sure of a digit, so its relative error
grows like the rounding unit over the loss. Trained to a loss far below the default's 0.03 nats (--epochs 60), the
float32 comparison passes 1e-5 for that reason, and this experiment says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.ticker import MaxNLocator

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import backprop, losses, models, reverse, training, tree

CLAIM = (
    "Textbook backpropagation, the hand-written reverse mode and jax.grad give the same gradient at every step of "
    "training on the digits, to rounding, and each trains a network to at least 97 % test accuracy."
)
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
REFERENCE = "jax.grad"


@dataclass(frozen=True)
class Config:
    """Settings of the digits experiment."""

    seeds: int = 8
    """Splits, initial weights and orders, run at once."""
    epochs: int = 20
    """Passes over the training digits."""
    hidden: tuple[int, ...] = (256, 128)
    """Widths of the hidden layers: of four pairs the best on digits held back from the training sets."""
    batch_size: int = 64
    """Digits a step."""
    learning_rate: float = 3e-3
    """Adam's rate at the start; it falls to 0 by a half cosine."""
    train: int = 1437
    """Digits to train on, of 1797; the others are the test set."""

    def __post_init__(self):
        settings.at_least(self, 1, "epochs", "batch_size")
        settings.at_least(self, 2, "seeds")
        settings.positive(self, "learning_rate")
        if not self.batch_size <= self.train < 1797:
            raise ValueError(f"train: expected from batch_size = {self.batch_size} to 1796, got {self.train}")

    @property
    def steps(self) -> int:
        return self.epochs * (self.train // self.batch_size)


QUICK = Config(epochs=10)
SMOKE = Config(seeds=2, epochs=1, hidden=(8,), batch_size=50, train=200)


def by_backprop(loss):
    """Textbook backpropagation in the clothes of value_and_grad; it brings the network's formulas itself."""
    del loss

    def value_and_grad(params, batch, key):
        del key
        value, grads, _ = backprop.gradients(params, *batch, activation="relu", loss="softmax_cross_entropy")
        return value, grads

    return value_and_grad


METHODS = {"backprop": by_backprop, "reverse": reverse.value_and_grad, REFERENCE: jax.value_and_grad}


def run(config: Config) -> Result:
    runs, agreement = {}, {}
    for dtype in TOLERANCE:
        with jax.enable_x64(dtype == "float64"):
            data = _data(config, dtype)
            agreement[dtype] = _agreement(config, data)
            runs[dtype] = {
                name: _train(config, data, method)
                for name, method in progress.over(METHODS.items(), f"gradients, {dtype}")
            }
    accuracy = {name: runs["float32"][name]["accuracy"] for name in METHODS}
    drift = {dtype: _drift(runs[dtype]) for dtype in TOLERANCE}
    confusion = runs["float32"][REFERENCE]["confusion"].sum(0)

    worst = {(dtype, name): errors.max() for dtype in TOLERANCE for name, errors in agreement[dtype].items()}
    checks = [
        Check(
            f"{name} and {REFERENCE}, same parameters, every step, {dtype}: within {TOLERANCE[dtype]:g} relative",
            f"at most {error:.1e}",
            bool(error <= TOLERANCE[dtype]),
        )
        for (dtype, name), error in worst.items()
    ]
    checks += [
        Check(
            f"test accuracy with {name}: 95 % interval of the mean over {config.seeds} seeds above 97 %",
            f"{plus_minus(values, 100)} %",
            bool(values.mean() - mean_interval(values)[1] >= 0.97),
        )
        for name, values in accuracy.items()
    ]
    numbers = {f"test accuracy, {name}": f"{plus_minus(values, 100)} %" for name, values in accuracy.items()}
    for dtype, by_method in drift.items():
        for name, values in by_method.items():
            numbers[f"drift of the {name} run's parameters, {dtype}"] = f"{np.median(values[:, -1]):.1e}"
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers=numbers | {"seeds": config.seeds, "steps a run": config.steps},
        metrics=_metrics(config, runs, agreement, drift),
        table=_table(accuracy, runs["float32"], agreement["float32"], drift),
        curves={
            "config": config,
            "agreement": agreement,
            "drift": drift,
            "losses": {name: values["loss"] for name, values in runs["float32"].items()},
            "confusion": confusion,
        },
    )


# ---- training ------------------------------------------------------------------------------------------


def _network(config: Config) -> models.Model:
    return models.mlp((64, *config.hidden, 10), "relu", dtype=jnp.float32)


def _loss(config: Config):
    """(params, batch) -> mean softmax cross-entropy of the network's logits, in nats."""
    network = _network(config)
    return lambda params, batch: jnp.mean(losses.softmax_cross_entropy(network.apply(params, batch[0]), batch[1]))


def _data(config: Config, dtype: str) -> dict:
    """What each seed starts from, as arrays with a leading axis of seeds.

    Digits in [0, 1] with one-hot labels, split into training and test set; initial parameters; keys.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.stack([np.random.default_rng(seed).permutation(len(raw.target)) for seed in range(config.seeds)])
    x, y = (raw.data / 16).astype(dtype)[order], np.eye(10, dtype=dtype)[raw.target[order]]
    keys = jax.random.split(jax.random.key(0), config.seeds)
    init = jax.jit(jax.vmap(lambda key: _network(config).init(jax.random.fold_in(key, 0))))
    return {
        "train": (jnp.asarray(x[:, : config.train]), jnp.asarray(y[:, : config.train])),
        "test": (jnp.asarray(x[:, config.train :]), jnp.asarray(y[:, config.train :])),
        # drawn in float32, so that runs in both dtypes start alike
        "params": jax.tree_util.tree_map(lambda leaf: leaf.astype(dtype), init(keys)),
        "keys": keys,
    }


def _start(config: Config, params, key):
    """One seed's state before the first step, and its optimiser."""
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    order_key = jax.random.fold_in(key, 1)
    return training.start(params, optimizer, order_key, config.train, config.batch_size), optimizer


def _train(config: Config, data: dict, differentiate) -> dict[str, np.ndarray]:
    """One run a seed, each left to itself; the parameters as vectors every epoch."""

    def one_seed(params, key, train, test):
        state, optimizer = _start(config, params, key)
        step = training.make_step(_loss(config), optimizer, config.batch_size, differentiate=differentiate)

        def epoch(state, _):
            state, metrics = training.run_steps(step, state, train, config.train // config.batch_size)
            return state, (metrics["loss"], _as_vector(state.params))

        state, (history, path) = jax.lax.scan(epoch, state, length=config.epochs)
        guess = jnp.argmax(_network(config).apply(state.params, test[0]), -1)
        truth = jnp.argmax(test[1], -1)
        confusion = jnp.zeros((10, 10), jnp.int32).at[truth, guess].add(1)
        return {"loss": history.ravel(), "path": path, "confusion": confusion, "accuracy": jnp.mean(guess == truth)}

    found = jax.jit(jax.vmap(one_seed))(data["params"], data["keys"], data["train"], data["test"])
    return {name: np.asarray(values) for name, values in found.items()}


def _agreement(config: Config, data: dict) -> dict[str, np.ndarray]:
    """Relative difference of each method's gradient from the reference's, shape (seeds, steps), along its run."""

    def one_seed(params, key, train):
        state, optimizer = _start(config, params, key)
        differences = {}

        def all_methods(fun):
            def value_and_grad(*arguments):
                value, reference = METHODS[REFERENCE](fun)(*arguments)
                for name, method in METHODS.items():
                    if name != REFERENCE:
                        # a barrier each, or the compiler would merge what the methods have in common
                        apart = jax.lax.optimization_barrier(arguments)
                        differences[name] = _relative(method(fun)(*apart)[1], reference)
                return value, reference

            return value_and_grad

        step = training.make_step(_loss(config), optimizer, config.batch_size, differentiate=all_methods)

        def body(state, _):
            state, _ = step(state, train)
            return state, dict(differences)  # what this very step put there while it was traced

        return jax.lax.scan(body, state, length=config.steps)[1]

    errors = jax.jit(jax.vmap(one_seed))(data["params"], data["keys"], data["train"])
    return {name: np.asarray(values) for name, values in errors.items()}


def _relative(a, b):
    """The worst leaf's |a - b| / |b|."""
    leaves = zip(jax.tree_util.tree_leaves(a), jax.tree_util.tree_leaves(b), strict=True)
    return jnp.max(jnp.stack([tree.norm(x - y) / tree.norm(y) for x, y in leaves]))


def _as_vector(params):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree_util.tree_leaves(params)])


def _drift(runs: dict) -> dict[str, np.ndarray]:
    """|theta - theta_reference| / |theta_reference| after each epoch, shape (seeds, epochs)."""
    reference = runs[REFERENCE]["path"]
    size = np.linalg.norm(reference, axis=-1)
    return {
        name: np.linalg.norm(runs[name]["path"] - reference, axis=-1) / size for name in METHODS if name != REFERENCE
    }


# ---- records, table, plots -----------------------------------------------------------------------------


def _metrics(config: Config, runs, agreement, drift) -> list[dict]:
    per_epoch = config.steps // config.epochs
    records = []
    for dtype in TOLERANCE:
        for epoch in range(config.epochs):
            steps = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
            for seed in range(config.seeds):
                records.append(
                    {"dtype": dtype, "epoch": epoch, "seed": seed}
                    | {f"loss, {name}": runs[dtype][name]["loss"][seed, steps].mean() for name in METHODS}
                    | {f"gradient error, {name}": e[seed, steps].max() for name, e in agreement[dtype].items()}
                    | {f"drift, {name}": e[seed, epoch] for name, e in drift[dtype].items()}
                )
    return records


def _table(accuracy, runs, agreement, drift) -> Table:
    rows = []
    for name, values in accuracy.items():
        final = runs[name]["loss"][:, -10:].mean(-1)
        rows.append(
            [
                name,
                plus_minus(values, 100) + " %",
                plus_minus(final, 1, 5),
                f"{agreement[name].max():.1e}" if name in agreement else "reference",
                *(f"{np.median(drift[d][name][:, -1]):.1e}" if name in drift[d] else "reference" for d in TOLERANCE),
            ]
        )
    columns = ["gradient by", "test accuracy", "final training loss", "worst gradient error, float32"]
    return Table([*columns, *(f"drift at the end, {dtype}" for dtype in TOLERANCE)], rows)


def plot(result: Result) -> list[Picture]:
    return [_plot_agreement(result.curves), _plot_runs(result.curves), _plot_confusion(result.curves["confusion"])]


COLOURS = {"backprop": style.RED, "reverse": style.BLUE, REFERENCE: style.BLACK}


def _zero(values) -> str:
    return "" if np.any(values) else " (always 0)"


def _plot_agreement(curves: Mapping) -> Picture:
    figure = style.figure(10, 3.6)
    for axes, (dtype, errors) in zip(figure.subplots(1, 2), curves["agreement"].items()):
        floor = np.finfo(dtype).eps / 50
        for name, values in errors.items():
            steps = np.arange(1, values.shape[1] + 1)
            shown = np.maximum(values, floor)
            axes.fill_between(steps, shown.min(0), shown.max(0), color=COLOURS[name], alpha=0.2, linewidth=0)
            axes.plot(
                steps,
                np.median(shown, 0),
                color=COLOURS[name],
                linewidth=1.0,
                label=f"{name} − {REFERENCE}{_zero(values)}",
            )
        axes.axhline(TOLERANCE[dtype], color=style.BLACK, linestyle="--", linewidth=1.2, label="tolerance")
        axes.axhline(np.finfo(dtype).eps, color=style.GREY, linestyle=":", linewidth=1.2, label="rounding unit")
        axes.set(title=dtype, xlabel="step", ylabel="relative difference of the gradients", yscale="log")
        axes.set_ylim(floor / 2, TOLERANCE[dtype] * 20)
        axes.legend(ncols=2, loc="upper left")
    return Picture(
        "agreement",
        "Gradients at the same parameters and batch, at every step of training, worst layer counting: median and range "
        "over the seeds. Backpropagation's p − y rounds relative to 1 and so loses digits as the network gets sure; "
        "differences of less than a fiftieth of the rounding unit, zero included, are drawn there.",
        figure,
    )


def _plot_runs(curves: Mapping) -> Picture:
    figure, config = style.figure(10, 3.6), curves["config"]
    left, right = figure.subplots(1, 2)
    styles = {"backprop": (0, (6, 3)), "reverse": (0, (2, 2)), REFERENCE: "-"}
    epochs = np.arange(1, config.epochs + 1)
    for name in (REFERENCE, "backprop", "reverse"):
        by_epoch = curves["losses"][name].reshape(config.seeds, config.epochs, -1).mean(-1)
        mean, half = mean_interval(by_epoch)
        style.band(left, epochs, mean, half, colour=COLOURS[name], label=name, linestyle=styles[name])
    left.set(title="Training loss of three runs, float32", xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    left.legend()
    for dtype, line in (("float32", "-"), ("float64", "--")):
        for name, values in curves["drift"][dtype].items():
            shown = np.maximum(np.median(values, 0), 1e-17)
            right.plot(epochs, shown, color=COLOURS[name], linestyle=line, label=f"{name}, {dtype}{_zero(values)}")
    right.set(title="Drift from the jax.grad run", xlabel="epoch", ylabel="relative distance", yscale="log")
    right.legend(loc="center right")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return Picture(
        "runs",
        "Left: the training losses of the three runs lie on each other (mean and 95 % interval over the seeds). Right: "
        "their parameters drift apart by rounding alone, which in float64 is far less. No drift is drawn as 1e-17.",
        figure,
    )


def _plot_confusion(confusion: np.ndarray) -> Picture:
    figure = style.figure(5.2, 4.6)
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = axes.imshow(share**0.4, cmap="Blues", vmin=0, vmax=1)  # the power makes single errors visible
    del image
    for true in range(10):
        for guess in range(10):
            if confusion[true, guess]:
                colour = "white" if share[true, guess] > 0.3 else style.BLACK
                axes.text(guess, true, confusion[true, guess], ha="center", va="center", color=colour, fontsize=8.5)
    axes.set(xticks=range(10), yticks=range(10), xlabel="predicted digit", ylabel="true digit")
    axes.set_title("Test digits over all seeds")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return Picture("confusion", "Confusion matrix of the jax.grad runs, summed over the seeds' test sets.", figure)
