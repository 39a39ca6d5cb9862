"""Rectifiers: the identity on one side, something smaller on the other."""

import jax.numpy as jnp
from jaxtyping import Float

from functional_dl.aliases import Array
from functional_dl.arguments import number, real

# Klambauer et al. 2017, the fixed point with mean 0 and variance 1.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def identity(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = z, the activation of a linear layer.  f'(z) = 1.  Kinks: none.

    Example:
      >>> activations.identity(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [-1.0, 0.5, 2.0]
    """
    return real("z", z)


def identity_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 1.

    Example:
      >>> activations.identity_prime(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [1.0, 1.0, 1.0]
    """
    return jnp.ones_like(real("z", z))


def relu(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rectified linear unit, f(z) = max(z, 0).

    f'(z) = 1(z > 0).

    Args:
      z: pre-activations, any shape, floating.
    Returns:
      f(z), same shape and dtype; NaN stays NaN.
    Raises:
      TypeError: z is complex.
    Kinks: at 0, one-sided derivatives 0 and 1; taken: 0, as jax.nn.relu and PyTorch do.
    Numerics: exact.
    Source: Nair and Hinton 2010.
    Example:
      >>> activations.relu(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [0.0, 0.5, 2.0]
    """
    z = real("z", z)
    return jnp.where(z <= 0, 0.0, z)  # a NaN is not <= 0 and stays


def relu_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 1(z > 0).

    Example:
      >>> activations.relu_prime(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [0.0, 1.0, 1.0]
    """
    z = real("z", z)
    return (z > 0).astype(z.dtype)


def relu6(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Capped rectifier, f(z) = min(max(z, 0), 6).

    f'(z) = 1(0 < z < 6).

    Kinks: at 0 and at 6; taken: 0 at both, as jax.nn.relu6 and PyTorch do.  Numerics: exact.
    Source: Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10.
    Example:
      >>> activations.relu6(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [0.0, 0.5, 2.0]
    """
    z = real("z", z)
    return jnp.where(z <= 0, 0.0, jnp.where(z >= 6, 6.0, z))


def relu6_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = 1(0 < z < 6).

    Example:
      >>> activations.relu6_prime(jnp.array([-1.0, 0.5, 2.0])).round(4).tolist()
      [0.0, 1.0, 1.0]
    """
    z = real("z", z)
    return ((z > 0) & (z < 6)).astype(z.dtype)


def leaky_relu(z: Float[Array, "..."], negative_slope: float = 0.01) -> Float[Array, "..."]:
    """Leaky rectifier with slope s on the left, f(z) = z for z >= 0, s z below.

    f'(z) = 1 for z >= 0, s below.

    Kinks: at 0, s and 1; taken: 1, as jax.nn.leaky_relu does (PyTorch takes s).  Numerics: one rounding.
    Source: Maas, Hannun, Ng 2013.
    Example:
      >>> print(np.asarray(activations.leaky_relu(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.01  0.5   2.  ]
    """
    z, negative_slope = real("z", z), number("negative_slope", negative_slope)
    return jnp.where(z >= 0, z, negative_slope * z)


def leaky_relu_prime(z: Float[Array, "..."], negative_slope: float = 0.01) -> Float[Array, "..."]:
    """f'(z) = 1 for z >= 0, s below.

    Example:
      >>> print(np.asarray(activations.leaky_relu_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.01 1.   1.  ]
    """
    z, negative_slope = real("z", z), number("negative_slope", negative_slope)
    return jnp.where(z >= 0, jnp.ones_like(z), negative_slope)


def elu(z: Float[Array, "..."], alpha: float = 1.0) -> Float[Array, "..."]:
    """Exponential linear unit, f(z) = z for z > 0, alpha (e^z - 1) below.

    f'(z) = 1 for z > 0, alpha e^z below.

    Kinks: none for alpha = 1; else at 0, alpha and 1; taken: alpha, as jax.nn.elu and PyTorch do.
    Numerics: expm1, so a small z keeps its digits; e^z is not formed for z > 0.
    Source: Clevert, Unterthiner, Hochreiter 2016.
    Example:
      >>> print(np.asarray(activations.elu(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.6321  0.5     2.    ]
    """
    z, alpha = real("z", z), number("alpha", alpha)
    return jnp.where(z > 0, z, alpha * jnp.expm1(_left(z)))


def elu_prime(z: Float[Array, "..."], alpha: float = 1.0) -> Float[Array, "..."]:
    """f'(z) = 1 for z > 0, alpha e^z below.

    Example:
      >>> print(np.asarray(activations.elu_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.3679 1.     1.    ]
    """
    z, alpha = real("z", z), number("alpha", alpha)
    return jnp.where(z > 0, 1.0, alpha * jnp.exp(_left(z)))


def selu(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Self-normalising unit, f(z) = scale elu(z, alpha) with alpha = 1.67326..., scale = 1.05070...

    f'(z) = scale for z > 0, scale alpha e^z below.

    Kinks: at 0, scale alpha = 1.75810 and scale; taken: scale alpha, as jax.nn.selu and PyTorch do.
    Numerics: as elu.
    Source: Klambauer, Unterthiner, Mayr, Hochreiter 2017.
    Example:
      >>> print(np.asarray(activations.selu(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-1.1113  0.5254  2.1014]
    """
    return SELU_SCALE * elu(z, SELU_ALPHA)


def selu_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = scale for z > 0, scale alpha e^z below.

    Example:
      >>> print(np.asarray(activations.selu_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.6468 1.0507 1.0507]
    """
    return SELU_SCALE * elu_prime(z, SELU_ALPHA)


def celu(z: Float[Array, "..."], alpha: float = 1.0) -> Float[Array, "..."]:
    """Continuously differentiable ELU, f(z) = z for z > 0, alpha (e^{z/alpha} - 1) below.

    f'(z) = 1 for z > 0, e^{z/alpha} below.

    Kinks: none for any alpha > 0.  Numerics: as elu.
    Source: Barron 2017.
    Example:
      >>> print(np.asarray(activations.celu(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.6321  0.5     2.    ]
    """
    z, alpha = real("z", z), number("alpha", alpha)
    return jnp.where(z > 0, z, alpha * jnp.expm1(_left(z) / alpha))


def celu_prime(z: Float[Array, "..."], alpha: float = 1.0) -> Float[Array, "..."]:
    """f'(z) = 1 for z > 0, e^{z/alpha} below.

    Example:
      >>> print(np.asarray(activations.celu_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.3679 1.     1.    ]
    """
    z, alpha = real("z", z), number("alpha", alpha)
    return jnp.where(z > 0, 1.0, jnp.exp(_left(z) / alpha))


def _left(z: Array) -> Array:
    """z where z <= 0, else 0: keeps a branch that is not taken from overflowing, in value and in gradient."""
    return jnp.where(z > 0, 0.0, z)
