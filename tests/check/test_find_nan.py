"""find_nan names the line, the direction and the mechanism of every case, and nothing for finite programs."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from functional_dl import check, reverse
from tests.check import nan_cases, nan_more
from tests.check.nan_cases import F32

CASES, CONTROLS = nan_cases.CASES | nan_more.CASES, nan_cases.CONTROLS | nan_more.CONTROLS

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
@pytest.mark.sampled(4)
def test_origin(name):
    case = CASES[name]
    args = tuple(map(jnp.asarray, case.args))
    value, gradient = value_and_gradient(case.fun, args)
    in_value = case.direction == "forward" and not case.hidden
    assert is_bad(value if in_value else gradient), "the case does not show what it should"
    assert is_bad(value) == in_value
    report = check.find_nan(case.fun, *args)
    assert report.found
    assert (report.direction, report.source.rsplit(":", 1)[1]) == (case.direction, str(line_of(case.fun))), str(report)
    assert report.source.rsplit(":", 1)[0] == inspect.getsourcefile(inspect.unwrap(case.fun))
    assert case.words in report.mechanism, str(report)
    assert report.suggestion
    assert report.verified == case.verified, str(report)
    assert report.operands


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.sampled(3)
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
    assert len(CASES) >= 80
    assert len(CONTROLS) >= 38


def test_another_differentiator_may_be_searched():
    """x**0.5 at 0 times 0: infinite in JAX's sweep and in ours; x**1 at 0 in neither."""
    assert check.find_nan(lambda x: x**0.5, np.float32(0), differentiate=reverse.vjp).found
    assert not check.find_nan(lambda x: x**1.0, np.float32(0), differentiate=reverse.vjp).found


def test_report_reads_as_a_sentence():
    text = str(check.find_nan(CASES["masked_root"].fun, *CASES["masked_root"].args))
    assert re.search(r"nan_cases\.py:\d+: sqrt, backward: 0 \* inf from an unselected `where` branch", text)
    assert "run in its place" in text
    assert check.find_nan(CASES["masked_root"].fun, *CASES["masked_root"].args).suggestion.startswith("jnp.where(x > 0")


def test_fun_must_be_callable():
    with pytest.raises(TypeError, match="fun: expected a callable"):
        check.find_nan(3.0, np.float32(1))


def own_line(words) -> int:
    """The line of this file that is marked with the words."""
    lines = inspect.getsource(inspect.getmodule(own_line)).splitlines()
    [found] = [n for n, text in enumerate(lines, 1) if text.rstrip().endswith(f"# there: {words}")]
    return found


def long_while(x):
    def body(state):
        i, v = state
        return i + 1, jnp.where(i == 14_000, jnp.log(v - v), v * 1.0)  # there: the long loop

    return jax.lax.while_loop(lambda s: s[0] < 15_000, body, (0, x))[1]


def long_scan(x):
    def step(total, i):
        return total + 1 / (i - 25_000.0) * x, None  # there: the long scan

    return jax.lax.scan(step, x, jnp.arange(30_000, dtype=F32))[0]


@jax.custom_vjp
def normalised(x):
    return x / jnp.sqrt(jnp.sum(x**2) + 1)


def normalised_bwd(x, ct):
    size = jnp.sqrt(jnp.sum(x**2))
    return (ct / size,)  # there: the rule's quotient


normalised.defvjp(lambda x: (normalised.fun(x), x), normalised_bwd)


@jax.custom_jvp
def total_root(x):
    scaled = x - 1
    return jnp.sum(jnp.log(scaled))  # there: in the body


total_root.defjvp(lambda p, t: (total_root(p[0]), jnp.sum(t[0])))


def not_walked(x, y):
    return x * jnp.where(y > 0, y, jnp.inf)


