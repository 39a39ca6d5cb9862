"""Every rule of the table against every judge.  A new rule is tested because it is in the table."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from functional_dl import reverse
from functional_dl.reverse import rule as table
from tests.reverse import ledger

CASES = [
    pytest.param(rule, probe, dtype, id=f"{rule.primitive}-{i}-{dtype}")
    for rule in reverse.RULES.values()
    for i, probe in enumerate(rule.probes)
    for dtype in probe.dtypes
]
LOW = [
    pytest.param(
        *case.values, id=case.id, marks=[] if case.values[2] in ("float64", "bfloat16") else pytest.mark.campaign
    )
    for case in CASES
]
WIDE_CASES = [case for case in CASES if case.values[2] in ("float64", "complex128")]
EXACT_CASES = [case for case in CASES if case.values[1].exact is not None and case.values[2] == "float64"]
SHAPE_CASES = [case for case in CASES if case.values[1].elementwise and case.values[2] in ("float64", "bfloat16")]
OTHER_SHAPES = [(), (0,), (1,), (2, 0, 3), (2, 1, 3), (257,)]


def primitives_of(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from primitives_of(inner)


@pytest.mark.parametrize(("rule", "probe", "dtype"), [c for c in CASES if c.values[2] == c.values[1].dtypes[0]])
def test_probe_applies_the_primitive(rule, probe, dtype):
    args = oracles.draw(probe, dtype)
    assert rule.primitive in set(primitives_of(jax.make_jaxpr(probe.fun)(*args).jaxpr))


@pytest.mark.parametrize(("rule", "probe", "dtype"), LOW)
def test_equals_jax(rule, probe, dtype):
    args = oracles.draw(probe, dtype)
    ct = oracles.cotangent(probe.fun, args)
    actual = oracles.ours(probe.fun, args, ct)
    tolerance = oracles.allowance(probe.fun, args, ct)
    reference = oracles.reference(probe.fun, args, ct)
    for bar, x in zip(actual, args):
        assert bar.shape == x.shape
        assert bar.dtype == x.dtype
    oracles.assert_within(actual, reference, tolerance, "against JAX in float64")


@pytest.mark.parametrize(("rule", "probe", "dtype"), EXACT_CASES)
def test_equals_multiple_precision(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=3)
    ct = oracles.cotangent(probe.fun, args, seed=4)
    actual = oracles.ours(probe.fun, args, ct)
    expected = oracles.exact_cotangents(probe, args, ct)
    oracles.assert_within(actual, expected, oracles.allowance(probe.fun, args, ct), "against 50 digits")


@pytest.mark.parametrize(("rule", "probe", "dtype"), WIDE_CASES)
def test_equals_differences_and_the_adjoint(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=5)
    ct = oracles.cotangent(probe.fun, args, seed=6)
    tangents = tuple(
        jnp.asarray(np.random.default_rng(7 + i).uniform(-1, 1, x.shape)).astype(dtype) for i, x in enumerate(args)
    )
    bars = oracles.ours(probe.fun, args, ct)
    backward = oracles.pairing(bars, tangents)
    terms = sum(float(np.sum(np.abs(b) * np.abs(t))) for b, t in zip(bars, tangents))
    if probe.forward:
        with oracles.jax_promotion():
            _, out_dot = jax.jvp(probe.fun, args, tangents)
        cts, dots = jax.tree.leaves(ct), jax.tree.leaves(out_dot)
        scale = terms + sum(float(np.sum(np.abs(c) * np.abs(t))) for c, t in zip(cts, dots) if c.dtype != jax.float0)
        eps = 1e-13 if probe.smooth else 2.0**-7  # a program that rounds on its way, to 8 bits at the worst
        assert abs(backward - oracles.pairing(ct, out_dot)) <= eps * scale, "<u, J v> differs from <J^T u, v>"
    if probe.smooth:
        numeric, error = oracles.difference(probe.fun, args, tangents, ct)
        assert abs(backward - numeric) <= 10 * error + 1e-9 * terms


@pytest.mark.parametrize(("rule", "probe", "dtype"), WIDE_CASES)
def test_is_linear_in_the_cotangent_and_unchanged_by_jit_and_vmap(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=8)
    u = oracles.cotangent(probe.fun, args, seed=9)
    v = oracles.cotangent(probe.fun, args, seed=10)
    tolerance = [3 * t for t in oracles.allowance(probe.fun, args, u)]

    def combined(a, b):
        return a if a.dtype == jax.float0 else 2 * a - b

    bars_u, bars_v = oracles.ours(probe.fun, args, u), oracles.ours(probe.fun, args, v)
    tolerance = [t + 3 * s for t, s in zip(tolerance, oracles.allowance(probe.fun, args, v))]
    together = oracles.ours(probe.fun, args, jax.tree.map(combined, u, v))
    expected = [combined(a, b) for a, b in zip(bars_u, bars_v)]
    if probe.smooth:
        oracles.assert_within(together, expected, tolerance, "J^T(2u - v)")

    def pull(args, ct):
        return oracles.ours(probe.fun, args, ct)

    floating = [leaf for leaf in jax.tree.leaves(u) if leaf.dtype != jax.float0]
    if len(floating) != len(jax.tree.leaves(u)):
        return  # float0 cotangents are no arguments of jit
    oracles.assert_within(jax.jit(pull)(args, u), bars_u, tolerance, "under jit")
    batch = jax.tree.map(lambda x: jnp.stack([x, x + x]), u)
    if not ledger.batches(probe.fun):
        return
    batched = jax.vmap(pull, in_axes=(None, 0))(args, batch)
    oracles.assert_within([b[0] for b in batched], bars_u, tolerance, "under vmap over cotangents")
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), (args, u))
    batched = jax.vmap(pull)(*stacked)
    oracles.assert_within([b[1] for b in batched], bars_u, tolerance, "under vmap over everything")


@pytest.mark.parametrize("shape", OTHER_SHAPES, ids=str)
@pytest.mark.parametrize(("rule", "probe", "dtype"), SHAPE_CASES)
def test_other_shapes(rule, probe, dtype, shape):
    args = oracles.draw(probe, dtype, seed=11, shapes=(shape,) * len(probe.shapes))
    ct = oracles.cotangent(probe.fun, args, seed=12)
    actual = oracles.ours(probe.fun, args, ct)
    reference = oracles.reference(probe.fun, args, ct)
    oracles.assert_within(actual, reference, oracles.allowance(probe.fun, args, ct), f"shape {shape}")


@pytest.mark.parametrize(("rule", "probe", "dtype"), [case for case in WIDE_CASES if case.values[1].order >= 2])
def test_second_order_equals_jax(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=13)
    ct = oracles.cotangent(probe.fun, args, seed=14)
    weights = oracles.cotangent(lambda *a: a, args, seed=15)

    def second(vjp, fun):
        def first(*a):
            return vjp(fun, *a)[1](ct)

        return vjp(first, *args)[1](weights)

    with oracles.jax_promotion():
        reference = second(jax.vjp, ledger.for_jax(probe.fun))
    size = max([float(np.max(np.abs(r), initial=0.0)) for r in reference])
    oracles.assert_within(second(reverse.vjp, probe.fun), reference, [1e-11 * (1 + size)] * len(args), "second order")
    if not ledger.differentiates(probe.fun):
        return
    with oracles.jax_promotion():
        mixed = jax.vjp(lambda *a: reverse.vjp(probe.fun, *a)[1](ct), *args)[1](weights)
    oracles.assert_within(mixed, reference, [1e-11 * (1 + size)] * len(args), "jax.vjp of reverse.vjp")


def test_tables_do_not_overlap():
    tables = [set(table.RULES), set(table.ZERO), set(table.UNSUPPORTED)]
    assert not tables[0] & tables[1]
    assert not tables[0] & tables[2]
    assert not tables[1] & tables[2]
    assert all(reason for reason in [*table.ZERO.values(), *table.UNSUPPORTED.values()])


def test_every_rule_has_a_derivation_and_a_probe():
    for rule in reverse.RULES.values():
        assert rule.derivation, rule.primitive
        assert rule.probes, rule.primitive
        assert "_bar" in rule.derivation, f"{rule.primitive}: the derivation states no cotangent"
