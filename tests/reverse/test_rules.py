"""Every rule of the table against every judge.  A new rule is tested because it is in the table."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from functional_dl import reverse
from functional_dl.jaxprs import all_equations
from functional_dl.reverse import rule as table
from tests.reverse import ledger


def _cases(*always, others=("float64", "complex128")):
    """A case for each rule, probe and dtype.  The first probe is tried in the dtypes `always`, the others in `others`;
    what is left over is the campaign's."""
    for rule in reverse.RULES.values():
        for i, probe in enumerate(rule.probes):
            for dtype in probe.dtypes:
                now = dtype in (others if i else always) and (not i or dtype == probe.dtypes[0])
                marks = [] if now else [pytest.mark.campaign]
                yield pytest.param(rule, probe, dtype, id=f"{rule.primitive}-{i}-{dtype}", marks=marks)


def _wide(cases):
    return [case for case in cases if case.values[2] in ("float64", "complex128")]


CASES = list(_cases("float64", "bfloat16", "complex128"))
ADJOINT_CASES = _wide(_cases("float64", "complex128"))
BATCH_CASES = _wide(_cases("float64", others=()))
SECOND_ORDER_CASES = [case for case in _wide(_cases("float64", others=())) if case.values[1].order >= 2]
EXACT_CASES = [case for case in CASES if case.values[1].exact is not None and case.values[2] == "float64"]
SHAPE_CASES = [
    case for case in _cases("float64") if case.values[1].elementwise and case.values[2] in ("float64", "bfloat16")
]
OTHER_SHAPES = [(), (0,), (1,), (2, 0, 3), (2, 1, 3), (257,)]


@pytest.mark.parametrize(("rule", "probe", "dtype"), [c for c in CASES if c.values[2] == c.values[1].dtypes[0]])
def test_probe_applies_the_primitive(rule, probe, dtype):
    args = oracles.draw(probe, dtype)
    assert any(eqn.primitive is rule.primitive for eqn in all_equations(jax.make_jaxpr(probe.fun)(*args)))


@pytest.mark.parametrize(("rule", "probe", "dtype"), CASES)
def test_equals_jax(rule, probe, dtype):
    args = oracles.draw(probe, dtype)
    ct = oracles.cotangent(probe.fun, args)
    [(actual, reference, sizes)] = oracles.judge(probe.fun, args, ct)
    for bar, x in zip(actual, args):
        assert bar.shape == x.shape
        assert bar.dtype == x.dtype
    tolerance = oracles.allowance(probe.fun, args, ct, sizes)
    oracles.assert_within(actual, reference, tolerance, "against JAX in float64")


@pytest.mark.parametrize(("rule", "probe", "dtype"), EXACT_CASES)
def test_equals_multiple_precision(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=3)
    ct = oracles.cotangent(probe.fun, args, seed=4)
    [(actual, _, sizes)] = oracles.judge(probe.fun, args, ct)
    expected = oracles.exact_cotangents(probe, args, ct)
    oracles.assert_within(actual, expected, oracles.allowance(probe.fun, args, ct, sizes), "against 50 digits")


@pytest.mark.parametrize(("rule", "probe", "dtype"), ADJOINT_CASES)
def test_equals_differences_and_the_adjoint(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=5)
    ct = oracles.cotangent(probe.fun, args, seed=6)
    tangents = tuple(
        jnp.asarray(np.random.default_rng(7 + i).uniform(-1, 1, x.shape)).astype(dtype) for i, x in enumerate(args)
    )

    @jax.jit
    def everything(args, tangents, leaves):
        full = oracles.with_floating(ct, leaves)
        bars = oracles.ours(probe.fun, args, full)
        found = {"backward": oracles.pairing(bars, tangents), "terms": oracles.size_of_pairing(bars, tangents)}
        if probe.forward:
            with oracles.jax_promotion():
                _, out_dot = jax.jvp(probe.fun, args, tangents)
            found["forward"] = oracles.pairing(full, out_dot)
            found["scale"] = found["terms"] + oracles.size_of_pairing(full, out_dot)
        if probe.smooth:
            found["numeric"], found["error"] = oracles.difference(probe.fun, args, tangents, full)
        return found

    found = everything(args, tangents, oracles.floating_leaves(ct))
    if probe.forward:
        eps = 1e-13 if probe.smooth else 2.0**-7  # a program that rounds on its way, to 8 bits at the worst
        assert abs(found["backward"] - found["forward"]) <= eps * found["scale"], "<u, J v> differs from <J^T u, v>"
    if probe.smooth:
        assert abs(found["backward"] - found["numeric"]) <= 10 * found["error"] + 1e-9 * found["terms"]


