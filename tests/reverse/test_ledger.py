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
@pytest.mark.sampled(4)
def test_jax_still_refuses_and_the_stand_in_has_the_same_value(fun):
    reason, _ = ledger.REFUSED_BY_JAX[fun]
    assert reason
    assert probes_of(fun)
    for probe in probes_of(fun):
        args = oracles.draw(probe, "float64")
        stand_in = ledger.for_jax(probe.fun)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-14), probe.fun(*args), stand_in(*args))
    assert any(refuses(probe.fun) for probe in probes_of(fun))


def refuses(fun):
    """Whether JAX fails at the first derivative, the second, or the cotangents' batching."""
    args = oracles.draw(next(p for p in probes_of(fun.func) if p.fun is fun), "float64")
    ct = oracles.cotangent(fun, args)

    def first(*args):
        return jax.vjp(fun, *args)[1](ct)

    try:
        jax.vjp(first, *args)[1](args)
        jax.vmap(jax.vjp(fun, *args)[1])(jax.tree.map(lambda c: np.stack([c, c]), ct))
    except (NotImplementedError, ValueError, TypeError, IndexError):
        return True
    return False


@pytest.mark.parametrize("fun", ledger.UNBATCHED_BY_JAX, ids=lambda fun: fun.__name__)
def test_jax_still_does_not_map_it(fun):
    probe = probes_of(fun)[0]
    stacked = [np.stack([x, x]) for x in oracles.draw(probe, "float64")]
    with pytest.raises(NotImplementedError):
        jax.vmap(probe.fun)(*stacked)


@pytest.mark.parametrize("fun", ledger.UNDIFFERENTIATED_BY_JAX, ids=lambda fun: fun.__name__)
def test_jax_still_does_not_differentiate_its_cotangents(fun):
    probe = probes_of(fun)[0]
    args = oracles.draw(probe, "float64")
    ct = oracles.cotangent(probe.fun, args)
    with pytest.raises((NotImplementedError, ValueError)):
        jax.vjp(lambda *args: oracles.ours(probe.fun, args, ct), *args)[1](args)


@pytest.mark.parametrize("fun", ledger.UNDIFFERENTIATED_BATCHES_OF_JAX, ids=lambda fun: fun.__name__)
def test_jax_still_fails_at_the_derivative_of_the_batch(fun):
    probe = probes_of(fun)[0]
    stacked = [np.stack([x, x]) for x in oracles.draw(probe, "float64")]
    ct = oracles.cotangent(jax.vmap(probe.fun), stacked)
    oracles.ours(jax.vmap(probe.fun), stacked, ct)
    with pytest.raises(TypeError):
        jax.vjp(jax.vmap(probe.fun), *stacked)
