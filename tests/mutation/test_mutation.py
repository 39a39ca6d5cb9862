"""The mutation machinery on a handful of mutants; `python -m tests.mutation` judges them all."""

import ast
import copy

import pytest

from functional_dl import reverse
from tests.mutation.judges import BY_HAND, REVERSE, death, failing_by_hand
from tests.mutation.mutants import Mutant, families, mutants, planted, users
from tests.mutation.survivors import REASONS, reason

KILLED = [
    ("elementwise", "cos_vjp", "neg dropped"),
    ("elementwise", "atan2_vjp", "cotangent 0 times 2"),
    ("arithmetic", "sub_vjp", "cotangent 1 times -1"),
    ("arithmetic", "div_vjp", "div: operands swapped"),
    ("contractions", "dot_general_vjp", "dot_general: operands swapped"),
    ("reductions", "_chosen_bar", "div -> mul"),
]


def chosen(family: str, function: str, change: str) -> Mutant:
    return next(m for m in mutants(family) if m.function == function and m.change == change)


@pytest.mark.parametrize("where", KILLED, ids=" ".join)
def test_is_killed(where):
    assert death(chosen(*where)) is not None


def test_an_equivalent_mutant_survives():
    """-y_bar, negated twice."""
    mutant = chosen("arithmetic", "neg_vjp", "cotangent 0 times -1")
    unchanged = mutant._replace(tree=_undone(mutant))
    assert death(unchanged) is None


def test_tests_by_hand_judge_what_probes_do_not_show():
    [complex_extrema] = [m for m in mutants("piecewise") if m.function == "_winners_bar" and m.change == "eq -> ne"]
    asked = []
    with planted(complex_extrema):
        assert failing_by_hand("piecewise", "_winners_bar", lambda: asked.append(1)) == "test_piecewise.py"
    assert asked
    assert failing_by_hand("piecewise", "_winners_bar") is None


def test_tests_by_hand_are_there():
    for where, tests in BY_HAND.items():
        family, *function = where.split(".")
        assert set(function) <= set(users(family))
        assert all((REVERSE / file).exists() for file, _ in tests)


def _undone(mutant):
    """The mutant with its mistake made twice."""
    tree = copy.deepcopy(mutant.tree)
    returned = tree.body[-1].value.elts
    returned[0] = ast.Call(ast.Name("__scaled", ast.Load()), [returned[0], ast.Constant(-1)], [])
    return ast.fix_missing_locations(tree)


def test_rules_are_put_back():
    before = dict(reverse.RULES)
    mutant = chosen(*KILLED[0])
    with planted(mutant):
        assert dict(reverse.RULES) != before
    assert dict(reverse.RULES) == before


def test_every_rule_has_mutants():
    mutated = {rule.primitive for family in families() for rules in users(family).values() for rule in rules}
    assert mutated == set(reverse.RULES)


def test_reasons_belong_to_mutants():
    named = {key: key.split(":")[0].split(".", 1) for key, _ in REASONS}
    there = {
        family: {(m.name, m.function, m.change) for m in mutants(family)} for family in {f for f, _ in named.values()}
    }
    for key, change in REASONS:
        family, function = named[key]
        found = [m for m in there[family] if key in (m[0], f"{family}.{function}") and m[1] == function]
        assert [m for m in found if change in ("", m[2])], f"{key}, {change}: no such mutant"


def test_a_survivor_without_a_reason_has_none():
    assert reason("elementwise.cos_vjp:0", "neg dropped") is None
    assert reason("special._wide:1", "2 -> 3")
