"""Gradients of expectations: unbiased within their standard errors, and the control variate helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import tree_leaves, tree_map

from functional_dl import integrals

ONE = jnp.array(np.array(1.0))
P = jnp.array(np.exp([0.1, -0.4, 0.7]) / np.exp([0.1, -0.4, 0.7]).sum())
PAY = jnp.array(np.array([1.0, 2.0, 5.0]))
# distribution, parameters, f, exact gradient of E f
CASES = {
    "gaussian": ({"mean": ONE, "scale": 0.5 * ONE}, lambda x: x**2, {"mean": 2.0, "scale": 1.0}),
    "exponential": ({"rate": 2 * ONE}, lambda x: x**2, {"rate": -4 / 8}),
    "gamma": ({"shape": 2 * ONE, "rate": 3 * ONE}, lambda x: x, {"shape": 1 / 3, "rate": -2 / 9}),
    "bernoulli": ({"logits": 0.3 * ONE}, lambda x: 4 * x, {"logits": 4 * jax.nn.sigmoid(0.3) * jax.nn.sigmoid(-0.3)}),
    "categorical": ({"logits": jnp.array([0.1, -0.4, 0.7])}, lambda x: PAY[x], {"logits": P * (PAY - P @ PAY)}),
}


@pytest.mark.parametrize("method", ["pathwise", "score"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(3)
def test_unbiased(name, method):
    theta, f, true = CASES[name]
    if method == "pathwise" and name in ("bernoulli", "categorical"):
        with pytest.raises(ValueError, match='method: expected "score" for a discrete distribution'):
            integrals.expectation_gradient(f, name, theta, jax.random.key(0), method=method)
        return
    found = integrals.expectation_gradient(f, name, theta, jax.random.key(0), method=method, samples=20_000)
    off = tree_map(lambda g, t, e: jnp.max(jnp.abs(g - t) / e), found.gradient, true, found.standard_error)
    assert max(tree_leaves(off)) <= 4.5
    assert max(tree_leaves(tree_map(lambda e: jnp.max(e), found.standard_error))) <= 0.1


def test_the_control_variate_lowers_the_variance_and_not_the_mean():
    theta, f, true = CASES["gaussian"]
    shifted = lambda x: f(x) + 10.0
    call = lambda flag: integrals.expectation_gradient(
        shifted, "gaussian", theta, jax.random.key(1), method="score", samples=5000, control_variate=flag
    )
    with_it, without = call(True), call(False)
    assert with_it.variance["mean"] < without.variance["mean"] / 10
    assert abs(with_it.gradient["mean"] - true["mean"]) <= 4.5 * with_it.standard_error["mean"]


def test_the_standard_error_is_the_spread():
    theta, f, _ = CASES["exponential"]
    one = lambda key: integrals.expectation_gradient(f, "exponential", theta, key, samples=200)
    many = jax.vmap(one)(jax.random.split(jax.random.key(2), 300))
    spread, told = jnp.std(many.gradient["rate"]), jnp.mean(many.standard_error["rate"])
    assert abs(spread / told - 1) <= 0.2


@pytest.mark.parametrize(("change", "message"), [
    ({"method": "magic"}, "method: expected one of pathwise, score; got 'magic'"),
    ({"distribution": "cauchy"}, "distribution: expected one of"),
    ({"theta": {"mean": ONE}}, "theta: expected the parameters mean, scale, got mean"),
    ({"samples": 1}, "samples: expected an integer of at least 3, got 1"),
])  # fmt: skip
def test_bad_input(change, message):
    given = {"f": lambda x: x, "distribution": "gaussian", "theta": CASES["gaussian"][0], "key": jax.random.key(0)}
    with pytest.raises(ValueError, match=message):
        integrals.expectation_gradient(**given | change)
