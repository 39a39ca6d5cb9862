"""Softmax and its logarithm: every entry depends on all of its vector, so the derivative is a Jacobian."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.arguments import real


def softmax(z: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Probabilities from logits, p_i = e^{z_i} / sum_j e^{z_j}.

    dp_i/dz_j = p_i (1(i = j) - p_j).

    Args:
      z: logits, at least one axis, floating; -inf gives probability 0.
      axis: the axis that is normalised.
    Returns:
      Probabilities that sum to 1 along `axis`, same shape and dtype as z.
    Raises:
      TypeError: z is complex.  ValueError: z has no axis, or an empty one.
    Kinks: none.
    Numerics: the largest logit is subtracted first (p does not change), so nothing overflows.  A vector with
      +inf, or with nothing but -inf, has no meaningful limit: NaN.
    Source: Bridle 1990; Goodfellow, Bengio, Courville 2016, section 6.2.2.3.
    Example:
      >>> activations.softmax(jnp.array([0.0, 0.0, jnp.log(2.0)])).round(4).tolist()
      [0.25, 0.25, 0.5]
    """
    z = _vector(z, axis)
    # p is unchanged by a shift, whatever the shift depends on: its derivative contributes nothing and is cut.
    e = jnp.exp(z - lax.stop_gradient(jnp.max(z, axis, keepdims=True)))
    return e / jnp.sum(e, axis, keepdims=True)


def softmax_prime(z: Float[Array, "... k"]) -> Float[Array, "... k k"]:
    """Jacobian over the last axis, J_ij = dp_i/dz_j = p_i (1(i = j) - p_j), shape (*batch, k, k).

    Example:
      >>> activations.softmax_prime(jnp.zeros(2)).tolist()
      [[0.25, -0.25], [-0.25, 0.25]]
    """
    p = softmax(z)
    return p[..., :, None] * (_eye_like(p) - p[..., None, :])


def log_softmax(z: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Logarithms of softmax, l_i = z_i - ln sum_j e^{z_j}.

    dl_i/dz_j = 1(i = j) - p_j,    p = softmax(z).

    Args:
      z: logits, at least one axis, floating; -inf allowed beside finite ones, and a single +inf.
      axis: the axis that is normalised.
    Returns:
      Log-probabilities, same shape and dtype as z.
    Raises:
      TypeError: z is complex.  ValueError: z has no axis, or an empty one.
    Kinks: none.
    Numerics: with a the place of the largest logit, l_i = (z_i - z_a) - log1p(sum_{j != a} e^{z_j - z_a}):
      relative accuracy even where p_a rounds to 1, in value and in jax.grad.
    Source: Blanchard, Higham, Higham 2021, Accurately computing the log-sum-exp and softmax functions.
    Example:
      >>> print(np.asarray(activations.log_softmax(jnp.zeros(4))).round(4))
      [-1.3863 -1.3863 -1.3863 -1.3863]
    """
    z = _vector(z, axis)
    largest = _first_largest(z, axis)
    z_a = jnp.sum(jnp.where(largest, z, 0.0), axis, keepdims=True)
    shifted = jnp.where(largest, 0.0, z - z_a)
    others = jnp.sum(jnp.where(largest, 0.0, jnp.exp(shifted)), axis, keepdims=True)
    return shifted - jnp.log1p(others)


def log_softmax_prime(z: Float[Array, "... k"]) -> Float[Array, "... k k"]:
    """Jacobian over the last axis, J_ij = dl_i/dz_j = 1(i = j) - p_j, shape (*batch, k, k).

    Example:
      >>> activations.log_softmax_prime(jnp.zeros(2)).tolist()
      [[0.5, -0.5], [-0.5, 0.5]]
    """
    p = softmax(z)
    return _eye_like(p) - p[..., None, :]


def _vector(z, axis: int) -> Array:
    z = real("z", z)
    if z.ndim == 0:
        raise ValueError("z: expected at least one axis to normalise over, got a scalar")
    if not -z.ndim <= axis < z.ndim:
        raise ValueError(f"axis: expected an axis of z of shape {z.shape}, got {axis}")
    if z.shape[axis] == 0:
        raise ValueError(f"z: expected at least one entry along axis {axis}, got shape {z.shape}")
    return z


def _first_largest(z: Array, axis: int) -> Array:
    """True at the first largest entry along `axis`, once; nowhere where that is NaN."""
    index = jnp.argmax(z, axis, keepdims=True)
    here = lax.broadcasted_iota(index.dtype, z.shape, axis % z.ndim) == index
    return here & ~jnp.isnan(z)


def _eye_like(p: Array) -> Array:
    """The identity matrix over p's last axis, with p's leading axes in front: (*batch, k, k)."""
    k = p.shape[-1]
    return jnp.broadcast_to(jnp.eye(k, dtype=p.dtype), (*p.shape, k))
