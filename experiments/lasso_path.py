r"""The lasso from no feature to all: its path over the penalty, with the conditions of optimality at every step.

    min_{w, b}  |X w + b - y|^2 / (2 n) + s |w|_1           (diabetes data: 442 patients, 10 standardised features)

All penalties s are solved in one call (`vmap` of optimality.regression.lasso).  At the optimum the gradient of the
smooth part, r = X'(y - X w - b) / n, satisfies Karush, Kuhn and Tucker's conditions

    r_j = s sign(w_j) where w_j is not 0,        |r_j| <= s where it is,

and the duality gap bounds what is left.  The path is held against scikit-learn's coordinate descent and against its
least-angle regression, which finds the exact breaks of the path.  From s = max |X'y| / n on, no feature is used.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import lars_path, lasso_path

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import regression

CLAIM = (
    "The lasso's path over all penalties, in one call, equals scikit-learn's, and satisfies the conditions of "
    "optimality at every step."
)


@dataclass(frozen=True)
class Config:
    """Settings of the path."""

    penalties: int = 120
    """Penalties, evenly on a logarithmic scale from the greatest down."""
    ratio: float = 1e-3
    """The least penalty, as a share of the greatest."""

    def __post_init__(self):
        settings.at_least(self, 3, "penalties")
        settings.positive(self, "ratio")
        if self.ratio >= 1:
            raise ValueError(f"ratio: expected a number below 1, got {self.ratio}")


SMOKE = Config(penalties=5, ratio=0.1)


def run(config: Config) -> Result:
    data = load_diabetes(scaled=False)
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    y = (data.target - data.target.mean()) / data.target.std()
    greatest = np.max(np.abs(x.T @ y)) / len(y)
    strengths = greatest * np.geomspace(1.0, config.ratio, config.penalties)
    with jax.enable_x64(True):
        solve = jax.jit(jax.vmap(lambda s: regression.lasso(jnp.asarray(x), jnp.asarray(y), s, tolerance=1e-13)))
        fit = solve(jnp.asarray(strengths))
        weights, gaps = np.asarray(fit.weights), np.asarray(fit.gap)
        broken = np.array([_broken(x, y, w, b, s) for w, b, s in zip(weights, np.asarray(fit.bias), strengths)])
    others = lasso_path(x, y, alphas=strengths, tol=1e-14, max_iter=100_000)[1].T
    breaks, _, exact = lars_path(x, y, method="lasso")
    angles = np.stack([np.interp(strengths, breaks[::-1], row[::-1]) for row in exact], axis=1)
    off, off_exact = float(np.max(np.abs(weights - others))), float(np.max(np.abs(weights - angles)))
    active = np.sum(np.abs(weights) > 1e-9, axis=1)
    share = 1 - np.mean((y[None] - weights @ x.T - np.asarray(fit.bias)[:, None]) ** 2, axis=1)
    shown = np.unique(np.linspace(0, config.penalties - 1, 9).astype(int))
    rows = [
        [float(strengths[k]), int(active[k]), float(np.sum(np.abs(weights[k]))), float(share[k]), float(gaps[k]),
         float(broken[k])]
        for k in shown
    ]  # fmt: skip
    checks = [
        Check("weights equal scikit-learn's coordinate descent to 1e-6", f"{off:.1e}", off <= 1e-6),
        Check("weights equal least-angle regression's to 1e-6", f"{off_exact:.1e}", off_exact <= 1e-6),
        Check("the conditions of optimality hold to 1e-6 of s", f"{broken.max():.1e}", broken.max() <= 1e-6),
        Check("every duality gap is at most 1e-10", f"{gaps.max():.1e}", gaps.max() <= 1e-10),
        Check("no feature at the greatest penalty", f"{active[0]} used", active[0] == 0),
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={
            "penalties": config.penalties,
            "breaks of the path": len(breaks),
            "features at the end": int(active[-1]),
        },
        metrics=[
            {"penalty": float(s), "gap": float(g), "broken": float(r), "weights": list(map(float, w))}
            for s, g, r, w in zip(strengths, gaps, broken, weights)
        ],
        table=Table(["penalty s", "features", "|w|₁", "variance explained", "gap", "conditions off, over s"], rows),
        curves={"strengths": strengths, "weights": weights, "breaks": breaks, "gaps": gaps, "broken": broken,
                "names": data.feature_names, "active": active},
    )  # fmt: skip


def _broken(x, y, w, b, s) -> float:
    """By how much the worst of the conditions fails, over s."""
    r = x.T @ (y - x @ w - b) / len(y)
    used = np.abs(w) > 1e-9
    return float(np.max(np.where(used, np.abs(r - s * np.sign(w)), np.maximum(np.abs(r) - s, 0))) / s)


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    figure = style.figure(9.5, 6.2)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.7, 1))
    path, count, errors = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    strengths, weights = curves["strengths"], curves["weights"]
    for at in curves["breaks"]:
        if at >= strengths[-1]:
            path.axvline(at, color=style.GREY, linewidth=0.6, linestyle=":")
    order = np.argsort(-np.abs(weights[-1]))
    for rank, j in enumerate(order):
        colour, dashes = style.COLOURS[rank % len(style.COLOURS)], "-" if rank < len(style.COLOURS) else "--"
        path.plot(strengths, weights[:, j], color=colour, linestyle=dashes, label=curves["names"][j])
    path.set(
        xscale="log",
        title="weights of the standardised features",
        xlabel="penalty s",
        xlim=(strengths[0], strengths[-1]),
    )
    path.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    count.step(strengths, curves["active"], where="mid", color=style.BLUE)
    count.set(xscale="log", xlabel="penalty s", title="features used", xlim=(strengths[0], strengths[-1]))
    for values, label, colour in (
        (curves["gaps"], "duality gap", style.BLUE),
        (curves["broken"], "conditions, over s", style.RED),
    ):
        errors.plot(strengths, np.maximum(values, 1e-17), color=colour, label=label)
    errors.set(xscale="log", yscale="log", xlabel="penalty s", title="what is left", xlim=(strengths[0], strengths[-1]))
    errors.legend()
    caption = (
        "From left to right the penalty falls and features enter, one at each dotted line, where the exact path of "
        "least-angle regression breaks; between them weights are linear in s (bent by the logarithmic axis), and one "
        "may leave again. Below: how many features are used, and how far gap and conditions of optimality are from "
        "nothing."
    )
    return [Picture("path", caption, figure)]
