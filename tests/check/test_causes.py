"""Small wrong backward passes, one for each diagnosis that needs no long function, and what fills the candidates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from functional_dl import check


def drawn(*shape):
    return jnp.array(np.random.default_rng(sum(shape)).normal(size=shape))


def dense(x, w):
    return jnp.tanh(x @ w)


def convolution(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (2, 2), "VALID")


def spread(ct):
    return jnp.repeat(jnp.repeat(ct, 2, 0), 2, 1)


def split(x):
    return jnp.tanh(x.reshape(4, 2, 3).transpose(1, 0, 2))


def huber(x):
    return jnp.where(jnp.abs(x) < 1, 0.5 * x * x, jnp.abs(x) - 0.5)


MASK = np.random.default_rng(1).random((5, 6)) > 0.4
TURN = jnp.array([[0.8, -0.6], [0.6, 0.8]])


def unflipped(x, kernel, ct):
    return convolution(ct, jnp.swapaxes(kernel, 2, 3)), jax.vjp(convolution, x, kernel)[1](ct)[1]


# name -> function, wrong cotangents(*primals, ct), primals, the cause, what the sentence says
CASES = {
    "slip in a formula of the output": (
        dense, lambda x, w, ct: ((ct * (1 - dense(x, w))) @ w.T, x.T @ (ct * (1 - dense(x, w)))),
        (drawn(5, 3), drawn(3, 4)), "wrong_point", "square is missing",
    ),
    "factor left out": (
        dense, lambda x, w, ct: ((ct * (1 - dense(x, w) ** 2)) @ w.T, x.T @ ct),
        (drawn(5, 3), drawn(3, 4)), "missing_factor", "left out",
    ),
    "kernel not turned round": (
        convolution, unflipped, (drawn(1, 5, 5, 2), drawn(3, 3, 2, 2)), "wrong_point", "not flipped",
    ),
    "window's share": (pooled, lambda x, ct: (spread(ct) / 4,), (drawn(4, 6),), "wrong_branch", "equal part"),
    "whole window": (pooled, lambda x, ct: (spread(ct),), (drawn(4, 6),), "wrong_branch", "every entry of a window"),
    "sum that runs the same way": (
        lambda x: jnp.cumsum(x, axis=1), lambda x, ct: (jnp.cumsum(ct, axis=1),), (drawn(3, 5),), "not_transposed",
        "J ct",
    ),
    "roll": (
        lambda x: jnp.roll(x, 2, axis=0), lambda x, ct: (jnp.roll(ct, 2, axis=0),), (drawn(9, 2),), "not_transposed",
        "J ct",
    ),
    "sort's inverse": (
        lambda x: jnp.sort(x, axis=-1),
        lambda x, ct: (jnp.take_along_axis(ct, jnp.argsort(x, axis=-1), axis=-1),), (drawn(3, 7),), "not_transposed",
        "J ct",
    ),
    "reshape for a transpose": (
        split, lambda x, ct: ((ct * (1 - split(x) ** 2)).reshape(x.shape),), (drawn(4, 6),), "transpose", "",
    ),
    "gain not applied": (
        lambda x, g: jnp.tanh(x * g[None]),
        lambda x, g, ct: (
            ct * (1 - jnp.tanh(x * g[None]) ** 2), (ct * (1 - jnp.tanh(x * g[None]) ** 2) * x).sum(0)),
        (drawn(5, 6), drawn(6)), "missing_factor", "the factor args[1]",
    ),
    "factor of a chain": (
        lambda x: jnp.sum(jnp.sin(jnp.exp(x))), lambda x, ct: (ct * jnp.cos(jnp.exp(x)),), (drawn(7),),
        "missing_factor", "exp",
    ),
    "square of a quotient's divisor": (
        lambda p: jnp.sum(p) / jnp.sum(p * p),
        lambda p, ct: (ct * (1 / jnp.sum(p * p) - jnp.sum(p) / jnp.sum(p * p) ** 2 * jnp.ones_like(p)),), (drawn(8),),
        "missing_factor", "2 x",
    ),
    "mask that is an argument": (
        lambda x, m: jnp.tanh(x) * m, lambda x, m, ct: ((1 - jnp.tanh(x) ** 2) * ct, jnp.tanh(x) * ct),
        (drawn(5, 6), 2.0 * (np.asarray(drawn(6, 5)).T > 0)), "mask_missing", "mask",
    ),
    "mask of fun's own": (
        lambda x: jnp.where(MASK, jnp.sin(x), 0) @ x.T, lambda x, ct: (ct @ x * jnp.cos(x) + ct.T @ jnp.where(MASK,
            jnp.sin(x), 0),), (drawn(5, 6),), "mask_missing", "mask",
    ),
    "rotation forwards": (
        lambda x: x @ TURN.T, lambda x, ct: (ct @ TURN.T,), (drawn(6, 2),), "not_transposed", "J ct",
    ),
    "weights as they stand": (
        lambda x, w: jnp.tanh(x @ w) @ w, lambda x, w, ct: (
            ((ct @ w.T) * (1 - jnp.tanh(x @ w) ** 2)) @ w, jax.vjp(lambda w: jnp.tanh(x @ w) @ w, w)[1](ct)[0]),
        (drawn(3, 4), drawn(4, 4)), "not_transposed", "transpose",
    ),
    "threshold inverted": (
        huber, lambda x, ct: (jnp.where(jnp.abs(x) >= 1, x, jnp.sign(x)) * ct,), (2 * drawn(20),), "wrong_branch",
        "inverted",
    ),
    "threshold misplaced": (
        huber, lambda x, ct: (jnp.where(jnp.abs(x) < 0.3, x, jnp.sign(x)) * ct,), (2 * drawn(20),), "wrong_branch",
        "other case",
    ),
    "agreement at 0 and 1 alone": (
        lambda x: x**3, lambda x, ct: (3 * x * ct,), (jnp.array([0.0, 1.0, 2.0, -3.0]),), "missing_factor", "args[0]",
    ),
    "no number of three": (
        lambda x: x**3, lambda x, ct: (2 * x * x * ct,), (drawn(3),), "scale", "0.666667 times the right one.",
    ),
    "a row in words": (
        lambda x: jnp.sin(x), lambda x, ct: ((ct * jnp.cos(x)).at[50].set(0),), (drawn(60, 3),), "unknown",
        "all of row 50 is zero",
    ),
    "the last columns in words": (
        lambda x: jnp.sin(x), lambda x, ct: ((ct * jnp.cos(x)).at[:, 16:].set(0),), (drawn(3, 20),), "wrong_branch",
        "columns 16 to 19 (the last 4 of 20)",
    ),
    "one index of an axis": (
        lambda x, b: x * b[None], lambda x, b, ct: (ct * b[None], (ct * x)[0]), (drawn(6, 3), drawn(3)),
        "missing_reduction", "first index",
    ),
}  # fmt: skip


def judged(fun, cotangents, primals):
    return check.check_vjp(fun, lambda *args: (fun(*args), lambda ct: cotangents(*args, ct)), *primals)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(3)
def test_cause(name):
    fun, cotangents, primals, cause, words = CASES[name]
    report = judged(fun, cotangents, primals)
    finding = report.findings[0]
    assert finding.cause == cause, str(report)
    assert words in finding.message


def test_what_nothing_explains_has_two_likely_causes_beside_unknown():
    def wrong(x, ct):
        return (ct * jnp.cos(x**2) * 2 * x + 0.3 * jnp.roll(ct, 2) * jnp.exp(x),)

    finding = judged(lambda x: jnp.sin(x**2), wrong, (drawn(8),)).findings[0]
    assert finding.cause == "unknown"
    assert finding.candidates[0] == "unknown"
    assert len(set(finding.candidates)) == 3
    assert set(finding.candidates) <= set(check.CAUSES)


def test_a_conjugate_is_likely_where_numbers_are_complex():
    def wrong(z, ct):
        return (ct * jnp.exp(z) + 0.7 * ct * jnp.sin(z),)

    finding = judged(jnp.exp, wrong, (lax.complex(drawn(5), drawn(5)[::-1]),)).findings[0]
    assert "missing_conjugate" in finding.candidates


def test_a_cotangent_of_fewer_bits_is_one_fault():
    def halved(x, ct):
        return ((ct * jnp.cos(x)).astype(jnp.float16),)

    report = judged(jnp.sin, halved, (drawn(6),))
    assert [f.cause for f in report.findings] == ["dtype"]


def test_a_fault_that_cannot_be_simulated_spoils_no_other(monkeypatch):
    from functional_dl.check.simulation import fault, program

    def broken(*_):
        raise ValueError("planted")

    whole = program.faults_of
    planted = fault.Fault(0, "sign", "planted", broken, 0.9)
    monkeypatch.setattr(program, "faults_of", lambda *args: [planted, *whole(*args)])
    fun, cotangents, primals, cause, words = CASES["factor left out"]
    finding = judged(fun, cotangents, primals).findings[0]
    assert finding.cause == cause
    assert words in finding.message


class Buffer:
    """A pass that keeps an array from call to call."""

    def __init__(self, kind):
        self.kind, self.kept = kind, 0.0

    def __call__(self, x, ct):
        own = ct * jnp.cos(x)
        given = own + (jnp.sin(3 * x) if self.kind == "not empty" else self.kept)
        self.kept = given if self.kind == "all calls" else own
        return (given,)


@pytest.mark.parametrize(("kind", "words"), [("all calls", "all calls before it"), ("last call", "the call before it"),
                                             ("not empty", "whatever the incoming cotangent")])  # fmt: skip
def test_what_an_earlier_call_left(kind, words):
    [finding] = judged(jnp.sin, Buffer(kind), (drawn(5),)).findings
    assert finding.cause == "accumulated"
    assert words in finding.message


def test_a_diagnosis_ends_in_time():
    """With no time at all the fault is found, and named by nothing that has to be searched for."""
    fun, cotangents, primals, *_ = CASES["slip in a formula of the output"]
    right = lambda *args: (fun(*args), lambda ct: cotangents(*args, ct))
    report = check.check_vjp(fun, right, *primals, budget=0.0)
    assert {f.cause for f in report.findings} == {"unknown"}
    assert all(len(f.candidates) == 3 for f in report.findings)
