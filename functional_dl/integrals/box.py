"""A region as a box of reference coordinates, one an axis, and sums over its points as one compiled program.

Axis k runs over [lower_k, upper_k], which may depend on the coordinates before it.  Its reference coordinate is either
a share of the way (finite axes: a polynomial in it is one in x) or the t of `substitution` (infinite axes, and those
whose ends are singular).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.integrals import substitution
from functional_dl.integrals.substitution import Range

SHARE, DOUBLE_EXPONENTIAL = 0, 1
CHUNK, BLOCK = 2**14, 2**10  # points of a call at most, and those evaluated at once
MOST = 1024  # nodes on an axis
REACH = (4.0, 4.6)  # t at the ends of a finite and of an infinite axis


class Axis(NamedTuple):
    """Nodes of one axis in its reference coordinate."""

    kind: int
    nodes: np.ndarray
    weights: np.ndarray


class Box(NamedTuple):
    """vector: (x_1, ..., x_d) -> (K,); limits: for each axis a function of the coordinates before it."""

    vector: Callable[..., Any]
    limits: list[Callable[..., Any]]
    infinite: list[bool]
    size: int

    @property
    def ndim(self) -> int:
        return len(self.limits)


def plain(box: Box) -> np.ndarray:
    """The coordinates in which an axis is a share of the way wherever it can be."""
    return np.array([DOUBLE_EXPONENTIAL if endless else SHARE for endless in box.infinite])


def span(box: Box, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the reference coordinates."""
    reach = np.where(box.infinite, REACH[1], REACH[0])
    return np.where(kinds == SHARE, 0.0, -reach), np.where(kinds == SHARE, 1.0, reach)


def place(box: Box, kinds: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Reference coordinates (n, d) of shares of the way (n, d), which are shares of t on infinite axes."""
    low, high = span(box, kinds)
    placed = low + (high - low) * shares
    for k in np.flatnonzero((kinds == DOUBLE_EXPONENTIAL) & ~np.array(box.infinite)):
        placed[:, k] = np.clip(substitution.to_t(Range(0.0, 1.0, np), shares[:, k]), low[k], high[k])
    return placed


def integrand(box: Box, kinds: Array) -> Callable[..., Any]:
    """(reference coordinates (d,)) -> the integrand times the Jacobian (K,); `kinds` may be traced."""

    def at(coordinates):
        x, jacobian, inside = [], jnp.ones(()), jnp.ones((), bool)
        for k, limit in enumerate(box.limits):
            lower, upper = limit(*x)
            u = coordinates[k]
            straight, along = lower + (upper - lower) * u, upper - lower
            span = Range(jnp.minimum(lower, upper), jnp.maximum(lower, upper), jnp)
            bent, slope, within = substitution.to_x(span, jnp.where(kinds[k] == SHARE, 0.1, u))
            slope = jnp.where(upper < lower, -slope, slope)
            shared = kinds[k] == SHARE
            jacobian *= jnp.where(shared, along, slope)
            inside &= shared | within
            x.append(jnp.where(shared, straight, bent))
        values = box.vector(*x) * jnp.where(inside, jacobian, 0.0)
        return jnp.where(inside & (jacobian != 0), values, 0.0)

    return at


def point_values(box: Box) -> Callable[..., Any]:
    """(kinds, points (n, d)) -> (n, K): one program for any n, which evaluates blocks of points up to the last."""
    block = max(64, BLOCK // max(1, box.size))
    chunk = CHUNK // BLOCK * block

    @jax.jit
    def compiled(kinds, points, blocks):
        fun = jax.vmap(integrand(box, kinds))

        def body(i, out):
            found = fun(jax.lax.dynamic_slice_in_dim(points, i * block, block))
            return jax.lax.dynamic_update_slice_in_dim(out, found.astype(out.dtype), i * block, 0)

        return jax.lax.fori_loop(0, blocks, body, jnp.zeros((chunk, box.size)))

    def values(kinds, points):
        out = np.empty((len(points), box.size))
        for start in range(0, len(points), chunk):
            part = points[start : start + chunk]
            padded = np.pad(part, ((0, chunk - len(part)), (0, 0)), mode="edge")
            blocks = np.int64(-(-len(part) // block))
            out[start : start + len(part)] = np.asarray(compiled(kinds, padded, blocks))[: len(part)]
        return out

    return values


def tensor_sum(box: Box) -> Callable[..., Any]:
    """axes -> (sum, sum of moduli) over the product of the axes' nodes, (K,) each; one program for all sizes."""
    chunk = max(64, CHUNK // max(1, box.size))

    @jax.jit
    def total(kinds, nodes, weights, counts, strides):
        fun = jax.vmap(integrand(box, kinds))
        number = jnp.prod(counts)

        def body(i, sums):
            flat = i * chunk + jnp.arange(chunk)
            index = (flat[:, None] // strides[None, :]) % counts[None, :]
            at = jnp.arange(box.ndim)[None, :] + jnp.zeros_like(index)
            points, w = nodes[at, index], jnp.prod(weights[at, index], axis=1)
            terms = jnp.where(flat < number, w, 0.0)[:, None] * fun(points)
            return sums[0] + jnp.sum(terms, axis=0), sums[1] + jnp.sum(jnp.abs(terms), axis=0)

        zero = jnp.zeros((box.size,))
        return jax.lax.fori_loop(0, (number + chunk - 1) // chunk, body, (zero, zero))

    def run(axes: list[Axis]):
        counts = np.array([len(axis.nodes) for axis in axes], np.int64)
        strides = np.array([int(np.prod(counts[k + 1 :])) for k in range(len(axes))], np.int64)
        pad = lambda x: np.pad(x, (0, MOST - len(x)), mode="edge")
        nodes, weights = np.stack([pad(a.nodes) for a in axes]), np.stack([pad(a.weights) for a in axes])
        kinds = np.array([axis.kind for axis in axes], np.int64)
        found = total(kinds, nodes, weights, counts, strides)
        return tuple(np.asarray(x) for x in found)

    return run
