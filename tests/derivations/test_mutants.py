"""A derivation with one wrong line fails and names that line, whichever line it is and however small the fault."""

import jax
import pytest

from functional_dl import derivations
from tests.derivations.mutants import judged, mutants, quickly

KEY = jax.random.key(3)
QUICK = ["sigmoid", "power_of_power", "relu", "l1_subgradient", "embedding"]


def assert_every_fault_is_named(name: str) -> int:
    count, lines = 0, set()
    with quickly():
        for what, line, wrong in mutants(derivations.get(name), KEY):
            report = judged(wrong, KEY)
            assert not report.passed, f"{what}: passed\n{report}"
            assert report.first_wrong == line, f"{what}: named line {report.first_wrong}\n{report}"
            assert f"line {line} is wrong" in str(report)
            count += 1
            lines.add(what.rpartition(" line ")[0] + what.rpartition(" line ")[2].split()[0])
    assert len(lines) == len(derivations.get(name).steps)  # no line was left alone
    return count


@pytest.mark.parametrize("name", QUICK)
def test_every_wrong_line_is_named(name, record_property):
    record_property("cases", assert_every_fault_is_named(name))


@pytest.mark.campaign
@pytest.mark.parametrize("name", [name for name in derivations.names() if name not in QUICK])
def test_every_wrong_line_of_every_derivation_is_named(name, record_property):
    record_property("cases", assert_every_fault_is_named(name))
