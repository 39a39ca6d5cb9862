"""The gradient points where a function grows fastest; descent against it ends in a minimum, not in the lowest one.

Direction: at random points the derivative along every third degree is measured by SciPy from values of f alone, and
compared with |grad f| cos(angle to grad f).  Its first harmonic gives the direction and the rate of steepest ascent
without any gradient; `calculus.gradient`, `directional_derivative` and `steepest_ascent` must give the same.

Descent: `training.gradient_descent` from every place of a grid, on Himmelblau's function (four minima, all 0) and on
real data, −log of the density of iris petals (two minima, one deeper; the other one is the trap).  Where the minima
are SciPy's BFGS has found on its own.

Learning rate: with largest curvature L at a minimum, it attracts for rates below 2/L and repels above.  On the bowl
every step shrinks the distance by max |1 - rate * curvature|; at Himmelblau's minima the rate at which attraction
ends is found by trying, and compared with 2/L from `calculus.hessian`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy import differentiate

from experiments.cases import surfaces
from experiments.cases.surfaces import SURFACES, Surface
from experiments.drawing import gradient_field as drawing
from experiments.framework import progress, settings
from experiments.framework.result import Check, Result, Table
from functional_dl import calculus, training

CLAIM = (
    "Among all directions a function grows fastest along its gradient, at the rate |∇f|, and along any other one by "
    "the cosine of the angle between them; descent lowers it at every step, to a minimum that depends on the start, "
    "if the rate is below 2/L."
)
plot = drawing.plot


@dataclass(frozen=True)
class Config:
    """Settings of the gradient field."""

    points: int = 20
    """Random points a function, at which all directions are measured."""
    angles: int = 120
    """Directions around a point."""
    starts: int = 71
    """Starts of descent a side of the window; their square is the number of runs."""
    steps: int = 600
    """Steps of each run."""
    rates: int = 201
    """Learning rates tried from 0.9 to 1.1 times 2/L, and on the bowl."""
    seed: int = 0
    """Of the random points."""

    def __post_init__(self):
        settings.at_least(self, 1, "points", "steps")
        settings.at_least(self, 5, "starts", "rates")
        settings.at_least(self, 8, "angles")


QUICK = Config(starts=41)
SMOKE = Config(points=2, angles=12, starts=7, steps=300, rates=21)
DESCENDED = ("Himmelblau", "iris petals")
HARMONIC = 1e-8  # of |grad f|: deviation from the cosine
SETTLED = 1e-4  # distance from a minimum at which a run has found it


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        directions = {
            name: _directions(surface, config) for name, surface in progress.over(SURFACES.items(), "surfaces")
        }
        basins = {name: _basins(SURFACES[name], config) for name in progress.over(DESCENDED, "basins")}
        torn = _ends(SURFACES["Himmelblau"], config, drawing.TEARING)
        bowl, thresholds = _bowl(config), _thresholds(config)
        paths = {name: _paths(surface) for name, surface in SURFACES.items()}
    return Result(
        claim=CLAIM,
        checks=_checks(config, directions, basins, bowl, thresholds),
        numbers=_numbers(basins),
        metrics=[
            *({"surface": name} | found["summary"] for name, found in directions.items()),
            *({"minimum": list(row["minimum"]), "2/L": row["predicted"], "measured": row["found"]}
              for row in thresholds),
        ],
        table=_table(directions, basins),
        curves={
            "directions": directions, "basins": basins, "torn": torn, "bowl": bowl, "paths": paths,
            "thresholds": thresholds,
        },
    )  # fmt: skip


# ---- directions ----------------------------------------------------------------------------------------


def _directions(surface: Surface, config: Config) -> dict:
    """Slopes in all directions around random points, from values of f alone, and what calculus says of them."""
    draws = np.random.default_rng(config.seed)
    low, high = np.array(surface.window).T
    points = draws.uniform(low, high, (config.points, 2))
    angles = np.arange(config.angles) * 2 * np.pi / config.angles
    slopes = _slopes(surface, points, angles)
    wave = 2 * np.mean(slopes * np.exp(1j * angles), 1)  # |grad f| e^(i angle of grad f), if the slopes are a cosine

    fun = surface.of(jnp)
    gradient = np.stack([calculus.gradient(fun, point) for point in points])
    ascent = [calculus.steepest_ascent(fun, point) for point in points]
    unit = np.stack([np.cos(angles), np.sin(angles)], -1)
    along = jax.jit(jax.vmap(lambda p: jax.vmap(lambda u: calculus.directional_derivative(fun, p, u))(unit)))(points)
    size = np.linalg.norm(gradient, axis=1)
    turn = np.arctan2(gradient[:, 1], gradient[:, 0])
    cosine = size[:, None] * np.cos(angles - turn[:, None])
    rate = np.array([float(a.rate) for a in ascent])
    steepest = np.array([complex(*a.direction) for a in ascent])
    summary = {
        "from the cosine": _worst(slopes - cosine, size),
        "calculus from the slopes": _worst(np.asarray(along) - slopes, size),
        "rate": float(np.max(np.abs(np.abs(wave) / rate - 1))),
        "direction": float(np.max(np.abs(np.angle(wave / steepest)))),
        "steepest sampled": float(np.max(slopes.max(1) / rate)),
    }
    return {"summary": summary, "angles": angles, "slopes": slopes[0] / size[0], "turn": turn[0]}


def _slopes(surface: Surface, points, angles) -> np.ndarray:
    """d/dt f(p + t u) at t = 0 for every point and angle, (points, angles), by SciPy's adaptive differences."""
    shape = (len(points), len(angles))
    x, y = (np.broadcast_to(c[:, None], shape) for c in points.T)
    u, v = (np.broadcast_to(c[None], shape) for c in (np.cos(angles), np.sin(angles)))
    along = lambda t, x, y, u, v: surface.fun(np, x + t * u, y + t * v)
    found = differentiate.derivative(
        along, np.zeros(shape), args=(x, y, u, v), initial_step=0.1, tolerances={"rtol": 1e-13, "atol": 1e-13}
    )
    return found.df


