"""Losses of a margin or an angle: scores against signs, vectors against vectors."""

import jax.numpy as jnp
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.arguments import one_of, pair


def hinge(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """l = max(0, 1 - t z) for a score z and a sign t.

    dl/dz = -t where t z < 1, else 0.

    Args:
      pred: scores z, any shape, floating.
      target: signs t, each -1 or 1, same shape.
    Returns:
      Loss per entry.
    Raises:
      ValueError: the shapes differ; a concrete target is neither -1 nor 1.
    Kinks: at t z = 1, -t and 0; taken: 0, the margin being met (optax takes -t/2).  Numerics: one rounding.
    Source: Cortes and Vapnik 1995.
    Example:
      >>> losses.hinge(jnp.array([0.5, 2.0]), jnp.array([1.0, -1.0])).round(4).tolist()
      [0.5, 3.0]
    """
    pred, target = _scores(pred, target)
    slack = 1 - target * pred
    return jnp.where(slack <= 0, 0.0, slack)


def hinge_prime(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dz = -t where t z < 1, else 0.

    Example:
      >>> losses.hinge_prime(jnp.array([0.5, 2.0]), jnp.array([1.0, -1.0])).round(4).tolist()
      [-1.0, 1.0]
    """
    pred, target = _scores(pred, target)
    return jnp.where(target * pred < 1, -target, 0.0)


def squared_hinge(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """l = max(0, 1 - t z)^2, without a half.

    dl/dz = -2 t max(0, 1 - t z).

    Args, errors: as `hinge`.  Kinks: none.
    Source: Lee and Mangasarian 2001.
    Example:
      >>> losses.squared_hinge(jnp.array([0.5, 2.0]), jnp.array([1.0, -1.0])).round(4).tolist()
      [0.25, 9.0]
    """
    return jnp.square(hinge(pred, target))


def squared_hinge_prime(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dz = -2 t max(0, 1 - t z).

    Example:
      >>> losses.squared_hinge_prime(jnp.array([0.5, 2.0]), jnp.array([1.0, -1.0])).round(4).tolist()
      [-1.0, 6.0]
    """
    slack = hinge(pred, target)
    _, target = _scores(pred, target)
    return -2 * target * slack


def cosine(pred: Float[Array, "... k"], target: Float[Array, "... k"]) -> Float[Array, "..."]:
    """Cosine distance, l = 1 - <u, v> with u = pred/|pred| and v = target/|target|.

    dl/dpred = -(v - <u, v> u) / |pred|.

    Args:
      pred, target: one shape (*batch, k).
    Returns:
      Loss per example in [0, 2], shape (*batch,).
    Raises:
      ValueError: the shapes differ, or have no last axis.
    Kinks: none where pred is not 0.  At pred = 0 the loss has no limit; taken: loss 1, derivative 0.  The
      same at target = 0.
    Numerics: as |u - v|^2 / 2, which does not cancel for nearly parallel vectors; norms are taken after
      division by the largest entry, so nothing overflows.
    Source: Salton, Wong, Yang 1975.
    Example:
      >>> losses.cosine(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])).item()
      1.0
    """
    pred, target = _vectors(pred, target)
    u, _, nonzero_u = _unit(pred)
    v, _, nonzero_v = _unit(target)
    half_square = jnp.sum(jnp.square(u - v), -1) / 2
    return jnp.where(nonzero_u & nonzero_v, half_square, 1.0)


def cosine_prime(pred: Float[Array, "... k"], target: Float[Array, "... k"]) -> Float[Array, "... k"]:
    """dl/dpred = -(v - <u, v> u) / |pred|, as -(w - <u, w> u) / |pred| for w = v - u: no cancelling.

    Example:
      >>> print(np.asarray(losses.cosine_prime(jnp.array([1.0, 0.0]), jnp.array([0.6, 0.8]))).round(4))
      [-0.  -0.8]
    """
    pred, target = _vectors(pred, target)
    u, length, nonzero_u = _unit(pred)
    v, _, nonzero_v = _unit(target)
    w = v - u
    gradient = -(w - jnp.sum(u * w, -1, keepdims=True) * u) / length
    return jnp.where((nonzero_u & nonzero_v)[..., None], gradient, 0.0)


def _scores(pred, target) -> tuple[Array, Array]:
    pred, target = pair("pred", pred, "target", target)
    one_of("target", target, (-1.0, 1.0))
    return pred, target


def _vectors(pred, target) -> tuple[Array, Array]:
    pred, target = pair("pred", pred, "target", target)
    if pred.ndim == 0:
        raise ValueError("pred: expected shape (*batch, k), got a scalar")
    return pred, target


def _unit(x: Array) -> tuple[Array, Array, Array]:
    """x / |x|, |x| with its axis kept, and whether x is not 0; for x = 0 some vector of no meaning."""
    largest = jnp.max(jnp.abs(x), -1, keepdims=True)
    nonzero = largest > 0
    scale = jnp.where(nonzero, largest, 1.0)
    y = jnp.where(nonzero, x, 1.0) / scale
    length = jnp.sqrt(jnp.sum(jnp.square(y), -1, keepdims=True))
    return y / length, length * scale, nonzero[..., 0]
