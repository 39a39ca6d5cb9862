"""Limits: no error understated, no limit that is none, few refusals; sides, sequences, reasons."""

import math

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from calculus.limit_cases import INF, LIMITS, NONE, PLAIN, SEQUENCES
from calculus.score import REFUSED, RIGHT, WRONG, grade_limit, limits

from functional_dl import calculus
from functional_dl.calculus.ball import Arithmetic, bits_of, moved

# what the mission names, and one of each kind; the rest is for the campaign
QUICK = [
    "sin x / x", "|x| / x", "|x| / x, left", "|x| / x, right", "sin(1/x)", "x sin(1/x)", "(tan x - x) / x^3", "x^x",
    "floor x", "1/x^2", "log x, right", "sin x / (x - pi)", "(1 + 1/x)^x", "1/log x", "1/loglog x",
    "(x - 0.1) / (x^2 - 0.01)", "a spike at 1e-7", "x (sqrt(x^2 + 1) - x)",
]  # fmt: skip


def test_the_tables():
    """Enough cases, no name twice in a table, and every number that can be had by evaluating nearby agrees with it."""
    assert len(LIMITS) + len(SEQUENCES) + len(PLAIN) >= 70
    for table in (LIMITS, SEQUENCES, PLAIN):
        assert len({case.name for case in table}) == len(table)
    assert set(QUICK) <= {case.name for case in LIMITS}
    for case in LIMITS:
        answer = case.exact(mpmath)
        smooth = "sin(1" not in case.name and "log" not in case.name and not {"spike", "jump"} & set(case.name.split())
        if isinstance(answer, float) and math.isfinite(answer) and math.isfinite(case.x0) and smooth:
            h = (1 if case.side != "left" else -1) * 1e-3
            near = float(case.f(jnp.float64(case.x0 + h)))
            assert near == pytest.approx(answer, rel=0.05, abs=0.2) or answer == 1e30, case.name


@pytest.mark.parametrize("case", [case for case in LIMITS if case.name in QUICK], ids=lambda case: case.name)
def test_limits(case):
    grade, found = grade_limit(case)
    assert grade == RIGHT, found


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_limits_of_python_functions(case):
    grade, found = grade_limit(case)
    assert grade == RIGHT, found


@pytest.mark.parametrize("case", SEQUENCES, ids=lambda case: case.name)
def test_sequences(case):
    grade, found = grade_limit(case, sequence=True)
    assert grade == RIGHT, found


@pytest.mark.campaign
def test_the_whole_table(record_property):
    grades: dict = {RIGHT: [], WRONG: [], REFUSED: []}
    for _, case, grade, found, _ in limits():
        grades[grade].append((case.name, found))
    record_property("cases", sum(map(len, grades.values())))
    print({grade: len(names) for grade, names in grades.items()})
    assert not grades[WRONG], grades[WRONG]
    assert len(grades[REFUSED]) <= 3, grades[REFUSED]


def test_a_sequence_is_held_against_neighbouring_integers():
    """1 at primes, of which the samples of a sequence in Python meet none: no limit is claimed."""
    prime = lambda n: n > 1 and all(n % k for k in range(2, math.isqrt(n) + 1))
    found = calculus.limit_of_sequence(lambda n: 1.0 if prime(n) else 1 / n)
    assert found.exists is None, found


def test_both_sides_are_reported():
    found = calculus.limit(lambda x: jnp.abs(x) / x, 0.0)
    assert (found.left, found.right, found.exists) == (-1.0, 1.0, False)
    assert math.isnan(found.value)
    assert "differ" in found.reason
    found = calculus.limit(lambda x: 1 / x, 0.0)
    assert (found.left, found.right, found.exists) == (-INF, INF, False)


def test_a_function_that_is_defined_on_one_side():
    found = calculus.limit(lambda x: x * jnp.log(x), 0.0)
    assert abs(found.value) <= found.error + 1e-12
    assert found.exists
    assert math.isnan(found.left)
    assert "not defined to the left" in found.reason
    found = calculus.limit(jnp.log, -1.0)
    assert found.exists is False
    assert "not defined" in found.reason


def test_the_point_itself_is_never_evaluated():
    seen = []

    def f(x):
        seen.append(float(x))
        return math.cos(x)

    found = calculus.limit(f, 2.0)
    assert abs(found.value - math.cos(2.0)) <= found.error
    assert seen
    assert 2.0 not in seen


def test_reasons_are_sentences():
    for f, words in ((lambda x: jnp.sin(1 / x), "oscillat"), (lambda x: 1 / x**2, "grows beyond all bounds")):
        reason = calculus.limit(f, 0.0).reason
        assert words in reason
        assert reason.endswith(".")


REFUSALS = [
    (lambda: calculus.limit(jnp.sin, math.nan), ValueError, "x0: expected a number, inf or -inf, got NaN"),
    (lambda: calculus.limit(jnp.sin, np.ones(2)), ValueError, "x0: expected one number, got shape"),
    (lambda: calculus.limit(jnp.sin, 0.0, "up"), ValueError, "side: expected one of.*'up'"),
    (lambda: calculus.limit(2.0, 0.0), TypeError, "f: expected a function, got 2.0"),
    (lambda: calculus.limit(lambda x: jnp.stack([x, x]), 0.0), ValueError, "f: expected one real number.*\\(2,\\)"),
    (lambda: calculus.limit_of_sequence(2.0), TypeError, "f: expected a function"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_errors_of_wide_numbers_cover_cancellation():
    """1 - cos x at x = 1e-20 with 100 bits: nothing is left, and the error says so; with 300 bits it is right."""
    for bits in (100, 300):
        numbers = Arithmetic(bits)
        x = numbers.exact(2.0**-66)
        found = numbers.exact(1.0) - numbers.evaluate(lambda mp, v: mp.cos(v), x)
        with mpmath.workdps(200):
            true = 1 - mpmath.cos(mpmath.mpf(2) ** -66)
        assert abs(found.v - true) <= found.e * 2
        assert (found.e < true / 1000) == (bits == 300)


def test_rounded_constants():
    assert [bits_of(x) for x in (1.0, 0.5, 3.0, 0.75)] == [1, 1, 2, 2]
    assert moved(0.1, 1) == moved(0.1, 1) != 0
    assert moved(0.5, 1) == moved(3e6, 1) == moved(0.1, 0) == 0
    assert abs(moved(math.pi, 2)) <= math.ulp(math.pi)


def test_none_is_not_a_number():
    assert {case.answer for case in LIMITS if isinstance(case.answer, str)} == {NONE, "slow"}
