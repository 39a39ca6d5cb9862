"""Places where the derivative is not finite are judged by themselves, and the others as ever; x64 is off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check

ROWS = np.array([[3, 4], [0, 0], [1, 2]], np.float32)
HALF_LINE = np.array([0, 1, 2], np.float32)


@pytest.fixture(autouse=True)
def as_users_have_it():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def norm(x):
    return jnp.linalg.norm(x, axis=1)


def norm_vjp(factor, at_zero, power=1):
    def fun_vjp(x):
        x = np.asarray(x)
        length = np.linalg.norm(x, axis=1, keepdims=True)
        unit = np.where(length > 0, x / np.where(length > 0, length, 1), np.float32(at_zero))
        return norm(x), lambda ct: (np.float32(factor) * np.asarray(ct)[:, None] ** power * unit,)

    return fun_vjp


def root(x):
    return jnp.where(x > 0, jnp.sqrt(x), 0)


def root_vjp(elsewhere):
    def fun_vjp(x):
        x = np.asarray(x)
        return root(x), lambda ct: (np.where(x > 0, ct / 2 / np.sqrt(np.where(x > 0, x, 1)), elsewhere * ct),)

    return fun_vjp


@jax.custom_vjp
def cube(x):
    return x**3


cube.defvjp(lambda x: (x**3, x), lambda x, ct: (2 * x**2 * ct,))


def jax_vjp(fun):
    return lambda x: jax.vjp(fun, x)


def log_vjp(x):
    return jnp.log(x), lambda ct: (2 * ct / x,)


def pooled_vjp(x):
    largest = x.max(-1)
    ties = x == largest[:, None]
    return largest, lambda ct: (jnp.where(ties, ct[:, None], 0) / ties.sum(-1, keepdims=True),)


POOL = np.array([[1, np.nan, 2], [3, 4, 5]], np.float32)

# name -> (fun, its backward pass, where, cause of the fault or None, words of the note)
CASES = {
    "norm, JAX's": (norm, jax_vjp(norm), ROWS, None, "[1, 1]): 2 where the backward pass returns the same"),
    "norm, 0 at 0": (norm, norm_vjp(1, 0), ROWS, None, "2 held against one-sided differences"),
    "norm, in the ball at 0": (norm, norm_vjp(1, 0.5), ROWS, None, "2 held against one-sided differences"),
    "norm, outside it": (norm, norm_vjp(1, 5), ROWS, "kink", "2 held against one-sided differences"),
    "norm, doubled": (norm, norm_vjp(2, 0), ROWS, "scale", "not finite in 2 of 6 entries"),
    "norm, not linear": (norm, norm_vjp(1, 0, 2), ROWS, "nonlinear", "not finite in 2 of 6 entries"),
    "log, doubled": (jnp.log, log_vjp, HALF_LINE, "scale", "1 where the backward pass returns the same"),
    "root, zero where masked": (root, root_vjp(0), np.array([-1, 4], np.float32), None, "1 held against"),
    "root, wrong where masked": (root, root_vjp(3), np.array([-1, 4], np.float32), "wrong_branch", "1 held against"),
    "NaN in the input, spread": (lambda x: x.max(-1), pooled_vjp, POOL, None, "the primals hold NaN or infinity; 3"),
    "NaN in the input, and a fault elsewhere": (
        lambda x: x.max(-1), lambda x: (x.max(-1), lambda ct: (2 * pooled_vjp(x)[1](ct)[0],)), POOL, "scale",
        "the primals hold NaN or infinity; 3",
    ),
    "NaN in the input": (jnp.tan, jax_vjp(jnp.tan), np.array([np.nan, 1], np.float32), None, "([0]): 1 where"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(3)
def test_the_other_places_are_judged(name):
    fun, fun_vjp, x, cause, words = CASES[name]
    report = check.check_vjp(fun, fun_vjp, x)
    assert [f.cause for f in report.findings] == ([] if cause is None else [cause]), str(report)
    assert words in report.notes[0]
    assert all(np.isfinite(f.tolerance) for f in report.findings if f.tolerance is not None)


def test_a_cotangent_beyond_the_dtype_is_infinite():
    fun = lambda x: 1e20 * x**2
    report = check.check_vjp(fun, jax_vjp(fun), jnp.array([1, 1e18], jnp.float32))
    assert report.passed, str(report)
    assert not report.notes


def test_numpy_functions_too():
    fun = lambda x: np.log(np.asarray(x))
    with np.errstate(divide="ignore", invalid="ignore"):
        for factor, causes in ((1, []), (2, ["scale"])):
            rule = lambda x, factor=factor: (fun(x), lambda ct: (factor * np.asarray(ct) / x,))
            report = check.check_vjp(fun, rule, np.array([0.0, 1.0, 2.0]))
            assert [f.cause for f in report.findings] == causes, str(report)


def test_a_wrong_rule_within_fun_is_seen_beside_an_infinite_place():
    fun = lambda x: cube(x) + jnp.sqrt(x)
    report = check.check_vjp(fun, jax_vjp(fun), HALF_LINE)
    assert "custom rule that is wrong" in report.notes[0]
    assert not report.passed
