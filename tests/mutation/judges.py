"""The judges of tests/reverse/test_rules.py, quickest first, as one question: does a mutant survive?"""

import warnings
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import numpy as np
import oracles

from functional_dl.reverse.rule import Rule
from tests.mutation.mutants import Mutant, planted, users
from tests.reverse import test_rules

JUDGES: tuple[tuple[Callable, list], ...] = (
    (test_rules.test_equals_jax, test_rules.CASES),
    (test_rules.test_other_shapes, test_rules.SHAPE_CASES),
    (test_rules.test_equals_differences_and_the_adjoint, test_rules.ADJOINT_CASES),
    (test_rules.test_second_order_equals_jax, test_rules.SECOND_ORDER_CASES),
    (test_rules.test_is_linear_in_the_cotangent_and_unchanged_by_vmap, test_rules.BATCH_CASES),
    (test_rules.test_equals_multiple_precision, test_rules.EXACT_CASES),
)
CHEAP = ("float64", "complex128")


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


def death(mutant: Mutant) -> str | None:
    """What kills the mutant: a judge's name, or an error's; None if it survives."""
    rules = users(mutant.module)[mutant.function]
    with planted(mutant), mock.patch.object(oracles, "judge", judge), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for test, case in questions(rules):
            try:
                test(*case)
            except AssertionError:
                return test.__name__
            except Exception as e:
                return type(e).__name__
    return None
