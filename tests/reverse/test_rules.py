"""Every rule of the table against every judge (judges.py).  A new rule is tested because it is in the table."""

import jax
import oracles
import pytest
from every import every

from functional_dl import reverse
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


def primitives_of(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from primitives_of(inner)


def applies_its_primitive(case):
    args = oracles.draw(case.probe, case.dtype)
    assert case.rule.primitive in set(primitives_of(jax.make_jaxpr(case.probe.fun)(*args).jaxpr))


def test_every_probe_applies_its_primitive():
    every((case for case in judges.cases() if case.dtype == case.probe.dtypes[0]), applies_its_primitive)


def test_tables_do_not_overlap():
    tables = [set(table.RULES), set(table.ZERO), set(table.UNSUPPORTED)]
    assert not tables[0] & tables[1]
    assert not tables[0] & tables[2]
    assert not tables[1] & tables[2]
    assert all(reason for reason in [*table.ZERO.values(), *table.UNSUPPORTED.values()])


def test_every_rule_has_a_derivation_and_a_probe():
    for rule in reverse.RULES.values():
        assert rule.derivation, rule.primitive
        assert rule.probes, rule.primitive
        assert "_bar" in rule.derivation, f"{rule.primitive}: the derivation states no cotangent"
