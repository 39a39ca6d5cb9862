"""Every rule of the table against every judge (judges.py).  A new rule is tested because it is in the table."""

import jax
import oracles
import pytest
from every import every

from functional_dl import reverse
from functional_dl.jaxprs import all_equations
from functional_dl.reverse import rule as table
from tests.reverse import judges

RULES = pytest.mark.parametrize("rule", reverse.RULES.values(), ids=lambda rule: str(rule.primitive))


def held(rule, campaign: bool) -> int:
    """Asks every judge of the rule's probes in every dtype; returns how many questions that were."""
    asked = [(case, own, judge) for case, own in judges.questions([rule], campaign) for judge in own]
    return every(asked, lambda question: judges.hold(*question), name=lambda question: f"{question[0]}: {question[2]}")


@RULES
def test_every_judge_agrees(rule):
    held(rule, campaign=False)


@pytest.mark.campaign
@RULES
def test_every_judge_agrees_in_every_dtype(rule):
    held(rule, campaign=True)
    jax.clear_caches()  # what was compiled is not needed again, and fills the memory


def applies_its_primitive(case):
    jaxpr = jax.make_jaxpr(case.probe.fun)(*oracles.draw(case.probe, case.dtype))
    assert any(eqn.primitive is case.rule.primitive for eqn in all_equations(jaxpr))


def test_every_probe_applies_its_primitive():
    every((case for case in judges.cases() if case.dtype == case.probe.dtypes[0]), applies_its_primitive)


def test_every_entry_without_a_rule_has_a_reason():
    rest = [entry for entry in table.PRIMITIVES.values() if not isinstance(entry, table.Rule)]
    assert all(entry.reason for entry in rest)
    assert {type(entry) for entry in rest} == {table.Zero, table.Unsupported}
    assert len(rest) + len(table.RULES) == len(table.PRIMITIVES)


def test_every_rule_has_a_derivation_and_a_probe():
    for rule in reverse.RULES.values():
        assert rule.derivation, rule.primitive
        assert rule.probes, rule.primitive
        assert "_bar" in rule.derivation, f"{rule.primitive}: the derivation states no cotangent"
