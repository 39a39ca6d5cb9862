"""The judges of tests/reverse/judges.py, quickest first, as one question: does a mutant survive?

What a probe cannot show (programs outside jit, references, users' derivatives, ends of a domain) is shown by tests that
are written by hand.  These judge last, in a pytest within this process.
"""

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from functional_dl.reverse.rule import Rule
from tests.mutation.mutants import Mutant, planted, users
from tests.reverse.judges import JUDGES, Case, Judge, computed, questions

REVERSE = Path(__file__).parents[1] / "reverse"
CHEAP = ("float64", "complex128")

# Family, or function of one -> the tests by hand that it is held by: file, and which of its tests (pytest's -k).
REFERENCES = (("test_references.py", ""),)
BY_HAND: dict[str, tuple[tuple[str, str], ...]] = {
    "budget": (("test_residuals.py", ""),),
    "arithmetic": (("test_accuracy.py", "power or at or div or cube"),),
    "calls": (
        ("test_custom_derivatives.py", ""),
        ("test_control_flow.py", "saved or checkpointed or policy"),
    ),
    "checkpoint": (
        ("test_control_flow.py", "checkpoint or policy or remat"),
        ("test_residuals.py", "checkpoint"),
        ("test_scopes.py", ""),
        ("test_references.py", "checkpoint"),
    ),
    "cond": (("test_control_flow.py", ""), ("test_residuals.py", "branches"), ("test_eager.py", "")),
    "cond._cond_on_contents": REFERENCES,
    "decompositions": (("test_factors.py", ""),),
    "contractions": (("test_tracing.py", ""), ("test_types.py", "")),
    "elementwise": (("test_accuracy.py", ""), ("test_special_values.py", "")),
    "foreign": (
        ("test_foreign.py", "not object and (by_hand or told or alone or no_rule or missing or owners or refused)"),
        ("test_foreign.py", "equals_jax and (eager or jit)"),
    ),
    "foreign.rule_of_others": (
        ("test_foreign.py", "not object and not equals"),
        ("test_libraries.py", "where_the_library"),
    ),
    "indexing": (("test_with_refs.py", ""), ("test_places.py", "index or slice or place"), ("test_tracing.py", "")),
    "layout": (
        ("test_meshes.py", "mesh and not probe and not programs or programs_have_the_types"),
        ("test_scopes.py", ""),
        ("test_types.py", ""),
    ),
    "libraries": (("test_libraries.py", ""),),
    "linear_algebra": (("test_factors.py", ""), ("test_roots.py", "")),
    "objects": (("test_foreign.py", "object"),),
    "piecewise": (("test_piecewise.py", ""),),
    "random": (("test_accuracy.py", "gamma"),),
    "references": REFERENCES,
    "residuals": (("test_residuals.py", ""), ("test_transformations.py", "")),
    "scan": (("test_control_flow.py", "recurrent or invariant or does_not_change"),),
    "scan._scan_on_contents": REFERENCES,
    "scattering": (("test_places.py", "scatter or apply or ties"),),
    "sorting": (("test_places.py", "sort or ties"), ("test_types.py", "")),
    "special": (
        ("test_special_values.py", "i1e or igamma or betainc"),
        ("test_accuracy.py", "gamma or beta or rem or bessel"),
    ),
    "while_loop": (("test_control_flow.py", "while_equals or while_second or while_loop"),),
    "while_loop._while_on_contents": REFERENCES,
    "windows": (("test_pooling.py", ""),),
}


@functools.cache
def theirs(case: Case, judge: Judge) -> Any:
    """What the judge holds the rule to: the same for every mutant, and computed once."""
    return computed(case, {"theirs": judge.theirs})["theirs"]


def asked(rules: list[Rule]) -> Iterator[tuple[Case, Judge]]:
    """Cases and judges of these rules: the default tests, judge after judge, then JAX and the adjoint in what is left
    over."""
    own = list(dict.fromkeys(rules))
    now, later = ([(c, judge) for c, judges in questions(own, late) for judge in judges] for late in (False, True))
    yield from sorted(now, key=lambda pair: (JUDGES.index(pair[1]), pair[0].dtype not in CHEAP))
    yield from ((case, judge) for case, judge in later if judge in (JUDGES[0], JUDGES[2]))


def death(mutant: Mutant, asks: Callable[[], None] = lambda: None) -> str | None:
    """What kills the mutant, a judge or an error; None if it survives.  `asks` is called before each question."""
    rules = users(mutant.module)[mutant.function]
    with planted(mutant), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case, judge in asked(rules):
            asks()
            try:
                judge.compare(case, computed(case, {"ours": judge.ours})["ours"], theirs(case, judge))
            except AssertionError:
                return judge.name
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
        # of tables that the default run samples every case
        options = ["-x", "-q", "-s", "-p", "no:cacheprovider", "-W", "ignore", "-m", "not campaign or sampled"]
        options += [f"{REVERSE / file}"]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main([*options, "-k", chosen] if chosen else options, plugins=[_Asking(asks)])
        jax.clear_caches()
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(f"pytest ended with {code!r} on {file}, chosen by {chosen!r}:\n{said.getvalue()}")
        if code != pytest.ExitCode.OK:
            return file
    return None