def _worst(differences, size) -> float:
    return float(np.max(np.abs(differences) / size[:, None]))


# ---- descent -------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=(0, 3))
def _descend(fun: Callable, starts, rates, steps: int):
    """(ends (n, 2), losses (n, steps)) of a run from each start, with one rate or one each."""
    rates = jnp.broadcast_to(rates, len(starts))
    return jax.vmap(lambda start, rate: training.gradient_descent(fun, start, rate, steps))(starts, rates)


def _ends(surface: Surface, config: Config, rate: float) -> dict:
    """Where descent ends from every place of the grid: the number of the minimum, -1 for none."""
    x, y = surface.grid(config.starts)
    lowest = surfaces.minima(surface)
    ends, losses = _descend(surface.of(jnp), np.stack([x, y], -1).reshape(-1, 2), rate, config.steps)
    ends, losses = np.asarray(ends), np.asarray(losses)
    apart = np.linalg.norm(ends[:, None] - lowest, axis=-1)
    apart = np.where(np.isnan(apart), np.inf, apart)
    which = np.where(apart.min(1) < SETTLED, apart.argmin(1), -1)
    return {
        "minima": lowest,
        "depths": np.array([surface.of(np)(p) for p in lowest]),
        "which": which.reshape(x.shape),
        "shares": [float(np.mean(which == k)) for k in range(len(lowest))],
        "losses": losses,
        "off": float(apart.min(1)[which >= 0].max(initial=0.0)),
    }


def _basins(surface: Surface, config: Config) -> dict:
    """The ends, how far they are from the minima, and whether every step went down."""
    found = _ends(surface, config, surface.rate)
    rise = np.diff(found.pop("losses"), axis=1)
    return found | {"rise": float(rise.max(initial=-np.inf)), "settled": float(np.mean(found["which"] >= 0))}


def _paths(surface: Surface) -> np.ndarray:
    """A few whole runs, (runs, steps, 2), for the picture."""
    inner = [np.linspace(*ends, 9)[[1, 3, 6]] for ends in surface.window]
    starts = np.stack(np.meshgrid(*inner), -1).reshape(-1, 2)
    return _trace(surface, starts, np.full(len(starts), surface.rate), 400)


def _trace(surface: Surface, starts, rates, steps: int) -> np.ndarray:
    """Every place that the runs visit."""
    fun = surface.of(jnp)

    @jax.jit
    @jax.vmap
    def one(start, rate):
        def step(p, _):
            p, _ = training.gradient_descent(fun, p, rate, 1)
            return p, p

        return jnp.concatenate([start[None], jax.lax.scan(step, start, length=steps)[1]])

    return np.asarray(one(jnp.asarray(starts), jnp.asarray(rates)))


# ---- learning rates ------------------------------------------------------------------------------------

CURVATURES = (1.0, 10.0)  # of the bowl
SHOWN = {"too small": 0.01, "best, 2 / (1 + 10)": 2 / 11, "just below 2/L": 0.195, "above 2/L": 0.204}


