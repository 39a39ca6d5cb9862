"""Every line of every derivation holds, and the ends of every chain were held to independent oracles.

A new derivation, and a new family, is tested because it is in the table.
"""

import operator

import jax
import pytest
from every import every

from functional_dl.derivations.families import load

JUDGES = {"numeric derivative", "reverse.vjp", "check_vjp"}


def verified(derivation) -> None:
    """Every judge that it ought to have agrees."""
    report = derivation.verify(jax.random.key(1), points=1)
    assert report.passed, str(report)
    assert report.first_wrong is None
    for chain, places in derivation.chains.items():
        for place in places[1:]:
            assert any("line" in c.against for c in report.of_line(place + 1)), f"line {place + 1} was held to no line"
        first = {c.against for c in report.of_line(places[0] + 1)}
        last = {c.against for c in report.of_line(places[-1] + 1)}
        if derivation.fun is not None and chain in derivation.arguments:
            assert "numeric derivative" in first
            assert last >= JUDGES
            assert derivation.exact is None or "50-digit derivative" in last
            assert derivation.kink_points is None or "check_vjp on a kink" in last
        else:
            own = {oracle.name for oracle in derivation.oracles if oracle.chain == chain}
            assert first & own


@pytest.mark.parametrize("family", load())
@pytest.mark.sampled(3)
def test_every_line_holds(family):
    every(load()[family], verified, operator.attrgetter("name"))