# name -> function, arguments, direction, equation, words of its line ("" for any), words of the report
OTHERS = {
    "a round of a long while_loop": (long_while, (F32(2),), "forward", "log", "the long loop", "run to its end"),
    "a step of a long scan": (long_scan, (F32(1),), "forward", "div", "the long scan", "run to its end"),
    "within a custom rule": (
        lambda x: jnp.sum(normalised(x)), (np.zeros(3, F32),), "backward", "div", "the rule's quotient", "zero",
    ),
    "within a function that reduces": (
        lambda x: total_root(x) * 2, (np.ones(3, F32),), "forward", "log", "in the body", "log of 0",
    ),
    "singular values that are alike": (
        lambda x: jnp.sum(jnp.linalg.svd(jnp.eye(3) * x[0])[0]), (np.ones(1, F32),), "backward", "svd", "", "singular",
    ),
    "an infinite factor that is masked": (
        lambda x: jnp.sum(jnp.where(x > 0, jnp.log(x) * x[::-1], 0)), (np.array([0, 2, 3], F32),), "forward", "log", "",
        "unselected",
    ),
    "NaN beside, cleared by another path": (
        lambda x, y: jnp.sum(jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 0)), 0) * y) + jnp.sum(y**0.5),
        (np.array([0, 4], F32), np.array([1, 0], F32)), "backward", "pow", "", "x = 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_origins(name):
    fun, args, direction, equation, line, words = OTHERS[name]
    report = check.find_nan(fun, *args)
    assert (report.found, report.direction, report.equation) == (True, direction, equation), str(report)
    assert not line or report.source.endswith(f"test_find_nan.py:{own_line(line)}"), str(report)
    assert words in str(report)


def test_a_long_loop_that_is_finite_is_said_to_be_run_compiled():
    report = check.find_nan(lambda x: jax.lax.fori_loop(0, jnp.int32(x) + 14_999, lambda i, v: jnp.sin(v), x), F32(1))
    assert not report.found
    assert "too long to be taken apart" in str(report)


def test_what_is_given_is_said():
    report = check.find_nan(jnp.sin, np.array([1, np.nan], F32))
    assert not report.found
    assert report.given == "args[0][1] is nan"
    assert "given: args[0][1] is nan" in str(report)
    assert "value and its gradient are finite" not in str(report)


def test_a_python_branch_gets_a_hint():
    with pytest.raises(TypeError, match=r"jnp\.where, jax\.lax\.cond"):
        check.find_nan(lambda x: x if x > 0 else -x, F32(1))


def test_operands_are_those_of_the_place():
    report = check.find_nan(lambda x, y: jnp.sum(x / y), np.ones((2, 3), F32), np.array([[2], [0]], F32))
    assert report.operands["operand 1"] == "0"
    report = check.find_nan(lambda x: jnp.sum(jnp.dot(x, x)), np.full((2, 2), 1e30, F32))
    assert "1e+30" in report.operands["operand 0"]


MENDED = ("masked_root", "masked_log", "sinc", "masked_power", "masked_arccos", "masked_exp", "masked_rsqrt",
          "masked_square_reciprocal", "norm_by_hand", "normalised", "entropy", "softmax", "angle_of_zero")  # fmt: skip


def test_mends_are_what_is_printed():
    """Each is an expression that JAX evaluates, finite with a finite gradient at the place that is shown."""
    for name in MENDED:
        report = check.find_nan(CASES[name].fun, *map(jnp.asarray, CASES[name].args))
        assert report.verified, name
        text = report.suggestion.partition("   with ")[0]
        own = [jnp.float32(v) for k, v in report.operands.items() if k == "x" or k.startswith("operand")]

        def fun(*own, text=text):
            return eval(text, {"jax": jax, "jnp": jnp}, dict(zip("xy", own)))

        assert not is_bad(jax.value_and_grad(fun)(*own)), (name, text)


def test_a_mend_that_changes_other_values_is_not_offered():
    """exp(x - max) is finite, and is no logsumexp."""
    report = check.find_nan(lambda x: jnp.log(jnp.sum(jnp.exp(x))), np.array([1000, 1], F32))
    assert report.found
    assert not report.verified
    assert "advice" in str(report)
