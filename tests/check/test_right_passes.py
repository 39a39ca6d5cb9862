"""Right passes are not accused, in float32 and bfloat16, with x64 off; a surrogate's wrong pass is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check
from tests.check.right_passes import DECLARED, dense, dense_back, passes, rounded, spike, straight_through

QUICK = [*DECLARED, "no bias"]


@pytest.fixture(autouse=True)
def users_settings():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def drawn(dtype, seed=0):
    rng = np.random.default_rng(seed)
    return lambda *shape, scale=1.0, shift=0.0: jnp.asarray(scale * rng.normal(size=shape) + shift, dtype)


def accused(dtype, names=None, seed=0):
    table = passes(drawn(dtype, seed))
    found = {}
    for name in table if names is None else names:
        fun, fun_vjp, primals = table[name]
        report = check.check_vjp(fun, fun_vjp, *primals, seed=seed)
        if not report.passed:
            found[name] = str(report)
    return found


def test_what_fun_declares_is_not_accused():
    assert not accused("float32", QUICK)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_right_passes_are_not_accused(dtype, seed):
    assert not accused(dtype, seed=seed)


@jax.custom_jvp
def square(x):
    return x * x


square.defjvp(lambda p, t: (p[0] * p[0], 3 * p[0] * t[0]))
SQUARES = lambda x: square(jax.nn.softmax(x)) + straight_through(x)


@pytest.mark.parametrize(
    ("fun", "fun_vjp"),
    [
        (straight_through, lambda x: (straight_through(x), lambda ct: (2 * ct,))),
        (spike, lambda x: (spike(x), lambda ct: (ct,))),
        (SQUARES, lambda x: jax.vjp(SQUARES, x)),  # a wrong rule beside a right surrogate
    ],
)
def test_wrong_passes_of_surrogates_are_found(fun, fun_vjp):
    assert not check.check_vjp(fun, fun_vjp, drawn("float32")(5)).passed


@jax.custom_vjp
def gated(x):
    return x * (x > 0).astype(x.dtype)


gated.defvjp(lambda x: (gated(x), x), lambda x, ct: (ct * jnp.ones_like(x),))


def test_rules_of_steps_are_told_from_wrong_rules():
    x = drawn("float32")(6)
    assert check.check_custom_vjp(rounded, x, 4.0).passed
    assert not check.check_custom_vjp(gated, x).passed
    assert not check.check_vjp(gated, lambda x: jax.vjp(gated, x), x).passed


def test_another_tree_is_told():
    fun_vjp = lambda params, x: (dense(params, x), lambda ct: ({"w": x.T @ ct}, dense_back(params, x, ct)[1]))
    draw = drawn("float32")
    report = check.check_vjp(dense, fun_vjp, {"w": draw(4, 3), "b": None}, draw(5, 4))
    assert [f.cause for f in report.findings] == ["structure"]
