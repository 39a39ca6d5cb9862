"""Taylor coefficients: to 1e-12 of mpmath's, equal to jax.experimental.jet's; the two sides of a kink."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.experimental import jet
from jax.scipy import special

from functional_dl import calculus
from functional_dl.calculus.series_rules import RULES

ORDER = 10
# name -> (f, f in mpmath, x0)
FUNCTIONS = {
    "e^x": (jnp.exp, mpmath.exp, 0.3),
    "log x": (jnp.log, mpmath.log, 1.7),
    "sin x": (jnp.sin, mpmath.sin, 0.7),
    "cos x": (jnp.cos, mpmath.cos, 0.7),
    "tan x": (jnp.tan, mpmath.tan, 0.3),
    "sinh x": (jnp.sinh, mpmath.sinh, 0.4),
    "tanh x": (jnp.tanh, mpmath.tanh, 0.4),
    "atan x": (jnp.arctan, mpmath.atan, 0.3),
    "asin x": (jnp.arcsin, mpmath.asin, 0.3),
    "asinh x": (jnp.arcsinh, mpmath.asinh, 0.3),
    "acosh x": (jnp.arccosh, mpmath.acosh, 1.8),
    "atanh x": (jnp.arctanh, mpmath.atanh, 0.2),
    "sqrt x": (jnp.sqrt, mpmath.sqrt, 1.3),
    "cbrt x": (jnp.cbrt, mpmath.cbrt, 1.3),
    "x^2.5": (lambda x: x**2.5, lambda x: x ** mpmath.mpf(2.5), 1.3),
    "x^-3": (lambda x: x**-3, lambda x: x**-3, -1.3),
    "x^x": (lambda x: x**x, lambda x: x**x, 1.3),
    "2^x": (lambda x: 2.0**x, lambda x: 2**x, 0.3),
    "sigmoid": (jax.nn.sigmoid, lambda x: 1 / (1 + mpmath.exp(-x)), 0.4),
    "softplus": (jax.nn.softplus, lambda x: mpmath.log(1 + mpmath.exp(x)), 0.4),
    "erf x": (special.erf, mpmath.erf, 0.3),
    "erfinv x": (special.erfinv, mpmath.erfinv, 0.2),
    "log gamma": (special.gammaln, mpmath.loggamma, 2.5),
    "digamma": (special.digamma, mpmath.digamma, 2.5),
    "e^sin(x^2)": (lambda x: jnp.exp(jnp.sin(x**2)), lambda x: mpmath.exp(mpmath.sin(x**2)), 0.9),
    "x^2 sin x / (1 + x)": (lambda x: x**2 * jnp.sin(x) / (1 + x), lambda x: x**2 * mpmath.sin(x) / (1 + x), 1.2),
    "log1p expm1": (lambda x: jnp.log1p(x) * jnp.expm1(x), lambda x: mpmath.log1p(x) * mpmath.expm1(x), 0.5),
    "atan2": (lambda x: jnp.arctan2(x, 2.0), lambda x: mpmath.atan(x / 2), 0.3),
}


def exact(name):
    _, f, x0 = FUNCTIONS[name]
    with mpmath.workdps(60):
        return np.array([float(c) for c in mpmath.taylor(f, mpmath.mpf(x0), ORDER)])


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.sampled(4)
def test_coefficients_to_order_ten(name):
    f, _, x0 = FUNCTIONS[name]
    found = np.asarray(calculus.taylor(f, x0, ORDER))
    true = exact(name)
    # a coefficient that happens to be near zero is held to its neighbours' size
    size = np.maximum(np.abs(true), 0.1 * np.minimum(np.roll(np.abs(true), 1), np.roll(np.abs(true), -1)))
    assert (np.abs(found - true) <= 1e-12 * size).all(), (found, true)


def test_equal_to_jet():
    """JAX's own Taylor mode, which gives derivatives: c_k k!."""
    for name in ("sin x", "e^x", "tanh x", "log x"):
        f, _, x0 = FUNCTIONS[name]
        value, derivatives = jet.jet(f, (x0,), ((1.0, 0.0, 0.0, 0.0),))
        found = calculus.taylor(f, x0, 4)
        factorials = np.cumprod([1.0, 1, 2, 3, 4])
        assert np.asarray(found) * factorials == pytest.approx(np.asarray([value, *derivatives]), rel=1e-13), name


