"""Smooth rectifiers: softplus, and z times a gate that goes from 0 to 1."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from functional_dl.activations.saturating import tanh_prime
from functional_dl.aliases import Array
from functional_dl.arguments import real

_CUBIC = 0.044715  # Hendrycks and Gimpel's fit
# Beyond this |z| the gate of gelu_tanh is 0 or 1 in every float dtype; z^3 would overflow in narrow ones.
_GATE_SATURATES = 25.0


def softplus(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = ln(1 + e^z) = max(z, 0) + ln(1 + e^{-|z|}).

    f'(z) = sigmoid(z).

    Args:
      z: pre-activations, any shape, floating; +-inf allowed.
    Returns:
      f(z) > 0, same shape and dtype.
    Raises:
      TypeError: z is complex.
    Kinks: none.
    Numerics: relative accuracy for every z, and for jax.grad too.
    Source: Dugas, Bengio, Belisle, Nadeau, Garcia 2001.
    Example:
      >>> print(np.asarray(activations.softplus(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.3133 0.9741 2.1269]
    """
    z = real("z", z)
    return jnp.where(z > 0, z, 0.0) + jnp.log1p(jnp.exp(jnp.where(z > 0, -z, z)))


def softplus_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = e^z / (1 + e^z) = sigmoid(z).

    Example:
      >>> print(np.asarray(activations.softplus_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.2689 0.6225 0.8808]
    """
    return lax.logistic(real("z", z))


def log_sigmoid(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = ln s(z) = -ln(1 + e^-z) = min(z, 0) - ln(1 + e^{-|z|}), s the logistic sigmoid.

    f'(z) = s(-z).

    Kinks: none.  Numerics: relative accuracy for every z, and for jax.grad too.
    Source: Goodfellow, Bengio, Courville 2016, section 3.10: ln s(z) = -softplus(-z).
    Example:
      >>> print(np.asarray(activations.log_sigmoid(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-1.3133 -0.4741 -0.1269]
    """
    return -softplus(-real("z", z))


def log_sigmoid_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = s(-z).

    Example:
      >>> print(np.asarray(activations.log_sigmoid_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.7311 0.3775 0.1192]
    """
    return lax.logistic(-real("z", z))


def gelu(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Gaussian error linear unit, f(z) = z P(X <= z) for X ~ N(0, 1), = z erfc(-z / sqrt 2) / 2.

    f'(z) = P(X <= z) + z phi(z),    phi(z) = e^{-z^2/2} / sqrt(2 pi).

    Kinks: none.  Numerics: erfc keeps the left tail's digits.
    Source: Hendrycks and Gimpel 2016.  The exact one (PyTorch's default; jax.nn.gelu's is the tanh form).
    Example:
      >>> print(np.asarray(activations.gelu(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.1587  0.3457  1.9545]
    """
    z = real("z", z)
    return 0.5 * z * lax.erfc(z * -math.sqrt(0.5))  # with erfc alone XLA forms it once for both passes


def gelu_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = P(X <= z) + z phi(z).

    Example:
      >>> print(np.asarray(activations.gelu_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.0833  0.8675  1.0852]
    """
    z = real("z", z)
    return _normal_cdf(z) + z * jnp.exp(-jnp.square(z) / 2) * (1 / math.sqrt(2 * math.pi))


def gelu_tanh(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU's tanh form, f(z) = z (1 + tanh u) / 2 = z sigmoid(2u),  u = sqrt(2/pi) (z + 0.044715 z^3).

    f'(z) = sigmoid(2u) + z sigmoid'(2u) 2u',    u' = sqrt(2/pi) (1 + 3 * 0.044715 z^2).

    Kinks: none.  Numerics: the sigmoid form keeps the left tail's digits, where 1 + tanh u cancels.
    Source: Hendrycks and Gimpel 2016; within 5e-4 of `gelu`.
    Example:
      >>> print(np.asarray(activations.gelu_tanh(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.1588  0.3457  1.9546]
    """
    z = real("z", z)
    return z * lax.logistic(2 * _gelu_inner(z))


def gelu_tanh_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = s(2u) + z s(2u) s(-2u) 2u'.

    Example:
      >>> print(np.asarray(activations.gelu_tanh_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.083   0.8674  1.0861]
    """
    z = real("z", z)
    two_u = 2 * _gelu_inner(z)
    inner_prime = math.sqrt(2 / math.pi) * (1 + 3 * _CUBIC * jnp.square(_clipped(z)))
    gate = lax.logistic(two_u)
    return gate + z * gate * lax.logistic(-two_u) * 2 * inner_prime


def silu(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Sigmoid linear unit (swish), f(z) = z s(z), s the logistic sigmoid.

    f'(z) = s(z) + z s(z) (1 - s(z)) = s(z) (1 + z s(-z)).

    Kinks: none.  Numerics: relative accuracy on both sides.
    Source: Elfwing, Uchibe, Doya 2018; Ramachandran, Zoph, Le 2017.
    Example:
      >>> print(np.asarray(activations.silu(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.2689  0.3112  1.7616]
    """
    z = real("z", z)
    return z * lax.logistic(z)


def silu_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = s(z) (1 + z s(-z)).

    Example:
      >>> print(np.asarray(activations.silu_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.0723 0.74   1.0908]
    """
    z = real("z", z)
    gate = lax.logistic(z)
    return gate + z * gate * lax.logistic(-z)


def mish(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f(z) = z tanh(softplus(z)).

    f'(z) = tanh(p) + z (1 - tanh(p)^2) s(z),    p = softplus(z),  p' = s(z).

    Kinks: none.  Numerics: relative accuracy on both sides.
    Source: Misra 2019.
    Example:
      >>> print(np.asarray(activations.mish(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [-0.3034  0.3752  1.944 ]
    """
    z = real("z", z)
    return z * jnp.tanh(softplus(z))


def mish_prime(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """f'(z) = tanh(p) + z (1 - tanh(p)^2) s(z).

    Example:
      >>> print(np.asarray(activations.mish_prime(jnp.array([-1.0, 0.5, 2.0]))).round(4))
      [0.0592 0.8864 1.0693]
    """
    z = real("z", z)
    p = softplus(z)
    return jnp.tanh(p) + z * tanh_prime(p) * lax.logistic(z)


def _normal_cdf(z: Array) -> Array:
    """P(X <= z) for X ~ N(0, 1)."""
    return lax.erfc(z * -math.sqrt(0.5)) * 0.5


def _clipped(z: Array) -> Array:
    return jnp.where(z > _GATE_SATURATES, _GATE_SATURATES, jnp.where(z < -_GATE_SATURATES, -_GATE_SATURATES, z))


def _gelu_inner(z: Array) -> Array:
    """u = sqrt(2/pi) (z + 0.044715 z^3), of z held to where it matters."""
    c = _clipped(z)
    return math.sqrt(2 / math.pi) * c * (1 + _CUBIC * jnp.square(c))
