"""Dtypes of few bits: a fault that no single entry shows is found on the leaf as a whole; right passes pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import check


@pytest.fixture(autouse=True)
def as_users_have_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def drawn(*shape, scale=1.0, seed=0):
    return scale * np.random.default_rng([seed, *shape]).normal(size=shape)


def doubled(factor, inside):
    """2 x, its cotangent times a factor, in the caller's dtype or for it alone (NumPy's)."""

    def fun_vjp(x):
        scaled = lambda ct: (np.asarray(2 * factor * np.asarray(ct, np.float32)).astype(x.dtype),)
        return 2 * x, scaled if inside == "NumPy" else lambda ct: (2 * ct * jnp.asarray(factor, ct.dtype),)

    return fun_vjp


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("inside", ["NumPy", "JAX"])
@pytest.mark.sampled(3)
def test_a_scale_fault_of_five_percent(dtype, inside):
    x = jnp.asarray(drawn(32), dtype)
    for factor in (0.75, 0.95, 1.05, 1.25):
        report = check.check_vjp(lambda x: 2 * x, doubled(factor, inside), x)
        assert [f.cause for f in report.findings] == ["scale"], (factor, str(report))
    assert check.check_vjp(lambda x: 2 * x, doubled(1.0, inside), x).passed


def test_a_sum_that_loses_digits_shows_with_cotangents_of_one_sign():
    """Added one by one in bfloat16, terms of one sign are lost from 256 on; those of both signs hardly are."""

    def fun_vjp(x, b):
        def pullback(ct):
            total, _ = lax.scan(lambda total, row: (total + row, None), jnp.zeros_like(b), ct)
            return ct, total

        return x + b, pullback

    x, b = jnp.asarray(drawn(2000, 3), jnp.bfloat16), jnp.ones(3, jnp.bfloat16)
    report = check.check_vjp(lambda x, b: x + b, fun_vjp, x, b)
    assert [(f.argument, f.cause) for f in report.findings] == [("args[1]", "precision")], str(report)


def softmax(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention_vjp(q, k, v):
    root = np.asarray(q.shape[-1] ** -0.5, q.dtype)
    p = softmax(q @ k.T * root)
    out = p @ v

    def pullback(ct):
        d = p * (ct @ v.T - (ct * out).sum(-1, keepdims=True)) * root
        return d @ k, d.T @ q, p.T @ ct

    return out, pullback


def norm_vjp(x, g):
    mean = x.mean(-1, keepdims=True)
    inverse = lax.rsqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
    normal = (x - mean) * inverse

    def pullback(ct):
        d = ct * g
        rest = d.mean(-1, keepdims=True) + normal * (d * normal).mean(-1, keepdims=True)
        return (d - rest) * inverse, (ct * normal).sum(0)

    return normal * g, pullback


def softmax_vjp(x):
    p = softmax(x)
    return p, lambda ct: (p * (ct - (ct * p).sum(-1, keepdims=True)),)


def batch_norm_vjp(x, g):
    mean = x.mean(0)
    inverse = 1 / jnp.sqrt(((x - mean) ** 2).mean(0) + 1e-5)
    normal = (x - mean) * inverse

    def pullback(ct):
        d = ct * g
        return inverse * (d - d.mean(0) - normal * (d * normal).mean(0)), (ct * normal).sum(0)

    return g * normal, pullback


def product_vjp(x):
    return jnp.prod(x), lambda ct: (ct * jnp.prod(x) / x,)


# a right pass, its arguments, and their dtype: cancelling, saturated, overflowing, long sums
RIGHT = {
    "attention, saturated": (attention_vjp, [drawn(6, 8, scale=8, seed=i) for i in range(3)], "bfloat16"),
    "attention, constant": (attention_vjp, [np.ones((6, 8))] * 3, "float32"),
    "layer norm": (norm_vjp, [drawn(5, 16), drawn(16)], "bfloat16"),
    "softmax, saturated": (softmax_vjp, [drawn(3, 400, scale=8)], "bfloat16"),
    "root of a subnormal number": (
        lambda x: (jnp.sqrt(x * x + 1e-6), lambda ct: (ct * x / jnp.sqrt(x * x + 1e-6),)),
        [np.zeros(4)], "float16",
    ),
    "exp beyond the dtype": (lambda x: (jnp.exp(x), lambda ct: (ct * jnp.exp(x),)), [np.array([1, 11, 12])], "float16"),
    "batch norm, constant": (batch_norm_vjp, [np.full((64, 5), 0.7), drawn(5)], "float32"),
    "product that underflows": (product_vjp, [np.array([2e-7, 3e-7, 1e-6, 4e-7, 5e-7, 3e-7])], "float32"),
    "sum of many": (lambda x, b: (x * b, lambda ct: (ct * b, (ct * x).sum(0))), [drawn(5000, 2), drawn(2)], "bfloat16"),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.sampled(4)
def test_right_passes_pass(name):
    fun_vjp, args, dtype = RIGHT[name]
    report = check.check_vjp(lambda *args: fun_vjp(*args)[0], fun_vjp, *[jnp.asarray(x, dtype) for x in args])
    assert report.passed, str(report)


def test_the_cause_is_that_of_the_same_pass_in_float32():
    def wrong(x, g):
        out, pullback = norm_vjp(x, g)
        return out, lambda ct: (pullback(ct)[0] + (ct * g).mean(-1, keepdims=True) / 2, pullback(ct)[1])

    args = [jnp.asarray(x, jnp.bfloat16) for x in (drawn(5, 16), drawn(16))]
    [finding] = check.check_vjp(lambda *args: norm_vjp(*args)[0], wrong, *args).findings
    assert (finding.argument, finding.cause) == ("args[0]", "missing_term")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_integers_of_numpy_stay_as_they_are(dtype):
    """Traced with x64 on, an int64 array would be int64 to the next call too."""
    x, places = jnp.asarray([1.5, 2.5], dtype), np.array([0, 0, 1])
    set_not_added = lambda x, i: (jnp.sum(x[i]), lambda ct: (jnp.zeros_like(x).at[i].set(ct), None))
    report = check.check_vjp(lambda x, i: jnp.sum(x[i]), set_not_added, x, places)
    assert [f.cause for f in report.findings] == ["overwrite"], str(report)
