r"""A layer that solves a quadratic program learns unwritten rules from decisions; a network without it only imitates.

A workshop makes x(c) = argmax c . x - x' P x / 2 subject to G x <= h, x >= 0 at prices c (cases/workshop.py).  A
learner sees some (c, x) and predicts x at prices that it has not seen, in the same range and up to twice as high.

- The layer (optimality.qp_layer) has twelve rows of limits for the three that are hidden, and starts from noise.  Its
  loss is differentiated through the solution, by one linear solve with the conditions of optimality.  Several starts
  run a while, the one with the least loss on the decisions seen goes on.
- The network is a multilayer perceptron: widths and rates of a grid, each trained on the same decisions.  For it the
  best of the grid is chosen by the error that is reported, workshop by workshop, which favours it.  What it predicts
  below 0 is set to 0.

The error is the root mean square distance to the true decisions over their standard deviation; a limit counts as broken
where a resource is overdrawn by more than 1 %.  In the table: means over workshops and their 95 % intervals.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.cases import workshop
from experiments.cases.workshop import PRODUCTS, RESOURCES, Workshop
from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.framework.statistics import mean_interval, plus_minus
from functional_dl import models
from functional_dl.optimality import qp_layer

SUITE = "standard"
CLAIM = (
    "From a hundred decisions of somebody who optimises under rules unknown, a layer that solves a quadratic program "
    "predicts new decisions with at most a third of the error of the best of several networks, and also at prices "
    "higher than any it has seen."
)
MATCH = 1e-2  # a hidden limit is found if a learned one is that near, in needs and stock (needs of length 1)
SIDES = ("in range", "beyond")
SHOWN = 0.05  # %, the least error that the plot shows


@dataclass(frozen=True)
class Config:
    """Settings of the workshops and of training."""

    workshops: int = 6
    """Workshops, each with rules, prices and starts of its own."""
    sizes: tuple[int, ...] = (30, 100, 300)
    """Decisions seen."""
    decisive: int = 100
    """The size that the claim is about."""
    rows: int = 12
    """Limits that the layer may learn."""
    starts: int = 10
    """Starts of the layer."""
    trial_steps: int = 100
    """Steps of each start; then the best goes on."""
    steps: int = 1000
    """Steps of the start that goes on."""
    batch: int = 24
    """Decisions a step."""
    rate: float = 0.05
    """Adam's rate for the layer, which falls to 0 along a cosine."""
    widths: tuple[int, ...] = (16, 64)
    """Widths of the network's two hidden layers."""
    rates: tuple[float, ...] = (0.003, 0.01)
    """Adam's rates for the network."""
    network_steps: int = 2000
    """Steps of the network."""
    tests: int = 200
    """New prices, in range and beyond."""
    seed: int = 200
    """The first workshop's; settings were chosen by the loss on decisions seen of workshops 100 to 107."""

    def __post_init__(self):
        settings.at_least(self, 1, "starts", "trial_steps", "steps", "batch", "network_steps", "tests")
        settings.at_least(self, 2, "workshops")
        settings.at_least(self, RESOURCES, "rows")
        settings.positive(self, "rate")
        if self.decisive not in self.sizes:
            raise ValueError(f"decisive: expected one of sizes {self.sizes}, got {self.decisive}")
        if not self.widths or not self.rates:
            raise ValueError(f"widths, rates: expected one at least of each, got {self.widths} and {self.rates}")


SMOKE = Config(workshops=2, sizes=(8,), decisive=8, rows=3, starts=2, trial_steps=2, steps=2, batch=4, widths=(4,),
               rates=(0.01,), network_steps=4, tests=5)  # fmt: skip


def run(config: Config) -> Result:
    pairs = [(size, config.seed + k) for size in config.sizes for k in range(config.workshops)]
    progress.part("workshops")
    outcome = _outcome(config, _batch(config, pairs, PRODUCTS))
    scores = [_score(config, outcome, element) for element in range(len(pairs))]
    found = [_found(outcome, element) for element in range(len(pairs))]
    progress.part("the workshop that is drawn")
    drawn = _outcome(config, _batch(config, [(config.decisive, config.seed + config.workshops)], 2))
    return _result(config, scores, found, _drawing(config, drawn))


class Outcome(NamedTuple):
    """A batch (each element a size and a workshop), what the workshops decide, what is learned and predicted."""

    batch: dict
    truth: np.ndarray
    learned: Workshop
    by_layer: np.ndarray
    by_network: np.ndarray


def _outcome(config: Config, batch: dict) -> Outcome:
    with jax.enable_x64(True):
        truth = workshop.decide(batch["workshops"], batch["prices"])
        seen = jnp.asarray(batch["prices"][:, : max(config.sizes)]), truth[:, : max(config.sizes)]
        learned = Workshop(*jax.vmap(_learned)(_train_layers(config, batch, seen)))
        by_layer = np.asarray(workshop.decide(learned, batch["prices"]))
    return Outcome(batch, np.asarray(truth), learned, by_layer, _train_networks(config, batch, seen))


