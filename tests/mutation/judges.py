"""The judges of tests/reverse/test_rules.py, quickest first, as one question: does a mutant survive?

What a probe cannot show (programs outside jit, references, users' derivatives, ends of a domain) is shown by tests that
are written by hand.  These judge last, in a pytest within this process.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import oracles
import pytest

from functional_dl.reverse.rule import Rule
from tests.mutation.mutants import Mutant, planted, users
from tests.reverse import test_rules

REVERSE = Path(test_rules.__file__).parent
JUDGES: tuple[tuple[Callable, list], ...] = (
    (test_rules.test_equals_jax, test_rules.CASES),
    (test_rules.test_other_shapes, test_rules.SHAPE_CASES),
    (test_rules.test_equals_differences_and_the_adjoint, test_rules.ADJOINT_CASES),
    (test_rules.test_second_order_equals_jax, test_rules.SECOND_ORDER_CASES),
    (test_rules.test_is_linear_in_the_cotangent_and_unchanged_by_vmap, test_rules.BATCH_CASES),
    (test_rules.test_equals_multiple_precision, test_rules.EXACT_CASES),
)
CHEAP = ("float64", "complex128")

# Family, or function of one -> the tests by hand that it is held by: file, and which of its tests (pytest's -k).
REFERENCES = (("test_references.py", ""),)
BY_HAND: dict[str, tuple[tuple[str, str], ...]] = {
    "arithmetic": (("test_accuracy.py", "power or at or div or cube"),),
    "calls": (
        ("test_custom_derivatives.py", "symbolic or by_hand or numbers or eager"),
        ("test_control_flow.py", "eager and (saved or checkpointed) or policy"),
    ),
    "cond": (("test_control_flow.py", "eager and (cond or nested)"),),
    "cond._cond_on_contents": REFERENCES,
    "decompositions": (("test_factors.py", ""),),
    "elementwise": (("test_accuracy.py", "at or arcosh or twice"),),
    "linear_algebra": (("test_factors.py", ""), ("test_roots.py", "")),
    "piecewise": (("test_piecewise.py", ""),),
    "random": (("test_accuracy.py", "gamma"),),
    "references": REFERENCES,
    "scan": (("test_control_flow.py", "eager and (recurrent or invariant) or does_not_change"),),
    "scan._scan_on_contents": REFERENCES,
    "scattering": (("test_places.py", "scatter or apply or ties"),),
    "special": (
        ("test_special_values.py", "i1e or igamma or betainc"),
        ("test_accuracy.py", "gamma or beta or rem or bessel"),
    ),
    "while_loop": (("test_control_flow.py", "while_equals or while_second or while_loop"),),
    "while_loop._while_on_contents": REFERENCES,
    "windows": (("test_pooling.py", ""),),
}


_answers: dict = {}


def judge(fun, args, *cts):
    """oracles.judge, whose part in JAX is the same for every mutant and computed once."""
    key = (fun, *[(x.dtype.name, x.shape, np.asarray(x).tobytes()) for x in args])

    @jax.jit
    def references(args, leaves):
        full = [oracles.with_floating(ct, floating) for ct, floating in zip(cts, leaves)]
        return [(oracles.reference(fun, args, ct), oracles.magnitudes(fun, args, ct)) for ct in full]

    @jax.jit
    def ours(args, leaves):
        return [oracles.ours(fun, args, oracles.with_floating(ct, floating)) for ct, floating in zip(cts, leaves)]

    leaves = [oracles.floating_leaves(ct) for ct in cts]
    if key not in _answers:
        _answers[key] = references(args, leaves)
    return [(bars, *known) for bars, known in zip(ours(args, leaves), _answers[key])]


def questions(rules: list[Rule]) -> Iterator[tuple[Callable, tuple]]:
    """Judges and cases of these rules: the default tests, then the other dtypes of the first."""
    primitives = {rule.primitive for rule in rules}
    for test, cases in JUDGES:
        own = [c for c in cases if c.values[0].primitive in primitives and not c.marks]
        for case in sorted(own, key=lambda c: c.values[2] not in CHEAP):
            yield test, case.values
    for case in test_rules.CASES:
        if case.values[0].primitive in primitives and case.marks:
            yield in_the_campaign, case.values


def in_the_campaign(*case):
    test_rules.test_equals_jax(*case)


def death(mutant: Mutant, asks: Callable[[], None] = lambda: None) -> str | None:
    """What kills the mutant, a judge or an error; None if it survives.  `asks` is called before each question."""
    rules = users(mutant.module)[mutant.function]
    with planted(mutant), mock.patch.object(oracles, "judge", judge), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test, case in questions(rules):
            asks()
            try:
                test(*case)
            except AssertionError:
                return test.__name__
            except Exception as e:
                return type(e).__name__
        return failing_by_hand(mutant.module, mutant.function, asks)


class _Asking:
    """A pytest plugin that calls `asks` before every test."""

    def __init__(self, asks):
        self.asks = asks

    def pytest_runtest_logstart(self):
        self.asks()


def failing_by_hand(family: str, function: str, asks: Callable[[], None] = lambda: None) -> str | None:
    """The file of the first test by hand that fails; None if all pass, or there are none."""
    for file, chosen in BY_HAND.get(f"{family}.{function}") or BY_HAND.get(family, ()):
        jax.clear_caches()  # a function that an earlier test had compiled would be the earlier one's
        said = io.StringIO()
        options = ["-x", "-q", "-s", "-p", "no:cacheprovider", "-W", "ignore", f"{REVERSE / file}"]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main([*options, "-k", chosen] if chosen else options, plugins=[_Asking(asks)])
        jax.clear_caches()
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(f"pytest ended with {code!r} on {file}, chosen by {chosen!r}:\n{said.getvalue()}")
        if code != pytest.ExitCode.OK:
            return file
    return None
