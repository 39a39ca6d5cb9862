"""Random programs through reverse.vjp, against jax.vjp, JAX's forward mode and differences.

    python -m pytest -n 2 -m campaign -s tests/fuzz        # 10,000 programs, and counts

A program that fails is shrunk and printed; it then belongs into cases.py.
"""

import dataclasses
import gc
from collections import Counter

import jax
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from jax import lax
from jax.extend.core.primitives import cos_p

from functional_dl import reverse
from functional_dl.jaxprs import all_equations
from functional_dl.reverse import sweep
from tests.fuzz.cases import CASES
from tests.fuzz.generate import FAMILIES, program_of, programs
from tests.fuzz.judge import MESHES, MODES, Disagreement, Judge, refusal
from tests.fuzz.operations import OPERATIONS
from tests.fuzz.program import Program, Step, Type, all_steps, depth, nesting, source, trace
from tests.fuzz.shrink import shrunk

PROGRAMS, CHUNKS = 10_000, 50
PER_CHUNK = PROGRAMS // CHUNKS
QUICK = [range(10**6, 10**6 + 10)]
DRAWS = 12  # of programs for a mesh, until JAX takes one
FAMILIES_HELD = {*FAMILIES, "branches", "loops", "calls", "inner derivatives"}


def modes_of(seed: int) -> tuple[str, ...]:
    """One program in five is also judged in one of the modes."""
    return MODES[seed % 40 : seed % 40 + 1]


def question_of(seed: int, most: int = 30) -> tuple[Program, tuple[str, ...], list[str]]:
    """A program, the modes that it is judged in, and why JAX refused those that were drawn before it for a mesh."""
    modes, refused = modes_of(seed), []
    for draw in range(DRAWS):
        program = program_of(seed + draw * 10**8, most if draw < 4 else 8)
        why = refusal(program, modes[0]) if set(modes) & set(MESHES) else None
        if why is None:
            return program, modes, refused
        refused.append(why)
    return program_of(seed, most), (), refused


def fault(program: Program, modes) -> str | None:
    """The kind of the program's fault, None if there is none."""
    try:
        Judge(program).run(*modes)
    except Exception as e:
        return f"{type(e).__name__} {str(e).split(':')[0]}"
    return None


def judged(program: Program, *modes: str):
    """The judge's counts; a program that fails is shrunk and printed."""
    try:
        return Judge(program).run(*modes)
    except Exception as e:
        kind = fault(program, modes)
        if kind is None:
            raise
        small = shrunk(program, lambda candidate: fault(candidate, modes) == kind)
        text = f"{e}\n{modes}\n{source(small)}\n{small!r}"
        raise Disagreement(text) from e


@pytest.mark.parametrize("found", CASES)
def test_cases(found):
    judged(CASES[found], "eager", "jit", "vmap")


@pytest.mark.parametrize("seeds", QUICK, ids=str)
def test_programs(seeds):
    for seed in seeds:
        program, modes, _ = question_of(seed, most=8)
        judged(program, *modes)


@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(programs(most=5))
def test_small_programs(program):
    judged(program)


@pytest.mark.campaign
def test_distribution():
    """Every operation of every family occurs, chains are 30 steps long, bodies lie three deep."""
    sample = [program_of(seed) for seed in range(700)]
    steps = Counter(step.op for program in sample for step in all_steps(program))
    assert {OPERATIONS[op].family for op in steps} == FAMILIES_HELD
    assert set(steps) == set(OPERATIONS)
    assert max(map(depth, sample)) >= 30
    assert max(map(nesting, sample)) >= 3
    dtypes = Counter(kind.dtype for program in sample for kind in program.inputs.values())
    assert {"float64", "float32", "complex128", "int32"} <= set(dtypes)


def test_a_program_is_the_same_from_its_seed_and_from_its_text():
    program = program_of(5)
    assert program_of(5) == program
    assert eval(repr(program), {"Program": Program, "Step": Step, "Type": Type}) == program
    assert source(program).startswith("def program(")


def test_a_wrong_rule_is_found_and_shrunk(monkeypatch):
    """With cos' taken for sin the fuzzer ends with a program of one step."""
    wrong = dataclasses.replace(reverse.RULES[cos_p], formula=lambda ct, out, x, **_: (lax.mul(ct, lax.sin(x)),))
    monkeypatch.setitem(reverse.PRIMITIVES, cos_p, wrong)
    failing = next(p for p in map(program_of, range(200)) if any(s.op == "cos" for s in p.steps) and fault(p, ()))
    small = shrunk(failing, lambda p: fault(p, ()) is not None)
    assert len(list(all_steps(small))) <= 2


@pytest.fixture
def without_caches():
    """Compiled operations are kept for some hundreds of programs; those of all of them would fill the memory."""
    yield
    jax.clear_caches()
    sweep._compiled_forward.cache_clear()
    gc.collect()


@pytest.mark.campaign
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_campaign(chunk, record_property, without_caches):
    counts, seen, failures = Counter(), Counter(), []
    for seed in range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK):
        program, modes, refused = question_of(seed)
        names = [eqn.primitive.name for eqn in all_equations(trace(program))]
        seen.update(names)
        counts.update(programs=1, equations=len(names), refused_by_jax=len(refused))
        counts.update(on_meshes=bool(set(modes) & set(MESHES)), foreign=any(name.startswith("own_") for name in names))
        try:
            counts.update(judged(program, *modes)._asdict())
        except Disagreement as e:
            failures.append(f"seed {seed}: {e}")
    counts["disagreements"] = len(failures)
    record_property("counts", dict(counts))
    record_property("primitives", dict(seen))
    assert not failures, "\n\n".join(failures)
