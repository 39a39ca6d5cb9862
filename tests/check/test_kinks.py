"""The kink contract: at every kink of the tables `check` sees one, its interval is the table's, the values taken lie in
it; a backward pass may take any value of it and none outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

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
@pytest.mark.sampled(4)
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


def _windows(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")


def tied(*shape):
    return jnp.full(shape, 0.7, jnp.float32)


# every entry ties: fun, where, another choice than JAX's
TIED = {
    "max": (lambda x: jnp.max(x), tied(64), lambda ct: jnp.zeros(64).at[40].set(ct)),
    "max of rows": (lambda x: jnp.max(x, axis=1), tied(6, 50), lambda ct: jnp.zeros((6, 50)).at[:, 5].set(ct)),
    "windows": (_windows, tied(16, 16), lambda ct: jnp.zeros((16, 16)).at[1::2, 1::2].set(ct)),
    "sort": (lambda x: jnp.sort(x), tied(60), lambda ct: ct[::-1]),
    "median": (lambda x: jnp.median(x), tied(61), lambda ct: jnp.full(61, ct / 61)),
    "maximum": (lambda x: jnp.maximum(*x), tied(2, 50), lambda ct: jnp.stack([0.3 * ct, 0.7 * ct])),
    "top_k": (lambda x: lax.top_k(x, 3)[0], tied(60), lambda ct: jnp.zeros(60).at[57:].set(ct)),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", TIED)
def test_any_choice_among_ties_passes_and_no_part_or_multiple_of_one(name):
    fun, x, choice = TIED[name]
    for pull in (choice, lambda ct: jax.vjp(fun, x)[1](ct)[0]):
        for factor in (1.0, 0.5, 1.5):
            own = jax.custom_vjp(fun)
            own.defvjp(lambda x: (fun(x), None), lambda _, ct, f=factor, pull=pull: (f * pull(ct).astype(ct.dtype),))
            with jax.numpy_dtype_promotion("standard"):
                assert check.check_custom_vjp(own, x).passed is (factor == 1.0), (pull is choice, factor)
