"""The ledger's entries are true and still needed."""

import functools

import jax
import numpy as np
import oracles
import pytest

from functional_dl import reverse
from tests.reverse import ledger


def probes_of(fun):
    probes = [probe for rule in reverse.RULES.values() for probe in rule.probes]
    return [p for p in probes if isinstance(p.fun, functools.partial) and p.fun.func is fun]


@pytest.mark.parametrize("fun", ledger.REFUSED_BY_JAX, ids=lambda fun: fun.__name__)
def test_jax_still_refuses_and_the_stand_in_has_the_same_value(fun):
    reason, _ = ledger.REFUSED_BY_JAX[fun]
    assert reason
    assert probes_of(fun)
    for probe in probes_of(fun):
        args = oracles.draw(probe, "float64")
        stand_in = ledger.for_jax(probe.fun)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-14), probe.fun(*args), stand_in(*args))
    args = oracles.draw(probes_of(fun)[0], "float64")
    ct = oracles.cotangent(probes_of(fun)[0].fun, args)
    with pytest.raises((NotImplementedError, ValueError)):
        jax.vjp(probes_of(fun)[0].fun, *args)[1](ct)
