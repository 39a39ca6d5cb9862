"""Accuracy beyond agreement: points where the naive derivative loses digits or is NaN, though the true one is finite.

ours must be within ULPS of the value at 50 digits; what JAX gives there is printed beside it (run with -s).
"""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax

from functional_dl import reverse

ULPS = 16
NEAR_ONE = 1 - 2.0**-50
THREE = 3.0


def _log_gamma_sample(a):
    return jax.random.loggamma(jax.random.key(3), a)


# name -> (function, point, position of the argument, derivative there in multiple precision)
CASES = {
    "asin near 1": (lax.asin, (NEAR_ONE,), 0, lambda mp, x: 1 / mp.sqrt(1 - x * x)),
    "acos near -1": (lax.acos, (-NEAR_ONE,), 0, lambda mp, x: -1 / mp.sqrt(1 - x * x)),
    "atanh near 1": (lax.atanh, (NEAR_ONE,), 0, lambda mp, x: 1 / (1 - x * x)),
    "acosh near 1": (lax.acosh, (1 + 2.0**-50,), 0, lambda mp, x: 1 / mp.sqrt(x * x - 1)),
    "division by the tiny": (lax.div, (1e-200, 1e-200), 1, lambda mp, x, y: -x / y**2),
    "division of the huge": (lax.div, (1e200, 1e200), 1, lambda mp, x, y: -x / y**2),
    "atan2 of the huge, y": (lax.atan2, (1e200, 2e200), 0, lambda mp, y, x: x / (x * x + y * y)),
    "atan2 of the huge, x": (lax.atan2, (1e200, 2e200), 1, lambda mp, y, x: -y / (x * x + y * y)),
    "atan2 of the tiny, y": (lax.atan2, (1e-200, 2e-200), 0, lambda mp, y, x: x / (x * x + y * y)),
    "atan2 of the tiny, x": (lax.atan2, (-1e-200, 2e-200), 1, lambda mp, y, x: -y / (x * x + y * y)),
    "atan2 of unlike sizes, y": (lax.atan2, (1e-200, 1.0), 0, lambda mp, y, x: x / (x * x + y * y)),
    "x**y at 0**1, x": (lax.pow, (0.0, 1.0), 0, lambda mp, x, y: 1),
    "x**y at 0**2, x": (lax.pow, (0.0, 2.0), 0, lambda mp, x, y: 0),
    "x**y at 0**2, y": (lax.pow, (0.0, 2.0), 1, lambda mp, x, y: 0),
    "x**y at 0**0, x": (lax.pow, (0.0, 0.0), 0, lambda mp, x, y: 0),
    "product with a zero": (lambda x: lax.reduce_prod(jnp.stack([x, x + 2, x - 3]), (0,)), (0.0,), 0, lambda mp, x: -6),
    "product with two zeros": (lambda x: lax.reduce_prod(jnp.stack([x, x, x - 3]), (0,)), (0.0,), 0, lambda mp, x: 0),
    "rem whose quotient rounds up": (
        lax.rem, (THREE - 2.0**-51, 1 - 2.0**-53), 1, lambda mp, x, y: -mp.floor(mp.mpf(x) / mp.mpf(y)),
    ),
    "igamma(1, x) at 0": (lax.igamma, (1.0, 0.0), 1, lambda mp, a, x: 1),
    "betainc(1, 3, x) at 0": (lax.betainc, (1.0, 3.0, 0.0), 2, lambda mp, a, b, x: 3),
    "betainc(3, 1, x) at 1": (lax.betainc, (3.0, 1.0, 1.0), 2, lambda mp, a, b, x: 3),
    "logarithm of a gamma sample below the floats": (
        _log_gamma_sample, (1e-4,), 0,
        lambda mp, a: (mp.digamma(a + 1) - mp.mpf(float(_log_gamma_sample(jnp.float64(a))))) / a,
    ),
    "log_softmax with a masked entry": (
        lambda x: jax.nn.log_softmax(jnp.stack([x, -x, jnp.full_like(x, -np.inf)]))[0], (0.3,), 0,
        lambda mp, x: 2 / (1 + mp.exp(2 * x)),
    ),
    "logsumexp of the huge": (
        lambda x: jax.nn.logsumexp(jnp.stack([x, x + 1])), (1e4,), 0, lambda mp, x: 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_derivative_has_its_digits(name):
    fun, point, position, derivative = CASES[name]
    args = [jnp.float64(x) for x in point]
    with mpmath.workdps(50):
        expected = float(derivative(mpmath, *map(mpmath.mpf, point)))
    ours, jaxs = (float(grad(fun, position)(*args)) for grad in (reverse.grad, jax.grad))
    print(f"\n{name}: true {expected!r}, ours {ours!r}, jax.grad {jaxs!r}")
    assert abs(ours - expected) <= ULPS * np.spacing(abs(expected))
