"""The table refuses what it must, and the judges catch a wrong rule."""

import jax
import jax.numpy as jnp
import oracles
import pytest
from jax import lax
from jax.extend.core import Primitive

from functional_dl import reverse
from functional_dl.reverse import rule as table


def fresh(name="fresh"):
    primitive = Primitive(name)
    primitive.def_impl(lambda x: lax.sin(x))
    primitive.def_abstract_eval(lambda x: x)
    return primitive


def formula(ct, out, x, **_):
    """y = sin x  =>  x_bar = cos(x) y_bar."""
    return (ct * jnp.cos(x),)


def test_a_rule_without_a_probe_is_refused():
    with pytest.raises(ValueError, match="Probe"):
        reverse.vjp_rule(fresh())(formula)


def test_a_rule_without_a_derivation_is_refused():
    with pytest.raises(ValueError, match="derivation"):
        reverse.vjp_rule(fresh(), reverse.Probe(lax.sin))(lambda ct, out, x, **_: (ct,))


def test_a_second_rule_is_refused():
    with pytest.raises(ValueError, match="already, as Rule"):
        reverse.vjp_rule(jax.extend.core.primitives.sin_p, reverse.Probe(lax.sin))(formula)
    with pytest.raises(ValueError, match="already, as Zero"):
        reverse.vjp_rule(jax.extend.core.primitives.floor_p, reverse.Probe(lax.floor))(formula)


@pytest.mark.parametrize(
    ("primitive", "probe", "reads", "error", "message"),
    [
        ("sin", reverse.Probe(lax.sin), None, TypeError, "primitive must be"),
        (fresh(), lax.sin, None, TypeError, "Probe objects"),
        (fresh(), reverse.Probe(lax.sin), "x z", ValueError, "no arguments"),
    ],
)
def test_bad_registrations(primitive, probe, reads, error, message):
    with pytest.raises(error, match=message):
        reverse.vjp_rule(primitive, probe, reads=reads)(formula)


def test_several_results_are_not_compared():
    primitive = fresh()
    primitive.multiple_results = True
    with pytest.raises(ValueError, match="expected one result"):
        reverse.vjp_rule(primitive, reverse.Probe(lax.sin), compares=True)(formula)


def test_the_whole_vjp_evaluates_thunks():
    mul = reverse.RULES[jax.extend.core.primitives.mul_p]
    bars = mul.vjp(jnp.array([1.0, 2.0]), None, jnp.array([3.0, 4.0]), jnp.array([5.0, 6.0]))
    assert [bar.tolist() for bar in bars] == [[5.0, 12.0], [3.0, 8.0]]


def test_every_rule_has_a_whole_vjp():
    sort = reverse.RULES[jax.extend.core.primitives.sort_p]
    x, ct = jnp.array([3.0, 1.0, 2.0]), [jnp.array([10.0, 20.0, 30.0])]
    (bar,) = sort.vjp(ct, None, x, dimension=0, is_stable=True, num_keys=1)
    assert bar.tolist() == [30.0, 10.0, 20.0]
    assert all(callable(rule.vjp) for rule in reverse.RULES.values())


WRONG = {
    "sign": lambda ct, out, x, **_: (lax.neg(ct * lax.cos(x)),),
    "factor": lambda ct, out, x, **_: (ct * lax.cos(x) * 0.5,),
    "wrong point": lambda ct, out, x, **_: (ct * lax.cos(out),),
    "not linear": lambda ct, out, x, **_: (ct * ct * lax.cos(x),),
    "precision": lambda ct, out, x, **_: (ct * lax.cos(x.astype("float32")).astype(x.dtype),),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_rule_is_caught(fault, monkeypatch):
    sin_p = jax.extend.core.primitives.sin_p
    right = table.PRIMITIVES[sin_p]
    wrong = table.Rule(sin_p, table.evaluated(WRONG[fault]), right.probes, WRONG[fault])
    probe = right.probes[0]
    args = oracles.draw(probe, "float64")
    ct = oracles.cotangent(probe.fun, args)
    [(reference, magnitudes)] = oracles.references(probe.fun, args, ct)
    tolerance = oracles.allowance(args, ct, magnitudes)
    expected = {
        "against JAX": reference,
        "against 50 digits": oracles.exact_cotangents(probe, args, ct),
    }
    for what, value in expected.items():
        oracles.assert_within(oracles.ours(probe.fun, args, ct), value, tolerance, what)
    monkeypatch.setitem(table.PRIMITIVES, sin_p, wrong)
    for what, value in expected.items():
        with pytest.raises(AssertionError, match=what):
            oracles.assert_within(oracles.ours(probe.fun, args, ct), value, tolerance, what)
