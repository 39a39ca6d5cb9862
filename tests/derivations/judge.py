"""What the tests of derivations share: verification of one, with every judge that it ought to have."""

import jax

from functional_dl import derivations
from functional_dl.derivations.families import load

JUDGES = {"numeric derivative", "reverse.vjp", "check_vjp"}


def names(*families: str) -> list[str]:
    """The derivations of some families, in order."""
    return [derivation.name for family in families for derivation in load()[family]]


def assert_verified(name: str) -> None:
    """Every line holds, and the ends of every chain were held to independent oracles."""
    derivation = derivations.get(name)
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
            assert derivation.ties is None or "check_vjp on a kink" in last
        else:
            own = {oracle.name for oracle in derivation.oracles if oracle.chain == chain}
            assert first & own
