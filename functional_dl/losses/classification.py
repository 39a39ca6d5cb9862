"""Classification losses from probabilities and from logits.

Binary ones work entry by entry, categorical ones sum over the last axis; the caller averages over examples.
From logits wherever there is a choice: a probability that rounds to 0 or 1 has lost what the loss measures.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Integer

from functional_dl.activations import log_softmax, softmax, softplus
from functional_dl.aliases import Array
from functional_dl.arguments import array, number, pair, real, within
from functional_dl.losses.terms import known_labels, ratio, weighted, xlogy


def binary_cross_entropy(probs: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """Negative log-likelihood of a Bernoulli variable with probability p, l = -t ln p - (1 - t) ln(1 - p).

    dl/dp = -t/p + (1 - t)/(1 - p) = (p - t) / (p (1 - p)).

    Args:
      probs: p in [0, 1], any shape, floating.
      targets: t in [0, 1], same shape.
    Returns:
      Loss per entry, in nats.
    Raises:
      ValueError: the shapes differ; a concrete probability or target lies outside [0, 1].
    Kinks: none.
    Numerics: 0 ln 0 = 0, so p = t = 0 and p = t = 1 give 0; p = 0 < t gives inf; under jit, where values are not known,
      p outside [0, 1] gives NaN.
    Source: Goodfellow, Bengio, Courville 2016, section 6.2.2.2.
    Example:
      >>> print(np.asarray(losses.binary_cross_entropy(jnp.array([0.25, 0.5]), jnp.array([1.0, 0.0]))).round(4))
      [1.3863 0.6931]
    """
    p, t = _probabilities(probs, targets, 1.0)
    one_minus_p = 1 - p
    certain = (t == 1) & (p == 1)
    miss = jnp.where(certain, 0.0, (1 - t) * jnp.log1p(-jnp.where(certain, 0.0, p)))
    return jnp.where(one_minus_p < 0, jnp.nan, -xlogy(t, p) - miss)


def binary_cross_entropy_prime(probs: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dp = -t/p + (1 - t)/(1 - p), a quotient 0/0 being 0.

    Example:
      >>> losses.binary_cross_entropy_prime(jnp.array([0.25, 0.5]), jnp.array([1.0, 0.0])).round(4).tolist()
      [-4.0, 2.0]
    """
    p, t = _probabilities(probs, targets, 1.0)
    return ratio(1 - t, 1 - p) - ratio(t, p)


