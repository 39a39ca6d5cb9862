"""Support vector machines with a certificate: the dual is solved, and its gap to the primal bounds what is left.

Standardised features, one class against the rest, C = 1.  The dual value is held against published figures, the
decision function against scikit-learn's (whose library keeps kernel values in single precision: to 1e-4), and the
conditions of Karush, Kuhn and Tucker at the optimum are measured: 0 <= alpha <= C, y . alpha = 0, and a margin of 1
wherever 0 < alpha < C.  In the table: support vectors, the share of examples on the right side, and by how much the
decision function is off scikit-learn's.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets
from sklearn.svm import SVC

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import svm

CLAIM = (
    "A support vector machine trained on its dual comes with a gap of at most 1e-8, the published dual values, and "
    "scikit-learn's decision function."
)
LOADERS = {
    "iris": (datasets.load_iris, 0),
    "wine": (datasets.load_wine, 0),
    "breast cancer": (datasets.load_breast_cancer, 1),
}
PUBLISHED = {"iris": 0.97525262, "wine": 2.2816812, "breast cancer": 26.525455}  # linear kernel, C = 1
OTHERS = {"linear": {}, "rbf": {"gamma": "auto"}, "polynomial": {"gamma": "auto", "coef0": 1.0}}


@dataclass(frozen=True)
class Config:
    """Settings of the support vector machines."""

    problems: tuple[str, ...] = ("iris", "wine", "breast cancer")
    """Data sets."""
    c: float = 1.0
    """C, the price of a unit of violation."""
    grid: int = 160
    """Points a side of the pictures."""

    def __post_init__(self):
        settings.at_least(self, 8, "grid")
        if not self.c > 0:
            raise ValueError(f"c: expected a number > 0, got {self.c}")
        unknown = set(self.problems) - set(LOADERS)
        if unknown or not self.problems:
            raise ValueError(f"problems: expected some of {', '.join(LOADERS)}, got {self.problems}")


QUICK = Config(problems=("iris", "wine"))
SMOKE = Config(problems=("iris",), grid=8)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        rows, checks, metrics = [], [], []
        for name in progress.over(config.problems, "data sets"):
            x, y = _data(name)
            for kernel, options in OTHERS.items():
                machine = jax.jit(svm.fit_dual, static_argnames="kernel")(x, y, config.c, kernel=kernel)
                other = SVC(C=config.c, kernel="poly" if kernel == "polynomial" else kernel, tol=1e-10, **options)
                off = float(np.max(np.abs(machine.decision(x) - other.fit(x, y).decision_function(x))))
                rows.append([name, kernel, float(machine.dual_value), float(machine.gap), int(machine.iterations),
                             int(machine.support.sum()), float((machine.predict(x) == y).mean()), off,
                             _broken(machine, config.c)])  # fmt: skip
        metrics = [dict(zip(COLUMNS, row)) for row in rows]
        gaps, offs, broken = (max(row[i] for row in rows) for i in (3, 7, 8))
        checks = [
            Check("every gap is at most 1e-8", f"{gaps:.1e}", gaps <= 1e-8),
            Check("decision functions equal scikit-learn's to 1e-4", f"{offs:.1e}", offs <= 1e-4),
            Check("the conditions hold to 1e-6", f"{broken:.1e}", broken <= 1e-6),
        ]
        if config.c == 1:
            off = max(abs(row[2] - PUBLISHED[row[0]]) for row in rows if row[1] == "linear")
            checks.append(Check("linear dual values equal the published ones to 1e-6", f"{off:.1e}", off <= 1e-6))
        curves = _landscapes(config)
    return Result(
        claim=CLAIM, checks=checks, numbers={"machines": len(rows), "worst gap": gaps}, metrics=metrics,
        table=Table(COLUMNS, rows), curves=curves,
    )  # fmt: skip


COLUMNS = ["data", "kernel", "dual value", "gap", "iterations", "support", "right", "off", "worst condition"]


def _data(name):
    load, positive = LOADERS[name]
    found = load()
    x = (found.data - found.data.mean(0)) / found.data.std(0)
    return jnp.asarray(x), jnp.asarray(np.where(found.target == positive, 1.0, -1.0))


def _broken(machine, c) -> float:
    """How far the worst of the conditions is from holding."""
    margin = machine.y * machine.decision(machine.x)
    free = (machine.alpha > 1e-6 * c) & (machine.alpha < (1 - 1e-6) * c)
    at_zero, at_c = machine.alpha <= 1e-6 * c, machine.alpha >= (1 - 1e-6) * c
    zero = jnp.zeros(())
    return float(
        max(
            abs(machine.y @ machine.alpha),
            jnp.max(jnp.where(free, jnp.abs(margin - 1), zero)),
            jnp.max(jnp.where(at_zero, 1 - margin, zero)),
            jnp.max(jnp.where(at_c, margin - 1, zero)),
        )
    )


def _landscapes(config):
    """Machines of two features, which can be drawn: petals of iris (versicolor against virginica), and two moons."""
    iris = datasets.load_iris()
    two = iris.target > 0
    petals = iris.data[two][:, 2:]
    moons, side = datasets.make_moons(120, noise=0.2, random_state=0)
    drawn = [
        ("linear, C = 10", petals, np.where(iris.target[two] == 1, 1.0, -1.0), 10.0, "linear"),
        ("linear, C = 0.1", petals, np.where(iris.target[two] == 1, 1.0, -1.0), 0.1, "linear"),
        ("radial, C = 10", moons, np.where(side == 1, 1.0, -1.0), 10.0, "rbf"),
    ]
    found = []
    for title, x, y, c, kernel in drawn:
        machine = svm.fit_dual(jnp.asarray(x), jnp.asarray(y), c, kernel)
        low, high = x.min(0) - 0.3, x.max(0) + 0.3
        axes = [np.linspace(a, b, config.grid) for a, b in zip(low, high)]
        points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
        levels = np.asarray(machine.decision(jnp.asarray(points))).reshape(config.grid, config.grid)
        found.append((title, x, y, np.asarray(machine.support), axes, levels))
    return {"machines": found}


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    figure = style.figure(10.5, 3.7)
    panels = figure.subplots(1, 3)
    for axes, (title, x, y, support, (across, up), levels) in zip(panels, result.curves["machines"]):
        axes.contourf(across, up, levels, [-1e9, 0, 1e9], colors=[style.RED, style.BLUE], alpha=0.08)
        axes.contour(across, up, levels, [-1, 0, 1], colors=style.BLACK, linewidths=[0.9, 1.8, 0.9],
                     linestyles=["dashed", "solid", "dashed"])  # fmt: skip
        for label, colour, marker in ((1, style.BLUE, "o"), (-1, style.RED, "s")):
            axes.scatter(*x[y == label].T, s=16, color=colour, marker=marker, linewidth=0, label=f"class {label:+d}")
        axes.scatter(
            *x[support].T, s=62, facecolor="none", edgecolor=style.BLACK, linewidth=0.9, label="support vector"
        )
        axes.set(title=f"{title}: {int(support.sum())} support vectors")
        axes.grid(visible=False)
    panels[0].set(xlabel="petal length / cm", ylabel="petal width / cm")
    panels[1].set(xlabel="petal length / cm")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=3)
    caption = (
        "Solid: f = 0; dashed: f = ±1, the margin. Ringed: the support vectors, the only examples that the machine "
        "remembers. A low price C widens the margin and lets more examples into it."
    )
    return [Picture("margins", caption, figure)]
