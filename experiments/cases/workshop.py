r"""Workshops whose rules nobody has written down: at prices c they make what earns most,

    x(c) = argmax_x  c . x - x' P x / 2   subject to   G x <= h,  x >= 0,

three limited resources and as a rule four products.  Costs P, needs G and stocks h are drawn for each; only (c, x) is
seen.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.optimality import qp_layer

PRODUCTS, RESOURCES, HIGHEST = 4, 3, 3.0  # prices that are seen lie between 0 and HIGHEST


class Workshop(NamedTuple):
    """P (n, n), G (rows, n), h (rows,); arrays of several workshops have one axis more."""

    costs: Array | np.ndarray
    needs: Array | np.ndarray
    stocks: Array | np.ndarray


def draw(seed: int, rows: int, products: int = PRODUCTS) -> Workshop:
    """A workshop; rows beyond the three resources have no limit."""
    rng = np.random.default_rng([7, seed])
    slopes = 0.4 * rng.normal(size=(products, products))
    needs = rng.uniform(0.1, 1.0, (RESOURCES, products))
    needs = needs / np.linalg.norm(needs, axis=1, keepdims=True)
    stocks = rng.uniform(0.8, 1.6, RESOURCES)
    none = rows - RESOURCES
    return Workshop(
        0.5 * np.eye(products) + slopes @ slopes.T,
        np.concatenate([needs, np.zeros((none, products))]),
        np.concatenate([stocks, np.full(none, np.inf)]),
    )


def prices(seed: int, count: int, highest: float, products: int = PRODUCTS) -> np.ndarray:
    """(count, products), evenly between 0 and `highest`."""
    return np.random.default_rng([11, seed, int(1000 * highest)]).uniform(0, highest, (count, products))


@jax.jit
def decide(workshops: Workshop, at: Array) -> Array:
    """What each workshop makes at each of its prices: (workshops, count, products).

    One flat batch: programs that end early leave it (optimality.batched_while_loop), which those in a batch of
    batches could not.
    """
    at = jnp.asarray(at)
    costs, needs, stocks = (jnp.repeat(jnp.asarray(part), at.shape[1], axis=0) for part in workshops)
    solve = lambda P, c, G, h: qp_layer.solution(P, -c, None, None, G, h, lower=0.0)
    return jax.vmap(solve)(costs, at.reshape(-1, at.shape[-1]), needs, stocks).reshape(at.shape)


def excess(workshop: Workshop, x: np.ndarray) -> np.ndarray:
    """By what share of its stock the most overdrawn resource is overdrawn (x: (count, PRODUCTS)); 0 where none is."""
    needs, stocks = workshop.needs[:RESOURCES], workshop.stocks[:RESOURCES]
    return np.max(np.maximum(x @ needs.T / stocks[None] - 1, 0), axis=1)
