"""The oracle campaign: every rule x dtype x at least 8 shapes x judges x order 2.  Long: pytest -n 2 -m campaign.

A case is one comparison of all cotangents of a program with one judge.  The cases of a rule, probe and dtype are
compiled together; the closing line of the run counts them (tests/conftest.py).
"""

import itertools

import jax
import numpy as np
import oracles
import pytest

from functional_dl import reverse
from tests.reverse import ledger, variants

WIDE = ("float64", "complex128")


def _cases():
    for rule in reverse.RULES.values():
        for i, probe in enumerate(rule.probes):
            for dtype in probe.dtypes:
                # the first probe of a rule is tried at every shape in every dtype, its others at four
                shapes = variants.of(probe, few=i > 0)
                name = f"{rule.primitive}-{i}-{dtype}"
                yield pytest.param(probe, dtype, shapes, id=name, marks=pytest.mark.campaign)


def judged(probe, dtype, variant, seed=20):
    """The judges' figures of one variant, as a function to be compiled, and its arguments."""
    fun = variants.program(variant, probe)
    args = variants.draw(variant, probe, dtype, seed)
    ct = oracles.cotangent(fun, args, seed)
    weights = oracles.cotangent(lambda *a: a, args, seed + 1)
    wide = dtype in WIDE
    order2 = probe.order >= 2 and wide
    for_jax = variants.program(variant, probe, ledger.for_jax(probe.fun))

    def second(differentiate, fun, args, full, weights):
        return differentiate(lambda *a: differentiate(fun, *a)[1](full), *args)[1](weights)

    def everything(args, leaves, weights):
        full = oracles.with_floating(ct, leaves)
        found = {"ours": oracles.ours(fun, args, full)}
        found["jax"], found["sizes"] = variants.references(variant, probe, args, full)
        if wide and probe.forward:
            with oracles.jax_promotion():
                _, found["out_dot"] = jax.jvp(fun, args, weights)
        if wide and probe.smooth:
            found["values"] = oracles.along(fun, args, weights)
        if order2:
            found["second"] = second(reverse.vjp, fun, args, full, weights)
            with oracles.jax_promotion():
                found["jax's second"] = second(jax.vjp, for_jax, args, full, weights)
        return found

    return everything, (args, oracles.floating_leaves(ct), weights), ct


class _Tolerance:
    """The rounding of the sum that a cotangent is; where that is too little, that of an ill-conditioned one."""

    def __init__(self, probe, variant, args, ct, found):
        self.probe, self.variant, self.args, self.ct = probe, variant, args, ct
        self.rounding = oracles.allowance(args, ct, found["sizes"])

    def hold(self, actual, expected, what):
        try:
            oracles.assert_within(actual, expected, self.rounding, what)
        except AssertionError:
            fun = variants.program(self.variant, self.probe, ledger.for_jax(self.probe.fun))
            lost = oracles.sensitivity(fun, self.args, self.ct)
            unit = oracles.ULPS * max(oracles.eps(x.dtype) for x in self.args)
            wide = [t + unit * np.asarray(s) for t, s in zip(self.rounding, lost)]
            oracles.assert_within(actual, expected, wide, f"{what}, conditioning allowed for")


def _agrees_closer_by(probe, variant, args, ct, backward, terms):
    """Differences again, with steps a hundredth as long: the program bends too much for the first."""
    fun, weights = variants.program(variant, probe), oracles.cotangent(lambda *a: a, args, 21)
    values = jax.jit(lambda args, weights: oracles.along(fun, args, weights, scale=0.01))(args, weights)
    numeric, error = oracles.difference(jax.device_get(values), ct, scale=0.01)
    return abs(backward - numeric) <= 10 * error + 1e-7 * terms


def compare(probe, variant, args, ct, weights, found) -> int:
    """Holds the figures against each other; returns how many cases that were."""
    what = str(variant)
    tolerance = _Tolerance(probe, variant, args, ct, found)
    for bar, x in zip(found["ours"], args):
        assert (bar.shape, bar.dtype) == (x.shape, x.dtype), what
    tolerance.hold(found["ours"], found["jax"], f"{what}: against JAX in float64")
    cases = 1
    backward, terms = oracles.pairing(found["ours"], weights)
    if "out_dot" in found:
        forward, size = oracles.pairing(ct, found["out_dot"])
        eps = 1e-13 if probe.smooth else 2.0**-7
        assert abs(backward - forward) <= eps * (terms + size), f"{what}: adjoint identity"
        cases += 1
    if "values" in found:
        numeric, error = oracles.difference(found["values"], ct)
        close = abs(backward - numeric) <= 10 * error + 1e-9 * terms
        assert close or _agrees_closer_by(probe, variant, args, ct, backward, terms), f"{what}: differences"
        cases += 1
    if "second" in found:
        size = max([float(np.max(np.abs(r), initial=0.0)) for r in found["jax's second"]])
        oracles.assert_within(
            found["second"], found["jax's second"], [1e-11 * (1 + size)] * len(args), f"{what}: order 2"
        )
        cases += 1
    return cases


@pytest.mark.parametrize(("probe", "dtype", "shapes"), list(_cases()))
def test_every_shape_and_judge(probe, dtype, shapes, record_property):
    prepared = [judged(probe, dtype, variant) for variant in shapes]

    @jax.jit
    def everything(inputs):
        return [fun(*own) for (fun, *_), own in zip(prepared, inputs)]

    found = jax.device_get(everything([own for _, own, _ in prepared]))
    cases = 0
    for variant, (_, (args, _, weights), ct), figures in zip(shapes, prepared, found):
        cases += compare(probe, variant, args, ct, weights, figures)
    record_property("cases", cases)
    if next(_done) % 60 == 59:
        jax.clear_caches()  # what was compiled is not needed again, and fills the memory


_done = itertools.count()
