"""Every primitive of JAX's public surface stands in exactly one of the three tables."""

import warnings

import jax
import pytest
import surface
from jax.extend.core import Primitive, primitives

from functional_dl import reverse

TABLES = {"RULES": reverse.RULES, "ZERO": reverse.ZERO, "UNSUPPORTED": reverse.UNSUPPORTED}


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def traced():
    """primitive -> the name of the first program whose trace holds it; and how many programs were traced."""
    found, count = {}, 0
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        for name, fun in surface.programs():
            try:
                jaxpr = jax.make_jaxpr(fun)().jaxpr
            except Exception:  # the function does not take these arguments, whatever it says about it
                assert name not in surface.CALLS, f"{name}: a call of the table fails"
                continue
            count += 1
            for eqn in equations(jaxpr):
                found.setdefault(eqn.primitive, name)
    return found, count


@pytest.fixture
def whole_tracebacks():
    """Thousands of attempts fail, and JAX looks at every frame of each to filter it: most of the time."""
    before = jax.config.values["jax_traceback_filtering"]
    jax.config.update("jax_traceback_filtering", "off")
    yield
    jax.config.update("jax_traceback_filtering", before)


@pytest.mark.usefixtures("whole_tracebacks")
def test_every_primitive_stands_in_exactly_one_table():
    listed = {p: name for name, p in vars(primitives).items() if isinstance(p, Primitive)}
    found, count = traced()
    print(f"\n{len(listed)} primitives listed by JAX {jax.__version__}; {len(found)} seen in {count} traced programs")
    print(", ".join(f"{name}: {len(table)}" for name, table in TABLES.items()))
    assert count > 500
    homeless = {
        str(p): f"{where} (in {sum(p in table for table in TABLES.values())} tables)"
        for p, where in (found | listed).items()
        if sum(p in table for table in TABLES.values()) != 1
    }
    assert not homeless


def test_unsupported_says_what_to_do():
    for primitive, reason in reverse.UNSUPPORTED.items():
        assert len(reason) > 40, primitive
