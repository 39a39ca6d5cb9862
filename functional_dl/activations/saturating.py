"""Saturating activations: bounded above and below, so the derivative vanishes far out."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.arguments import real


def sigmoid(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Logistic sigmoid, s(z) = 1 / (1 + e^{-z}).

    s'(z) = s(z) (1 - s(z)) = s(z) s(-z).

    Args:
      z: pre-activations (log-odds), any shape, floating.
    Returns:
      s(z) in [0, 1], same shape and dtype.
    Raises:
      TypeError: z is complex.
    Kinks: none.
    Numerics: relative accuracy on both sides.  jax.grad uses s (1 - s), which is 0 once s rounds to 1;
      `sigmoid_prime` uses s(z) s(-z), which keeps its digits.
    Source: Goodfellow, Bengio, Courville 2016, section 3.10.
    Example:
      >>> print(np.asarray(activations.sigmoid(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.2689 0.6225 0.8808]
    """
    return lax.logistic(real("z", z))


def sigmoid_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """s'(z) = s(z) (1 - s(z)), with 1 - s(z) = s(-z).

    Example:
      >>> print(np.asarray(activations.sigmoid_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.1966 0.235  0.105 ]
    """
    z = real("z", z)
    return lax.logistic(z) * lax.logistic(-z)


def tanh(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Hyperbolic tangent, f(z) = (e^z - e^{-z}) / (e^z + e^{-z}) = 2 s(2z) - 1.

    f'(z) = 1 - tanh(z)^2 = 1 / cosh(z)^2.

    Kinks: none.
    Numerics: jax.grad uses 1 - tanh^2, which is 0 once tanh rounds to 1; `tanh_prime` uses cosh.
    Source: LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 4.4.
    Example:
      >>> print(np.asarray(activations.tanh(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.7616  0.4621  0.964 ]
    """
    return jnp.tanh(real("z", z))


def tanh_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 1 - tanh(z)^2, as 4 e^{-2|z|} / (1 + e^{-2|z|})^2: neither cancels nor overflows.

    Example:
      >>> print(np.asarray(activations.tanh_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.42   0.7864 0.0707]
    """
    e = jnp.exp(-2 * jnp.abs(real("z", z)))
    return 4 * e / jnp.square(1 + e)


def softsign(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = z / (1 + |z|).

    f'(z) = 1 / (1 + |z|)^2.

    Kinks: none (|z| has one at 0, f has not: both one-sided derivatives are 1).
    Numerics: f to relative accuracy; jax.grad subtracts two terms of size 1 / (1 + |z|), `softsign_prime`
      does not.
    Source: Bergstra, Desjardins, Lamblin, Bengio 2009.
    Example:
      >>> print(np.asarray(activations.softsign(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.5     0.3333  0.6667]
    """
    z = real("z", z)
    return z / (1 + jnp.abs(z))


def softsign_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 1 / (1 + |z|)^2.

    Example:
      >>> print(np.asarray(activations.softsign_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.25   0.4444 0.1111]
    """
    return jnp.square(1 / (1 + jnp.abs(real("z", z))))


def hard_tanh(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = min(max(z, -1), 1).

    f'(z) = 1(-1 <= z <= 1).

    Kinks: at -1 and at 1; taken: 1 at both, as jax.nn.hard_tanh does (PyTorch takes 0).  Numerics: exact.
    Source: Collobert 2004, Large Scale Machine Learning.
    Example:
      >>> activations.hard_tanh(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [-1.0, 0.5, 1.0]
    """
    z = real("z", z)
    return jnp.where(z > 1, 1.0, jnp.where(z < -1, -1.0, z))


def hard_tanh_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 1(-1 <= z <= 1).

    Example:
      >>> activations.hard_tanh_prime(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [1.0, 1.0, 0.0]
    """
    z = real("z", z)
    return (jnp.abs(z) <= 1).astype(z.dtype)


def hard_sigmoid(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = min(max(z + 3, 0), 6) / 6.

    f'(z) = 1(-3 < z < 3) / 6.

    Kinks: at -3 and at 3; taken: 0 at both, as jax.nn.hard_sigmoid and PyTorch do.  Numerics: two roundings.
    Source: Howard et al. 2019, Searching for MobileNetV3 (this slope; Courbariaux et al. 2015 have 1/2).
    Example:
      >>> print(np.asarray(activations.hard_sigmoid(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.3333 0.5833 0.8333]
    """
    z = real("z", z)
    return jnp.where(z <= -3, 0.0, jnp.where(z >= 3, 1.0, (z + 3) / 6))


def hard_sigmoid_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 1(-3 < z < 3) / 6.

    Example:
      >>> print(np.asarray(activations.hard_sigmoid_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.1667 0.1667 0.1667]
    """
    z = real("z", z)
    return (jnp.abs(z) < 3).astype(z.dtype) / 6


def hard_swish(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = z min(max(z + 3, 0), 6) / 6.

    f'(z) = 0 for z <= -3, (2 z + 3) / 6 between, 1 for z >= 3.

    Kinks: at -3 and at 3; taken: 0 and 1, as jax.nn.hard_swish and PyTorch do.  Numerics: three roundings.
    Source: Howard et al. 2019, Searching for MobileNetV3.
    Example:
      >>> print(np.asarray(activations.hard_swish(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.3333  0.2917  1.6667]
    """
    z = real("z", z)
    return jnp.where(z <= -3, 0.0, jnp.where(z >= 3, z, z * ((z + 3) / 6)))


def hard_swish_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 0 for z <= -3, (2 z + 3) / 6 between, 1 for z >= 3.

    Example:
      >>> print(np.asarray(activations.hard_swish_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.1667 0.6667 1.1667]
    """
    z = real("z", z)
    return jnp.where(z <= -3, 0.0, jnp.where(z >= 3, 1.0, (2 * z + 3) / 6))