def sigmoid_cross_entropy(logits: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """Negative log-likelihood of a Bernoulli variable with log-odds z, l = softplus(z) - t z.

    dl/dz = sigmoid(z) - t.

    Args:
      logits: z, any shape, floating; +-inf allowed.
      targets: t in [0, 1], same shape.
    Returns:
      Loss per entry, in nats.
    Raises:
      ValueError: the shapes differ; a concrete target lies outside [0, 1].
    Kinks: none.
    Numerics: as (1(z > 0) - t) z + log1p(e^{-|z|}), two terms that are not negative: relative accuracy for
      every z, where softplus(z) - t z would cancel.  z = inf with t = 1 gives 0.
    Source: Goodfellow, Bengio, Courville 2016, section 6.2.2.2.
    Example:
      >>> print(np.asarray(losses.sigmoid_cross_entropy(jnp.array([0.0, 2.0]), jnp.array([1.0, 0.0]))).round(4))
      [0.6931 2.1269]
    """
    z, t = _binary_logits(logits, targets)
    right = z > 0
    return weighted(jnp.where(right, 1 - t, -t), z) + jnp.log1p(jnp.exp(jnp.where(right, -z, z)))


def sigmoid_cross_entropy_prime(logits: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dz = sigmoid(z) - t, as (1 - t) sigmoid(z) - t sigmoid(-z), which does not cancel at t = 1.

    Example:
      >>> print(
      ...     np.asarray(
      ...         losses.sigmoid_cross_entropy_prime(jnp.array([0.0, 2.0]), jnp.array([1.0, 0.0]))
      ...     ).round(4)
      ... )
      [-0.5     0.8808]
    """
    z, t = _binary_logits(logits, targets)
    return (1 - t) * lax.logistic(z) - t * lax.logistic(-z)


def focal(
    logits: Float[Array, "..."], targets: Float[Array, "..."], gamma: float = 2.0, alpha: float | None = None
) -> Float[Array, "..."]:
    """Cross-entropy from a logit z with easy examples weighted down, for p = sigmoid(z):

    l = -t a (1 - p)^gamma ln p - (1 - t) (1 - a) p^gamma ln(1 - p),    a and 1 - a replaced by 1 if alpha is
    None.

    For h(z) = -(1 - p)^gamma ln p, so that l = t a h(z) + (1 - t)(1 - a) h(-z):
    h'(z) = (1 - p)^gamma (gamma p ln p - (1 - p)).

    Args:
      logits: z, any shape, floating.
      targets: t in [0, 1], same shape; 0 and 1 in the source, the expectation between.
      gamma: >= 0; 0 is sigmoid_cross_entropy.
      alpha: weight of the class 1, in [0, 1].
    Returns:
      Loss per entry, in nats.
    Raises:
      ValueError: the shapes differ; gamma, alpha or a concrete target lies outside its range.
    Kinks: none.  Numerics: (1 - p)^gamma as e^{-gamma softplus(z)}: nothing rounds to 1 - 1.
    Source: Lin, Goyal, Girshick, He, Dollar 2017.
    Example:
      >>> print(np.asarray(losses.focal(jnp.array([0.0, 2.0]), jnp.array([1.0, 0.0]))).round(4))
      [0.1733 1.6501]
    """
    z, t = _binary_logits(logits, targets)
    one, zero = _focal_weights(gamma, alpha)
    return weighted(one * t, _focal_term(z, gamma)) + weighted(zero * (1 - t), _focal_term(-z, gamma))


def focal_prime(
    logits: Float[Array, "..."], targets: Float[Array, "..."], gamma: float = 2.0, alpha: float | None = None
) -> Float[Array, "..."]:
    """dl/dz = t a h'(z) - (1 - t)(1 - a) h'(-z).

    Example:
      >>> print(np.asarray(losses.focal_prime(jnp.array([0.0, 2.0]), jnp.array([1.0, 0.0]))).round(4))
      [-0.2983  1.0767]
    """
    z, t = _binary_logits(logits, targets)
    one, zero = _focal_weights(gamma, alpha)
    return one * t * _focal_term_prime(z, gamma) - zero * (1 - t) * _focal_term_prime(-z, gamma)


def cross_entropy(probs: Float[Array, "... k"], targets: Float[Array, "... k"]) -> Float[Array, "..."]:
    """Cross-entropy of probabilities p against a distribution t, l = -sum_i t_i ln p_i.

    dl/dp_i = -t_i / p_i.

    Args:
      probs: p >= 0, shape (*batch, k); the caller makes sure that it sums to 1.
      targets: t >= 0, same shape: a distribution, or one-hot.
    Returns:
      Loss per example, shape (*batch,), in nats.
    Raises:
      ValueError: the shapes differ, or have no class axis; a concrete probability is negative, a concrete target
        outside [0, 1].
    Kinks: none.  Numerics: 0 ln 0 = 0; p_i = 0 < t_i gives inf.
    Source: Goodfellow, Bengio, Courville 2016, section 3.13.
    Example:
      >>> round(float(losses.cross_entropy(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0]))), 4)
      0.6931
    """
    p, t = _distributions(probs, targets)
    return -jnp.sum(xlogy(t, p), -1)


def cross_entropy_prime(probs: Float[Array, "... k"], targets: Float[Array, "... k"]) -> Float[Array, "... k"]:
    """dl/dp_i = -t_i / p_i, 0 where t_i = p_i = 0.

    Example:
      >>> losses.cross_entropy_prime(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])).tolist()
      [-2.0, -0.0]
    """
    p, t = _distributions(probs, targets)
    return -ratio(t, p)


def kl_divergence(probs: Float[Array, "... k"], targets: Float[Array, "... k"]) -> Float[Array, "..."]:
    """Kullback-Leibler divergence KL(t || p) of the target from the prediction, l = sum_i t_i ln(t_i / p_i).

    dl/dp_i = -t_i / p_i: cross-entropy minus the entropy of t.

    Args, errors, kinks: as `cross_entropy`.
    Returns:
      Loss per example, shape (*batch,), in nats; 0 where p = t.
    Numerics: t_i = 0 contributes 0; the quotient is taken before the logarithm, so p near t keeps its digits.
    Source: Kullback and Leibler 1951.
    Example:
      >>> round(float(losses.kl_divergence(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0]))), 4)
      0.6931
    """
    p, t = _distributions(probs, targets)
    absent = t == 0
    positive_t = jnp.where(absent, 1.0, t)
    terms = positive_t * jnp.log(positive_t / jnp.where(absent, 1.0, p))
    return jnp.sum(jnp.where(absent, 0.0, terms), -1)


kl_divergence_prime = cross_entropy_prime


def softmax_cross_entropy(
    logits: Float[Array, "... k"], targets: Float[Array, "... k"] | Integer[Array, "..."]
) -> Float[Array, "..."]:
    """Cross-entropy of softmax probabilities, from logits: l = -sum_i t_i ln p_i,  p = softmax(z).

    dl/dz_i = p_i sum_j t_j - t_i,  which is p - t for a distribution t.

    Args:
      logits: z, shape (*batch, k), floating; -inf marks an impossible class.
      targets: a distribution over the classes, shape (*batch, k), floating; or labels, integers in [0, k),
        shape (*batch,).
    Returns:
      Loss per example, shape (*batch,), in nats.
    Raises:
      ValueError: targets fit neither shape; a concrete label lies outside [0, k), a concrete target outside
        [0, 1].
      TypeError: labels that are not integers.
    Kinks: none.
    Numerics: computed by log_softmax: relative accuracy down to the smallest loss.  t_i = 0 contributes 0
      even at z_i = -inf.  Under jit a label outside [0, k) gives NaN.
    Source: Goodfellow, Bengio, Courville 2016, section 6.2.2.3.
    Example:
      >>> round(float(losses.softmax_cross_entropy(jnp.zeros(4), jnp.array([1.0, 0.0, 0.0, 0.0]))), 4)
      1.3863
    """
    z, t = _categorical_logits(logits, targets)
    return jnp.sum(weighted(t, -log_softmax(z)), -1)


def softmax_cross_entropy_prime(
    logits: Float[Array, "... k"], targets: Float[Array, "... k"] | Integer[Array, "..."]
) -> Float[Array, "... k"]:
    """dl/dz = p sum(t) - t, shape of the logits.

    Example:
      >>> losses.softmax_cross_entropy_prime(jnp.zeros(4), jnp.array([1.0, 0.0, 0.0, 0.0])).tolist()
      [-0.75, 0.25, 0.25, 0.25]
    """
    z, t = _categorical_logits(logits, targets)
    return softmax(z) * jnp.sum(t, -1, keepdims=True) - t


def _probabilities(probs, targets, most: float) -> tuple[Array, Array]:
    p, t = pair("probs", probs, "targets", targets)
    within("probs", p, 0.0, most, nan=True)
    within("targets", t, 0.0, 1.0)
    return p, t


def _binary_logits(logits, targets) -> tuple[Array, Array]:
    z, t = pair("logits", logits, "targets", targets)
    within("targets", t, 0.0, 1.0)
    return z, t


def _distributions(probs, targets) -> tuple[Array, Array]:
    p, t = _probabilities(probs, targets, jnp.inf)  # that they sum to 1 is the caller's: rounding is no fault
    if p.ndim == 0:
        raise ValueError("probs: expected a class axis, got a scalar")
    return p, t


def _categorical_logits(logits, targets) -> tuple[Array, Array]:
    """Logits, and targets as distributions: labels one-hot, a label of no class as NaN."""
    z = real("logits", logits)
    if z.ndim == 0 or z.shape[-1] == 0:
        raise ValueError(f"logits: expected shape (*batch, k) with k > 0, got {z.shape}")
    targets = array("targets", targets)
    shape = targets.shape
    if shape == z.shape:
        return _binary_logits(z, targets)
    if shape != z.shape[:-1]:
        raise ValueError(
            f"logits and targets: expected targets of shape {z.shape} (distributions) or {z.shape[:-1]} "
            f"(integer labels; nothing is broadcast), got logits of shape {z.shape} and targets of "
            f"shape {shape}"
        )
    labels = targets
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"targets: expected integer labels for shape {shape}, got dtype {labels.dtype}")
    known = known_labels("targets", labels, z.shape[-1])
    classes = lax.broadcasted_iota(labels.dtype, z.shape, z.ndim - 1)
    one_hot = (classes == labels[..., None]).astype(z.dtype)
    return z, jnp.where(known[..., None], one_hot, jnp.nan)


def _focal_weights(gamma, alpha) -> tuple[float, float]:
    within("gamma", number("gamma", gamma), 0.0, float("inf"))
    if alpha is None:
        return 1.0, 1.0
    within("alpha", number("alpha", alpha), 0.0, 1.0)
    return alpha, 1 - alpha


def _focal_term(z: Array, gamma) -> Array:
    """h(z) = -(1 - p)^gamma ln p."""
    # Far left p is 0 in every dtype, the weight 1 and its derivative 0: taken out, for z gamma could
    # overflow.
    far = z < -1000
    weight = jnp.where(far, 1.0, jnp.exp(-gamma * softplus(jnp.where(far, 0.0, z))))
    return weighted(weight, softplus(-z))


def _focal_term_prime(z: Array, gamma) -> Array:
    """h'(z) = (1 - p)^gamma (gamma p ln p - (1 - p))."""
    p = lax.logistic(z)
    return jnp.exp(-gamma * softplus(z)) * (-gamma * weighted(p, softplus(-z)) - lax.logistic(-z))
