"""Fixed rules of quadrature and interpolation, and the promotion rules that an integrand is traced under."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@functools.lru_cache(maxsize=256)
def gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre on [0, 1], exact for polynomials of degree 2n - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2


def interpolation(nodes: np.ndarray, places: Any) -> np.ndarray:
    """The matrix that takes values at the nodes to those of the polynomial through them at the places."""
    apart = nodes[:, None] - nodes[None, :] + np.eye(len(nodes))
    barycentric = 1 / np.prod(apart * 4, axis=1)
    gaps = places[:, None] - nodes
    rows = barycentric / np.where(gaps == 0, 1e-290, gaps)  # a place on a node takes the node's value
    return rows / rows.sum(axis=1, keepdims=True)


def strictness() -> Callable[..., Any]:
    """The caller's promotion rules as a context: what the integrand is traced under."""
    promotion, rank = jax.config.jax_numpy_dtype_promotion, jax.config.jax_numpy_rank_promotion

    def context():
        stack = contextlib.ExitStack()
        stack.enter_context(jax.numpy_dtype_promotion(promotion))
        stack.enter_context(jax.numpy_rank_promotion(rank))
        return stack

    return context