def _bowl(config: Config) -> dict:
    """By what factor a step shrinks the distance from the minimum, for each rate; and four runs to look at."""
    rates = np.linspace(0.004, 0.24, config.rates)
    starts = np.broadcast_to([3.0, 1.0], (len(rates), 2))
    _, losses = _descend(SURFACES["bowl"].of(jnp), starts, rates, 300)
    losses = np.asarray(losses)
    factor = (losses[:, -1] / losses[:, -101]) ** (1 / 200)  # f is a square of distances
    predicted = np.max(np.abs(1 - rates[:, None] * np.array(CURVATURES)), axis=1)
    runs = _trace(SURFACES["bowl"], np.broadcast_to([2.8, 1.0], (len(SHOWN), 2)), np.array(list(SHOWN.values())), 40)
    return {"rates": rates, "factor": factor, "predicted": predicted, "runs": runs, "shown": SHOWN}


def _thresholds(config: Config) -> list[dict]:
    """For each of Himmelblau's minima, 2/L and the least rate with which a run leaves it."""
    surface, rows = SURFACES["Himmelblau"], []
    for minimum in surfaces.minima(surface):
        curvature = np.linalg.eigvalsh(np.asarray(calculus.hessian(surface.of(jnp), minimum)))
        rates = np.linspace(0.9, 1.1, config.rates) * 2 / curvature[-1]
        starts = np.broadcast_to(minimum + 1e-5 * np.array([0.6, 0.8]), (config.rates, 2))
        _, losses = _descend(surface.of(jnp), starts, rates, 3000)
        away = ~(np.asarray(losses)[:, -1] < np.asarray(losses)[:, 0])
        # every rate above the first that leaves must leave too, or there is no threshold
        first = int(np.argmax(away)) if away.any() and away[np.argmax(away) :].all() else -1
        found = float((rates[first - 1] + rates[first]) / 2) if first > 0 else float("nan")
        rows.append({"minimum": minimum, "predicted": 2 / curvature[-1], "found": found})
    return rows


# ---- verdict -------------------------------------------------------------------------------------------


def _checks(config, directions, basins, bowl, thresholds) -> list[Check]:
    worst = lambda key: max(found["summary"][key] for found in directions.values())
    apart = max(abs(row["found"] / row["predicted"] - 1) for row in thresholds)
    resolution = 0.2 / (config.rates - 1) + 1e-3  # the grid's, and what 3000 steps do not tell from 1
    off = float(np.max(np.abs(bowl["factor"] / bowl["predicted"] - 1)))
    trap = basins["iris petals"]["shares"][1]
    return [
        Check(
            f"slopes in all directions, from values alone: |∇f| cos(angle) to {HARMONIC:g} |∇f|",
            f"{worst('from the cosine'):.1e} off at most",
            worst("from the cosine") <= HARMONIC,
        ),
        Check(
            "steepest direction and rate, from values alone, equal steepest_ascent's to 1e-8",
            f"{worst('direction'):.1e} rad, {worst('rate'):.1e} relative",
            max(worst("direction"), worst("rate")) <= 1e-8,
        ),
        Check(
            "no sampled direction is steeper than |∇f|",
            f"at most {worst('steepest sampled'):.9f} |∇f|",
            worst("steepest sampled") <= 1 + 1e-9,
        ),
        Check(
            "descent: no step of any run went up, but for rounding",
            f"{max(b['rise'] for b in basins.values()):.1e} at most",
            all(b["rise"] <= 1e-12 for b in basins.values()),
        ),
        Check(
            "at least 99 % of the runs end in a minimum that BFGS knows",
            ", ".join(f"{b['settled']:.2%} on {name}" for name, b in basins.items()),
            all(b["settled"] >= 0.99 for b in basins.values()),
        ),
        Check(
            "the start decides: on iris petals some runs, and not all, end in the higher minimum",
            f"{trap:.1%}",
            0 < trap < 1,
        ),
        Check("bowl: a step shrinks the distance by max |1 − rate · curvature|, to 1 %", f"{off:.1e} off", off <= 0.01),
        Check(f"Himmelblau: attraction ends at rate 2/L, to {resolution:.2%}", f"{apart:.2%} off", apart <= resolution),
    ]


def _numbers(basins) -> dict:
    found = {}
    for name, b in basins.items():
        for k, share in enumerate(b["shares"]):
            x, y = b["minima"][k]
            depth = f"f = {abs(b['depths'][k]):.3f}"
            found[f"{name}: runs that end at ({x:.2f}, {y:.2f}), {depth}"] = f"{share:.1%}"
    return found


def _table(directions, basins) -> Table:
    rows = []
    for name, found in directions.items():
        s, b = found["summary"], basins.get(name)
        rows.append([
            name, SURFACES[name].formula, s["from the cosine"], s["direction"], s["rate"],
            len(b["minima"]) if b else None, b["settled"] if b else None, b["off"] if b else None,
        ])  # fmt: skip
    return Table(
        ["f", "formula", "off the cosine", "direction off / rad", "rate off", "minima", "runs settled", "ends off"],
        rows,
    )
