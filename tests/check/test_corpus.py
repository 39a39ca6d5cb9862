"""The corpus: its cases are what they claim to be, and what check_vjp says of them.

A fixed spread of cases runs by default; the rest in a campaign.  User code runs under JAX's default settings for
promotion, so these tests do too.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.corpus import CORPUS
from functional_dl import check
from functional_dl.check.function import Function
from functional_dl.check.reference import random_like

AT_LEAST = 4  # wrong cases of every cause
SPREAD = 10  # wrong cases by default
FORM = {"structure", "dtype", "primal", "nondeterministic"}  # not to be seen from one call's numbers
CASES = list(CORPUS.cases.values())
DEFAULT = {
    c.name for c in [*CORPUS.wrong[7 :: len(CORPUS.wrong) // SPREAD], *CORPUS.right[5 :: len(CORPUS.right) // SPREAD]]
}


@pytest.fixture(autouse=True)
def users_settings():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def marked(cases):
    return [pytest.param(c, id=c.name, marks=() if c.name in DEFAULT else pytest.mark.campaign) for c in cases]


def test_every_cause_has_cases():
    counts = collections.Counter(c.cause for c in CORPUS.wrong)
    assert set(counts) == set(check.CAUSES)
    assert all(n >= (3 if cause == "unknown" else AT_LEAST) for cause, n in counts.items()), counts
    assert len(CORPUS.wrong) >= 150


def test_as_many_right_cases_by_dtype():
    for dtype, share in (("float64", 0.7), ("float32", 0.7), ("bfloat16", 0.5)):
        right = sum(dtype in c.dtypes for c in CORPUS.right)
        assert right >= share * sum(dtype in c.dtypes for c in CORPUS.wrong)


def test_labels_are_causes():
    for case in CASES:
        assert set(case.wrong.values()) | set(case.also) <= set(check.CAUSES), case.name
        assert not case.cause or case.cause in case.wrong.values(), case.name


def _cotangents(case):
    """Right and the case's cotangents by path, in float64."""
    primals = case.primals("float64")
    fun, fun_vjp = case.built()
    function = Function(fun, primals)
    out, pull = jax.vjp(fun, *primals)
    _, own = fun_vjp(*primals)
    rng = np.random.default_rng(0)
    ct = jax.tree.map(lambda y: jnp.asarray(random_like(y, rng)), out)
    bars = [None if bar is None else bar for bar in own(ct)]
    leaves = []
    for bar, primal in zip(bars, primals):
        count = len(jax.tree.leaves(primal))
        leaves += [None] * count if bar is None else jax.tree.leaves(bar, is_leaf=lambda x: x is None)
    right = jax.tree.leaves(pull(ct), is_leaf=lambda x: x is None)
    found = {}
    for i in function.active:
        e = np.asarray(right[i])
        found[function.paths[i]] = e, np.zeros_like(e) if leaves[i] is None else np.asarray(leaves[i])
    return found


def _traceable(case):
    return "float64" in case.dtypes and "numpy" not in case.name


@pytest.mark.parametrize(
    "case", marked(c for c in CORPUS.right if _traceable(c) and not ({"ties", "zeros", "10000"} & {c.variant}))
)
def test_right_passes_are_jaxs(case):
    """Hand-written and machine-made cotangents agree; ties may be shared in more than one way, so they are left out."""
    if any(word in case.name for word in ("at_zero", "ties", "at_bounds")):
        pytest.skip("more than one value is right")
    for path, (e, a) in _cotangents(case).items():
        size = np.max(np.abs(e), initial=0.0)
        np.testing.assert_allclose(a, e, rtol=1e-6, atol=1e-8 * size, err_msg=path)


@pytest.mark.parametrize("case", marked(c for c in CORPUS.wrong if _traceable(c) and not FORM & set(c.wrong.values())))
@pytest.mark.sampled(3)
def test_wrong_passes_differ_where_they_say(case):
    wrong = set()
    for path, (e, a) in _cotangents(case).items():
        if not np.allclose(a, e, rtol=1e-7, atol=1e-9 * np.max(np.abs(e), initial=1e-30)):
            wrong.add(path)
    assert set(case.wrong) <= wrong
    if "kink" not in case.wrong.values():
        assert wrong <= set(case.wrong)


def _dtypes(case):
    return [d for d in ("float64", "float32") if d in case.dtypes][-1:] or [case.dtypes[0]]


@pytest.mark.parametrize("case", marked(CORPUS.wrong))
@pytest.mark.sampled(3)
def test_wrong_passes_are_found(case):
    for dtype in _dtypes(case):
        fun, fun_vjp = case.built()
        report = check.check_vjp(fun, fun_vjp, *case.primals(dtype))
        assert not report.passed
        assert {f.argument for f in report.findings} & set(case.wrong) or "" in case.wrong


@pytest.mark.parametrize("case", marked(CORPUS.right))
@pytest.mark.sampled(4)
def test_right_passes_pass(case):
    for dtype in _dtypes(case):
        fun, fun_vjp = case.built()
        check.assert_vjp(fun, fun_vjp, *case.primals(dtype))
