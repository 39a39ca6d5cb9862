"""The sets of NIST for linear and nonlinear regression, padded to one shape: one compiled program fits them all.

A set's models are branches of one; rows that are missing have weight 0, parameters that are missing are fixed at 0.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

PARAMETERS = 11
SETS = json.loads(Path(__file__).with_name("nist.json").read_text())


def gauss(b, x, _):
    first, second = (b[k] * jnp.exp(-((x - b[k + 1]) ** 2) / b[k + 2] ** 2) for k in (2, 5))
    return b[0] * jnp.exp(-b[1] * x) + first + second


def enso(b, x, _):
    wave = lambda period, k: b[k] * jnp.cos(2 * np.pi * x / period) + b[k + 1] * jnp.sin(2 * np.pi * x / period)
    return b[0] + wave(12.0, 1) + wave(b[3], 4) + wave(b[6], 7)


def cubics(b, x, _):
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


MODELS: dict[str, Callable] = {
    "linear": lambda b, x, rows: rows @ b,
    "Bennett5": lambda b, x, _: b[0] * (b[1] + x) ** (-1 / b[2]),
    "Misra1a": lambda b, x, _: b[0] * (1 - jnp.exp(-b[1] * x)),
    "Chwirut": lambda b, x, _: jnp.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x, _: b[0] * x ** b[1],
    "ENSO": enso,
    "Eckerle4": lambda b, x, _: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss": gauss,
    "cubics": cubics,
    "Kirby2": lambda b, x, _: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos": lambda b, x, _: sum(b[k] * jnp.exp(-b[k + 1] * x) for k in (0, 2, 4)),
    "MGH09": lambda b, x, _: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x, _: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x, _: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1b": lambda b, x, _: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x, _: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x, _: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x, rows: b[0] - b[1] * x * jnp.exp(-b[2] * rows[:, 1]),
    "Rat42": lambda b, x, _: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x, _: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x, _: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / np.pi,
}
SHARED = {
    "BoxBOD": "Misra1a", "Hahn1": "cubics", "Thurber": "cubics",
    **{f"{family}{k}": family for family in ("Chwirut", "Gauss", "Lanczos") for k in (1, 2, 3)},
}  # fmt: skip


class Fit(NamedTuple):
    """A set from one of its starts."""

    model: np.ndarray
    rows: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    start: np.ndarray
    fixed: np.ndarray  # 0 where there is no such parameter


def residual(b, fit):
    model = lax.switch(fit.model, list(MODELS.values()), b, fit.rows[:, 0], fit.rows)
    return fit.weight * (model - fit.y)


def _fit(name, rows, y, start, most):
    index = list(MODELS).index(SHARED.get(name, name))
    extra = most - len(y)
    rows = np.pad(rows, ((0, extra), (0, PARAMETERS - rows.shape[1])), mode="edge" if index else "constant")
    pad = lambda v: np.pad(np.asarray(v, float), (0, PARAMETERS - len(start)))
    weight = np.pad(np.ones(len(y)), (0, extra))
    return Fit(np.asarray(index), rows, np.pad(y, (0, extra)), weight, pad(start), pad(np.ones(len(start))))


def nonlinear() -> list[tuple[str, int, Fit]]:
    """(name, start, fit) of the 27 sets from both starts."""
    most = max(len(each["y"]) for each in SETS["nonlinear"].values())
    found = []
    for name, each in SETS["nonlinear"].items():
        y = np.log(each["y"]) if name == "Nelson" else np.asarray(each["y"], float)
        rows = np.asarray(each["x"], float).T
        found += [(name, k, _fit(name, rows, y, each["starts"][k], most)) for k in (0, 1)]
    return found


def linear() -> list[tuple[str, int, Fit]]:
    """The 11 sets, from 0."""
    most = max(len(each["y"]) for each in SETS["nonlinear"].values())
    found = []
    for name, each in SETS["linear"].items():
        x = np.asarray(each["x"], float)
        rows = x[:, None] ** np.arange(each["degree"] + 1) if each["degree"] else x.T
        start = np.zeros(rows.shape[1])
        found.append((name, 0, _fit("linear", rows, np.asarray(each["y"], float), start, most)))
    return found


def digits(found: np.ndarray, certified: list[float]) -> float:
    """Decimal digits of the worst of them, of the 11 that are certified (absolute where 0 is)."""
    certified = np.asarray(certified, float)
    found = np.asarray(found)[: len(certified)]
    error = np.abs(found - certified) / np.where(certified == 0, 1, np.abs(certified))
    return float(np.min(-np.log10(np.maximum(error, 1e-11))))
