"""Regression losses: elementwise in prediction and target; the caller averages.

Throughout r = pred - target, and the derivative is with respect to pred.
"""

import math

import jax.numpy as jnp
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.arguments import number, pair, positive, real, within
from functional_dl.losses.terms import ratio, xlogy


def squared_error(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """l = r^2, without a half.

    dl/dpred = 2 r.

    Args:
      pred: predictions, any shape, floating.
      target: targets, same shape.
    Returns:
      Loss per entry, same shape; its mean is the MSE.
    Raises:
      ValueError: the shapes differ (no silent broadcasting).  TypeError: one is complex.
    Kinks: none.  Numerics: exact up to rounding; overflows where r^2 does.
    Source: Legendre 1805.  See `half_squared_error` for the one whose derivative is r.
    Example:
      >>> losses.squared_error(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [0.25, 4.0]
    """
    pred, target = pair("pred", pred, "target", target)
    return jnp.square(pred - target)


def squared_error_prime(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dpred = 2 r.

    Example:
      >>> losses.squared_error_prime(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [-1.0, 4.0]
    """
    pred, target = pair("pred", pred, "target", target)
    return 2 * (pred - target)


def half_squared_error(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """l = r^2 / 2, with the half.

    dl/dpred = r.  Its mean over m examples is J = 1/(2m) sum r^2, whose gradient carries 1/m; without the
    1/m in front of the sum the gradient carries none.

    Kinks: none.  Errors and numerics: as `squared_error`.
    Source: Goodfellow, Bengio, Courville 2016, section 4.3 (without the mean).
    Example:
      >>> losses.half_squared_error(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [0.125, 2.0]
    """
    return squared_error(pred, target) / 2


def half_squared_error_prime(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dpred = r.

    Example:
      >>> losses.half_squared_error_prime(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [-0.5, 2.0]
    """
    pred, target = pair("pred", pred, "target", target)
    return pred - target


def absolute_error(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """l = |r|.

    dl/dpred = sign(r).

    Kinks: at r = 0, -1 and 1; taken: 0, the subgradient of least norm, as PyTorch does (jnp.abs takes 1).
    Errors: as `squared_error`.  Numerics: one rounding.
    Source: Boscovich 1757; Boyd and Vandenberghe 2004, section 6.1.
    Example:
      >>> losses.absolute_error(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [0.5, 2.0]
    """
    pred, target = pair("pred", pred, "target", target)
    return _abs(pred - target)


def absolute_error_prime(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dpred = sign(r), 0 at r = 0.

    Example:
      >>> losses.absolute_error_prime(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [-1.0, 1.0]
    """
    pred, target = pair("pred", pred, "target", target)
    return jnp.sign(pred - target)


def huber(pred: Float[Array, "..."], target: Float[Array, "..."], delta: float = 1.0) -> Float[Array, "..."]:
    """l = r^2 / 2 where |r| <= delta, delta (|r| - delta/2) beyond.

    dl/dpred = min(max(r, -delta), delta).

    Args:
      pred, target: one shape.
      delta: > 0, where the parabola becomes a line.
    Raises:
      ValueError: the shapes differ; delta is not positive.
    Kinks: none (the second derivative jumps at |r| = delta).
    Numerics: r^2 is not formed where the line holds, so a huge r does not overflow.
    Source: Huber 1964.
    Example:
      >>> losses.huber(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [0.125, 1.5]
    """
    positive("delta", number("delta", delta))
    pred, target = pair("pred", pred, "target", target)
    r = pred - target
    parabola = jnp.abs(r) <= delta
    inner = jnp.where(parabola, r, 0.0)
    return jnp.where(parabola, jnp.square(inner) / 2, delta * (jnp.abs(r) - delta / 2))


def huber_prime(pred: Float[Array, "..."], target: Float[Array, "..."], delta: float = 1.0) -> Float[Array, "..."]:
    """dl/dpred = min(max(r, -delta), delta).

    Example:
      >>> losses.huber_prime(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [-0.5, 1.0]
    """
    positive("delta", number("delta", delta))
    pred, target = pair("pred", pred, "target", target)
    return jnp.clip(pred - target, -delta, delta)


def log_cosh(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """l = ln cosh r.

    dl/dpred = tanh r.

    Kinks: none.  Errors: as `squared_error`.
    Numerics: |r| + log1p(e^{-2|r|}) - ln 2 for |r| > 1, which does not overflow; log1p(sinh(r)^2) / 2 below,
      where the other one cancels.
    Source: Green 1990.
    Example:
      >>> print(np.asarray(losses.log_cosh(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5]))).round(4))
      [0.1201 1.325 ]
    """
    pred, target = pair("pred", pred, "target", target)
    r = pred - target
    near = jnp.abs(r) <= 1
    small = jnp.log1p(jnp.square(jnp.sinh(jnp.where(near, r, 0.0)))) / 2
    size = jnp.abs(jnp.where(near, 1.0, r))
    return jnp.where(near, small, size + jnp.log1p(jnp.exp(-2 * size)) - math.log(2))


def log_cosh_prime(pred: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/dpred = tanh r.

    Example:
      >>> print(np.asarray(losses.log_cosh_prime(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5]))).round(4))
      [-0.4621  0.964 ]
    """
    pred, target = pair("pred", pred, "target", target)
    return jnp.tanh(pred - target)


def quantile(pred: Float[Array, "..."], target: Float[Array, "..."], level: float = 0.5) -> Float[Array, "..."]:
    """Pinball loss, l = (1 - level) r where r > 0, -level r below.

    dl/dpred = 1 - level where r > 0, -level where r < 0.  Its expectation is least at the quantile of that
    level.

    Args:
      pred, target: one shape.
      level: in [0, 1].
    Raises:
      ValueError: the shapes differ; level lies outside [0, 1].
    Kinks: at r = 0, -level and 1 - level; taken: 0.  Numerics: two roundings.
    Source: Koenker and Bassett 1978.
    Example:
      >>> losses.quantile(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [0.25, 1.0]
    """
    level = _level(level)
    pred, target = pair("pred", pred, "target", target)
    r = pred - target
    return jnp.where(r == 0, 0.0, jnp.where(r > 0, (1 - level) * r, -level * r))


def quantile_prime(pred: Float[Array, "..."], target: Float[Array, "..."], level: float = 0.5) -> Float[Array, "..."]:
    """dl/dpred = 1 - level where r > 0, -level where r < 0, 0 at r = 0.

    Example:
      >>> losses.quantile_prime(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [-0.5, 0.5]
    """
    level = _level(level)
    pred, target = pair("pred", pred, "target", target)
    r = pred - target
    return jnp.where(r == 0, jnp.zeros_like(r), jnp.where(r > 0, 1 - level, -level))


def gaussian_nll(
    pred: Float[Array, "..."], target: Float[Array, "..."], variance: float | Array = 1.0
) -> Float[Array, "..."]:
    """Negative log-likelihood of a normal variable with mean pred, l = (ln(2 pi v) + r^2 / v) / 2.

    dl/dpred = r / v;  dl/dv = (1 - r^2 / v) / (2 v).

    Args:
      pred, target: one shape.
      variance: v > 0, a number or an array of that shape; differentiable too.
    Returns:
      Loss per entry, in nats, the constant ln(2 pi) / 2 included.
    Raises:
      ValueError: shapes differ; a concrete variance is not positive.
    Kinks: none.  Numerics: (r / sqrt v)^2, so r^2 is not formed alone.
    Source: Nix and Weigend 1994.
    Example:
      >>> print(np.asarray(losses.gaussian_nll(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5]))).round(4))
      [1.0439 2.9189]
    """
    pred, target = pair("pred", pred, "target", target)
    v = _variance(variance, pred)
    return (math.log(2 * math.pi) + jnp.log(v) + jnp.square((pred - target) / jnp.sqrt(v))) / 2


def gaussian_nll_prime(
    pred: Float[Array, "..."], target: Float[Array, "..."], variance: float | Array = 1.0
) -> Float[Array, "..."]:
    """dl/dpred = r / v.

    Example:
      >>> losses.gaussian_nll_prime(jnp.array([1.0, 2.5]), jnp.array([1.5, 0.5])).round(4).tolist()
      [-0.5, 2.0]
    """
    pred, target = pair("pred", pred, "target", target)
    return (pred - target) / _variance(variance, pred)


def poisson(rate: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """Negative log-likelihood of a Poisson count with rate, without the term ln(count!): l = rate - count ln(rate).

    dl/drate = 1 - count / rate.

    Args:
      rate: >= 0, any shape, floating.
      count: >= 0, same shape.
    Raises:
      ValueError: the shapes differ; a concrete rate or count is negative.
    Kinks: none.
    Numerics: 0 ln 0 = 0, so rate = count = 0 gives 0; rate = 0 < count gives inf.  See `log_poisson` for a
      prediction of any sign.
    Source: McCullagh and Nelder 1989, chapter 6.
    Example:
      >>> losses.poisson(jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])).round(4).tolist()
      [1.0, 2.0]
    """
    rate, count = _counts("rate", rate, count)
    within("rate", rate, 0.0, jnp.inf, nan=True)
    return rate - xlogy(count, rate)


def poisson_prime(rate: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/drate = 1 - count / rate, the quotient 0 where count = 0.

    Example:
      >>> losses.poisson_prime(jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])).round(4).tolist()
      [-2.0, 1.0]
    """
    rate, count = _counts("rate", rate, count)
    within("rate", rate, 0.0, jnp.inf, nan=True)
    return 1 - ratio(count, rate)


def log_poisson(log_rate: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """`poisson` with rate e^s, s the log-rate: l = e^s - count s.

    dl/ds = e^s - count.

    Args:
      log_rate: s, any shape, floating.
      count: >= 0, same shape.
    Raises:
      ValueError: the shapes differ; a concrete count is negative.
    Kinks: none.  Numerics: overflows where e^s does.
    Source: McCullagh and Nelder 1989, chapter 6.
    Example:
      >>> print(np.asarray(losses.log_poisson(jnp.array([0.0, 1.0]), jnp.array([3.0, 0.0]))).round(4))
      [1.     2.7183]
    """
    log_rate, count = _counts("log_rate", log_rate, count)
    return jnp.exp(log_rate) - count * log_rate


def log_poisson_prime(log_rate: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """dl/ds = e^s - count.

    Example:
      >>> print(np.asarray(losses.log_poisson_prime(jnp.array([0.0, 1.0]), jnp.array([3.0, 0.0]))).round(4))
      [-2.      2.7183]
    """
    log_rate, count = _counts("log_rate", log_rate, count)
    return jnp.exp(log_rate) - count


def _counts(name: str, x: Float[Array, "..."], count: Float[Array, "..."]) -> tuple[Array, Array]:
    x, count = pair(name, x, "count", count)
    within("count", count, 0.0, jnp.inf)
    return x, count


def _abs(r: Array) -> Array:
    """|r| whose jax.grad at 0 is 0; NaN stays NaN."""
    return jnp.where(r == 0, 0.0, jnp.abs(r))


def _level(level: float) -> float:
    within("level", number("level", level), 0.0, 1.0)
    return level


def _variance(variance, pred: Array) -> Array:
    positive("variance", variance)
    v = real("variance", variance).astype(pred.dtype)
    if v.ndim and v.shape != pred.shape:
        raise ValueError(f"variance: expected a number or shape {pred.shape}, got shape {v.shape}")
    return v
