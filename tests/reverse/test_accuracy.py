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
    ours, jaxs = map(float, jax.jit(lambda *args: [d.grad(fun, position)(*args) for d in (reverse, jax)])(*args))
    print(f"\n{name}: true {expected!r}, ours {ours!r}, jax.grad {jaxs!r}")
    assert abs(ours - expected) <= ULPS * np.spacing(abs(expected))
    if name in ("acosh near 1", "x**y at 0**0, x", "log_softmax with a masked entry"):
        assert abs(float(reverse.grad(fun, position)(*args)) - expected) <= ULPS * np.spacing(abs(expected))


def test_power_twice_at_exponent_zero():
    """d2/dx dy x^y = x^(y-1) (1 + y log x) = 1/x and d2/dy2 x^y = x^y log(x)^2 at y = 0."""
    hessian = jax.jit(reverse.hessian(lax.pow, (0, 1)))(4.0, 0.0)
    np.testing.assert_allclose(hessian, [[0.0, 0.25], [0.25, np.log(4.0) ** 2]], rtol=1e-14)


@pytest.mark.parametrize("x", [-1.2 + 0.7j, -0.3 - 2.0j, 1.5 + 0.5j])
def test_arcosh_of_a_complex_number_takes_the_principal_branch(x):
    [bar] = reverse.vjp(lax.acosh, jnp.complex128(x))[1](jnp.ones((), jnp.complex128))
    with mpmath.workdps(50):
        expected = complex(1 / (mpmath.sqrt(mpmath.mpc(x) - 1) * mpmath.sqrt(mpmath.mpc(x) + 1)))
    np.testing.assert_allclose(bar, expected, rtol=1e-14)


def test_outside_its_domain_arcosh_has_no_slope():
    assert jnp.isnan(reverse.grad(lax.acosh)(-3.0))


@pytest.mark.parametrize("x", [-0.5, 1.5])
def test_outside_its_domain_betainc_has_no_slope(x):
    assert jnp.isnan(reverse.grad(lambda x: lax.betainc(1.0, 1.0, x))(x))


def test_cube_root_twice_at_zero():
    assert reverse.grad(reverse.grad(lax.cbrt))(-0.0) == jax.grad(jax.grad(lax.cbrt))(-0.0)


def test_scaled_bessel_function_twice_at_zero():
    """y = x / 2 - x |x| / 2 + ...: the second derivative jumps from 1 to -1; a number between them is taken."""
    assert abs(float(reverse.grad(reverse.grad(lax.bessel_i1e))(0.0))) <= 1
    assert reverse.grad(reverse.grad(lax.bessel_i1e))(1e-30) == -1
    assert reverse.grad(reverse.grad(lax.bessel_i1e))(-1e-30) == 1


@pytest.mark.parametrize("fun", [lambda a: lax.betainc(a, 2.0, 0.5), lambda m: lax.polygamma(m, 0.5)])
def test_refusals_are_value_errors_as_jaxs(fun):
    for grad in (reverse.grad, jax.grad):
        with pytest.raises(ValueError, match="not supported"):
            grad(fun)(2.0)


def test_pivoted_qr_of_a_wide_matrix():
    """Beyond the square part, R_2 = Q^H A_2: against differences, which jax.grad misses by a tenth on some versions."""
    x = jnp.array(np.random.default_rng(0).normal(size=(3, 5)))
    left, right = jnp.array(np.random.default_rng(1).normal(size=(3, 3))), jnp.arange(15.0).reshape(3, 5) - 7.0

    def weighted(x):
        q, r, _ = lax.linalg.qr(x, full_matrices=False, pivoting=True)
        return jnp.vdot(left, q) + jnp.vdot(right, r)

    h = 1e-5
    steps = h * jnp.eye(15).reshape(15, 3, 5)
    differences = jax.jit(lambda x: jax.lax.map(lambda s: weighted(x + s) - weighted(x - s), steps))(x) / (2 * h)
    np.testing.assert_allclose(jax.jit(reverse.grad(weighted))(x), differences.reshape(3, 5), rtol=1e-7, atol=1e-7)
