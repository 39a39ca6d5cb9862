"""Limits: their values, their rates, and quotients that have none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl.derivations import Derivation, Limit, Oracle, Step
from functional_dl.derivations.limits import STEPS, extrapolate, observed_order
from functional_dl.derivations.notation import drawing, normal

X = jnp.asarray([0.3, -1.2])


def test_limit_is_extrapolated():
    limit = Limit(lambda h, x: (jnp.sin(x + h) - jnp.sin(x)) / h)
    np.testing.assert_allclose(limit(X), np.cos(X), rtol=1e-11)
    np.testing.assert_allclose(limit.at(0.5, X), (np.sin(X + 0.5) - np.sin(X)) / 0.5, rtol=1e-15)


def test_limit_of_a_tree_is_a_tree():
    found = Limit(lambda h, x: {"a": x + h, "b": [2 * x * jnp.exp(h)]})(X)
    np.testing.assert_allclose(found["a"], X, rtol=1e-12)
    np.testing.assert_allclose(found["b"][0], 2 * X, rtol=1e-12)


def test_error_bounds_the_true_error():
    table = np.exp(STEPS)[:, None] + np.array([0.0, 1.0])
    found = extrapolate(table)
    assert np.all(np.abs(found.value - [1.0, 2.0]) <= found.error)
    assert np.all(found.error < 1e-9)


@pytest.mark.parametrize(("power", "order"), [(1.0, 1.0), (2.0, 2.0), (0.5, 0.5)])
def test_order_is_observed(power, order):
    assert observed_order(3 * STEPS[:, None] ** power, np.zeros(1)) == pytest.approx(order, abs=1e-6)


def test_order_of_a_wrong_limit_is_zero():
    assert abs(observed_order(1 + STEPS[:, None], np.asarray([1.01]))) < 0.6
    assert observed_order(np.ones((len(STEPS), 1)), np.ones(1)) == np.inf


def derivation(quotient, value):
    steps = (Step("a", "a quotient", Limit(quotient)), Step("b", "its limit", value, kind="limit"))
    oracle = Oracle("its value", lambda x: jnp.cos(x), line="last")
    return Derivation("planted", "Planted", "a = b", steps, "none", drawing(normal(3)), oracles=(oracle,))


def sine(h, x):
    return (jnp.sin(x + h) - jnp.sin(x)) / h


def test_right_limit_passes():
    assert derivation(sine, jnp.cos).verify().passed


@pytest.mark.parametrize(
    ("quotient", "value"),
    [
        (sine, lambda x: jnp.cos(x) + 1e-6),
        (lambda h, x: sine(h, x) + jnp.sqrt(h), jnp.cos),  # the limit is right, the rate is not a derivative's
        (lambda h, x: sine(h, x) + jnp.sin(1 / h), jnp.cos),  # no limit
        (lambda h, x: sine(h, x) + 1e-3 / h, jnp.cos),
        (sine, lambda x: jnp.concatenate([jnp.cos(x), x])),
    ],
    ids=["value", "rate", "none", "infinite", "shape"],
)
def test_wrong_limit_is_named(quotient, value):
    report = derivation(quotient, value).verify(jax.random.key(2))
    assert report.first_wrong == 2, str(report)
