"""The judges of tests/reverse/test_rules.py, quickest first, as one question: does a mutant survive?"""

import warnings
from collections.abc import Callable, Iterator

import test_rules

from functional_dl.reverse.rule import Rule
from tests.mutation.mutants import Mutant, planted, users

JUDGES: tuple[tuple[Callable, list], ...] = (
    (test_rules.test_equals_jax, test_rules.CASES),
    (test_rules.test_other_shapes, test_rules.SHAPE_CASES),
    (test_rules.test_equals_differences_and_the_adjoint, test_rules.ADJOINT_CASES),
    (test_rules.test_second_order_equals_jax, test_rules.SECOND_ORDER_CASES),
    (test_rules.test_is_linear_in_the_cotangent_and_unchanged_by_vmap, test_rules.BATCH_CASES),
    (test_rules.test_equals_multiple_precision, test_rules.EXACT_CASES),
)
CHEAP = ("float64", "complex128")


def questions(rules: list[Rule]) -> Iterator[tuple[Callable, tuple]]:
    """Judges and cases of these rules: what the default tests ask first, then what the campaign asks."""
    primitives = {rule.primitive for rule in rules}
    for campaign in (False, True):
        for judge, cases in JUDGES:
            own = [c for c in cases if c.values[0].primitive in primitives and bool(c.marks) == campaign]
            for case in sorted(own, key=lambda c: c.values[2] not in CHEAP):
                yield judge, case.values


def death(mutant: Mutant) -> str | None:
    """What kills the mutant: a judge's name, or an error's; None if it survives."""
    rules = users(mutant.module)[mutant.function]
    with planted(mutant), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for judge, case in questions(rules):
            try:
                judge(*case)
            except AssertionError:
                return judge.__name__
            except Exception as e:
                return type(e).__name__
    return None
