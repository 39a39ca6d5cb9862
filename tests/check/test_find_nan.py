"""find_nan names the line, the direction and the mechanism of every case, and nothing for finite programs."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check, reverse
from tests.check.nan_cases import CASES, CONTROLS

pytestmark = pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")


@pytest.fixture(autouse=True)
def _promotion():
    """The cases are written as users write them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def line_of(fun) -> int:
    lines, first = inspect.getsourcelines(inspect.unwrap(fun))
    [offset] = [i for i, text in enumerate(lines) if text.rstrip().endswith("# here")]
    return first + offset


def is_bad(tree) -> bool:
    return any(not np.isfinite(np.asarray(x, np.float64)).all() for x in jax.tree.leaves(tree))


def value_and_gradient(fun, args):
    def total(*args):
        return jnp.sum(jnp.asarray(fun(*args), jnp.float32))

    floating = tuple(i for i, x in enumerate(args) if x.dtype == np.float32)
    try:
        return jax.jit(lambda *args: (fun(*args), jax.grad(total, floating)(*args)))(*args)
    except ValueError:  # a while_loop, of which the value is enough
        return jax.jit(fun)(*args), ()


@pytest.mark.parametrize("name", CASES)
def test_origin(name):
    case = CASES[name]
    args = tuple(map(jnp.asarray, case.args))
    value, gradient = value_and_gradient(case.fun, args)
    assert is_bad(value if case.direction == "forward" else gradient), "the case does not show what it should"
    assert is_bad(value) == (case.direction == "forward")
    report = check.find_nan(case.fun, *args)
    assert report.found
    assert (report.direction, report.source.rsplit(":", 1)[1]) == (case.direction, str(line_of(case.fun))), str(report)
    assert report.source.rsplit(":", 1)[0].endswith("nan_cases.py")
    assert case.words in report.mechanism, str(report)
    assert report.suggestion
    assert report.verified == case.verified, str(report)
    assert report.operands


@pytest.mark.parametrize("name", CONTROLS)
def test_finite_programs_are_left_alone(name):
    fun, args = CONTROLS[name]
    args = tuple(map(jnp.asarray, args))
    assert not is_bad(value_and_gradient(fun, args))
    report = check.find_nan(fun, *args)
    assert not report.found, str(report)
    assert "finite" in str(report)


def test_a_non_finite_cotangent_that_reaches_no_input_is_no_fault():
    """The double where: sqrt at the replaced operand is given an infinite slope, which the inner where keeps back."""
    fun = lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 0)), 0)
    x = np.array([0, 4], np.float32)
    assert not is_bad(value_and_gradient(fun, (x,))[1])
    report = check.find_nan(fun, x)
    assert not report.found, str(report)
    # the same beside a cotangent that does reach one
    report = check.find_nan(lambda x, y: fun(x) + jnp.sqrt(y), x, x)
    assert report.found
    assert (report.equation, report.direction) == ("sqrt", "backward")


def test_there_are_enough_cases():
    assert len(CASES) >= 40
    assert len(CONTROLS) >= 20


def test_another_differentiator_may_be_searched():
    """x**0.5 at 0 times 0: infinite in JAX's sweep and in ours; x**1 at 0 in neither."""
    assert check.find_nan(lambda x: x**0.5, np.float32(0), differentiate=reverse.vjp).found
    assert not check.find_nan(lambda x: x**1.0, np.float32(0), differentiate=reverse.vjp).found


def test_report_reads_as_a_sentence():
    text = str(check.find_nan(CASES["masked_root"].fun, *CASES["masked_root"].args))
    assert re.search(r"nan_cases\.py:\d+: sqrt, backward: 0 \* inf from an unselected `where` branch", text)
    assert "double where" in text


def test_fun_must_be_callable():
    with pytest.raises(TypeError, match="fun: expected a callable"):
        check.find_nan(3.0, np.float32(1))
