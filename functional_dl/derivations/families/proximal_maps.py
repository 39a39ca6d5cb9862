"""Proximal maps of the penalties: soft thresholding, shrinkage, and both."""

from typing import Any

import jax.numpy as jnp

from functional_dl import penalties
from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.notation import away, constant, drawing, normal
from functional_dl.derivations.step import Oracle, Step

RATIO = 0.3


def root(slope: Any, w: Array, reach: Any = 8.0, steps: Any = 60) -> Any:
    """Where an increasing function of u, entry by entry, passes through 0, by bisection around w."""
    low, high = w - reach, w + reach
    for _ in range(steps):
        middle = (low + high) / 2
        above = slope(middle) > 0
        low, high = jnp.where(above, low, middle), jnp.where(above, middle, high)
    return (low + high) / 2


def least(objective: Any, w: Array, reach: Any = 8.0, steps: Any = 60) -> Any:
    """argmin of a convex function of u, entry by entry, from its values alone, by thirds; good to the root of eps."""
    low, high = w - reach, w + reach
    for _ in range(steps):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        left = objective(first) < objective(second)
        low, high = jnp.where(left, low, first), jnp.where(left, second, high)
    return (low + high) / 2


BY_VALUES = 2.0**-20  # an argmin found from values: their rounding hides moves smaller than the root of eps

L1_PROX = Derivation(
    "l1_prox",
    "The proximal map of the L1 norm: soft thresholding",
    r"\operatorname*{argmin}_u\, \lambda |u| + \tfrac12 (u - w)^2 = \operatorname{sign}(w) \max(|w| - \lambda, 0)",
    (
        Step(
            r"u : \; 0 \in \lambda\, \partial |u| + u - w",
            "the objective is convex: its minimum is where 0 is a subgradient, found by bisection",
            lambda w, lam: root(lambda u: lam * jnp.sign(u) + u - w, w),
        ),
        Step(
            r"= \begin{cases} w - \lambda & w > \lambda \\ w + \lambda & w < -\lambda \\ 0 & |w| \le \lambda"
            r" \end{cases}",
            r"u > 0 needs $u = w - \lambda > 0$, u < 0 needs $u = w + \lambda < 0$, and u"
            r" = 0 needs $w \in [-\lambda, \lambda]$",
            lambda w, lam: jnp.where(w > lam, w - lam, jnp.where(w < -lam, w + lam, 0.0)),
        ),
        Step(
            r"= \operatorname{sign}(w) \max(|w| - \lambda, 0)",
            "the three cases in one formula",
            lambda w, lam: jnp.sign(w) * jnp.maximum(jnp.abs(w) - lam, 0.0),
        ),
        Step(
            r"= w - \min(\max(w, -\lambda), \lambda)",
            r"Moreau: what is left over is the projection onto the interval $[-\lambda, \lambda]$",
            lambda w, lam: w - jnp.minimum(jnp.maximum(w, -lam), lam),
        ),
    ),
    "Parikh and Boyd 2014, section 6.5.2",
    drawing(away(6, kinks=(-0.7, 0.7)), constant(0.7)),
    oracles=(
        Oracle("penalties.prox_l1", lambda w, lam: penalties.prox_l1(w, lam)),
        Oracle(
            "minimised by values",
            lambda w, lam: least(lambda u: lam * jnp.abs(u) + (u - w) ** 2 / 2, w),
            tolerance=BY_VALUES,
        ),
    ),
    kinks=(r"$|w| = \lambda$: the map is continuous there, and its derivative jumps from 0 to 1.",),
    point="w, shape (6,), and lambda = 0.7",
)

L2_PROX = Derivation(
    "l2_prox",
    "The proximal map of the squared L2 norm: shrinkage",
    r"\operatorname*{argmin}_u\, \lambda u^2 + \tfrac12 (u - w)^2 = \frac{w}{1 + 2\lambda}",
    (
        Step(
            r"u : \; 2 \lambda u + u - w = 0",
            "the objective is smooth and convex: its minimum is where its derivative is 0, found by bisection",
            lambda w, lam: root(lambda u: 2 * lam * u + u - w, w),
        ),
        Step(
            r"= u : \; (1 + 2 \lambda)\, u = w",
            "u is taken out; the equation is linear, its solution one Newton step from anywhere",
            lambda w, lam: 0 * w - ((1 + 2 * lam) * 0 * w - w) / (1 + 2 * lam),
        ),
        Step(r"= \frac{w}{1 + 2\lambda}", "divided", lambda w, lam: w / (1 + 2 * lam)),
    ),
    "Parikh and Boyd 2014, section 6.1.1",
    drawing(normal(6), constant(0.7)),
    oracles=(
        Oracle("penalties.prox_l2", lambda w, lam: penalties.prox_l2(w, lam)),
        Oracle(
            "minimised by values", lambda w, lam: least(lambda u: lam * u**2 + (u - w) ** 2 / 2, w), tolerance=BY_VALUES
        ),
    ),
    point="w, shape (6,), and lambda = 0.7",
)

ELASTIC_NET_PROX = Derivation(
    "elastic_net_prox",
    "The proximal map of the elastic net",
    r"\operatorname*{argmin}_u\, \lambda \left( \rho |u| + (1 - \rho) u^2 \right) + \tfrac12 (u - w)^2"
    r" = \frac{\operatorname{sign}(w) \max(|w| - \lambda \rho, 0)}{1 + 2 \lambda (1 - \rho)}",
    (
        Step(
            r"u : \; 0 \in \lambda \rho\, \partial |u| + 2 \lambda (1 - \rho)\, u + u - w",
            "0 is a subgradient at the minimum of a convex function, found by bisection",
            lambda w, lam: root(lambda u: lam * RATIO * jnp.sign(u) + 2 * lam * (1 - RATIO) * u + u - w, w),
        ),
        Step(
            r"= v / c : \; 0 \in \lambda \rho\, \partial |v| + v - w, \quad c = 1 + 2 \lambda (1 - \rho)",
            r"with $v = c\,u$, c > 0, which has the sign of u",
            lambda w, lam: root(lambda v: lam * RATIO * jnp.sign(v) + v - w, w) / (1 + 2 * lam * (1 - RATIO)),
        ),
        Step(
            r"= \frac{\operatorname{sign}(w) \max(|w| - \lambda \rho, 0)}{1 + 2 \lambda (1 - \rho)}",
            "v is the soft threshold of w (derivation `l1_prox`)",
            lambda w, lam: jnp.sign(w) * jnp.maximum(jnp.abs(w) - lam * RATIO, 0.0) / (1 + 2 * lam * (1 - RATIO)),
        ),
    ),
    "Parikh and Boyd 2014, section 6.5.3",
    drawing(away(6, kinks=(-0.4, 0.4), gap=0.2), constant(1.2)),
    oracles=(
        Oracle("penalties.prox_elastic_net", lambda w, lam: penalties.prox_elastic_net(w, lam, RATIO)),
        Oracle(
            "minimised by values",
            lambda w, lam: least(lambda u: lam * (RATIO * jnp.abs(u) + (1 - RATIO) * u**2) + (u - w) ** 2 / 2, w),
            tolerance=BY_VALUES,
        ),
    ),
    point="w, shape (6,), and lambda = 1.2; rho is 0.3",
)

DERIVATIONS = (L1_PROX, L2_PROX, ELASTIC_NET_PROX)
