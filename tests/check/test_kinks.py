"""The kink contract: at every kink of the tables `check` sees one, its interval is the table's, the values taken lie in
it; a backward pass may take any value of it and none outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check
from functional_dl.activations import ACTIVATIONS
from functional_dl.losses import LOSSES
from functional_dl.reverse.kinks import KINKS


def _cases():
    for convention in KINKS:
        yield pytest.param(convention.fun, convention.kink, id=convention.name)
    for name, activation in ACTIVATIONS.items():
        for kink in activation.kinks:
            if activation.elementwise:
                yield pytest.param(activation.fun, kink, id=f"{name} at {kink.location:g}")
    for name, loss in LOSSES.items():
        for kink in loss.kinks:
            if not loss.reduces and np.shape(kink.location) == (2,):
                fun = lambda pred, loss=loss, target=kink.location[1]: loss.fun(pred, jnp.full_like(pred, target))
                yield pytest.param(fun, kink, id=f"{name} at {kink.location}")


CASES = list(_cases())


def _at(kink) -> float:
    return float(np.ravel(kink.location)[0])


@pytest.mark.parametrize(("fun", "kink"), CASES)
def test_interval_is_the_tables(fun, kink):
    found = check.subdifferential(fun, np.float64(_at(kink)))
    assert found.kink
    assert found.low == pytest.approx(min(kink.left, kink.right), abs=1e-5)
    assert found.high == pytest.approx(max(kink.left, kink.right), abs=1e-5)
    assert kink.value in found


@pytest.mark.parametrize(("fun", "kink"), CASES)
@pytest.mark.sampled(3)
def test_any_value_inside_passes_and_none_outside(fun, kink):
    x = jnp.full(3, _at(kink))
    low, high = sorted((kink.left, kink.right))

    each = jax.vmap(fun)

    def rule(slope):
        return lambda x: (each(x), lambda ct: (slope * ct,))

    for share in (0.0, 0.3, 1.0):
        report = check.check_vjp(each, rule(low + share * (high - low)), x)
        assert report.passed, str(report)
    report = check.check_vjp(each, rule(high + 0.4 * (high - low)), x)
    assert [f.cause for f in report.findings] == ["kink"], str(report)


def test_there_are_kinks_of_every_table():
    assert len(CASES) >= 30
