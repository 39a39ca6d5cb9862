"""Small quantities that the methods of this room share."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.aliases import Array, Scalar


def largest(values: Array) -> Scalar:
    """max |v_i|; 0 where there is none."""
    return jnp.max(jnp.abs(values), initial=0.0)


def norm(values: Array) -> Scalar:
    """|v|, whose squares neither overflow nor vanish."""
    most = largest(values)
    unit = jnp.where((most > 0) & jnp.isfinite(most), most, 1)
    return unit * jnp.linalg.norm(values / unit)


def longest_step(positive: Array, move: Array, most: float = 1.0) -> Scalar:
    """The greatest step <= most with positive + step move >= 0."""
    falling = move < 0
    return jnp.min(jnp.where(falling, -positive / jnp.where(falling, move, -1.0), most), initial=most)


def backtrack(
    attempt: Callable[..., tuple[Any, Array]], begin: Any, step: Array, tries: int, full: int = 1
) -> tuple[Any, Array, Array]:
    """The first trial that is good, of a step, its half, its quarter, ...

    Args:
      attempt: (step, k, what the trial before gave) -> what this one gives, whether it is good.
      begin: like what a trial gives; step: the first; tries: the most that are made.
      full: how many trials have the first step; in the second a method corrects what the first one gave.
    Returns:
      What the last trial gave, its step, whether it is good.
    """

    def body(carry):
        last, step, k, _ = carry
        step = jnp.where(k < full, step, step / 2)
        found, good = attempt(step, k, last)
        return found, step, k + 1, good

    start = begin, step, jnp.zeros((), int), jnp.zeros((), bool)
    found, step, _, good = lax.while_loop(lambda carry: ~carry[3] & (carry[2] < tries), body, start)
    return found, step, good


def predictor_corrector(
    direction: Callable[[list[Array], bool], tuple[list[Any], Any]],
    pairs: list[tuple[Array, Array]],
    count: Any,
    centred: Callable[[Array, Array], Array] = lambda target, mean: target,
    second: Any = 1.0,
    most: float = 1.0,
) -> tuple[list[Any], Any, Scalar, Scalar]:
    r"""Mehrotra's step for conditions u_i v_i = 0, u, v > 0: first for the conditions themselves, which says how far
    they can be brought to 0, then for u_i v_i = target = (mean after / mean before)^3 mean, with du dv of the first.

    Args:
      direction: (what each u v shall change by to first order, whether to refine) -> moves [(du, dv), ...], the rest.
      pairs: [(u, v), ...]; count: how many products there are.
      centred: (target, mean) -> the target that is aimed at; second: the share of du dv that counts.
      most: the greatest step that is looked at.
    Returns:
      The second direction's moves and rest, the greatest step with u, v >= 0, and the mean of u v.
    Source: Mehrotra 1992; Nocedal and Wright 2006, algorithm 16.4.
    """

    def reach(moves, most):
        both = [longest_step(v, dv, most) for pair, move in zip(pairs, moves, strict=True) for v, dv in zip(pair, move)]
        return jnp.min(jnp.stack(both))

    mean = sum(u @ v for u, v in pairs) / count
    moves, _ = direction([-u * v for u, v in pairs], False)
    far = reach(moves, 1.0)
    ends = (((u + far * du) @ (v + far * dv)) for (u, v), (du, dv) in zip(pairs, moves, strict=True))
    after = sum(ends) / count
    target = centred(mean * (after / jnp.where(mean > 0, mean, 1.0)) ** 3, mean)
    aims = [target - u * v - second * du * dv for (u, v), (du, dv) in zip(pairs, moves, strict=True)]
    moves, rest = direction(aims, True)
    return moves, rest, reach(moves, most), mean


def reachable(tolerance: float, like: Array) -> Scalar:
    """The tolerance, but no less than numbers of this dtype can tell."""
    return jnp.maximum(tolerance, 64 * jnp.finfo(like.dtype).eps).astype(like.dtype)


def aside(x: Array, share: float) -> Array:
    """A place beside x that breaks symmetries: each entry moved by up to share (1 + |x_i|), no two alike."""
    spread = 2 * np.modf(np.arange(1, x.size + 1) * 0.6180339887498949)[0] - 1
    return x + share * (1 + jnp.abs(x)) * jnp.asarray(spread, x.dtype)
