"""What many derivations write alike: a definition by difference quotients, and points to try it at."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from functional_dl.aliases import Array
from functional_dl.derivations.limits import Limit
from functional_dl.tree import subtract, vdot


def slope_of(fun: Callable[..., Any], argument: int = 0) -> Limit:
    """lim (f(x + h) - f(x)) / h entry by entry, x the argument of that place."""

    def quotient(h, *primals):
        return (fun(*moved(primals, argument, primals[argument] + h)) - fun(*primals)) / h

    return Limit(quotient)


def pulled_back(fun: Callable[..., Any], argument: int = 0) -> Limit:
    """x_bar_i = sum_k y_bar_k lim (y_k(x + h e_i) - y_k(x)) / h for every entry i of x, the argument of that place.

    A point is fun's primals and the cotangent y_bar.  x and y may be pytrees; i and k then number all of their entries.
    """

    def quotient(h, *point):
        *primals, ct = point
        x, rebuild = ravel_pytree(primals[argument])
        y = fun(*primals)

        def entry(e):
            return vdot(ct, subtract(fun(*moved(primals, argument, rebuild(x + h * e))), y)) / h

        return rebuild(jax.vmap(entry)(jnp.eye(x.size, dtype=x.dtype)))

    return Limit(quotient)


def moved(primals: Sequence[Any], argument: int, x: Any) -> tuple[Any, ...]:
    """The primals with another value at one place."""
    return (*primals[:argument], x, *primals[argument + 1 :])


def outer(a: Array, b: Array) -> Array:
    """a_i b_j."""
    return a[:, None] * b[None, :]


# Points.  A distribution is a function of a key; `drawing` makes a point of several.


def drawing(*distributions: Callable[..., Any]) -> Callable[..., Any]:
    """draw(key): one independent draw of each."""

    def draw(key):
        keys = jax.random.split(key, len(distributions))
        return tuple(distribution(k) for distribution, k in zip(distributions, keys))

    return draw


def normal(*shape: int, scale: float = 1.0) -> Callable[..., Any]:
    """Independent standard normal entries, times `scale`."""
    return lambda key: scale * jax.random.normal(key, shape, float)


def uniform(*shape: int, low: float, high: float) -> Callable[..., Any]:
    """Independent entries, even in [low, high)."""
    return lambda key: jax.random.uniform(key, shape, float, low, high)


def away(*shape: int, kinks: Sequence[float] = (0.0,), gap: float = 0.25, reach: float = 1.5) -> Callable[..., Any]:
    """Entries at a distance between gap and reach from one of the kinks, on either side of it and clear of the others.

    The first entries go round all sides of all kinks, so that no piece of the function is left out.
    """

    def distribution(key):
        size = 1
        for n in shape:
            size *= n
        sides = [(k, s) for k in kinks for s in (-1.0, 1.0)]
        centre = jnp.asarray([sides[i % len(sides)][0] for i in range(size)])
        side = jnp.asarray([sides[i % len(sides)][1] for i in range(size)])
        room = min([b - a for a, b in zip(sorted(kinks), sorted(kinks)[1:])] + [2 * reach])
        inner = jax.random.uniform(key, (size,), float, gap, max(min(reach, room - gap), gap * 1.01))
        return (centre + side * inner).reshape(shape)

    return distribution


def simplex(*shape: int) -> Callable[..., Any]:
    """Distributions on the last axis, every probability above 0."""

    def distribution(key):
        weights = jax.random.uniform(key, shape, float, 0.2, 1.0)
        return weights / weights.sum(-1, keepdims=True)

    return distribution


def labels(*shape: int, classes: int) -> Callable[..., Any]:
    """Class numbers."""
    return lambda key: jax.random.randint(key, shape, 0, classes)


def one_hot(rows: int, classes: int) -> Callable[..., Any]:
    """Rows with a single 1."""
    return lambda key: jnp.eye(classes)[jax.random.randint(key, (rows,), 0, classes)]


def signs(*shape: int) -> Callable[..., Any]:
    """Entries -1 and 1, in turn from a random start."""

    def distribution(key):
        size = 1
        for n in shape:
            size *= n
        first = jax.random.bernoulli(key).astype(int)
        return (2.0 * ((jnp.arange(size) + first) % 2).astype(float) - 1.0).reshape(shape)

    return distribution


def masks(*shape: int, kept: float) -> Callable[..., Any]:
    """Entries 1 with probability `kept` and else 0; the first is 0 and the second 1."""

    def distribution(key):
        mask = jax.random.bernoulli(key, kept, shape).astype(float).ravel()
        return mask.at[0].set(0.0).at[1].set(1.0).reshape(shape)

    return distribution


def distinct(*shape: int, gap: float = 0.25) -> Callable[..., Any]:
    """Entries that differ by at least gap, in random order."""

    def distribution(key):
        size = 1
        for n in shape:
            size *= n
        values = gap * (jnp.arange(size).astype(float) - size / 2.0) + 0.1
        return jax.random.permutation(key, values).reshape(shape)

    return distribution


def constant(value: float) -> Callable[..., Any]:
    """The same every time."""
    return lambda key: jnp.asarray(value)


def spd(n: int) -> Callable[..., Any]:
    """Symmetric positive definite matrices, eigenvalues of at least 1."""

    def distribution(key):
        a = jax.random.normal(key, (n, n), float)
        return a @ a.T / n + jnp.eye(n)

    return distribution


def regular(n: int) -> Callable[..., Any]:
    """Square matrices well away from singular ones: 2 I and a bounded random part."""
    return lambda key: 2.0 * jnp.eye(n) + jax.random.uniform(key, (n, n), float, -0.4, 0.4)