def _batch(config: Config, pairs, products: int) -> dict:
    """One element for each (size, seed of a workshop)."""
    every = [workshop.draw(seed, config.rows, products) for _, seed in pairs]
    high = workshop.HIGHEST
    prices = [
        np.concatenate([workshop.prices(seed, count, highest, products)
                        for count, highest in ((max(config.sizes) + config.tests, high), (config.tests, 2 * high))])
        for _, seed in pairs
    ]  # fmt: skip
    return {
        "sizes": np.array([size for size, _ in pairs]), "seeds": np.array([seed for _, seed in pairs]),
        "workshops": Workshop(*map(np.stack, zip(*every, strict=True))), "prices": np.stack(prices),
    }  # fmt: skip


# ---- training ------------------------------------------------------------------------------------------


def _descend(cost, optimiser, state, key, draw, steps):
    """`steps` of the optimiser; state: (params, the optimiser's); cost(params, chosen) -> (cost, what to keep)."""

    def step(state, key):
        params, slots = state
        (_, kept), slope = jax.value_and_grad(cost, has_aux=True)(params, draw(key))
        updates, slots = optimiser.update(slope, slots, params)
        return (optax.apply_updates(params, updates), slots), kept

    return jax.lax.scan(step, state, jax.random.split(key, steps))


