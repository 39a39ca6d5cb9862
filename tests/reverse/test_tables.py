"""Every primitive of JAX's public surface stands in the table."""

import collections
import warnings

import jax
import pytest
import surface
from jax.extend.core import Primitive, primitives

from functional_dl import reverse
from functional_dl.jaxprs import all_equations


def traced():
    """primitive -> the name of the first program whose trace holds it; and how many programs were traced."""
    found, count = {}, 0
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        for name, fun in surface.programs():
            try:
                jaxpr = jax.make_jaxpr(fun)()
            except Exception:  # the function does not take these arguments, whatever it says about it
                assert name not in surface.CALLS, f"{name}: a call of the table fails"
                continue
            count += 1
            for eqn in all_equations(jaxpr):
                found.setdefault(eqn.primitive, name)
    return found, count


@pytest.fixture
def whole_tracebacks():
    """Thousands of attempts fail, and JAX looks at every frame of each to filter it: most of the time."""
    before = jax.config.values["jax_traceback_filtering"]
    jax.config.update("jax_traceback_filtering", "off")
    yield
    jax.config.update("jax_traceback_filtering", before)


def listed_primitives():
    return {p: name for name, p in vars(primitives).items() if isinstance(p, Primitive)}


def test_every_listed_primitive_stands_in_the_table():
    assert len(listed_primitives()) > 150
    assert not {name for p, name in listed_primitives().items() if p not in reverse.PRIMITIVES}


@pytest.mark.usefixtures("whole_tracebacks")
@pytest.mark.campaign
def test_every_primitive_of_traced_programs_stands_in_the_table():
    listed, (found, count) = listed_primitives(), traced()
    print(f"\n{len(listed)} primitives listed by JAX {jax.__version__}; {len(found)} seen in {count} traced programs")
    print(dict(collections.Counter(type(entry).__name__ for entry in reverse.PRIMITIVES.values())))
    assert count > 500
    homeless = {str(p): where for p, where in (found | listed).items() if p not in reverse.PRIMITIVES}
    assert not homeless


def test_unsupported_says_what_to_do():
    refused = {p: entry for p, entry in reverse.PRIMITIVES.items() if isinstance(entry, reverse.Unsupported)}
    assert refused
    for primitive, entry in refused.items():
        assert len(entry.reason) > 40, primitive


def test_rules_are_a_view_of_the_table_with_a_short_repr():
    assert len(repr(reverse.RULES)) < 100
    assert all(isinstance(reverse.RULES[p], reverse.Rule) for p in reverse.RULES)
    assert primitives.floor_p in reverse.PRIMITIVES
    assert primitives.floor_p not in reverse.RULES
    assert reverse.RULES.get(primitives.floor_p) is None