def test_exponential_at_order_five():
    assert np.asarray(calculus.taylor(jnp.exp, 0.0, 5)) == pytest.approx(
        [1, 1, 1 / 2, 1 / 6, 1 / 24, 1 / 120], rel=1e-15
    )


def test_pytrees_arrays_and_control_flow():
    def f(x):
        loop = jax.lax.fori_loop(0, 3, lambda i, y: y * x, x)
        branch = jax.lax.cond(x > 0, jnp.square, jnp.negative, x)
        a = jnp.sin(x) * jnp.arange(1.0, 4.0)
        return {
            "a": a,
            "loop": loop,
            "branch": branch,
            "max": jnp.max(a),
            "dot": a @ a,
            "sort": jnp.sort(-a),
            "one": 1.0,
        }

    found = calculus.taylor(f, 0.5, 3)
    s, c = np.sin(0.5), np.cos(0.5)
    sine = np.array([s, c, -s / 2, -c / 6])
    assert found["a"] == pytest.approx(np.outer(sine, [1, 2, 3]))
    assert found["loop"] == pytest.approx([0.5**4, 4 * 0.5**3, 6 * 0.5**2, 4 * 0.5])
    assert found["branch"] == pytest.approx([0.25, 1, 1, 0])
    assert found["max"] == pytest.approx(3 * sine)
    assert found["sort"] == pytest.approx(np.outer(-sine, [3, 2, 1]))
    assert found["dot"] == pytest.approx(14 * np.convolve(sine, sine)[:4])
    assert found["one"] == pytest.approx([1, 0, 0, 0])


def test_kinks_and_sides():
    right, left, both = (np.asarray(calculus.taylor(jnp.abs, 0.0, 2, side)) for side in ("right", "left", "both"))
    assert right.tolist() == [0, 1, 0]
    assert left.tolist() == [0, -1, 0]
    assert both[0] == both[2] == 0
    assert np.isnan(both[1])
    # branches that meet smoothly leave no trace: softplus is put together from max and |x|
    softplus = np.asarray(calculus.taylor(jax.nn.softplus, 0.0, 4))
    assert softplus == pytest.approx([np.log(2), 1 / 2, 1 / 8, 0, -1 / 192], abs=1e-15)
    assert np.asarray(calculus.taylor(jnp.floor, 2.0, 1, "left")).tolist() == [1, 0]


def test_jit_vmap_and_grad():
    x = jnp.array([0.2, 0.3])
    found = jax.jit(jax.vmap(lambda t: calculus.taylor(jnp.tanh, t, 2)))(x)
    assert found[:, 1] == pytest.approx(1 - np.tanh(x) ** 2)
    assert jax.grad(lambda t: calculus.taylor(jnp.exp, t, 3)[3])(0.5) == pytest.approx(np.exp(0.5) / 6)


REFUSALS = [
    (lambda: calculus.taylor(jnp.sin, 0.0, -1), ValueError, "order: expected an integer of at least 0, got -1"),
    (lambda: calculus.taylor(jnp.sin, 0.0, 1.5), TypeError, "order: expected an integer.*1.5"),
    (lambda: calculus.taylor(jnp.sin, np.nan, 2), ValueError, "x0: expected a finite number"),
    (lambda: calculus.taylor(jnp.sin, jnp.ones(2), 2), ValueError, "x0: expected one number, got shape"),
    (lambda: calculus.taylor(jnp.sin, 0.0, 2, side="up"), ValueError, "side: expected one of.*'up'"),
    (lambda: calculus.taylor(special.i0e, 0.5, 2), NotImplementedError, "no recurrence.*bessel_i0e"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_every_rule_has_a_name_that_jax_knows():
    """A rule whose primitive JAX does not have would be dead."""
    from jax.extend.core import primitives

    known = {value.name for value in vars(primitives).values() if hasattr(value, "bind")}
    newer = {"add_any", "stack", "unstack", "tile", "square", "split", "expand_dims", "copy_p", "device_put", "name"}
    assert (
        set(RULES) - known - newer - {"scatter-add", "scatter_add", "optimization_barrier", "reduce_window_sum"}
        == set()
    )
