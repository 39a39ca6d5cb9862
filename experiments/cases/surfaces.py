"""Functions of two variables, written over a module m (jax.numpy or numpy), with the window they are looked at in."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize


@dataclass(frozen=True)
class Surface:
    """f(x, y).

    Attributes:
      formula: for people.
      fun: (m, x, y) -> value, elementwise.
      window: (x from, x to), (y from, y to).
      rate: a learning rate that suits it.
      labels: of the axes.
    """

    formula: str
    fun: Callable
    window: tuple[tuple[float, float], tuple[float, float]]
    rate: float
    labels: tuple[str, str] = ("x", "y")

    def grid(self, count: int):
        """(x, y) of count x count places, as meshgrid gives them."""
        return np.meshgrid(*(np.linspace(*ends, count) for ends in self.window))

    def of(self, m) -> Callable:
        """The function of one vector (x, y)."""
        return lambda p: self.fun(m, p[0], p[1])


def himmelblau(m, x, y):
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


@lru_cache
def petals() -> tuple[np.ndarray, np.ndarray]:
    """Length and width in cm of 150 iris petals, (150, 2), and the widths of their kernels by Scott's rule, (2,)."""
    from sklearn.datasets import load_iris

    data = load_iris().data[:, 2:]
    return data, data.std(0, ddof=1) * len(data) ** (-1 / 6)


def rarity(m, x, y):
    """−log of the density of iris petals, estimated by Gaussian kernels."""
    data, h = petals()
    u, v = (x[..., None] - data[:, 0]) / h[0], (y[..., None] - data[:, 1]) / h[1]
    return -m.log(m.mean(m.exp(-(u**2 + v**2) / 2), axis=-1) / (2 * np.pi * h[0] * h[1]))


SURFACES = {
    "bowl": Surface("½ (x² + 10 y²)", lambda m, x, y: (x**2 + 10 * y**2) / 2, ((-3, 3), (-3, 3)), 0.1),
    "saddle": Surface("½ (x² − y²)", lambda m, x, y: (x**2 - y**2) / 2, ((-3, 3), (-3, 3)), 0.05),
    "Himmelblau": Surface("(x² + y − 11)² + (x + y² − 7)²", himmelblau, ((-5.5, 5.5), (-5.5, 5.5)), 0.002),
    "iris petals": Surface(
        "−log density of 150 petals",
        rarity,
        ((0.2, 7.7), (-0.3, 2.9)),
        0.1,
        ("petal length / cm", "petal width / cm"),
    ),
}


def minima(surface: Surface, count: int = 9) -> np.ndarray:
    """Minima in the window, (n, 2), found by SciPy's BFGS from count x count starts, the lowest first."""
    fun, found = surface.of(np), []
    low, high = np.array(surface.window).T
    for start in np.stack(surface.grid(count), -1).reshape(-1, 2):
        end = optimize.minimize(fun, start, method="BFGS", options={"gtol": 1e-9}).x
        inside = np.all(end > low) and np.all(end < high)
        if inside and all(np.linalg.norm(end - other) > 1e-3 for other in found):
            found.append(end)
    return np.array(sorted(found, key=fun)).reshape(-1, 2)
