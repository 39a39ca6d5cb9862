"""The chain rule and its fellows, and the differential: exact cases, both orders of the product and their costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import calculus


def test_power_of_a_power():
    """3(2x^2)^5: factors 4x and 15(2x^2)^4, product 960 x^9."""
    chain = calculus.compose(lambda u: 3 * u**5, lambda x: 2 * x**2)
    for x in (1.0, 2.0, -0.5):
        assert chain(x) == 3 * (2 * x**2) ** 5
        assert [float(j) for j in chain.factors(x)] == [4 * x, 15 * (2 * x**2) ** 4]
        assert chain.derivative(x) == 960 * x**9


def test_three_functions_of_other_variables():
    y, z, x = 0.75, 2.5, 0.6
    chain = calculus.compose(lambda u: u**3, lambda v: y * v + v**2, lambda t: t**2 * z)
    v = x**2 * z
    assert [float(j) for j in chain.factors(x)] == pytest.approx([2 * x * z, y + 2 * v, 3 * (y * v + v**2) ** 2])
    assert chain.derivative(x) == pytest.approx(float(jax.grad(chain)(x)), rel=1e-14)


def test_exponential_of_sine():
    chain = calculus.compose(jnp.exp, jnp.sin, lambda x: x**2)
    x = 0.9
    assert chain.derivative(x) == pytest.approx(np.exp(np.sin(x**2)) * np.cos(x**2) * 2 * x, rel=1e-14)


def test_matrices_in_both_orders():
    weights = [np.random.default_rng(k).normal(size=shape) for k, shape in enumerate([(8, 6), (5, 8), (1, 5)])]
    functions = [lambda v, w=w: jnp.tanh(jnp.asarray(w) @ v) for w in reversed(weights)]
    chain = calculus.compose(lambda v: v[0] ** 2, *functions)
    x = jnp.linspace(-1, 1, 6)
    forward, back = chain.product(x, "forward"), chain.product(x, "reverse")
    true = np.asarray(jax.grad(chain)(x))
    assert [j.shape for j in chain.factors(x)] == [(8, 6), (5, 8), (1, 5), (1,)]
    for found in (forward.value, back.value, chain.derivative(x)):
        assert np.asarray(found) == pytest.approx(true, rel=1e-12)
    # the result is one number: from its end every step is a row times a matrix
    assert (forward.flops, back.flops) == tuple(chain.costs(x))
    assert back.flops == 1 * 5 * 1 + 8 * 9 + 6 * 15
    assert back.flops < forward.flops


def test_several_paths_are_summed():
    """f(y, g(y)) = y g(y), g = sin: df/dy = g(y) + y cos y."""
    paths = calculus.total_derivative(lambda y, u: y * u, (lambda y: y, jnp.sin), 1.2)
    assert [float(t) for t in paths.terms] == pytest.approx([np.sin(1.2), 1.2 * np.cos(1.2)])
    assert paths.total == pytest.approx(float(jax.grad(lambda y: y * jnp.sin(y))(1.2)))


RULES = {
    "sum": (calculus.sum_rule, lambda f, g: lambda x: f(x) + g(x)),
    "product": (calculus.product_rule, lambda f, g: lambda x: f(x) * g(x)),
    "quotient": (calculus.quotient_rule, lambda f, g: lambda x: f(x) / g(x)),
    "chain": (calculus.chain_rule, lambda f, g: lambda x: f(g(x))),
}


@pytest.mark.parametrize("name", RULES)
def test_rules_agree_with_the_definition(name):
    rule, build = RULES[name]
    f, g = (lambda x: x**2 * jnp.sin(x)), (lambda x: 1 + x)
    found = calculus.derivative(build(f, g), 0.8)
    assert abs(found.value - rule(f, g, 0.8)) <= found.error


def test_power_and_inverse_rules():
    found = calculus.derivative(lambda x: jnp.sin(x) ** 3.5, 0.8)
    assert abs(found.value - calculus.power_rule(jnp.sin, 3.5, 0.8)) <= found.error
    assert calculus.power_rule(jnp.sin, 0, 0.0) == 0
    assert calculus.inverse_rule(jnp.exp, 0.5) == pytest.approx(1 / np.exp(0.5))  # of log at e^0.5
    assert calculus.quotient_rule(lambda x: x**2 * jnp.sin(x), lambda x: 1 + x, 2.0) == pytest.approx(
        (2 * 2 * np.sin(2) + 4 * np.cos(2)) / 3 - 4 * np.sin(2) / 9
    )


def test_the_differential_is_linear_and_its_remainder_small():
    df = calculus.differential(lambda v: jnp.sin(v[0]) * v[1], jnp.array([0.5, 2.0]))
    a, b = jnp.array([0.1, 0.2]), jnp.array([-0.3, 0.4])
    assert df(2 * a - b) == pytest.approx(float(2 * df(a) - df(b)))
    assert df.increment(a) == pytest.approx(float(df(a) + df.remainder(a)))
    assert df.remainder_slope(a) == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize(
    ("f", "x", "slope"),
    [(jnp.exp, 1.0, 2.0), (jnp.cos, 0.0, 2.0), (jnp.sin, 0.0, 3.0), (lambda x: x**4, 0.0, 4.0),
     (lambda x: jnp.abs(x) ** 1.5, 0.0, 1.5), (jnp.abs, 0.0, 1.0), (lambda x: 3 * x, 1.0, np.inf)],
)  # fmt: skip
def test_the_measured_order_of_the_remainder(f, x, slope):
    """o(dx) is a slope above 1: 2 for smooth f, exactly 1 at a kink, where there is no differential."""
    assert calculus.differential(f, x).remainder_slope(-1.0) == pytest.approx(slope, abs=0.03)


REFUSALS = [
    (lambda: calculus.compose(), ValueError, "functions: expected at least one"),
    (lambda: calculus.compose(jnp.sin, 2), TypeError, "functions: expected functions, got int at position 1"),
    (lambda: calculus.compose(jnp.sin).product(1.0, "sideways"), ValueError, "order: expected one of"),
    (lambda: calculus.compose(jnp.sin).factors(np.nan), ValueError, "x: expected numbers, got NaN"),
    (lambda: calculus.compose(lambda x: {"a": x}).factors(1.0), ValueError, "expected an array, got a dict"),
    (lambda: calculus.total_derivative(jnp.sin, (), 1.0), ValueError, "inner: expected at least one"),
    (lambda: calculus.quotient_rule(jnp.sin, jnp.sin, 0.0), ValueError, "g: expected a value other than 0"),
    (lambda: calculus.inverse_rule(jnp.cos, 0.0), ValueError, "f: expected a slope other than 0"),
    (lambda: calculus.sum_rule(jnp.sin, jnp.cos, jnp.ones(2)), ValueError, "x: expected one number"),
    (lambda: calculus.differential(jnp.sin, 1.0)(jnp.ones(2)), ValueError, "dx: expected shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