def _train_layers(config: Config, batch, seen):
    """The parameters of each element's best start, trained to the end."""
    layer = qp_layer.layer(seen[1].shape[-1], config.rows, lower=0.0)
    trials, sizes = config.trial_steps, jnp.asarray(batch["sizes"])
    optimiser = optax.adam(optax.cosine_decay_schedule(config.rate, trials + config.steps))
    count = len(sizes)

    @jax.jit
    def go_on(state, key, prices, made):
        """As many steps as a trial has, of the whole batch at once; called again until all are done."""

        def cost(params, chosen):
            pick = lambda part: jnp.take_along_axis(part, chosen[:, :, None], axis=1)
            made_by = workshop.decide(Workshop(*jax.vmap(_learned)(params)), pick(prices))
            losses = jnp.mean((made_by - pick(made)) ** 2, axis=(1, 2))
            return jnp.sum(losses), losses

        draw = lambda key: jax.random.randint(key, (count, config.batch), 0, sizes[:, None])
        return _descend(cost, optimiser, state, key, draw, trials)

    ends, firsts = [], []
    for start in range(config.starts):
        keys = jax.random.split(jax.random.key(start), count)
        params = jax.vmap(lambda key, size, made: _start(layer, key, size, made))(keys, sizes, seen[1])
        end, losses = go_on((params, optimiser.init(params)), keys[0], *seen)
        ends.append(end)
        firsts.append(losses)
    best = jnp.argmin(jnp.stack([jnp.mean(losses[trials // 2 :], axis=0) for losses in firsts]), axis=0)
    pick = lambda *leaves: jnp.stack(leaves)[best, jnp.arange(count)] if leaves[0].ndim else leaves[0]
    state = jax.tree.map(pick, *ends)
    for more in range(-(-config.steps // trials)):
        state, _ = go_on(state, jax.random.key(1000 + more), *seen)
    return state[0]


def _start(layer, key, size, made):
    """Limits that point anywhere and just admit all decisions seen, around their mean: a row far off never learns."""
    params, seen = layer.init(key), (jnp.arange(len(made)) < size)[:, None]
    inside = jnp.sum(jnp.where(seen, made, 0.0), axis=0) / size + 1e-3
    reach = jnp.max(jnp.where(seen, (made - inside[None]) @ params["rows"].T, -jnp.inf), axis=0)
    inverse = lambda v: v + jnp.log(-jnp.expm1(-v))  # of softplus
    return params | {"inside": inverse(inside), "slack": inverse(jnp.maximum(reach, 1e-2))}


def _learned(params) -> Workshop:
    P, _, _, G, h = qp_layer.program(params, lower=0.0)
    return Workshop(P, G, h)


def _train_networks(config: Config, batch, seen) -> np.ndarray:
    """What every network of the grid predicts: (widths x rates, batch, prices, products)."""
    scale = lambda prices: prices / jnp.float32(workshop.HIGHEST) - jnp.float32(0.5)
    prices, made = (jnp.asarray(part, jnp.float32) for part in seen)
    every, products = jnp.asarray(batch["prices"], jnp.float32), made.shape[-1]
    sizes, keys = jnp.asarray(batch["sizes"]), jax.random.split(jax.random.key(5), len(every))
    found = []
    for width in config.widths:
        network = models.mlp((products, width, width, products), dtype=jnp.float32)

        def train(key, rate, size, prices, made, network=network):
            params = network.init(key)
            optimiser = optax.adam(lambda step: rate * (1 + jnp.cos(jnp.pi * step / config.network_steps)) / 2)
            loss = lambda params, chosen: jnp.mean((network.apply(params, scale(prices[chosen])) - made[chosen]) ** 2)
            cost, draw = lambda *at: (loss(*at), None), lambda key: jax.random.randint(key, (config.batch,), 0, size)
            state = params, optimiser.init(params)
            return _descend(cost, optimiser, state, key, draw, config.network_steps)[0][0]

        of_batch = jax.vmap(train, (0, None, 0, 0, 0))
        params = jax.jit(jax.vmap(of_batch, (None, 0, None, None, None)))(
            keys, jnp.asarray(config.rates, jnp.float32), sizes, prices, made
        )
        predict = jax.vmap(jax.vmap(lambda p, c: network.apply(p, scale(c))), (0, None))
        found.append(np.maximum(np.asarray(jax.jit(predict)(params, every)), 0))
    return np.concatenate(found).astype(float)


# ---- scores --------------------------------------------------------------------------------------------


def _parts(config: Config) -> dict[str, slice]:
    first, tests = max(config.sizes), config.tests
    return {"in range": slice(first, first + tests), "beyond": slice(first + tests, first + 2 * tests)}


def _error(predicted, truth) -> float:
    return float(np.sqrt(np.mean((predicted - truth) ** 2) / np.mean((truth - truth.mean(0)) ** 2)))


def _score(config: Config, outcome: Outcome, element: int) -> dict:
    """Errors and broken limits of one element; the network is the best of the grid on each side."""
    batch, truth, _, by_layer, by_network = outcome
    rules = Workshop(*(part[element] for part in batch["workshops"]))
    score: dict[str, float] = {"size": int(batch["sizes"][element]), "workshop": int(batch["seeds"][element])}
    for side, part in _parts(config).items():
        right = truth[element, part]
        grid = [_error(network[element, part], right) for network in by_network]
        network = by_network[int(np.argmin(grid))][element, part]
        for name, predicted in (("layer", by_layer[element, part]), ("network", network)):
            score[f"{name} {side}"] = _error(predicted, right)
            score[f"{name} breaks {side}"] = float(np.mean(workshop.excess(rules, predicted) > 0.01))
    return score


def _found(outcome: Outcome, element: int) -> tuple[int, int]:
    """(hidden limits that a learned one comes near to, hidden limits that act on the decisions)."""
    learned, hidden, truth = outcome.learned, outcome.batch["workshops"], outcome.truth
    rows = np.asarray(learned.needs[element])
    norms = np.linalg.norm(rows, axis=1)
    rows, stocks = rows / norms[:, None], np.asarray(learned.stocks[element]) / norms
    near, acting = 0, 0
    for need, stock in zip(hidden.needs[element][:RESOURCES], hidden.stocks[element][:RESOURCES], strict=True):
        if np.mean(np.abs(truth[element] @ need - stock) < 1e-9) >= 0.05:
            acting += 1
            off = np.maximum(np.abs(rows - need[None]).max(1), np.abs(stocks - stock))
            near += bool(off.min() <= MATCH)
    return near, acting


def _result(config: Config, scores, found, drawn) -> Result:
    at = lambda name, size: np.array([score[name] for score in scores if score["size"] == size])
    rows, checks = [], []
    for size in config.sizes:
        for side in SIDES:
            cells = [plus_minus(at(f"{who} {side}", size), 100) for who in ("layer", "network")]
            broken = [round(100 * float(at(f"{who} breaks {side}", size).mean()), 1) for who in ("layer", "network")]
            rows.append([size, side, *cells, *broken])
    for side in SIDES:
        ours, theirs = (float(at(f"{who} {side}", config.decisive).mean()) for who in ("layer", "network"))
        checks.append(
            Check(
                f"after {config.decisive} decisions, prices {side}: a third of the network's error at most",
                f"{100 * ours:.2f} % against {100 * theirs:.2f} %",
                ours <= theirs / 3,
            )
        )
    decisive = [pair for pair, score in zip(found, scores, strict=True) if score["size"] == config.decisive]
    numbers = {
        f"hidden limits found to 1 %, {config.decisive} decisions": f"{sum(a for a, _ in decisive)} of "
        f"{sum(b for _, b in decisive)} that act",
        "numbers that the layer learns": PRODUCTS * (PRODUCTS + 1) + config.rows * (PRODUCTS + 1),
        "numbers that the widest network learns": 2 * max(config.widths) * (PRODUCTS + 1)
        + PRODUCTS - max(config.widths) + max(config.widths) ** 2,
    }  # fmt: skip
    columns = ["decisions seen", "prices", "layer: error, %", "network: error, %", "layer breaks a limit, %",
               "network breaks a limit, %"]  # fmt: skip
    curves = {"scores": {name: np.array([at(name, size) for size in config.sizes]) for name in scores[0]},
              "sizes": config.sizes, "drawn": drawn}  # fmt: skip
    return Result(CLAIM, checks, numbers, scores, Table(columns, rows), curves)


def _drawing(config: Config, outcome: Outcome) -> dict:
    """The only element, in the plane of its two products."""
    batch, truth, learned, by_layer, by_network = outcome
    part, seen = _parts(config)["in range"], int(batch["sizes"][0])
    best = min(by_network, key=lambda network: _error(network[0, part], truth[0, part]))
    return {
        "hidden": tuple(np.asarray(rows[0])[:RESOURCES] for rows in batch["workshops"][1:]),
        "learned": tuple(np.asarray(rows[0]) for rows in learned[1:]),
        "seen": truth[0, :seen], "truth": truth[0, part], "layer": by_layer[0, part], "network": best[0, part],
    }  # fmt: skip


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    return [_plane(result.curves["drawn"]), _errors(result.curves)]


def _plane(drawn) -> Picture:
    figure = style.figure(10.5, 3.9)
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    needs, stocks = drawn["hidden"]
    far = 1.12 * float(np.max(drawn["truth"]))
    across, up = np.meshgrid(np.linspace(-0.08 * far, far, 300), np.linspace(-0.08 * far, far, 300))
    inside = lambda rows, limits: np.min(limits[:, None, None] - np.tensordot(rows, np.stack([across, up]), 1), axis=0)
    allowed = np.minimum(inside(needs, stocks), np.minimum(across, up))
    for axes, points, title in zip(
        panels, ("seen", "layer", "network"), ("decisions seen", "the layer predicts", "the network predicts")
    ):
        axes.contourf(across, up, allowed, [0, np.inf], colors=[style.SKY], alpha=0.25)
        axes.contour(across, up, allowed, [0], colors=style.BLACK, linewidths=1)
        colour = {"seen": style.BLACK, "layer": style.BLUE, "network": style.RED}[points]
        axes.scatter(*drawn[points].T, s=9, color=colour, linewidth=0, zorder=3)
        axes.set(title=title, xlabel="product 1", aspect="equal")
        axes.grid(visible=False)
    learned = inside(*drawn["learned"])
    panels[1].contour(across, up, learned, [0], colors=style.BLUE, linewidths=1.6, linestyles="dashed")
    panels[0].set(ylabel="product 2")
    caption = (
        "A workshop that sells two products. Shaded: what its hidden limits allow. The layer's learned limits (dashed) "
        "lie on the hidden ones where decisions have met these, and its predictions at new prices end on them; where "
        "hardly a decision was seen it may invent others. The network's predictions scatter to both sides of a limit "
        "that it has no means to state."
    )
    return Picture("plane", caption, figure)


def _errors(curves) -> Picture:
    figure = style.figure(10.5, 3.8)
    error, breaks = figure.subplots(1, 2)
    styles = {"in range": "-", "beyond": "--"}
    for name, colour in (("layer", style.BLUE), ("network", style.RED)):
        for side, dashes in styles.items():
            values = 100 * curves["scores"][f"{name} {side}"]
            shares = 100 * curves["scores"][f"{name} breaks {side}"]
            label = f"{name}, prices {side}"
            error.plot(curves["sizes"], np.maximum(values, 1.1 * SHOWN), ".", color=colour, alpha=0.35, markersize=5)
            error.plot(curves["sizes"], values.mean(1), dashes, color=colour, marker="o", markersize=4, label=label)
            mean, half = mean_interval(shares, axis=1)
            breaks.errorbar(curves["sizes"], mean, half, color=colour, linestyle=dashes, marker="o", markersize=4,
                            capsize=3, label=label)  # fmt: skip
    for axes in (error, breaks):
        axes.set(xscale="log", xlabel="decisions seen", xticks=curves["sizes"], xticklabels=map(str, curves["sizes"]))
        axes.minorticks_off()
    error.set(yscale="log", title="error of predicted decisions, % of their spread")
    error.set_ylim(bottom=SHOWN)
    breaks.set(title="predictions that break a hidden limit, %", ylim=(-3, 103))
    figure.legend(*error.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    caption = (
        f"Left: each dot is a workshop, lines are means; errors below {SHOWN} % are drawn there. Right: how "
        "often a prediction overdraws a resource by more than 1 %, means with 95 % intervals. "
        "Dashed: prices up to twice as high as any seen."
    )
    return Picture("errors", caption, figure)