@pytest.mark.parametrize(("rule", "probe", "dtype"), BATCH_CASES)
def test_is_linear_in_the_cotangent_and_unchanged_by_vmap(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=8)
    u = oracles.cotangent(probe.fun, args, seed=9)
    v = oracles.cotangent(probe.fun, args, seed=10)

    @jax.jit
    def everything(args, u_leaves, v_leaves):
        def pull(args, leaves):
            return oracles.ours(probe.fun, args, oracles.with_floating(u, leaves))

        combined = [2 * a - b for a, b in zip(u_leaves, v_leaves)]
        sizes = [oracles.magnitudes(probe.fun, args, ct) for ct in (u, v)]
        found = {"u": pull(args, u_leaves), "v": pull(args, v_leaves), "together": pull(args, combined)}
        found["sizes"] = [a + b for a, b in zip(*sizes)]
        if ledger.batches(probe.fun):
            twice = jax.tree.map(lambda x: jnp.stack([x, x + x]), u_leaves)
            both = jax.tree.map(lambda x: jnp.stack([x, x]), (args, u_leaves))
            found["many cotangents"] = [b[0] for b in jax.vmap(pull, in_axes=(None, 0))(args, twice)]
            found["many arguments"] = [b[1] for b in jax.vmap(pull)(*both)]
        return found

    found = everything(args, oracles.floating_leaves(u), oracles.floating_leaves(v))
    tolerance = [3 * t for t in oracles.allowance(probe.fun, args, u, found["sizes"])]
    if probe.smooth:
        expected = [2 * a - b for a, b in zip(found["u"], found["v"])]
        oracles.assert_within(found["together"], expected, tolerance, "J^T(2u - v)")
    for what in ("many cotangents", "many arguments") if ledger.batches(probe.fun) else ():
        oracles.assert_within(found[what], found["u"], tolerance, f"under vmap: {what}")


@pytest.mark.parametrize(("rule", "probe", "dtype"), SHAPE_CASES)
def test_other_shapes(rule, probe, dtype):
    drawn = [oracles.draw(probe, dtype, seed=11, shapes=(shape,) * len(probe.shapes)) for shape in OTHER_SHAPES]
    cts = [oracles.cotangent(probe.fun, args, seed=12) for args in drawn]

    @jax.jit
    def everything(drawn, cts):
        return [
            (
                oracles.ours(probe.fun, args, ct),
                oracles.reference(probe.fun, args, ct),
                oracles.magnitudes(probe.fun, args, ct),
            )
            for args, ct in zip(drawn, cts)
        ]

    for shape, args, ct, (actual, reference, sizes) in zip(OTHER_SHAPES, drawn, cts, everything(drawn, cts)):
        tolerance = oracles.allowance(probe.fun, args, ct, sizes)
        oracles.assert_within(actual, reference, tolerance, f"shape {shape}")


@pytest.mark.parametrize(("rule", "probe", "dtype"), SECOND_ORDER_CASES)
def test_second_order_equals_jax(rule, probe, dtype):
    args = oracles.draw(probe, dtype, seed=13)
    ct = oracles.cotangent(probe.fun, args, seed=14)
    weights = oracles.cotangent(lambda *a: a, args, seed=15)

    @jax.jit
    def everything(args, leaves, weights):
        full = oracles.with_floating(ct, leaves)

        def second(outer, inner, fun):
            return outer(lambda *a: inner(fun, *a)[1](full), *args)[1](weights)

        with oracles.jax_promotion():
            reference = second(jax.vjp, jax.vjp, ledger.for_jax(probe.fun))
            mixed = second(jax.vjp, reverse.vjp, probe.fun) if ledger.differentiates(probe.fun) else reference
        return reference, mixed, second(reverse.vjp, reverse.vjp, probe.fun)

    reference, mixed, actual = everything(args, oracles.floating_leaves(ct), weights)
    size = max([float(np.max(np.abs(r), initial=0.0)) for r in reference])
    oracles.assert_within(actual, reference, [1e-11 * (1 + size)] * len(args), "second order")
    oracles.assert_within(mixed, reference, [1e-11 * (1 + size)] * len(args), "jax.vjp of reverse.vjp")


def test_every_entry_without_a_rule_has_a_reason():
    rest = [entry for entry in table.PRIMITIVES.values() if not isinstance(entry, table.Rule)]
    assert all(entry.reason for entry in rest)
    assert {type(entry) for entry in rest} == {table.Zero, table.Unsupported}
    assert len(rest) + len(table.RULES) == len(table.PRIMITIVES)


def test_every_rule_has_a_derivation_and_a_probe():
    for rule in reverse.RULES.values():
        assert rule.derivation, rule.primitive
        assert rule.probes, rule.primitive
        assert "_bar" in rule.derivation, f"{rule.primitive}: the derivation states no cotangent"
